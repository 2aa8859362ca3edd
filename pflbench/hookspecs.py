"""The three hooks through which methods, datasets and partitioners come in, and what an implementation must be."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

import pluggy

from pflbench.errors import UsageError

if TYPE_CHECKING:
    from pflbench.dataset import Dataset
    from pflbench.method import Method
    from pflbench.partition import Partitioner

GROUP = "pflbench"  # the entry-point group
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def pflbench_methods() -> list[type[Method]]:
    """Return the method classes this plugin provides."""
    raise AssertionError("a specification is never called")


@hookspec
def pflbench_datasets() -> list[type[Dataset]]:
    """Return the dataset classes this plugin provides."""
    raise AssertionError("a specification is never called")


@hookspec
def pflbench_partitioners() -> list[type[Partitioner]]:
    """Return the partitioner classes this plugin provides."""
    raise AssertionError("a specification is never called")


_SPECIFIED = {spec.__name__: spec for spec in (pflbench_datasets, pflbench_methods, pflbench_partitioners)}


def check_hooks(module: Any) -> None:
    """Raise UsageError where a module means to implement a hook and does not: pluggy would often say nothing."""
    for name, function in inspect.getmembers(module, inspect.isfunction):
        marks = getattr(function, f"{GROUP}_impl", None)
        if marks is not None:
            _check_hook(marks.get("specname") or name, function)
        elif difflib.get_close_matches(name, _SPECIFIED) and function.__module__ == getattr(module, "__name__", None):
            raise UsageError(f"{name}() is not marked, so nobody calls it; write @hookimpl (of pflbench.api) above it")


def _check_hook(name: str, function: Any) -> None:
    near = difflib.get_close_matches(name, _SPECIFIED, n=1)
    if name not in _SPECIFIED:
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"it implements {name!r}, which is no hook (they are {', '.join(_SPECIFIED)}){hint}")
    given, right = (inspect.signature(either) for either in (function, _SPECIFIED[name]))
    if given.parameters:
        names = ", ".join(given.parameters)
        raise UsageError(f"{name}({names}) has a wrong signature; write def {name}() -> {right.return_annotation}")
