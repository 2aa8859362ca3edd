"""The version of code that can be edited: what was installed with --editable, and classes of a script or notebook.

A finished trial is never run again; so a changed line must make another trial of it, or old numbers stay.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from types import CodeType

_OWN = "pflbench"  # its built-in plugins: their commit is recorded beside every trial
_INSTALLED_BASES = ("pflbench", "pflbench_methods", "builtins", "abc")
_DIGITS = 8  # of the hash


def installed_version(point: EntryPoint) -> str:
    """Return the version of an entry point's distribution, with a hash of its code where that can be edited."""
    if point.dist is None:
        return "?"
    if point.dist.name == _OWN or not _editable(point.dist):
        return point.dist.version
    return f"{point.dist.version}+{_digest(_sources(point.module))}"


def written_version(cls: type) -> str:
    """Return a hash of the code that defines a class that no plugin provides, and of what it is built on.

    Of a script, all that it defines counts, and not what it does: ``seeds=3`` made ``seeds=5`` keeps the first three.
    """
    own = [base for base in cls.__mro__ if base.__module__.partition(".")[0] not in _INSTALLED_BASES]
    texts = dict.fromkeys(_code(base) for base in own)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_DIGITS]


def _code(cls: type) -> str:
    """Return what is defined where a class is written, else the class as compiled (a line typed at a prompt)."""
    try:
        file = Path(inspect.getsourcefile(cls) or "")
        return _defined(file.read_text(encoding="utf-8") if file.is_file() else inspect.getsource(cls))
    except (OSError, TypeError, SyntaxError):
        return "\n".join(f"{name} {_compiled(value)}" for name, value in vars(cls).items())


def _defined(text: str) -> str:
    """Return the functions, classes, imports and constants of a module, without its other statements."""
    kept = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    constants = (ast.Assign, ast.AnnAssign)
    return "\n".join(
        ast.dump(node)
        for node in ast.parse(inspect.cleandoc(text)).body
        if isinstance(node, kept)
        or (isinstance(node, constants) and not any(isinstance(part, ast.Call) for part in ast.walk(node)))
    )


def _compiled(value: object) -> str:
    """Return what a function does, and plain values, in a text without addresses."""
    if isinstance(value, CodeType):
        return f"{value.co_code.hex()} {value.co_names} {[_compiled(inner) for inner in value.co_consts]}"
    code = getattr(getattr(value, "__func__", value), "__code__", None)
    return _compiled(code) if code else repr(value) if isinstance(value, (bool, int, float, str)) else ""


def _editable(distribution: Distribution) -> bool:
    text = distribution.read_text("direct_url.json")
    return bool(text and json.loads(text).get("dir_info", {}).get("editable"))


def _sources(module: str) -> list[Path]:
    """Return the files of the package or module that an entry point lies in; nothing is imported."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    return sorted(file for folder in folders for file in folder.rglob("*.py")) or [Path(str(spec.origin))]


def _digest(files: list[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"")
    return found.hexdigest()[:_DIGITS]
