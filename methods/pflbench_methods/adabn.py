"""FedAvg with AdaBN (Li et al., 2018): the shared model, evaluated with statistics of each client's own images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pflbench.api import Client, Family, TaskCard, UNet, statistics_keys
from pflbench_methods.adapted import AdaptedCopy
from pflbench_methods.norms import without_batch_norm
from pflbench_methods.running import estimate_statistics


@dataclass(frozen=True)
class AdaBN(AdaptedCopy):
    """FedAvg, except that what is evaluated is a copy whose batch-norm statistics are estimated anew at its client.

    A control. Training normalizes with the statistics of the batch, so round for round the parameters are those of
    FedAvg and of SiloBN to the last bit, and the three differ in the statistics used for evaluation alone. FedAvg has
    the mean of all clients'. SiloBN has a client's own, measured while it trained, on weights that were then averaged
    away. Here they are a client's own, measured on the very weights it received. (Each client's best round is chosen by
    its own validation, and may be another one in the three.)

    The statistics are the mean of those of one epoch of training batches; nothing is trained. The copy is made in
    those rounds only that may be selected, see ``AdaptedCopy``. Without batch norm the method would be FedAvg, and is
    skipped. Batch-norm statistics: averaged for training, estimated anew for evaluation.
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

    def unsuitable(self, task: TaskCard) -> str | None:
        """Say so where the model has no running statistics to estimate."""
        return without_batch_norm(task, statistics_keys)

    def policies(self) -> dict[str, str]:
        """Say that the statistics of what is evaluated are its client's."""
        return {
            **super().policies(),
            "batch_norm": "parameters and statistics averaged; for evaluation, statistics estimated at the client",
        }
