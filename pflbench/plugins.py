"""Loading plugins, refusing clashes, and looking things up by name."""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from pflbench import hookspecs
from pflbench.admission import admit
from pflbench.dataset import Dataset
from pflbench.editable import installed_version
from pflbench.errors import UsageError, unknown
from pflbench.faults import described, ended, place_of, shown_path
from pflbench.hookspecs import GROUP, check_hooks
from pflbench.method import Method
from pflbench.origin import note_origin
from pflbench.partition import Partitioner
from pflbench.plugin_files import PluginFile, module_of
from pflbench.settings import Settings
from pflbench.uninstalled import lying_here

KINDS: dict[str, type[Settings]] = {"method": Method, "dataset": Dataset, "partitioner": Partitioner}
FILE = "file"  # the distribution of what comes from a file
_OWN = "pflbench"  # the distribution of what is built in


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
    files: tuple[PluginFile, ...] = ()  # which of it another process must load from where

    @property
    def problems(self) -> list[str]:
        """One sentence for each plugin that could not be loaded."""
        return [plugin.problem for plugin in self.plugins if plugin.problem]

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind in the order they were registered."""
        return list(self.found[kind])

    def get(self, kind: str, name: str) -> tuple[type, Plugin]:
        """Return class and plugin; other spellings (``aliases``) and upper case are accepted.

        Raises UsageError with the nearest name, or with what to type where its package lies here and is not installed.
        """
        wanted = name.strip().lower()
        for known, (cls, plugin) in self.found[kind].items():
            if wanted in (known, *_aliases(cls)):
                return cls, plugin
        if uninstalled := lying_here(wanted, (plugin.distribution for plugin in self.plugins)):
            raise uninstalled
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


def with_files(paths: Sequence[str | Path]) -> Registry:
    """Return everything installed and what the files provide.

    A file has the hooks of any plugin, or simply defines subclasses of Method, Dataset or Partitioner. It was
    asked for by hand: raises UsageError where it cannot be loaded, or provides a name that is taken.
    """
    return of_files([PluginFile.at(path) for path in paths])


def of_files(files: Sequence[PluginFile]) -> Registry:
    """Return everything installed and what the files provide, if their content is what it was. Raises UsageError."""
    installed = registry()
    copied = {kind: dict(entries) for kind, entries in installed.found.items()}
    result = Registry(list(installed.plugins), copied, tuple(dict.fromkeys(files)))
    for file in result.files:
        _add_file(file, result)
    return result


def from_file(path: str | Path) -> Registry:
    """Return what one file provides, and nothing else. Raises UsageError where it cannot be loaded."""
    file = PluginFile.at(path)
    result = Registry(files=(file,))
    _add_file(file, result)
    return result


def _add_file(file: PluginFile, result: Registry) -> None:
    module, manager = module_of(file), _manager()
    try:
        hooks = _register(manager, module, file.path.stem)
        classes = _provided(manager, module) if hooks else _defined(module)
    except (Exception, SystemExit) as error:
        raise UsageError(ended(f"{shown_path(file.path)}: {_reason(error, module.__name__)}")) from error
    plugin = Plugin(file.path.stem, FILE, file.digest, hooks)
    result.plugins.append(plugin)
    _enter_all(classes, plugin, result)


def _defined(module: ModuleType) -> list[tuple[str, type]]:
    """Return the classes that a module without hooks defines, but for those that only others are built on."""
    own = [cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__]
    found = []
    for kind, expected in KINDS.items():
        for cls in dict.fromkeys(cls for cls in own if issubclass(cls, expected)):
            if "name" in vars(cls) or not any(issubclass(other, cls) for other in own if other is not cls):
                admit(expected, cls)
                found.append((kind, cls))
    if not found:
        raise UsageError("it provides nothing; define a subclass of Method, Dataset or Partitioner in it")
    return found


def load(points: tuple[EntryPoint, ...]) -> Registry:
    """Load entry points into a registry; what cannot be loaded is named and the rest works.

    Raises UsageError where two distributions use one entry-point name, or two plugins one name: a
    silent winner would change what a table means.
    """
    _refuse_shared_names(points)
    manager = _manager()
    result = Registry()
    for point in sorted(points, key=lambda point: (_distribution(point)[0] != _OWN, point.name)):
        _load_one(manager, point, result)
    return result


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name if point.dist else "unknown"), installed_version(point)


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


def _load_one(manager: pluggy.PluginManager, point: EntryPoint, result: Registry) -> None:
    """Import one plugin and enter what it provides; whatever fails disables it."""
    name, (distribution, version) = point.name, _distribution(point)
    try:
        module = point.load()
        hooks = _register(manager, module, name)
        if not hooks:
            raise UsageError(
                f"it implements no hook; {point.value!r} must be a module with @hookimpl above def pflbench_methods()"
            )
        classes = _provided(manager, module)
    except (Exception, SystemExit) as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        reason = _reason(error, point.module)
        problem = f"plugin {name!r} of {distribution} {version} could not be loaded ({reason})."
        result.plugins.append(Plugin(name, distribution, version, problem=problem))
        return
    plugin = Plugin(name, distribution, version, hooks)
    result.plugins.append(plugin)
    _enter_all(classes, plugin, result)


def _register(manager: pluggy.PluginManager, module: Any, name: str) -> tuple[str, ...]:
    """Register a module and return the hooks it implements. Raises UsageError for a hook that is not as specified."""
    check_hooks(module)
    manager.register(module, name)
    return tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or []))


def _reason(error: BaseException, module: str) -> str:
    """Return what happened in one sentence without its full stop, with the last line of the plugin's own."""
    sentence, place = described(error).rstrip("."), place_of(error, [module.partition(".")[0]])
    return f"{sentence}, {place}" if place else sentence


def _provided(manager: pluggy.PluginManager, module: Any) -> list[tuple[str, type]]:
    """Return what a plugin's hooks provide. Raises UsageError for nothing, or a class that is not as it must be."""
    others = [other for other in manager.get_plugins() if other is not module]
    found = []
    for kind, expected in KINDS.items():
        hook = f"pflbench_{kind}s"
        for listed in manager.subset_hook_caller(hook, others)():
            if not isinstance(listed, (list, tuple)):
                raise UsageError(f"{hook}() returned {listed!r}, not a list of classes; return [{_named(listed)}]")
            for cls in listed:
                admit(expected, cls)
                found.append((kind, cls))
    if not found:
        raise UsageError("its hooks return no class; return [MyClass]")
    return found


def _named(thing: Any) -> str:
    return thing.__name__ if inspect.isclass(thing) else "MyClass"


def _enter_all(classes: Sequence[tuple[str, type]], plugin: Plugin, result: Registry) -> None:
    for kind, cls in classes:
        _enter(result.found[kind], kind, cls, plugin)


def _enter(found: dict[str, tuple[type, Plugin]], kind: str, cls: Any, plugin: Plugin) -> None:
    """Enter a class under its name. Raises UsageError where the name, or an alias, is taken."""
    taken = {word: other for name, (known, other) in found.items() for word in (name, *_aliases(known))}
    for word in (cls.name, *_aliases(cls)):
        if word in taken:
            first, second = _origin(taken[word]), _origin(plugin)
            mend = "uninstall one of them" if first != second else "give one of them another name"
            if plugin.distribution == FILE and first != second:
                mend = "give yours another name, or leave the file out"
            raise UsageError(f"{kind} {word!r} comes from {first} and from {second}; {mend}.")
    found[cls.name] = (cls, plugin)
    if kind == "dataset" and plugin.distribution != _OWN:
        note_origin(cls, plugin.distribution, plugin.version)


def _origin(plugin: Plugin) -> str:
    return f"the file {plugin.name}.py" if plugin.distribution == FILE else plugin.distribution


def _aliases(cls: type) -> tuple[str, ...]:
    """Return the other spellings of a class's own name; a subclass with another name does not inherit them."""
    return tuple(vars(cls).get("aliases", ()))
