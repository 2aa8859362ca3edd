"""Pooled training: one model on everybody's data in one place, the ceiling of federated learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pflbench.api import Family
from pflbench_methods.fedavg import FedAvg


@dataclass(frozen=True)
class Pooled(FedAvg):
    """FedAvg with a single client that holds everybody's training data: not federated, nobody's privacy is kept.

    The harness gathers the training cases; every round takes as many gradients as all clients together take
    elsewhere, and the model goes to every client, which selects its best round on its own validation cases and is
    tested as in any other method. Batch-norm statistics: those of all data together.
    """

    name: ClassVar[str] = "pooled"
    title: ClassVar[str] = "Pooled (not federated)"
    aliases: ClassVar[tuple[str, ...]] = ("pooled (not federated)",)
    citation: ClassVar[str] = "Control: training on all data in one place."
    family: ClassVar[Family] = "control"
    year: ClassVar[int | None] = None
    travels: ClassVar[str] = "every training image and mask, once, to one place: not federated"
    newcomers: ClassVar[bool] = True
    pools_data: ClassVar[bool] = True

    def policies(self) -> dict[str, str]:
        """Say that there is one model, and nothing to average."""
        return {"batch_norm": "parameters and statistics learnt from all data together", "aggregation": "none"}
