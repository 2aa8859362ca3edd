"""Selecting, averaging and loading the entries of a model, by the type of the module they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from pflbench.errors import TrialFailed

Weights = dict[str, Tensor]  # entry, named as in state_dict() -> its value
# by type: a search for "bn" in the name finds none of the shared UNet's normalization layers
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def entries(model: nn.Module) -> Weights:
    """Return the live entries by the names and in the order of ``state_dict``, at a third of its cost."""
    found: Weights = {}
    for path, module in model.named_modules(remove_duplicate=False):
        passing = module._non_persistent_buffers_set
        own = [*module._parameters.items(), *((n, b) for n, b in module._buffers.items() if n not in passing)]
        found.update((_joined(path, name), value) for name, value in own if value is not None)
    return found


def keys(model: nn.Module) -> frozenset[str]:
    """Return the names of all floating-point entries: parameters and running statistics.

    Counters (``num_batches_tracked``) are integers that no computation here reads; they stay at home.
    """
    return frozenset(name for name, value in entries(model).items() if value.is_floating_point())


def parameter_keys(model: nn.Module) -> frozenset[str]:
    """Return the names of the trainable entries."""
    return frozenset(name for name, _ in model.named_parameters(remove_duplicate=False))


def norm_keys(model: nn.Module) -> frozenset[str]:
    """Return the names of all entries of normalization layers: scale, shift, running mean and variance."""
    return keys(model) & frozenset(_entries(model, NORMS))


def statistics_keys(model: nn.Module) -> frozenset[str]:
    """Return the names of the running means and variances of normalization layers."""
    return norm_keys(model) - parameter_keys(model)


def head_keys(model: nn.Module) -> frozenset[str]:
    """Return the names of the entries of the model's ``head`` module (the last, classifying layer)."""
    head = getattr(model, "head", None)
    if not isinstance(head, nn.Module):
        raise TrialFailed(f"{type(model).__name__} declares no head; give it an attribute `head`, its last layer.")
    return module_keys(model, head)


def module_keys(model: nn.Module, part: nn.Module) -> frozenset[str]:
    """Return the names of the entries of one module of the model, with all that it contains."""
    inside = {id(module) for module in part.modules()}
    return keys(model) & frozenset(_entries(model, nn.Module, inside))


def scale_of_statistics(model: nn.Module) -> dict[str, str]:
    """Return the name of each running statistic -> the name of the scale of the same normalization layer."""
    found = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, NORMS) and getattr(module, "weight", None) is not None:
            statistics = [n for n, b in module.named_buffers(recurse=False) if b.is_floating_point()]
            found.update({_joined(path, name): _joined(path, "weight") for name in statistics})
    return found


def _entries(model: nn.Module, types: Any, only: set[int] | None = None) -> Iterator[str]:
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, types) and (only is None or id(module) in only):
            yield from (_joined(path, name) for name in (*module._parameters, *module._buffers))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def layer(entry: str) -> str:
    """Return the module an entry belongs to: ``enc1.0`` for ``enc1.0.weight``."""
    return entry.rpartition(".")[0]


def pick(weights: Mapping[str, Tensor], names: Iterable[str]) -> Weights:
    """Return the chosen entries, in the order of ``weights``."""
    chosen = frozenset(names)
    return {name: value for name, value in weights.items() if name in chosen}


@torch.no_grad()
def load(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy entries into the model; the others stay. Raises TrialFailed for an entry that does not fit."""
    own = entries(model)
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            expected = f"of shape {tuple(own[name].shape)}" if name in own else "in this model at all"
            raise TrialFailed(f"entry {name!r} of shape {tuple(value.shape)} is not {expected}.")
    if weights:
        torch._foreach_copy_([own[name] for name in weights], list(weights.values()))


@torch.no_grad()
def weighted_mean(inbox: Mapping[str, Mapping[str, Tensor]], shares: Mapping[str, float]) -> Weights:
    """Return the mean of the clients' entries with the clients' shares, renormalized over those who sent any.

    All clients must send the same entries. Sums run in the order of the inbox, in the entries' own type.
    """
    total = sum(shares[client] for client in inbox)
    mean: Weights = {}
    expected = next(iter(inbox.values()), {}).keys()
    for client, weights in inbox.items():
        if weights.keys() != expected:
            odd = sorted(weights.keys() ^ expected)
            raise TrialFailed(f"{client} sent other entries than the first client: {', '.join(odd[:3])}.")
        share = shares[client] / total
        if mean:
            torch._foreach_add_([mean[name] for name in weights], list(weights.values()), alpha=share)
        else:
            mean = {name: value * share for name, value in weights.items()}
    return mean


@torch.no_grad()
def overlay(mask: Mapping[str, Tensor], own: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> Weights:
    """Return ``own`` where the mask is true and ``shared`` elsewhere; entries without a mask are shared."""
    return {
        name: torch.where(mask[name], own[name], value) if name in mask else value for name, value in shared.items()
    }
