"""The three hooks through which methods, datasets and partitioners come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

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
