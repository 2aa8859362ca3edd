"""FedAvg with fine-tuning: the shared model, trained on at home for some epochs before it is evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from pflbench.api import Client, Family, TaskCard, UNet
from pflbench_methods.adapted import AdaptedCopy


@dataclass(frozen=True)
class FineTune(AdaptedCopy):
    """FedAvg, except that what is evaluated is a copy of the shared model after some more epochs at its client.

    The copy starts anew from what was received, with a new optimiser, and nothing of it goes back. It is made in those
    rounds only that may be selected, see ``AdaptedCopy``.
    Batch-norm statistics: those of the shared model are averaged, the copy goes on with its client's.
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

    def adapt(self, client: Client, copy: UNet) -> None:
        """Fine-tune the copy."""
        if self.tuning_epochs:
            client.fit(copy, epochs=self.tuning_epochs)

    def policies(self) -> dict[str, str]:
        """Say that the copy's statistics are its client's."""
        return {**super().policies(), "batch_norm": "parameters and statistics averaged, then fine-tuned at the client"}

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients of fine-tuning, which happens in those rounds only that may be selected."""
        epochs = self.tuning_epochs * task.selectable_rounds
        return {client: -(-count * epochs // task.rounds) for client, count in task.clients.items()}
