"""Masks of what stays personal: where the largest scores are, what share of each layer, how much two agree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Literal
from urllib.parse import quote

import torch
from torch import Tensor

from pflbench.api import Weights, layer

Granularity = Literal["parameter", "channel", "layer"]
_TINY = 1e-12


def largest(scores: Weights, share: float) -> dict[str, Tensor]:
    """Return masks that are true at exactly round(share * P) of all P scores together: the largest.

    Of equal scores the first in order of entries and positions are taken, so that the choice is the same everywhere.
    Raises ValueError where a score is not a number: nothing could be ranked.
    """
    flat = torch.cat([value.reshape(-1) for value in scores.values()])
    _check(flat)
    count = round(share * flat.numel())
    if count == 0:
        chosen = torch.zeros_like(flat, dtype=torch.bool)
    else:
        threshold = flat.kthvalue(flat.numel() - count + 1).values
        chosen = flat > threshold
        ties = (flat == threshold).nonzero().squeeze(1)
        chosen[ties[: count - int(chosen.sum())]] = True
    parts = torch.split(chosen, [value.numel() for value in scores.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(scores.items(), parts, strict=True)}


def largest_groups(scores: Weights, share: float, granularity: Granularity) -> dict[str, Tensor]:
    """Return masks of whole output channels of a module, or of whole modules, with the largest mean score.

    Groups are taken from the largest mean downwards, those of equal mean in their order, and the first that would
    make more than round(share * P) of all P scores ends it: so never more is chosen than ``largest`` chooses, and
    with coarse groups less. A channel is what its module computes from one row of every entry: a kernel and its
    bias, or a scale and its shift.
    """
    groups = _groups(scores, granularity)
    means = torch.cat([rows.double().mean(1) for rows in groups.values()])
    _check(means)
    sizes = torch.cat([torch.full((len(rows),), rows.shape[1]) for rows in groups.values()])
    order = means.cpu().argsort(descending=True, stable=True)
    fits = sizes[order].cumsum(0) <= round(share * int(sizes.sum()))
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[fits]] = True
    of_module = dict(zip(groups, torch.split(chosen, [len(rows) for rows in groups.values()]), strict=True))
    return {name: _spread(of_module[layer(name)], value) for name, value in scores.items()}


def _groups(scores: Weights, granularity: Granularity) -> dict[str, Tensor]:
    """Return module -> its scores, one row for each group: its output channels, or all in one."""
    modules: dict[str, list[Tensor]] = {}
    for name, value in scores.items():
        modules.setdefault(layer(name), []).append(value.flatten(1) if value.dim() > 1 else value[:, None])
    rows = {module: torch.cat(entries, dim=1) for module, entries in modules.items()}
    return rows if granularity == "channel" else {module: value.reshape(1, -1) for module, value in rows.items()}


def _spread(chosen: Tensor, value: Tensor) -> Tensor:
    """Return the choice of each row, or the only choice, at every position of an entry."""
    column = chosen.to(value.device).view(-1, *[1] * (value.dim() - 1))
    return column.expand(value.shape).contiguous()


def _check(scores: Tensor) -> None:
    if bool(scores.isnan().any()):
        raise ValueError("a score is not a number, so the largest cannot be told; is the loss finite?")


def overlaps(masks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
    """Return the IoU of every two clients' masks, 1 for two empty ones: ``mask_iou/A/B``, names percent-encoded."""
    flat = {client: torch.cat([value.reshape(-1) for value in mask.values()]) for client, mask in masks.items()}
    sizes = {client: int(value.sum()) for client, value in flat.items()}
    found = {}
    for one, other in combinations(flat, 2):
        both = int((flat[one] & flat[other]).sum())
        either = sizes[one] + sizes[other] - both
        found[f"mask_iou/{quote(one, safe='')}/{quote(other, safe='')}"] = both / either if either else 1.0
    return found


def masking_rates(mask: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the share of each layer's parameters that stay personal (Fig. 4)."""
    kept: dict[str, int] = {}
    total: dict[str, int] = {}
    for name, value in mask.items():
        kept[layer(name)] = kept.get(layer(name), 0) + int(value.sum())
        total[layer(name)] = total.get(layer(name), 0) + value.numel()
    return {name: kept[name] / total[name] for name in total}


@torch.no_grad()
def unmasked_mean(
    weights: Mapping[str, Weights],
    masks: Mapping[str, Weights],
    shares: Mapping[str, float],
    fallback: Weights,
) -> Weights:
    """Return sum_i w_i (1 - M_i) W_i / sum_i w_i (1 - M_i), and ``fallback`` where every client keeps its own."""
    mean: Weights = {}
    for name in next(iter(masks.values())):
        free = {client: shares[client] * (~masks[client][name]).float() for client in weights}
        total = torch.stack(list(free.values())).sum(0)
        value = torch.stack([free[client] * weights[client][name] for client in weights]).sum(0)
        mean[name] = torch.where(total > 0, value / total.clamp(min=_TINY), fallback[name])
    return mean
