"""The residual of Fisher information: by how much style changes what each parameter is sensitive to (Eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from pflbench.api import Weights, layer

Residual = Literal["max", "layer_max", "relative", "raw", "literal"]
_TINY = 1e-12
_SMALLEST = torch.finfo(torch.float32).tiny


def residual(own: Weights, *others: Weights, how: Residual = "max", epsilon: float = 1e-8) -> Weights:
    """Return the residual Fisher information of every parameter from diagonal Fishers (Eq. 1).

    |dF| is the difference to the other Fisher, or its mean over several. ``how``: see ``ResFIM``. ``epsilon`` is that
    of the literal equation; the other forms divide by at least 1e-12 of the largest Fisher or difference, so that
    nothing is divided by zero.
    """
    change = {name: torch.stack([(own[name] - other[name]).abs() for other in others]).mean(0) for name in own}
    if how == "raw":
        return change
    if how == "literal":
        return {name: value / value.clamp(min=epsilon) for name, value in change.items()}
    if how == "relative":
        larger = {name: torch.stack([own[name], *(other[name] for other in others)]).amax(0) for name in own}
        floor = max(_TINY * _peak(larger), _SMALLEST)
        return {name: value / larger[name].clamp(min=floor) for name, value in change.items()}
    peak = max(_peak(change), _SMALLEST)
    if how == "max":
        return {name: value / peak for name, value in change.items()}
    layers: dict[str, Weights] = {}
    for name, value in change.items():
        layers.setdefault(layer(name), {})[name] = value
    peaks = {owner: max(_peak(entries), _TINY * peak, _SMALLEST) for owner, entries in layers.items()}
    return {name: value / peaks[layer(name)] for name, value in change.items()}


def _peak(scores: Mapping[str, Tensor]) -> float:
    return max(float(value.max()) for value in scores.values())
