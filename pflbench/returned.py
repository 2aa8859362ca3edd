"""What a method hands back from a step, checked: messages, logged numbers, and whether a message came to anything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pflbench.errors import TrialFailed
from pflbench.message import Message, tensors
from pflbench.weights import entries


class Before:
    """What a client kept before a step: its entries with their contents, so that any change shows."""

    def __init__(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        self._was = [(path, value, _mark(value), _content(value)) for path, value in self._entries(model, state)]

    @staticmethod
    def _entries(model: nn.Module, state: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return [*entries(model).items(), *_leaves(state)]

    def differs_from(self, model: nn.Module, state: Mapping[str, Any]) -> bool:
        """Say whether anything was written since: another object, a new version, or other content."""
        now = self._entries(model, state)
        if [path for path, _ in now] != [path for path, *_ in self._was]:
            return True
        return any(
            value is not old or _mark(value) != mark or (isinstance(value, Tensor) and not torch.equal(value, content))
            for (_, value), (_, old, mark, content) in zip(now, self._was, strict=True)
        )


def _mark(value: Any) -> Any:
    return (value._version, value.untyped_storage().data_ptr()) if isinstance(value, Tensor) else value


def _content(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _leaves(state: Mapping[str, Any], path: str = "state") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in state.items():
        here = f"{path}[{key!r}]"
        found += _leaves(value, here) if isinstance(value, Mapping) else [(here, value)]
    return found


def checked_message(sent: Any, path: str) -> Message:
    """Return a message that may travel. Raises TrialFailed for another thing, or one that is not finite."""
    if not isinstance(sent, Mapping):
        raise TrialFailed(f"{path} is {kind_of(sent)}; a message is a mapping, as {{'weights': weights}}.")
    inside = dict(tensors(sent, path))
    # a sum is finite only if all are, and ten times as quick; where it overflows, each entry is looked at
    if not math.isfinite(sum(_sums(inside.values()))):
        wrong = next((where for where, tensor in inside.items() if not tensor.isfinite().all()), None)
        if wrong is not None:
            raise TrialFailed(f"{wrong} is not finite; the training diverged, or something was divided by zero.")
    return sent


def _sums(found: Iterable[Tensor]) -> list[float]:
    """Return the sum of the entries on each device: one answer from each, since every answer is waited for."""
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in found:
        if tensor.is_floating_point():
            sums.setdefault(tensor.device, []).append(tensor.detach().sum().double())
    return [torch.stack(parts).sum().item() for parts in sums.values()]


def kind_of(thing: Any) -> str:
    """Return in words what something is: ``a Tensor``, ``None``."""
    name = type(thing).__name__
    return "None" if thing is None else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def numbers(log: Mapping[str, Any], path: str) -> dict[str, float]:
    """Return what was logged as numbers. Raises TrialFailed for anything else."""
    found = {}
    for key, value in log.items():
        try:
            found[key] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise TrialFailed(f"{path}[{key!r}] is {kind_of(value)}; what is logged is one number.") from None
    return found
