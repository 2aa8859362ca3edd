"""The files that a module consists of, with those it imports, where they are not installed for good; nothing is run."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

_OURS = {"pflbench", "pflbench_methods", "pflbench_datasets", "pflbench_reports"}
_SITE = {"site-packages", "dist-packages"}
_STANDARD = Path(os.__file__).parent
_LARGE = 16 * 2**20  # bytes; a larger file counts by its size
_DIGITS = 8  # of a hash


def sources(module: str) -> dict[str, Path]:
    """Return the files of a module's package, and of all that they import which is not installed, by name."""
    found: dict[str, Path] = {}
    wanted, done = {module.partition(".")[0]}, set[str]()
    while wanted:
        files = {name: file for root in sorted(wanted) for name, file in _files(root).items()}
        found, done = found | files, done | wanted
        wanted = {root for file in files.values() if file.suffix == ".py" for root in _imports(file)} - done
    return found


def digest(files: Mapping[str, Path]) -> str:
    """Return a hash of files and of the names that they go by."""
    return short(repr([(name, _content(files[name])) for name in sorted(files)]).encode())


def short(content: bytes) -> str:
    """Return a hash that can be read in a table."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def is_installed(module: str, file: str | None) -> bool:
    """Return whether a module is one that nobody edits: an installed package's, the standard library's or ours."""
    root = module.partition(".")[0]
    if file is None:  # built in, or a notebook
        return root in _OURS or root in sys.stdlib_module_names
    return root in _OURS or bool(_SITE & set(Path(file).parts)) or Path(file).is_relative_to(_STANDARD)


def _files(root: str) -> dict[str, Path]:
    spec = _spec(root)
    if spec is None:
        return {}
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    file = spec.origin if spec.has_location else next(map(str, folders), None)
    if is_installed(root, file):
        return {}
    # a folder without __init__.py may be anything that a library wrote there: its code alone
    pattern = "*" if spec.has_location else "*.py"
    inside = {path: path.relative_to(folder.parent) for folder in folders for path in folder.rglob(pattern)}
    alone = {} if folders or file is None else {Path(file).name: Path(file)}
    return alone | {name.as_posix(): path for path, name in inside.items() if path.is_file() and _counts(name)}


def _spec(root: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(root)
    except (ImportError, ValueError):  # a notebook has none
        return None


def _counts(name: Path) -> bool:
    skipped = any(part.startswith(".") or part in ("__pycache__", "tests") for part in name.parts)
    return not skipped and name.suffix != ".pyc"


def _imports(file: Path) -> set[str]:
    """Return the top-level modules that a file imports, wherever in it."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level and node.module]
    return {name.partition(".")[0] for name in names}


def _content(file: Path) -> str:
    try:
        size = file.stat().st_size
        return str(size) if size > _LARGE else hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""
