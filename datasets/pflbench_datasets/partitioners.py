"""Who holds which images: one client per site, or clients that mix the sites in Dirichlet shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pflbench.api import Case, Partitioner, UsageError

_DRAWS = 2000  # how often shares are redrawn before a Dirichlet partition is given up

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Natural(Partitioner):
    """Each site is a client, as in the paper."""

    name: ClassVar[str] = "natural"
    title: ClassVar[str] = "one client per site"

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return site -> its cases, sites in the order in which they come."""
        clients: dict[str, list[Case]] = {}
        for case in cases:
            clients.setdefault(case.site, []).append(case)
        return clients


@dataclass(frozen=True)
class Dirichlet(Partitioner):
    """Each site's subjects go to the clients in shares drawn from Dir(alpha): small alpha, unlike clients.

    Test subjects follow the client's own training subjects in number, site by site, so that a client is
    tested on images like those it trains on. Shares that leave a client with too little are drawn again.
    Source: Hsu et al., Measuring the effects of non-identical data distribution, 2019 (there over classes).
    """

    name: ClassVar[str] = "dirichlet"
    title: ClassVar[str] = "Dirichlet mixture of sites"

    clients: Annotated[int, Field(ge=2)] = 6
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5  # concentration; large makes all clients alike
    at_least: Annotated[int, Field(ge=1)] = 3  # subjects each client has for training and validation

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return client-1, client-2, ... -> their cases; raises UsageError where no draw suffices."""
        groups = _groups(cases)
        sizes = {key: len(subjects) for key, subjects in groups.items()}
        for _ in range(_DRAWS):
            counts = self._counts(sizes, rng)
            if self._enough(counts):
                return self._deal(cases, groups, counts, rng)
        raise UsageError(
            f"none of {_DRAWS} dirichlet draws of {sum(sizes.values())} subjects for {self.clients} clients "
            f"leaves each of them {self.at_least} subjects for training and a test case; "
            "lower dirichlet.clients or dirichlet.at_least, or raise dirichlet.alpha."
        )

    def _counts(self, sizes: Mapping[tuple[str, str], int], rng: np.random.Generator) -> dict[tuple[str, str], Counts]:
        """Draw how many subjects of each site and split every client gets."""
        counts: dict[tuple[str, str], Counts] = {}
        for site in dict.fromkeys(site for site, _ in sizes):
            shares = rng.dirichlet(np.full(self.clients, self.alpha))
            for split in ("train", "open", "val", "test"):
                if (site, split) in sizes:
                    trained = counts.get((site, "train"))
                    wanted = shares if trained is None else trained / trained.sum()
                    counts[site, split] = _apportion(wanted, sizes[site, split])
        return counts

    def _enough(self, counts: Mapping[tuple[str, str], Counts]) -> bool:
        total = {
            split: sum((count for (_, kind), count in counts.items() if kind == split), np.zeros(self.clients, int))
            for split in ("train", "open", "test")
        }
        # Of subjects without a split the recipe takes one or more for testing, where there are two at least.
        held = (total["open"] >= 2).astype(int)
        training = total["train"] + total["open"] - held
        return bool((training >= self.at_least).all() and (total["test"] + held >= 1).all())

    def _deal(
        self,
        cases: Sequence[Case],
        groups: Mapping[tuple[str, str], Sequence[str]],
        counts: Mapping[tuple[str, str], Counts],
        rng: np.random.Generator,
    ) -> dict[str, list[Case]]:
        """Hand out subjects in random order; a client's cases keep the order in which they came."""
        owner: dict[tuple[str, str], int] = {}
        for (site, split), subjects in groups.items():
            owners = np.repeat(np.arange(self.clients), counts[site, split])
            for subject, client in zip(subjects, rng.permutation(owners).tolist(), strict=True):
                owner[site, subject] = client
        dealt: dict[str, list[Case]] = {f"client-{number + 1}": [] for number in range(self.clients)}
        for case in cases:
            dealt[f"client-{owner[case.site, case.subject] + 1}"].append(case)
        return dealt


def _groups(cases: Sequence[Case]) -> dict[tuple[str, str], list[str]]:
    """Return (site, split) -> its subjects; "open" stands for cases without a split."""
    groups: dict[tuple[str, str], list[str]] = {}
    seen: set[tuple[str, str]] = set()
    for case in cases:
        if (case.site, case.subject) not in seen:
            seen.add((case.site, case.subject))
            groups.setdefault((case.site, case.split or "open"), []).append(case.subject)
    return groups


def _apportion(shares: NDArray[np.float64], total: int) -> Counts:
    """Divide ``total`` in whole numbers, nearest to the shares (largest remainders); no share, no number."""
    exact = shares * total
    counts = np.floor(exact + 1e-9).astype(np.int64)  # 0.3 / 0.1 is a little less than 3
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    return counts
