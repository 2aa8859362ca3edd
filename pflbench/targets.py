"""What ``pflbench check`` is to check: a name, a class of a module, a file, or all of an installed package."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from pflbench.errors import UsageError, unknown
from pflbench.faults import described
from pflbench.plugins import FILE, KINDS, Registry, from_file, registry

Target = tuple[str, Any]  # kind and class


def targets(text: str) -> list[Target]:
    """Return what a target names: one class, or all of a file or package. Raises UsageError."""
    path, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if path.endswith(".py"):
        return _of_file(path, name)
    return [_of_module(path, name)] if name else _installed(text)


def _of_file(path: str, name: str) -> list[Target]:
    found = [
        (kind, cls)
        for kind, entries in from_file(path).found.items()
        for cls, plugin in entries.values()
        if plugin.distribution == FILE and (not name or cls.__name__ == name)
    ]
    if not found:
        raise unknown(f"class of {path}", name, [cls.__name__ for _, cls in _of_file(path, "")])
    return found


def _of_module(module: str, name: str) -> Target:
    sys.path.insert(0, "")  # the working folder, as with python -m
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise UsageError(f"{module} cannot be imported: {described(error)}") from error
    kinds = tuple(KINDS.values())
    classes = {key: cls for key, cls in vars(found).items() if inspect.isclass(cls) and issubclass(cls, kinds)}
    if name not in classes:
        raise unknown(f"method, dataset or partitioner in {module}", name, classes)
    return next((kind, classes[name]) for kind, contract in KINDS.items() if issubclass(classes[name], contract))


def _installed(text: str) -> list[Target]:
    """Return what has a name, else all that a distribution provides, given by its name or its folder."""
    here = registry()
    found = _named(text, here) or _of_distribution(_project(Path(text)) or text, here)
    if not found:
        names = [known for kind in KINDS for known in here.names(kind)]
        what = unknown("method, dataset or partitioner", text, names)
        raise UsageError(f"{what} {' '.join(here.problems) or _before_it_is_installed(Path(text))}")
    return found


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
        if _normal(plugin.distribution) == _normal(name)
    ]


def _normal(distribution: str) -> str:
    """Return a distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _project(folder: Path) -> str | None:
    """Return the name that a folder's pyproject.toml gives, or None where there is none. Raises UsageError."""
    file = folder / "pyproject.toml"
    if not file.is_file():
        return None
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} cannot be read, or names no project: {described(error)}") from error


def _before_it_is_installed(path: Path) -> str:
    if (path / "pyproject.toml").is_file():
        return f"This folder's package is not installed: pip install --editable {path}"
    return "What is not installed is named module:Class or my_method.py."
