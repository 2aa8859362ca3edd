"""LG-FedAvg (Liang et al., 2020): the lower layers stay at home, the upper ones are shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from pflbench.api import Client, Family, Message, UNet, head_keys, keys, module_keys, pick
from pflbench_methods.fedavg import FedAvg

# what `personal` leaves to travel, in words
_UPPER = {
    "encoder": "weights and batch-norm statistics of decoder and head",
    "body": "the weights of the head",
    "none": "all weights and batch-norm statistics",
}


@dataclass(frozen=True)
class LGFedAvg(FedAvg):
    """FedAvg, except that the lower layers, which represent the images, stay at their client: by default the encoder.

    * ``personal``: the original shares the last two or three layers of small classifiers. Of a segmentation network the
      "encoder" (``enc1`` to the bottleneck ``enc4``) stays and decoder and head are shared; "body" shares the head
      alone; with "none" it is FedAvg. Skip connections hand the features of personal stages to the shared decoder.
    * ``fedavg_rounds``: the first rounds, in which everything is shared. The algorithm of the paper has none; the
      authors' script goes on from a checkpoint of FedAvg, taken at 0.4 to 0.6 of the length of a whole FedAvg run.

    All entries are trained jointly, from the common initial weights, with labels alone: the paper's unsupervised and
    fair local representations are left out. The original weights all clients the same; here by training images. Its
    ensemble for new devices is left out, because every client here has a model of its own.
    Batch-norm statistics: those of personal layers stay at their client, those of shared layers are averaged.
    Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency: Think Locally, Act Globally: Federated Learning
    with Local and Global Representations. FL workshop, NeurIPS 2019. https://arxiv.org/abs/2001.01523
    """

    name: ClassVar[str] = "lgfedavg"
    title: ClassVar[str] = "LG-FedAvg"
    aliases: ClassVar[tuple[str, ...]] = ("lg-fedavg",)
    citation: ClassVar[str] = (
        "Liang et al.: Think Locally, Act Globally: Federated Learning with Local and Global Representations. "
        "FL workshop, NeurIPS 2019. https://arxiv.org/abs/2001.01523"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2019
    travels: ClassVar[str] = _UPPER["encoder"] + ", every round"

    personal: Literal["encoder", "body", "none"] = "encoder"
    fedavg_rounds: Annotated[int, Field(ge=0)] = 0

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return the entries of the upper layers."""
        if self.personal == "body":
            return head_keys(model)
        encoder = [model.enc1, model.enc2, model.enc3, model.enc4] if isinstance(model, UNet) else []
        kept = [module_keys(model, stage) for stage in encoder if self.personal == "encoder"]
        return keys(model).difference(*kept)

    def client_update(self, client: Client) -> Message:
        """Train all, and send the upper layers, or in the first rounds everything."""
        client.fit()
        everything = client.round <= self.fedavg_rounds
        return pick(client.model.state_dict(), keys(client.model) if everything else self.shared(client.model))

    def policies(self) -> dict[str, str]:
        """Say what becomes of all layers, and of the lower ones in the first rounds."""
        said = {**super().policies(), "travels": _UPPER[self.personal] + ", every round"}
        if self.fedavg_rounds and self.personal != "none":
            until = f"up to round {self.fedavg_rounds}"
            said["travels"] = f"{until} {_UPPER['none']}, then {said['travels']}"
            said["batch_norm"] = f"{until} parameters and statistics averaged, then {said['batch_norm']}"
        return said
