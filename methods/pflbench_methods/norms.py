"""Whether the shared model has the entries of normalization layers that a method is about."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from pflbench.api import TaskCard, UNet


def without_batch_norm(task: TaskCard, entries: Callable[[nn.Module], frozenset[str]]) -> str | None:
    """Return a sentence where the model has none of the ``entries`` that set a method apart from FedAvg, else None."""
    with torch.device("meta"):  # names alone: no memory, no random numbers
        found = entries(UNet(task.channels, width=1))
    return None if found else "the model has no batch norm, so it would be FedAvg."
