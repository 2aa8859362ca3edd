"""FedBN (Li et al., 2021): normalization layers stay at home."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pflbench.api import Family, TaskCard, keys, norm_keys
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.norms import without_batch_norm


@dataclass(frozen=True)
class FedBN(FedAvg):
    """FedAvg, except that every entry of a normalization layer stays at its client: scale, shift and statistics.

    Layers are found by type, so a model that calls them anything is treated right. The original averages
    with equal weights; here all methods weight by training images, so that only the method differs.
    Batch-norm statistics: kept at the client.
    Li, Jiang, Zhang, Kamp, Dou: FedBN: Federated Learning on Non-IID Features via Local Batch Normalization.
    ICLR 2021. https://arxiv.org/abs/2102.07623
    """

    name: ClassVar[str] = "fedbn"
    title: ClassVar[str] = "FedBN"
    citation: ClassVar[str] = (
        "Li et al.: FedBN: Federated Learning on Non-IID Features via Local Batch Normalization. ICLR 2021. "
        "https://arxiv.org/abs/2102.07623"
    )
    in_paper: ClassVar[bool] = True
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2021
    travels: ClassVar[str] = "all weights but those of normalization layers, every round"

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return all entries but those of normalization layers."""
        return keys(model) - norm_keys(model)

    def unsuitable(self, task: TaskCard) -> str | None:
        """Say so where the model has no normalization layer to keep."""
        return without_batch_norm(task, norm_keys)
