"""Clients that are the sites: all of them, with few training subjects, or one of them only tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from pflbench.api import Case, Partitioner, UsageError
from pflbench_datasets.sharing import by_subject, role


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
class Few(Partitioner):
    """Each site is a client, but trains on its first few subjects only, and is tested on all that it had.

    Official test and validation sets are kept whole. Of subjects without a split the test set is drawn before
    the first few are taken, so that it is the same however few they are; the recipe's share is not used then.
    """

    name: ClassVar[str] = "few"
    title: ClassVar[str] = "one client per site, few training subjects"

    subjects: Annotated[int, Field(ge=2)] = 5  # per client, as listed; validation takes some unless it is official
    test: Annotated[float, Field(gt=0, lt=1)] = 0.2  # share of subjects tested on, where the data has no split

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return site -> its cases. Raises UsageError naming a site that has too few training subjects."""
        sites = Natural().assign(cases, rng)
        divided = {site: self._with_test(sites[site], rng) for site in sorted(sites)}
        return {site: self._first(site, divided[site]) for site in sites}

    def _with_test(self, cases: Sequence[Case], rng: np.random.Generator) -> list[Case]:
        """Return one site's cases, each with a split; drawn by subject where the data has none."""
        roles = {subject: role(own) for (_, subject), own in by_subject(cases).items()}
        free = sorted(subject for subject, split in roles.items() if split == "open")
        count = min(max(1, round(self.test * len(free))), len(free) - 1)
        held = set(rng.permutation(free)[:count].tolist()) if count > 0 else set()
        splits: dict[str, Literal["train", "val", "test"]] = {
            subject: ("test" if subject in held else "train") if split == "open" else split
            for subject, split in roles.items()
        }
        return [case if case.split else replace(case, split=splits[case.subject]) for case in cases]

    def _first(self, site: str, cases: Sequence[Case]) -> list[Case]:
        listed = list(dict.fromkeys(case.subject for case in cases if case.split == "train"))
        if len(listed) < self.subjects:
            raise UsageError(
                f"few.subjects = {self.subjects}, but {site} has only {len(listed)} training subjects; "
                "lower few.subjects, or leave the site out with --sites."
            )
        kept = set(listed[: self.subjects])
        return [case for case in cases if case.split != "train" or case.subject in kept]


@dataclass(frozen=True)
class LeaveOneSiteOut(Partitioner):
    """Each site is a client, but one never trains: it is tested on what the others have learnt.

    That site keeps its official test cases only, so that it can be compared with the run in which it did
    train; a site without an official split is tested on all of its cases.
    """

    name: ClassVar[str] = "leave-one-site-out"
    title: ClassVar[str] = "one client per site, one of them only tested"

    site: Annotated[str, Field(coerce_numbers_to_str=True)] = ""  # the one left out; must be given
    all_cases: bool = False  # test on its training and validation cases too

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return site -> its cases, test cases only for the one. Raises UsageError for an unknown site."""
        clients = dict(Natural().assign(cases, rng))
        guest = self._guest(list(clients))
        clients[guest] = self._tested(guest, clients[guest])
        return clients

    def _guest(self, sites: Sequence[str]) -> str:
        folded = {site.lower(): site for site in sites}
        if self.site.lower() not in folded:
            raise UsageError(
                f"leave-one-site-out.site = {self.site!r} is no site of this federation; "
                f"set it to one of {', '.join(sites)}."
            )
        if len(sites) < 2:
            raise UsageError(f"leaving {sites[0]} out leaves no site to train on; add a second one with --sites.")
        return folded[self.site.lower()]

    def _tested(self, guest: str, cases: Sequence[Case]) -> list[Case]:
        official = [case for case in cases if case.split == "test"]
        if self.all_cases or all(case.split is None for case in cases):
            return [replace(case, split="test") for case in cases]
        if not official:
            raise UsageError(
                f"{guest} has no official test case; test on all its cases with leave-one-site-out.all_cases=true."
            )
        return official
