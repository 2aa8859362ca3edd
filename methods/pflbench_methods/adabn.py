"""FedAvg with AdaBN (Li et al., 2018): the shared model, evaluated with statistics of each client's own images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pflbench.api import Client, Family, UNet
from pflbench_methods.adapted import AdaptedCopy
from pflbench_methods.running import estimate_statistics


@dataclass(frozen=True)
class AdaBN(AdaptedCopy):
    """FedAvg, except that what is evaluated is a copy whose batch-norm statistics are estimated anew at its client.

    A control. Training normalizes with the statistics of the batch, so the parameters are those of FedAvg to the last
    bit, and those of SiloBN too: a table of the three compares nothing but the statistics used for evaluation, which
    are the mean of all clients' here, a client's own as they lag behind its weights there, and a client's own for the
    very weights it received in this method. Personalized methods gain part of what they gain over FedAvg in this way.

    The statistics are the mean of those of one epoch of training batches; nothing is trained. The copy is made in
    those rounds only that may be selected, because it is asked for in no other; before, the shared model is
    evaluated. Batch-norm statistics: averaged for training, estimated anew for evaluation.
    Li, Wang, Shi, Hou, Liu: Adaptive Batch Normalization for practical domain adaptation. Pattern Recognition 80,
    2018. https://arxiv.org/abs/1603.04779 (there with the test images of a new domain; training images here)
    """

    name: ClassVar[str] = "adabn"
    title: ClassVar[str] = "FedAvg + AdaBN"
    aliases: ClassVar[tuple[str, ...]] = ("fedavg + adabn",)
    citation: ClassVar[str] = (
        "Control: FedAvg, evaluated with the client's own batch-norm statistics. Li et al.: Adaptive Batch "
        "Normalization for practical domain adaptation. Pattern Recognition 2018. https://arxiv.org/abs/1603.04779"
    )
    family: ClassVar[Family] = "control"
    year: ClassVar[int | None] = 2018
    travels: ClassVar[str] = "all weights and batch-norm statistics, every round"

    def adapt(self, client: Client, copy: UNet) -> None:
        """Estimate the copy's statistics."""
        estimate_statistics(client, copy)

    def policies(self) -> dict[str, str]:
        """Say that the statistics of what is evaluated are its client's."""
        return {
            **super().policies(),
            "batch_norm": "parameters and statistics averaged; for evaluation, statistics estimated at the client",
        }
