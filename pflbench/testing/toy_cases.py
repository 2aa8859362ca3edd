"""Federations of cases without pixels, for partitioners: official splits and none, several images of one person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from pflbench.dataset import Case
from pflbench.partition import Partitioner

SITES = ("north", "south", "west")
TRAITS = {"eye": ("left", "right"), "lid": ("upper", "lower")}
_SUBJECTS = 30  # at each site
_Split = Literal["train", "val", "test"] | None
_SPLITS: dict[str, tuple[_Split, ...]] = {
    "an official split": ("train", "train", "train", "test"),
    "official validation": ("train", "val", "train", "test"),
    "no split": (None,),
}


def toy_cases(splits: Sequence[_Split]) -> tuple[Case, ...]:
    """Return the cases of three sites; the same names of people at every site, one to three images of each.

    Every case has the traits ``eye`` and ``lid``, and a share of foreground.
    """
    return tuple(
        Case(
            id=f"{site}/{person}-{image}",
            site=site,
            subject=f"p{person}",
            split=splits[person % len(splits)],
            traits={name: values[(person // 2 + image) % 2] for name, values in TRAITS.items()},
            foreground=((7 * person + 3 * image + len(site)) % 20) / 20,
        )
        for site in SITES
        for person in range(_SUBJECTS)
        for image in range(1 + person % 3)
    )


FEDERATIONS: Mapping[str, tuple[Case, ...]] = {name: toy_cases(splits) for name, splits in _SPLITS.items()}


def dealt(partitioner: Partitioner, cases: Sequence[Case], seed: int = 0) -> dict[str, list[Case]]:
    """Return client -> its cases, as a partitioner decides with the generator of a seed."""
    return {client: list(own) for client, own in partitioner.assign(cases, np.random.default_rng(seed)).items()}


def listed(holdings: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    """Return client -> its cases' ids and splits, sorted, as plain values."""
    return {client: sorted([case.id, case.split or ""] for case in own) for client, own in sorted(holdings.items())}
