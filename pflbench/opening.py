"""From a specification back to the things it names: method, data, sites, engine."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pflbench.engines.in_process import InProcess
from pflbench.errors import UsageError
from pflbench.method import Method
from pflbench.partition import Partitioner
from pflbench.plugin_files import PluginFile
from pflbench.plugins import Registry, of_files
from pflbench.recipe import Recipe
from pflbench.sites import Setting
from pflbench.splitfile import Prescribed
from pflbench.steps import Site
from pflbench.task import Source, Task, open_source, open_task, pooled, pools_data


def open_method(spec: Mapping[str, Any], registry: Registry) -> Method:
    """Return the method of a specification."""
    return registry.method(spec["method"]["name"]).of(spec["method"]["settings"])


@functools.lru_cache(maxsize=4)
def _source(described: str, root: Path | None, split: Path | None, files: tuple[PluginFile, ...]) -> Source:
    dataset_spec, partitioner_spec = json.loads(described)
    registry = of_files(files)
    dataset = registry.dataset(dataset_spec["name"]).find(root, **dataset_spec["settings"])
    if dataset is None:
        raise UsageError(f"no {dataset_spec['name']} data in {root} any more.")
    partitioner = _partitioner(partitioner_spec, split, registry)
    public = dataset_spec.get("public", {"sites": [], "digest": None})
    source = open_source(dataset, tuple(dataset_spec["sites"]), partitioner, tuple(public["sites"]))
    if source.digest != dataset_spec["digest"] or (source.public and source.public_digest != public["digest"]):
        raise UsageError(f"the {dataset.name} data in {root} has changed since this trial was planned.")
    return source


def _partitioner(spec: Mapping[str, Any], split: Path | None, registry: Registry) -> Partitioner:
    if split is None:
        return registry.partitioner(spec["name"]).of(spec["settings"])
    found = Prescribed.read(split)
    if found.digest != spec["settings"]["digest"]:
        raise UsageError(f"{split} has changed since this trial was planned.")
    return found


def open_spec(
    spec: Mapping[str, Any], root: Path | None, split: Path | None = None, files: Sequence[PluginFile] = ()
) -> tuple[Method, Task]:
    """Return method and task of a specification, with the data below ``root`` and the split file, if it has one.

    ``files`` are the plugins that were given as files. Raises UsageError where the data, or one of the files, is
    not what it was when the trial was planned.
    """
    source = _source(json.dumps([spec["dataset"], spec["partitioner"]]), root, split, tuple(files))
    task = open_task(source, Recipe.of(spec["recipe"]), spec["seed"], spec["numerics"]["device"])
    if task.split != spec["split"]:
        raise UsageError("the split drawn here is not that of the specification.")
    method = open_method(spec, of_files(files))
    return method, pooled(task) if pools_data(method) else task


def sites_of(method: Method, setting: Setting, task: Task, clients: Iterable[str]) -> dict[str, Site]:
    """Return the hospitals of some clients."""
    chosen = {client: task.clients[client] for client in clients}
    return {c: Site(c, method, setting, data.training, data.held_out) for c, data in chosen.items()}


def in_process(method: Method, setting: Setting, task: Task) -> InProcess:
    """Return the engine that runs every client in this process."""
    return InProcess(sites_of(method, setting, task, task.clients))
