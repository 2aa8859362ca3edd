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
        return f"_pflbench_file_{stem}_{_digest(str(self.path).encode())}_{self.digest}"


@functools.cache
def module_of(file: PluginFile) -> ModuleType:
    """Return the file's module, run once in a process.

    Raises UsageError where it cannot be run, or is no longer what it was.
    """
    content = _content(file.path)
    if _digest(content) != file.digest:
        raise UsageError(
            f"{shown_path(file.path)} has changed since this trial was planned, so its results would be of two "
            "methods; run the command again."
        )
    spec = importlib.util.spec_from_file_location(file.module_name, file.path)
    assert spec is not None  # the name ends with .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.module_name] = module  # dataclasses look their annotations up there
    try:
        # these bytes, not what lies there a moment later; and no cached byte code beside somebody's file
        exec(compile(content, str(file.path), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:
        del sys.modules[file.module_name]
        raise UsageError(f"{shown_path(file.path)} could not be loaded: {_why(error, file)}") from error
    return module


def _why(error: Exception, file: PluginFile) -> str:
    sentence, place = described(error).rstrip("."), place_of(error, [file.module_name])
    beside = file.path.with_name(f"{getattr(error, 'name', None)}.py")
    if isinstance(error, ModuleNotFoundError) and beside.is_file():
        sentence += f"; {beside.name} lies beside it, but a plugin file stands alone: make a package of the two"
    return f"{sentence} ({place})." if place else f"{sentence}."


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
