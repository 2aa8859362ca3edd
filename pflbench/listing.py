"""What is installed, as rows of plain values."""

from __future__ import annotations

import inspect
from typing import Any

from pflbench.dataset import Dataset
from pflbench.errors import unknown
from pflbench.faults import described
from pflbench.method import Method, TaskCard
from pflbench.partition import Partitioner
from pflbench.plugins import Plugin, Registry, registry
from pflbench.settings import Settings


def listing(what: str, among: Registry | None = None) -> list[dict[str, Any]]:
    """Return rows for "methods", "datasets", "partitioners" or "plugins". Raises UsageError for another word.

    ``among`` is what is listed, by default everything installed.
    """
    among = registry() if among is None else among
    kinds = {"methods": _method, "datasets": _dataset, "partitioners": _partitioner}
    if what == "plugins":
        return [_plugin(plugin) for plugin in among.plugins]
    if what not in kinds:
        raise unknown("list", what, [*kinds, "plugins"])
    return [kinds[what](cls, plugin) for cls, plugin in among.found[what[:-1]].values()]


def _summary(cls: type) -> str:
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _defaults(cls: type[Settings]) -> dict[str, Any]:
    return {name: getattr(cls, name, None) for name in cls.setting_names()}


def _method(cls: type[Method], plugin: Plugin) -> dict[str, Any]:
    return {
        "name": cls.name,
        "title": cls.title,
        "family": cls.family,
        "year": cls.year or "",
        "summary": _summary(cls),
        "settings": _defaults(cls),
        "leaves the hospital": cls.travels,
        "cost": cost(cls),
        "citation": cls.citation,
        "from": f"{plugin.distribution} {plugin.version}",
    }


# six hospitals of twenty training images, twenty public ones, and the paper's four epochs and hundred rounds
TASK = TaskCard("", {str(i): 20 for i in range(6)}, channels=3, height=256, width=256, epochs=4, rounds=100, public=20)


def gradients(method: Method) -> tuple[float, float]:
    """Return the per-image gradients of a round at all clients, and at the server, as multiples of FedAvg's.

    What the method announces for ``TASK``; that it announces what is counted is a check of every method.
    """
    extra = dict(method.extra_gradients(TASK))
    server = extra.pop("", 0)
    training = sum(TASK.clients.values()) * TASK.epochs
    return 1 + sum(extra.values()) / training, server / training


def cost(cls: type[Method]) -> str:
    """Return what a round costs in per-image gradients, as a multiple of FedAvg's, at clients and at the server."""
    try:
        clients, server = gradients(cls())
    except Exception as error:  # one method that cannot say must not hide the others
        return f"unknown: extra_gradients fails, {described(error, cls)}"
    words = f"{clients:.2f} x the gradients of FedAvg"
    return f"{words}, and {server:.2f} x at the server" if server else words


def _dataset(cls: type[Dataset], plugin: Plugin) -> dict[str, Any]:
    return {
        "name": cls.name,
        "title": cls.title,
        "simulated": cls.simulated,
        "sites": list(cls.sites),
        "train/test": {site: f"{train}/{test}" for site, (train, test) in cls.expected.items()},
        "presets": list(cls.presets),
        "settings": _defaults(cls),
        "from": f"{plugin.distribution} {plugin.version}",
    }


def _partitioner(cls: type[Partitioner], plugin: Plugin) -> dict[str, Any]:
    return {
        "name": cls.name,
        "title": cls.title,
        "summary": _summary(cls),
        "settings": _defaults(cls),
        "from": f"{plugin.distribution} {plugin.version}",
    }


def _plugin(plugin: Plugin) -> dict[str, Any]:
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "hooks": list(plugin.hooks),
        "problem": plugin.problem or "",
    }
