"""Shares of subjects: who a subject is, how many of them each client gets, and handing them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pflbench.api import Case, UsageError

Subject = tuple[str, str]  # site and name: equal names at two sites are two people
Role = Literal["train", "open", "val", "test"]  # "open": the data gives no split, so the recipe's shares decide
Pool = tuple[str, Role]  # what the subjects of a pool have in common (their site, say), and their role
Counts = NDArray[np.int64]  # subjects per client

ROLES: tuple[Role, ...] = ("train", "open", "val", "test")


def by_subject(cases: Sequence[Case]) -> dict[Subject, list[Case]]:
    """Return each subject's cases, subjects in the order in which they come."""
    subjects: dict[Subject, list[Case]] = {}
    for case in cases:
        subjects.setdefault((case.site, case.subject), []).append(case)
    return subjects


def role(cases: Sequence[Case]) -> Role:
    """Return the official split of one subject's cases, or "open" where it has none."""
    return next((case.split for case in cases if case.split), "open")


def pools(subjects: Mapping[Subject, Sequence[Case]], kinds: Mapping[Subject, str]) -> dict[Pool, list[Subject]]:
    """Return (kind, role) -> its subjects, in an order that does not depend on how the cases are listed."""
    found: dict[Pool, list[Subject]] = {}
    for subject in sorted(subjects):
        found.setdefault((kinds[subject], role(subjects[subject])), []).append(subject)
    return dict(sorted(found.items(), key=lambda item: (item[0][0], ROLES.index(item[0][1]))))


def apportion(shares: NDArray[np.float64], total: int) -> Counts:
    """Divide ``total`` in whole numbers, nearest to the shares (largest remainders); no share, no number."""
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(np.int64)  # 0.3 / 0.1 is a little less than 3
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts


def totals(counts: Mapping[Pool, Counts], clients: int) -> dict[Role, Counts]:
    """Return how many subjects of each role every client gets."""
    found: dict[Role, Counts] = {split: np.zeros(clients, np.int64) for split in ROLES}
    for (_, split), count in counts.items():
        found[split] = found[split] + count
    return found


def enough(total: Mapping[Role, Counts], at_least: int = 1) -> NDArray[np.bool_]:
    """Say which clients can train, validate and test, with ``at_least`` subjects apart from official validation.

    Of subjects without a split the recipe takes one or more for testing, where there are two at least; without
    an official validation set it takes one or more of the training subjects for that.
    """
    held = (total["open"] >= 2).astype(np.int64)
    training = total["train"] + total["open"] - held
    tested = total["test"] + held
    return (training >= at_least) & (training + (total["val"] >= 1) >= 2) & (tested >= 1)


def require_enough(total: Mapping[Role, Counts], names: Sequence[str], remedy: str) -> None:
    """Raise UsageError naming the first client that has too little, what it has, and what to do."""
    short = np.flatnonzero(~enough(total))
    if short.size:
        first = int(short[0])
        words = {"train": "training", "open": "undivided", "val": "validation", "test": "test"}
        held = ", ".join(f"{total[split][first]} {words[split]}" for split in ROLES if total[split].any())
        raise UsageError(
            f"client {names[first]!r} would have too few subjects ({held}); every client needs two for training "
            f"and validation and one to be tested on, or three undivided: {remedy}."
        )


def numbered(clients: int) -> list[str]:
    """Return the names of clients that stand for nobody in particular."""
    return [f"client-{number + 1}" for number in range(clients)]


def hand_out(
    cases: Sequence[Case],
    members: Mapping[Pool, Sequence[Subject]],
    counts: Mapping[Pool, Counts],
    clients: int,
    rng: np.random.Generator,
) -> dict[str, list[Case]]:
    """Give each client its number of subjects of every pool, drawn at random; its cases keep their order."""
    owner: dict[Subject, int] = {}
    for pool, subjects in members.items():
        owners = rng.permutation(np.repeat(np.arange(clients), counts[pool])).tolist()
        owner.update(zip(subjects, owners, strict=True))
    names = numbered(clients)
    dealt: dict[str, list[Case]] = {name: [] for name in names}
    for case in cases:
        dealt[names[owner[case.site, case.subject]]].append(case)
    return dealt
