"""FedBABU (Oh et al., 2022): the head is not trained during federation, only when a client fine-tunes its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from pflbench.api import Client, Family, Message, UNet, head_keys, keys, pick
from pflbench_methods.finetune import FineTune


@dataclass(frozen=True)
class FedBABU(FineTune):
    """FedAvg with fine-tuning, except that the head stays what it was initially, the same everywhere, until then.

    Only the body is trained and shared; the frozen head gives all clients one target. What is evaluated is a copy that
    its client has fine-tuned, head included; nothing of it goes back into the federation.

    * ``tuning_epochs``: the original fine-tunes once, after the last round, for a few epochs (5 to 10 in public code).
      Here a round is chosen by validation, so every round that may be chosen (see ``AdaptedCopy``) has its own copy,
      made anew from the body received, with a new optimiser, the recipe's Adam. Before, and with 0, the shared body
      with the initial head is evaluated.
    * ``tuned``: what fine-tuning trains: "all", or the "head" alone, a 1x1 convolution.

    The original averages with equal weights and trains by SGD with momentum; here by training images and with Adam.
    Batch-norm statistics: averaged with the body; the copy goes on with its client's where all is tuned, and keeps the
    averaged ones where only the head is.
    Oh, Kim, Yun: FedBABU: Toward Enhanced Representation for Federated Image Classification. ICLR 2022.
    https://arxiv.org/abs/2106.06042
    """

    name: ClassVar[str] = "fedbabu"
    title: ClassVar[str] = "FedBABU"
    aliases: ClassVar[tuple[str, ...]] = ()
    citation: ClassVar[str] = (
        "Oh et al.: FedBABU: Toward Enhanced Representation for Federated Image Classification. ICLR 2022. "
        "https://arxiv.org/abs/2106.06042"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2022
    travels: ClassVar[str] = "all weights and batch-norm statistics but those of the head, every round"

    tuning_epochs: Annotated[int, Field(ge=0)] = 5
    tuned: Literal["all", "head"] = "all"

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return the entries of the body."""
        return keys(model) - head_keys(model)

    def client_update(self, client: Client) -> Message:
        """Train the body under the initial head, and send it."""
        body = self.shared(client.model)
        client.fit(only=body)
        return pick(client.model.state_dict(), body)

    def adapt(self, client: Client, copy: UNet) -> None:
        """Fine-tune the whole copy, or its head."""
        if self.tuning_epochs:
            client.fit(copy, only=None if self.tuned == "all" else head_keys(copy), epochs=self.tuning_epochs)

    def policies(self) -> dict[str, str]:
        """Say what becomes of the copy's normalization layers."""
        after = ", then fine-tuned at the client" if self.tuned == "all" else ""
        return {**super().policies(), "batch_norm": f"parameters and statistics averaged{after}"}
