"""A plugin that is one file: loaded under a name that cannot clash, and known by the hash of its content."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

from pflbench.errors import UsageError
from pflbench.faults import described, place_of, shown_path

_DIGITS = 12  # of the hash
_PREFIX = "_pflbench_file_"  # of the names of modules
_ADVICE = "a plugin file stands alone: make a package of the two (pflbench new starts one)"


@dataclass(frozen=True)
class PluginFile:
    """A Python file with the content that it had when it was asked for."""

    path: Path
    digest: str

    @classmethod
    def at(cls, path: str | Path) -> Self:
        """Return the file as it is now. Raises UsageError where there is none."""
        return cls(Path(path).expanduser().resolve(), _digest(_content(Path(path).expanduser())))

    @classmethod
    def of(cls, plain: Mapping[str, str]) -> Self:
        """Return the file that ``plain`` described."""
        return cls(Path(plain["path"]), plain["digest"])

    def plain(self) -> dict[str, str]:
        """Return path and hash as values that JSON can hold."""
        return {"path": str(self.path), "digest": self.digest}

    @property
    def module_name(self) -> str:
        """A name that no installed module, no other file and no other content has."""
        stem = re.sub(r"\W", "_", self.path.stem)
        return f"{_PREFIX}{stem}_{_digest(str(self.path).encode())}_{self.digest}"


@functools.cache
def module_of(file: PluginFile) -> ModuleType:
    """Return the file's module, run once in a process.

    Raises UsageError where it cannot be run, or is no longer what it was.
    """
    content = _content(file.path)
    if _digest(content) != file.digest:
        raise UsageError(
            f"{shown_path(file.path)} has changed since this command read it, so its results would be of two "
            "methods; run the command again."
        )
    spec = importlib.util.spec_from_file_location(file.module_name, file.path)
    assert spec is not None  # the name ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.module_name] = module  # dataclasses look their annotations up there
    try:
        # these bytes, not what lies there a moment later; and no cached byte code beside somebody's file
        exec(compile(content, str(file.path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[file.module_name]
        raise UsageError(f"{shown_path(file.path)} could not be loaded: {_why(error, file)}") from error
    return module


def loaded_from(module: str) -> PluginFile | None:
    """Return the file that a module was loaded from, with the content it had then; None for any other module."""
    if not module.startswith(_PREFIX) or module not in sys.modules:
        return None
    return PluginFile(Path(str(sys.modules[module].__file__)), module.rpartition("_")[2])


def _why(error: BaseException, file: PluginFile) -> str:
    sentence, place = described(error).rstrip("."), place_of(error, [file.module_name])
    if isinstance(error, ModuleNotFoundError) and (beside := _beside(file.path, error.name or "")):
        sentence += f"; {beside} lies beside it, but {_ADVICE}"
    elif isinstance(error, ImportError) and "relative import" in str(error):
        sentence += f"; {_ADVICE}"
    return f"{sentence} ({place})." if place else f"{sentence}."


def _beside(path: Path, module: str) -> str | None:
    """Return the file or folder with code beside ``path`` that a module's name means, if it is there."""
    name = module.partition(".")[0]
    folder = path.parent / name
    if name and any(folder.glob("*.py")):
        return f"{name}/"
    return f"{name}.py" if path.with_name(f"{name}.py").is_file() else None


def _content(path: Path) -> bytes:
    if path.suffix != ".py":
        raise UsageError(f"{path} is no Python file; a plugin file is one module and ends with .py.")
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"the plugin file {path} cannot be read ({reason}); give the path of a file.") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
