"""Clients by something else than the site: one per lid, per eye, per device, whatever the cases say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pflbench.api import Case, Partitioner, UsageError
from pflbench_datasets.sharing import ROLES, Counts, Role, Subject, by_subject, require_enough, role


@dataclass(frozen=True)
class Trait(Partitioner):
    """Each value of a trait (upper and lower lid) is a client, across all sites.

    A person with images of several values goes whole to one client and keeps the images of that value only:
    the others go to nobody, or one person would be in two clients. The value is the one with the fewest
    subjects of the same split so far, where people with several are taken in random order after all others.
    """

    name: ClassVar[str] = "trait"
    title: ClassVar[str] = "one client per value of a trait"

    by: str = ""  # "lid", "eye", ...; must be given

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return value -> its cases, values in alphabetical order. Raises UsageError for an unknown trait."""
        values = self._values(cases)
        subjects = by_subject(cases)
        chosen = self._chosen(subjects, rng)
        self._require_enough(subjects, chosen, values)
        clients: dict[str, list[Case]] = {value: [] for value in values}
        for case in cases:
            if case.traits[self.by] == chosen[case.site, case.subject]:
                clients[case.traits[self.by]].append(case)
        return clients

    def _values(self, cases: Sequence[Case]) -> list[str]:
        """Return the values of the trait, two or more, which every case must have."""
        known = sorted(set.intersection(*(set(case.traits) for case in cases)))
        named = ", ".join(known) or "none that all cases have"
        lacking = [case.id for case in cases if self.by not in case.traits]
        if lacking:
            raise UsageError(
                f"trait.by = {self.by!r} is lacking in {len(lacking)} of {len(cases)} cases, {lacking[0]!r} first; "
                f"it can be set to: {named}."
            )
        values = sorted({case.traits[self.by] for case in cases})
        if len(values) < 2:
            raise UsageError(
                f"trait.by = {self.by!r} makes one client only, {values[0]!r}; "
                f"set it to another trait ({named}) or add sites with --sites."
            )
        return values

    def _chosen(self, subjects: Mapping[Subject, Sequence[Case]], rng: np.random.Generator) -> dict[Subject, str]:
        """Return the value whose images each subject keeps."""
        images = {subject: Counter(case.traits[self.by] for case in own) for subject, own in subjects.items()}
        chosen = {subject: next(iter(own)) for subject, own in images.items() if len(own) == 1}
        load = _load(subjects, chosen)
        several = sorted(subject for subject in subjects if subject not in chosen)
        for index in rng.permutation(len(several)).tolist():
            subject = several[index]
            split, own = role(subjects[subject]), images[subject]
            # Of two values with as few subjects, the one that leaves out fewer images; then the alphabet.
            chosen[subject] = min(own, key=lambda value: (load[split, value], -own[value], value))
            load[split, chosen[subject]] += 1
        return chosen

    def _require_enough(
        self, subjects: Mapping[Subject, Sequence[Case]], chosen: Mapping[Subject, str], values: Sequence[str]
    ) -> None:
        load = _load(subjects, chosen)
        total: dict[Role, Counts] = {split: np.array([load[split, value] for value in values]) for split in ROLES}
        require_enough(total, values, f"divide by another trait than {self.by!r}, or add sites with --sites")


def _load(subjects: Mapping[Subject, Sequence[Case]], chosen: Mapping[Subject, str]) -> Counter[tuple[Role, str]]:
    """Return (role, value) -> how many subjects are there."""
    return Counter((role(subjects[subject]), value) for subject, value in chosen.items())
