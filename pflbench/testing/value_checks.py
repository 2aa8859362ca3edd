"""Checks of what methods, datasets and partitioners have in common: a name, settings, a docstring."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from pflbench.admission import admit
from pflbench.plugins import KINDS, registry
from pflbench.settings import Settings
from pflbench.testing.checks import Check, CheckSkipped, require, source_of

S = TypeVar("S", bound=Settings)


class Subject(Generic[S]):
    """What is checked: a class, and a value of it once one can be made."""

    def __init__(self, kind: str, given: type[S] | S) -> None:
        self.kind = kind
        self.cls: type[S] = given if inspect.isclass(given) else type(given)
        self._given = None if inspect.isclass(given) else given

    def make(self) -> S:
        """Return the value: the given one, or one with every setting at its default."""
        return self.cls() if self._given is None else self._given

    @property
    def value(self) -> S:
        """The value. Raises CheckSkipped where none can be made: the check of settings says why."""
        try:
            return self.make()
        except Exception:
            raise CheckSkipped(f"no {self.cls.__name__} can be made: see above.") from None

    def check(self, name: str, sentence: str, body: Any) -> Check:
        """Return a check of it."""
        return Check(name, sentence, body, self.cls)


def value_checks(subject: Subject[Any]) -> Iterator[Check]:
    """Yield the checks of contract, settings, name and docstring."""
    kind = subject.kind
    yield subject.check("contract", f"It keeps to the contract of a {kind}.", lambda: admit(KINDS[kind], subject.cls))
    yield subject.check("settings", "Its fields are plain values, and each can be set.", lambda: _settings(subject))
    yield subject.check("name", "It is found by its name, and by its title.", lambda: _name(subject))
    yield subject.check(
        "docstring", "Its docstring says in its first sentence what it is.", lambda: _docstring(subject)
    )


def _settings(subject: Subject[Any]) -> str:
    cls, value = subject.cls, subject.make()
    plain = value.settings()
    odd = [name for name, shown in plain.items() if not _plain(shown)]
    require(
        not odd, f"{next(iter(odd), None)!r} is no plain value; take a number, text, true or false, or a tuple of them."
    )
    again = cls.of(json.loads(json.dumps(plain)))
    require(again.settings() == plain, f"read back from JSON its settings are {again.settings()}, not {plain}.")
    return ", ".join(f"{cls.label()}.{name}={shown}" for name, shown in plain.items())


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or (isinstance(value, (bool, int, float, str)) and value == value)


def _name(subject: Subject[Any]) -> None:
    cls, kind = subject.cls, subject.kind
    name, title = str(getattr(cls, "name", "")), str(getattr(cls, "title", ""))
    words = {name, *vars(cls).get("aliases", ())}
    if kind == "method":
        require(
            title.lower() in words,
            f"its title {title!r} finds nothing; add aliases: ClassVar[tuple[str, ...]] = ({title.lower()!r},).",
        )
    for known, (other, plugin) in registry().found[kind].items():
        taken = words & {known, *vars(other).get("aliases", ())} if not _same(other, cls) else set()
        require(not taken, f"{' and '.join(sorted(taken))} is a {kind} of {plugin.distribution}; take another name.")


def _same(one: type, other: type) -> bool:
    """Say whether two classes are one, or one file's class loaded twice."""
    return one is other or (one.__qualname__, source_of(one)) == (other.__qualname__, source_of(other))


def _docstring(subject: Subject[Any]) -> str:
    cls = subject.cls
    own = vars(cls).get("__doc__") or ""
    generated = own.startswith(f"{cls.__name__}(")  # what a dataclass without one is given
    text = "" if generated else inspect.cleandoc(own)
    first = re.split(r"(?<=[.:])\s", " ".join(text.split("\n\n")[0].split()))[0]
    require(
        len(first.split()) > 3,
        f'class {cls.__name__} has no docstring of its own; write """FedAvg, except that ...""" below it.',
    )
    return first
