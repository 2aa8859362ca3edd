"""What ``pflbench check`` is to check: a name, a class of a module, a file, or all of an installed package."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from pflbench.errors import UsageError, unknown
from pflbench.faults import described
from pflbench.plugins import KINDS, Registry, from_file, registry
from pflbench.uninstalled import lying_here, normal, not_installed, project

Target = tuple[str, Any]  # kind and class


def targets(text: str) -> list[Target]:
    """Return what a target names: one class, or all of a file or package. Raises UsageError."""
    path, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if path.endswith(".py"):
        return _of_file(path, name)
    return [_of_module(path, name)] if name else _installed(text)


def _of_file(path: str, name: str) -> list[Target]:
    provided = from_file(path).found
    everything = [(kind, cls) for kind, entries in provided.items() for cls, _ in entries.values()]
    found = [(kind, cls) for kind, cls in everything if not name or cls.__name__ == name]
    if not found:
        raise unknown(f"class of {path}", name, [cls.__name__ for _, cls in everything])
    return found


def _of_module(module: str, name: str) -> Target:
    if not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{module!r} is no module; write its dotted name, as in mine.fedfoo:Class, or FILE.py:Class.")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the working folder, as with python -m; it stays, for what is imported in the checks
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _not_imported(module, error) from error
    kinds = tuple(KINDS.values())
    classes = {key: cls for key, cls in vars(found).items() if inspect.isclass(cls) and issubclass(cls, kinds)}
    if name not in classes:
        raise unknown(f"method, dataset or partitioner in {module}", name, classes)
    return next((kind, classes[name]) for kind, contract in KINDS.items() if issubclass(classes[name], contract))


def _not_imported(module: str, error: BaseException) -> UsageError:
    package = module.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == package and package.startswith("pflbench_"):
        installed = (plugin.distribution for plugin in registry().plugins)
        if uninstalled := lying_here(package.removeprefix("pflbench_"), installed):
            return uninstalled
    return UsageError(f"{module} cannot be imported: {described(error)}")


def _installed(text: str) -> list[Target]:
    """Return what has a name, else all that a distribution provides, given by its name or its folder."""
    here = registry()
    if found := _named(text, here):
        return found
    name = project(Path(text))
    if found := _of_distribution(name or text, here):
        return found
    raise _not_there(text, name, here)


def _not_there(text: str, package: str | None, here: Registry) -> UsageError:
    """Return the error for a name that nothing has; ``package`` is what the folder of that name calls itself."""
    mine = [plugin for plugin in here.plugins if normal(plugin.distribution) == normal(package or text)]
    if problems := [plugin.problem for plugin in mine if plugin.problem]:
        return UsageError(" ".join(problems))
    if package:
        return not_installed(package, Path(text))
    if uninstalled := lying_here(text, (plugin.distribution for plugin in here.plugins)):
        return uninstalled
    what = unknown("method, dataset or partitioner", text, [known for kind in KINDS for known in here.names(kind)])
    return UsageError(f"{what} {' '.join(here.problems) or 'What is not installed is named module:Class or FILE.py.'}")


def _named(name: str, here: Registry) -> list[Target]:
    found = []
    for kind in KINDS:
        try:
            found.append((kind, here.get(kind, name)[0]))
        except UsageError:
            continue
    return found


def _of_distribution(name: str, here: Registry) -> list[Target]:
    return [
        (kind, cls)
        for kind, entries in here.found.items()
        for cls, plugin in entries.values()
        if normal(plugin.distribution) == normal(name)
    ]
