"""A check: one thing that must hold of a method, dataset or partitioner, as a sentence that can be tried."""

from __future__ import annotations

import inspect
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pflbench.faults import described


class CheckFailed(AssertionError):
    """What a check says must hold does not; the reason is one sentence."""


class CheckSkipped(unittest.SkipTest):
    """A check could not be tried here; the reason is one sentence. pytest counts it as skipped."""


@dataclass(frozen=True)
class Check:
    """One thing that must hold: ``name`` is a slug, ``sentence`` what must hold.

    ``str(check)`` is its name and ``check()`` runs it, so that it can parametrize a test.
    """

    name: str
    sentence: str
    body: Callable[[], str | None] = field(repr=False, compare=False)
    owner: type = field(default=object, repr=False, compare=False)  # what is checked: errors name its own lines

    def run(self) -> str | None:
        """Try it and return a detail worth reading, or None.

        Raises CheckFailed with a one-sentence reason, CheckSkipped where it cannot be tried here.
        """
        try:
            return self.body()
        except (CheckFailed, CheckSkipped):
            raise
        except Exception as error:
            raise CheckFailed(described(error, self.owner)) from error

    def __call__(self) -> str | None:
        """Run it."""
        return self.run()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Outcome:
    """What came of a check: ``state``, and the reason or the detail."""

    check: Check
    state: Literal["holds", "fails", "not tried"]
    text: str
    seconds: float


def outcomes(checks: Sequence[Check]) -> Iterator[Outcome]:
    """Run checks one after another and yield what came of each as soon as it is known."""
    for check in checks:
        started = time.perf_counter()
        state: Literal["holds", "fails", "not tried"] = "holds"
        try:
            text = check.run() or ""
        except CheckSkipped as skipped:
            state, text = "not tried", str(skipped)
        except CheckFailed as failed:
            state, text = "fails", str(failed)
        yield Outcome(check, state, text, time.perf_counter() - started)


def source_of(cls: type) -> str:
    """Return the file that a class is written in, or "" where there is none."""
    try:
        return inspect.getsourcefile(cls) or ""
    except (TypeError, OSError):
        return ""


def require(holds: Any, reason: str) -> None:
    """Raise CheckFailed with a reason unless something holds."""
    if not holds:
        raise CheckFailed(reason)
