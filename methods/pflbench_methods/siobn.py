"""SiloBN (Andreux et al., 2020), spelled SioBN in the paper: batch-norm statistics stay at home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pflbench.api import Family, TaskCard, keys, statistics_keys
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.norms import without_batch_norm


@dataclass(frozen=True)
class SiloBN(FedAvg):
    """FedAvg, except that running means and variances stay at their client; scale and shift are averaged.

    Training normalizes with the statistics of the batch, so round for round the parameters are those of FedAvg to the
    last bit, and the two differ in the statistics used for evaluation alone. (Each client's best round is chosen by
    its own validation, and may be another one in the two.) Clients are weighted by training images.
    Batch-norm statistics: kept at the client. Measured in training, on the client's own weights before these were
    averaged, they normalize the averaged ones in evaluation.
    Andreux, Ogier du Terrail, Beguier, Tramel: Siloed Federated Learning for Multi-Centric Histopathology
    Datasets. DCL workshop, MICCAI 2020. https://arxiv.org/abs/2008.07424
    """

    name: ClassVar[str] = "siobn"
    title: ClassVar[str] = "SiloBN"
    aliases: ClassVar[tuple[str, ...]] = ("silobn",)
    citation: ClassVar[str] = (
        "Andreux et al.: Siloed Federated Learning for Multi-Centric Histopathology Datasets. DCL 2020. "
        "https://arxiv.org/abs/2008.07424"
    )
    in_paper: ClassVar[bool] = True
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2020
    travels: ClassVar[str] = "all weights but no batch-norm statistics, every round"

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return all entries but running statistics."""
        return keys(model) - statistics_keys(model)

    def unsuitable(self, task: TaskCard) -> str | None:
        """Say so where the model has no running statistics to keep."""
        return without_batch_norm(task, statistics_keys)
