"""The contract of a partitioner, and the rule that no subject sits in two clients or two splits."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pflbench.dataset import Case
from pflbench.errors import UsageError
from pflbench.settings import Settings


@dataclass(frozen=True)
class Split:
    """The cases of one client, by what they are used for."""

    train: tuple[Case, ...]
    val: tuple[Case, ...]
    test: tuple[Case, ...]

    @property
    def is_guest(self) -> bool:
        """Say whether the client never trains and is only tested."""
        return bool(self.test) and not self.train and not self.val


@dataclass(frozen=True)
class Partitioner(Settings):
    """Decides which client holds which cases. Fields are its parameters."""

    name: ClassVar[str]
    title: ClassVar[str]

    def wants_foreground(self) -> bool:
        """Say whether ``assign`` must be given cases whose ``foreground`` is filled in: their masks are read first."""
        return False

    @abstractmethod
    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return client -> its cases; a case may be left out, none may be given twice.

        The official split of a case is kept unless it is replaced (``dataclasses.replace(case, split=...)``).
        A client that is given test cases only never trains: it is a guest, for methods that can serve one.
        ``rng`` is the same for every seed of a run, so that clients mean the same in all of them.
        """


def divide(cases: Sequence[Case], validation: float, test: float, rng: np.random.Generator) -> Split:
    """Split one client's cases: official splits are kept, the rest is drawn by subject.

    Cases without a split give ``test`` of their subjects to the test set; then ``validation`` of all
    subjects that remain for training is held out (never fewer than one, never all).
    """
    held = _draw(_subjects(case for case in cases if case.split is None), test, rng) if test else set()
    testing = [case for case in cases if case.split == "test" or (case.split is None and _whose(case) in held)]
    fixed_val = [case for case in cases if case.split == "val"]
    training = [case for case in cases if case.split == "train" or (case.split is None and _whose(case) not in held)]
    if not fixed_val:
        drawn = _draw(_subjects(training), validation, rng)
        fixed_val = [case for case in training if _whose(case) in drawn]
        training = [case for case in training if _whose(case) not in drawn]
    return Split(tuple(training), tuple(fixed_val), tuple(testing))


_Subject = tuple[str, str]  # site and name: two sites may have patients of one name


def _whose(case: Case) -> _Subject:
    return case.site, case.subject


def _subjects(cases: Iterable[Case]) -> list[_Subject]:
    return sorted({_whose(case) for case in cases})


def _draw(subjects: list[_Subject], share: float, rng: np.random.Generator) -> set[_Subject]:
    """Draw a share of the subjects: at least one, but not all of them."""
    if len(subjects) < 2:
        return set()
    count = min(max(1, round(share * len(subjects))), len(subjects) - 1)
    return {subjects[index] for index in rng.permutation(len(subjects))[:count]}


def check(splits: Mapping[str, Split]) -> None:
    """Raise UsageError where a case or subject is used twice or a client lacks a split.

    A guest, which has test cases only, lacks none; but somebody must train.
    """
    owner: dict[tuple[str, str], tuple[str, str]] = {}
    seen: set[str] = set()
    for client, split in splits.items():
        for kind, cases in (("train", split.train), ("val", split.val), ("test", split.test)):
            if not cases and not split.is_guest:
                raise UsageError(
                    f"client {client!r} has no {kind} case; every client needs training, validation and test cases."
                )
            for case in cases:
                if case.id in seen:
                    raise UsageError(f"case {case.id!r} is given out twice; a partition uses a case at most once.")
                seen.add(case.id)
                first = owner.setdefault((case.site, case.subject), (client, kind))
                if first != (client, kind):
                    raise UsageError(
                        f"subject {case.subject!r} of {case.site} is in {first[0]}/{first[1]} and in {client}/{kind}; "
                        "one person's images must stay together."
                    )
    if all(split.is_guest for split in splits.values()):
        raise UsageError("no client has a training case; somebody must train.")


def split_hash(splits: Mapping[str, Split]) -> str:
    """Return a short hash of who holds which case for what, so that two tables can be compared."""
    listing = {
        client: {kind: [case.id for case in getattr(split, kind)] for kind in ("train", "val", "test")}
        for client, split in splits.items()
    }
    return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()[:12]
