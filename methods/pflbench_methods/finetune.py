"""FedAvg with fine-tuning: the shared model, trained on at home for some epochs before it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from pflbench.api import Client, Family, Message, TaskCard, UNet
from pflbench_methods.fedavg import FedAvg

_KEPT = "tuned"  # in client.state


@dataclass(frozen=True)
class FineTune(FedAvg):
    """FedAvg, except that what is evaluated is a copy of the shared model after some more epochs at its client.

    The copy starts anew from what was received, with a new optimiser, and nothing of it goes back. It is made in those
    rounds only that may be selected (the second half), because it is asked for in no other; before, the shared model
    is evaluated. Batch-norm statistics: those of the shared model are averaged, the copy goes on with its client's.
    McMahan et al., AISTATS 2017: https://arxiv.org/abs/1602.05629
    """

    name: ClassVar[str] = "finetune"
    title: ClassVar[str] = "FedAvg + fine-tuning"
    aliases: ClassVar[tuple[str, ...]] = ("fedavg + fine-tuning",)
    citation: ClassVar[str] = (
        "Control: FedAvg, then training at home. McMahan et al., AISTATS 2017. https://arxiv.org/abs/1602.05629"
    )
    family: ClassVar[Family] = "control"
    travels: ClassVar[str] = "all weights and batch-norm statistics, every round"

    tuning_epochs: Annotated[int, Field(ge=0)] = 1

    def client_receive(self, client: Client, message: Message) -> None:
        """Take in the mean; fine-tune a copy of it where this round may be selected."""
        super().client_receive(client, message)
        if not client.recipe.selects_from(client.round):
            return
        copy = client.new_model(client.model.state_dict())
        self.tune(client, copy)
        client.state[_KEPT] = dict(copy.state_dict())

    def tune(self, client: Client, copy: UNet) -> None:
        """Fine-tune a copy of the shared model."""
        if self.tuning_epochs:
            client.fit(copy, epochs=self.tuning_epochs)

    def personal_model(self, client: Client) -> nn.Module:
        """Return the fine-tuned copy, or the shared model where there is none yet."""
        tuned = client.state.get(_KEPT)
        return client.new_model(tuned) if tuned else client.model

    def policies(self) -> dict[str, str]:
        """Say that the copy's statistics are its client's."""
        return {**super().policies(), "batch_norm": "parameters and statistics averaged, then fine-tuned at the client"}

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients of fine-tuning, which happens in those rounds only that may be selected."""
        epochs = self.tuning_epochs * task.selectable_rounds
        return {client: -(-count * epochs // task.rounds) for client, count in task.clients.items()}
