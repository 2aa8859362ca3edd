"""The value that is reported of an objective that sums several losses."""

from __future__ import annotations

from torch import Tensor


def reported_as(shown: Tensor, minimized: Tensor) -> Tensor:
    """Return ``minimized`` with all its gradients, but with the value of ``shown``, which other methods report too."""
    return shown.detach() + (minimized - minimized.detach())
