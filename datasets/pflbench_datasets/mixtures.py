"""Clients that no hospital stands for: subjects of all sites mixed evenly, in Dirichlet shares or in uneven sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from pflbench.api import Case, Partitioner, UsageError
from pflbench_datasets.sharing import (
    Counts,
    Pool,
    Subject,
    apportion,
    by_subject,
    enough,
    hand_out,
    numbered,
    pools,
    require_enough,
    totals,
)

_DRAWS = 2000  # how often shares are redrawn before a Dirichlet partition is given up

Clients = Annotated[int, Field(ge=2)]


@dataclass(frozen=True)
class Iid(Partitioner):
    """All subjects of all sites are shuffled and dealt in equal numbers, split by split: no client differs.

    The counterpart of every other partition: where a personalized method gains here, it gains by something
    other than personalization.
    """

    name: ClassVar[str] = "iid"
    title: ClassVar[str] = "sites mixed evenly"

    clients: Clients = 6

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return client-1, client-2, ... -> their cases. Raises UsageError where there are too many clients."""
        members = _one_kind(cases)
        counts: dict[Pool, Counts] = {}
        first = 0  # who gets the next subject: nobody has two more than another, in a split or altogether
        for pool, subjects in members.items():
            each, over = divmod(len(subjects), self.clients)
            counts[pool] = each + ((np.arange(self.clients) - first) % self.clients < over).astype(np.int64)
            first += over
        require_enough(totals(counts, self.clients), numbered(self.clients), "lower iid.clients")
        return hand_out(cases, members, counts, self.clients, rng)


@dataclass(frozen=True)
class Quantity(Partitioner):
    """Sites are mixed evenly, but clients differ in size: each has the same factor less than the one before.

    Every split is divided in the same shares, so that a client's test set follows its training set in size.
    """

    name: ClassVar[str] = "quantity"
    title: ClassVar[str] = "sites mixed evenly, clients of uneven size"

    clients: Clients = 6
    ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 8.0  # subjects of the largest / of the smallest client

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return client-1 (the largest), client-2, ... -> their cases. Raises UsageError where one gets too little."""
        members = _one_kind(cases)
        sizes = self.ratio ** -np.linspace(0.0, 1.0, self.clients)
        counts = {pool: apportion(sizes / sizes.sum(), len(subjects)) for pool, subjects in members.items()}
        remedy = "lower quantity.clients or quantity.ratio"
        require_enough(totals(counts, self.clients), numbered(self.clients), remedy)
        return hand_out(cases, members, counts, self.clients, rng)


@dataclass(frozen=True)
class Dirichlet(Partitioner):
    """Subjects of each kind go to the clients in shares drawn from Dir(alpha): small alpha, unlike clients.

    A kind is a site, or a range of foreground shares (of lesion size). Test subjects follow the client's own
    training subjects in number, kind by kind, so that a client is tested on images like those it trains on.
    Shares that leave a client with too little are drawn again.
    Source: Hsu et al., Measuring the effects of non-identical data distribution, 2019 (there over classes).
    """

    name: ClassVar[str] = "dirichlet"
    title: ClassVar[str] = "Dirichlet mixture"

    clients: Clients = 6
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5  # concentration; large makes all clients alike
    at_least: Annotated[int, Field(ge=1)] = 3  # subjects each client has for training and validation
    over: Literal["site", "foreground"] = "site"  # what clients differ in
    bins: Annotated[int, Field(ge=2)] = 5  # over foreground: ranges that hold equally many subjects

    def wants_foreground(self) -> bool:
        """Say whether masks must be read first."""
        return self.over == "foreground"

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return client-1, client-2, ... -> their cases; raises UsageError where no draw suffices."""
        subjects = by_subject(cases)
        members = pools(subjects, self._kinds(subjects))
        sizes = {pool: len(of_pool) for pool, of_pool in members.items()}
        for _ in range(_DRAWS):
            counts = self._counts(sizes, rng)
            if enough(totals(counts, self.clients), self.at_least).all():
                return hand_out(cases, members, counts, self.clients, rng)
        raise UsageError(
            f"none of {_DRAWS} dirichlet draws of {len(subjects)} subjects for {self.clients} clients "
            f"leaves each of them {self.at_least} subjects for training and a test case; "
            "lower dirichlet.clients or dirichlet.at_least, or raise dirichlet.alpha."
        )

    def _kinds(self, subjects: Mapping[Subject, Sequence[Case]]) -> dict[Subject, str]:
        """Return what each subject is divided by: its site, or the range that its foreground lies in."""
        if self.over == "site":
            return {subject: subject[0] for subject in subjects}
        shares = {subject: _mean_foreground(cases) for subject, cases in subjects.items()}
        edges = np.quantile(list(shares.values()), np.arange(1, self.bins) / self.bins)
        return {subject: f"{np.searchsorted(edges, share, side='right'):06}" for subject, share in shares.items()}

    def _counts(self, sizes: Mapping[Pool, int], rng: np.random.Generator) -> dict[Pool, Counts]:
        """Draw how many subjects of each kind and role every client gets; training comes first in ``sizes``."""
        counts: dict[Pool, Counts] = {}
        kinds = dict.fromkeys(kind for kind, _ in sizes)
        shares = {kind: rng.dirichlet(np.full(self.clients, self.alpha)) for kind in kinds}
        for (kind, role), size in sizes.items():
            trained = counts.get((kind, "train"))
            wanted = shares[kind] if trained is None else trained / trained.sum()
            counts[kind, role] = apportion(wanted, size)
        return counts


def _one_kind(cases: Sequence[Case]) -> dict[Pool, list[Subject]]:
    """Return the subjects of all sites together, apart by split only."""
    subjects = by_subject(cases)
    return pools(subjects, dict.fromkeys(subjects, "all"))


def _mean_foreground(cases: Sequence[Case]) -> float:
    """Return the mean share of the mask, summed exactly: the order of the cases must not matter."""
    shares = [math.nan if case.foreground is None else case.foreground for case in cases]
    if np.isnan(shares).any():
        raise UsageError(
            f"dirichlet.over=foreground needs the share of every mask, and that of subject {cases[0].subject!r} of "
            f"{cases[0].site} is not known; set dirichlet.over=site."
        )
    return math.fsum(shares) / len(shares)
