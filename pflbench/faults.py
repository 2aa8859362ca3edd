"""What went wrong in a plugin's code, in one sentence: the error, what to do, and the last line of its own."""

from __future__ import annotations

import difflib
import linecache
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from pathlib import Path
from types import FrameType

from pflbench.errors import TrialFailed, UsageError

_CORE = "pflbench"
_WRITTEN = "<string>"  # the file of what dataclasses write into a module
_LONG = 100  # characters of a quoted line
# part of a Python error's text -> what to do about it, where the text alone does not say
_ADVICE = {
    "non-frozen dataclass from a frozen": "write @dataclass(frozen=True)",
    "mutable default": "settings never change: write a tuple, as in layers: tuple[str, ...] = ()",
    "follows default argument": "give every field a default",
    "property 'model' of 'Client' object has no setter": "load(client.model, weights) copies into it",
    "property 'state' of 'Client' object has no setter": "write client.state['name'] = value",
}


def described(error: BaseException, *owners: type) -> str:
    """Return what happened, what to do where that is known, and where in the code of ``owners`` (classes).

    One sentence on one line; of an error of our own only its text.
    """
    text = " ".join(str(error).split())
    if not isinstance(error, (TrialFailed, UsageError)):
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    advice, place = _advice(error), place_of(error, _homes(owners))
    sentence = f"{text.rstrip('.')}; {advice}" if advice else text.rstrip(".")
    return ended(f"{sentence} ({place})" if place else sentence)


def ended(sentence: str) -> str:
    """Return a sentence with one mark at its end."""
    return sentence if sentence.endswith("?") else f"{sentence.rstrip('.')}."


@contextmanager
def blamed(what: str, *owners: type) -> Iterator[None]:
    """Turn an error in the code of ``owners`` into a UsageError that names the line; other errors pass."""
    try:
        yield
    except (TrialFailed, UsageError):
        raise
    except Exception as error:
        if place_of(error, _homes(owners)) is None:
            raise
        raise UsageError(f"{what}: {described(error, *owners)}") from error


def place_of(error: BaseException, homes: Iterable[str]) -> str | None:
    """Return file, line and text of the last line in one of the packages; the first that has one decides."""
    frames = list(traceback.walk_tb(error.__traceback__))
    for home in homes:
        inside = [
            (frame, line)
            for frame, line in frames
            if _home(_module(frame)) == home and frame.f_code.co_filename != _WRITTEN
        ]
        if inside:
            frame, line = inside[-1]
            return _quoted(frame.f_code.co_filename, line)
    return None


def shown_path(path: str | Path) -> str:
    """Return a path as a reader here would type it: relative below the working folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return os.fspath(path)


def _homes(owners: Iterable[type]) -> list[str]:
    """Return the packages that define the classes and what they are built on, nearest first, without the core."""
    modules = [cls.__module__ for owner in owners for cls in owner.__mro__]
    return [home for home in dict.fromkeys(map(_home, modules)) if home not in (_CORE, "abc", "builtins")]


def _home(module: str) -> str:
    return module.partition(".")[0]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _quoted(file: str, line: int) -> str:
    code = linecache.getline(file, line).strip()
    where = f"{shown_path(file)}, line {line}"
    return f"{where}: {code if len(code) <= _LONG else code[:_LONG] + '...'}" if code else where


def _advice(error: BaseException) -> str:
    if isinstance(error, FrozenInstanceError):
        return "a method keeps nothing in itself: what must survive goes into client.state or server.state"
    if isinstance(error, SystemExit):
        return "it is imported, not run: put what exits below if __name__ == '__main__'"
    if isinstance(error, AttributeError) and error.name and _home(type(error.obj).__module__) == _CORE:
        return _nearest(error.name, error.obj)
    text = str(error)
    return next((advice for part, advice in _ADVICE.items() if part in text), "")


def _nearest(name: str, thing: object) -> str:
    has = [known for known in dir(thing) if not known.startswith("_")]
    near = difflib.get_close_matches(name, has, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(has)}"
