"""Loading plugins, refusing clashes, and looking things up by name."""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from pflbench import hookspecs
from pflbench.dataset import Dataset
from pflbench.errors import UsageError, unknown
from pflbench.hookspecs import GROUP
from pflbench.method import Method
from pflbench.partition import Partitioner

KINDS: dict[str, type] = {"method": Method, "dataset": Dataset, "partitioner": Partitioner}


@dataclass(frozen=True)
class Plugin:
    """One plugin: its entry point, the distribution it came with, and the hooks it implements."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    problem: str | None = None  # one sentence, where it could not be loaded


@dataclass
class Registry:
    """Everything that plugins provide: kind -> name -> (class, plugin)."""

    plugins: list[Plugin] = field(default_factory=list)
    found: dict[str, dict[str, tuple[type, Plugin]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    @property
    def problems(self) -> list[str]:
        """One sentence for each plugin that could not be loaded."""
        return [plugin.problem for plugin in self.plugins if plugin.problem]

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind in the order they were registered."""
        return list(self.found[kind])

    def get(self, kind: str, name: str) -> tuple[type, Plugin]:
        """Return class and plugin; other spellings (``aliases``) and upper case are accepted.

        Raises UsageError with the nearest name.
        """
        wanted = name.strip().lower()
        for known, (cls, plugin) in self.found[kind].items():
            if wanted in (known, *_aliases(cls)):
                return cls, plugin
        error = unknown(kind, name, self.found[kind])
        if self.problems:
            raise UsageError(f"{error} These plugins could not be loaded: {' '.join(self.problems)}")
        raise error

    def method(self, name: str) -> type[Method]:
        """Return a method class by name."""
        return self.get("method", name)[0]

    def dataset(self, name: str) -> type[Dataset]:
        """Return a dataset class by name."""
        return self.get("dataset", name)[0]

    def partitioner(self, name: str) -> type[Partitioner]:
        """Return a partitioner class by name."""
        return self.get("partitioner", name)[0]


@functools.cache
def registry() -> Registry:
    """Return the registry of everything installed, loaded once."""
    return load(tuple(entry_points(group=GROUP)))


def load(points: tuple[EntryPoint, ...]) -> Registry:
    """Load entry points into a registry; what cannot be loaded is named and the rest works.

    Raises UsageError where two distributions use one entry-point name, or two plugins one name: a
    silent winner would change what a table means.
    """
    _refuse_shared_names(points)
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    result = Registry()
    for point in sorted(points, key=lambda point: (_distribution(point)[0] != "pflbench", point.name)):
        plugin, module = _load_one(manager, point)
        result.plugins.append(plugin)
        if module is not None:
            _collect(manager, module, result)
    return result


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "?")


def _refuse_shared_names(points: tuple[EntryPoint, ...]) -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for point in points:
        owners[point.name].add(_distribution(point)[0])
    for name, distributions in owners.items():
        if len(distributions) > 1:
            raise UsageError(
                f"the entry point {name!r} is used by {' and '.join(sorted(distributions))}; one would silently "
                "replace the other: uninstall one, or name the entry point after its distribution."
            )


def _load_one(manager: pluggy.PluginManager, point: EntryPoint) -> tuple[Plugin, Any]:
    """Import and register one plugin; return it with its module, or with its problem and None."""
    name, (distribution, version) = point.name, _distribution(point)
    try:
        module = point.load()
        manager.register(module, name)
        for caller in manager.get_hookcallers(module) or []:
            if caller.spec is None:
                known = ", ".join(_hook_names())
                raise UsageError(f"it implements {caller.name!r}, which is no hook; the hooks are {known}")
        hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or []))
        return Plugin(name, distribution, version, hooks), module
    except Exception as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        what = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        return _broken(name, distribution, version, what), None


def _broken(name: str, distribution: str, version: str, what: str) -> Plugin:
    reason = " ".join(what.split())
    problem = f"plugin {name!r} of {distribution} {version} could not be loaded ({reason})."
    return Plugin(name, distribution, version, problem=problem)


def _hook_names() -> list[str]:
    return [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("pflbench_")]


def _collect(manager: pluggy.PluginManager, module: Any, result: Registry) -> None:
    """Call the plugin's hooks and enter what they return; a hook that fails disables its plugin."""
    plugin = result.plugins[-1]
    others = [other for other in manager.get_plugins() if other is not module]
    try:
        provided = {kind: manager.subset_hook_caller(f"pflbench_{kind}s", others)() for kind in KINDS}
        classes = [(kind, cls) for kind, lists in provided.items() for listed in lists for cls in _listed(listed)]
        for kind, cls in classes:
            _check_class(kind, cls)
    except Exception as error:
        what = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        result.plugins[-1] = _broken(plugin.name, plugin.distribution, plugin.version, what)
        return
    for kind, cls in classes:
        _enter(result.found[kind], kind, cls, plugin)


def _listed(classes: Any) -> list[Any]:
    if not isinstance(classes, (list, tuple)):
        raise UsageError(f"a hook returned {classes!r}, not a list of classes")
    return list(classes)


def _check_class(kind: str, cls: Any) -> None:
    expected = KINDS[kind]
    if not (inspect.isclass(cls) and issubclass(cls, expected)):
        raise UsageError(f"{cls!r} is not a subclass of {expected.__name__}")
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise UsageError(f"{cls.__name__} lacks {lacking}")
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name or name != name.lower():
        raise UsageError(f"{cls.__name__}.name = {name!r} must be a lower-case string")


def _enter(found: dict[str, tuple[type, Plugin]], kind: str, cls: Any, plugin: Plugin) -> None:
    """Enter a class under its name. Raises UsageError where the name, or an alias, is taken."""
    taken = {word: other for name, (known, other) in found.items() for word in (name, *_aliases(known))}
    for word in (cls.name, *_aliases(cls)):
        if word in taken:
            raise UsageError(
                f"{kind} {word!r} comes from {taken[word].distribution} and from {plugin.distribution}; "
                "uninstall one of them."
            )
    found[cls.name] = (cls, plugin)


def _aliases(cls: type) -> tuple[str, ...]:
    """Return the other spellings of a class's own name; a subclass with another name does not inherit them."""
    return tuple(vars(cls).get("aliases", ()))
