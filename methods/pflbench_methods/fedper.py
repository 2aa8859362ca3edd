"""FedPer (Arivazhagan et al., 2019): the head stays at home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from pflbench.api import Family, UNet, head_keys, keys, module_keys
from pflbench_methods.fedavg import FedAvg


@dataclass(frozen=True)
class FedPer(FedAvg):
    """FedAvg, except that the last layers stay at their client: by default the head, a 1x1 convolution.

    ``personal`` says how much of a segmentation network counts as its last layers; the original speaks of
    classifiers, and the authors' public harness keeps the head. All entries are trained jointly; all start
    from the common initial weights. Clients are weighted by training images.
    Batch-norm statistics: those of the shared part are averaged, those of a personal last stage kept at the client.
    Arivazhagan, Aggarwal, Singh, Choudhary: Federated Learning with Personalization Layers. 2019.
    https://arxiv.org/abs/1912.00818
    """

    name: ClassVar[str] = "fedper"
    title: ClassVar[str] = "FedPer"
    citation: ClassVar[str] = (
        "Arivazhagan et al.: Federated Learning with Personalization Layers. 2019. https://arxiv.org/abs/1912.00818"
    )
    in_paper: ClassVar[bool] = True
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2019
    travels: ClassVar[str] = "all weights and batch-norm statistics but those of the head, every round"

    personal: Literal["head", "last_decoder"] = "head"

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return all entries but those of the personal layers."""
        kept = head_keys(model)
        if self.personal == "last_decoder" and isinstance(model, UNet):
            kept |= module_keys(model, model.dec2)
        return keys(model) - kept

    def policies(self) -> dict[str, str]:
        """Say what more stays at the client where the last decoder stage does."""
        more = "all weights and batch-norm statistics but those of the last decoder stage and the head, every round"
        return {**super().policies(), **({} if self.personal == "head" else {"travels": more})}
