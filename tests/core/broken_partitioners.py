"""A partitioner that keeps its contract, and others each broken in one way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pflbench.api import Case, Partitioner

BROKEN_PARTITIONERS: dict[type, tuple[str, str]] = {}  # class -> name of the check, words of the reason


@dataclass(frozen=True)
class Cards(Partitioner):
    """Deals the persons of each site and split to two clients, like cards."""

    name: ClassVar[str] = "cards"
    title: ClassVar[str] = "two clients, dealt like cards"

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        chosen = self.chosen(cases, rng)
        return {client: [c for c in cases if chosen[c.site, c.subject] == client] for client in ("odd", "even")}

    def chosen(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[tuple[str, str], str]:
        """Return (site, subject) -> client."""
        found: dict[tuple[str, str], str] = {}
        for group in sorted({(case.site, case.split or "") for case in cases}):
            people = sorted({(c.site, c.subject) for c in cases if (c.site, c.split or "") == group})
            for place, index in enumerate(rng.permutation(len(people))):
                found[people[index]] = ("even", "odd")[place % 2]
        return found


def fails(check, words):
    """Return a decorator that names a class, makes it a frozen dataclass, and registers it."""

    def register(cls):
        cls.name, cls.title = f"{cls.__name__.lower()}", cls.__name__
        if cls.__doc__ is None:
            cls.__doc__ = "Deals cards, but is broken on purpose."
        made = dataclass(frozen=True)(cls)
        BROKEN_PARTITIONERS[made] = (check, words)
        return made

    return register


@fails("contract", "nobody calls Misspelt.asign; did you mean 'assign'")
class Misspelt(Cards):
    def asign(self, cases, rng):
        return {}


@fails("settings", "'share' is no plain value")
class NotANumber(Cards):
    share: float = float("nan")


@fails("name", "natural is a partitioner of pflbench; take another name")
class Taken(Cards):
    aliases: ClassVar[tuple[str, ...]] = ("natural",)


@fails("docstring", "class Silent has no docstring of its own")
class Silent(Cards):
    __doc__ = ""


@fails("deals", "'late' is given no case of the toy with an official split")
class Idle(Cards):
    def assign(self, cases, rng):
        return {**Cards.assign(self, cases, rng), "late": []}


@fails("once", "is given out twice")
class Twice(Cards):
    def assign(self, cases, rng):
        return {
            client: [min(own, key=lambda case: case.id), *own] for client, own in Cards.assign(self, cases, rng).items()
        }


@fails("once", "is not one of the cases it was given; only split may be replaced")
class Renames(Cards):
    def assign(self, cases, rng):
        return {c: [replace(case, id=f"{c}/{case.id}") for case in own]
                for c, own in Cards.assign(self, cases, rng).items()}  # fmt: skip


@fails("subjects", "one person's images must stay together")
class Separates(Cards):
    def assign(self, cases, rng):
        return {"even": cases[::2], "odd": cases[1::2]}

    def chosen(self, cases, rng):
        raise AssertionError("nobody asks")


@fails("subjects", "client 'odd' has no train case")
class Starves(Cards):
    def assign(self, cases, rng):
        dealt = Cards.assign(self, cases, rng)
        last = min(dealt["odd"], key=lambda case: (case.split == "test", case.id))
        return {**dealt, "odd": [replace(last, split="val"), *(c for c in dealt["odd"] if c.split == "test")]}


@fails("tests-stay", "an official test case, may be trained on at 'odd'")
class Cheats(Cards):
    def assign(self, cases, rng):
        dealt = Cards.assign(self, cases, rng)
        tests = sorted({case.subject for case in dealt["odd"] if case.split == "test"})[:1]
        return {**dealt, "odd": [replace(c, split="train") if c.split == "test" and c.subject in tests else c
                                 for c in dealt["odd"]]}  # fmt: skip


_ASKED: dict[int, int] = {}


@fails("same-seed", "is dealt out another way the second time")
class Restless(Cards):
    """Deals the same cases another way the second time, and as at first the third time."""

    def chosen(self, cases, rng):
        key = hash(tuple(case.id + str(case.split) for case in cases))
        _ASKED[key] = _ASKED.get(key, 0) + 1
        found = Cards.chosen(self, cases, rng)
        swapped = {"even": "odd", "odd": "even"} if _ASKED[key] == 2 else {"even": "even", "odd": "odd"}
        return {subject: swapped[client] for subject, client in found.items()}


@fails("fresh-process", "the toy is dealt out another way in a fresh process")
class Hashing(Cards):
    def chosen(self, cases, rng):
        return Cards.chosen(self, cases, np.random.default_rng(abs(hash("seed"))))


@fails("order-of-sites", "is dealt out another way when its sites are listed in another order")
class FirstComesFirst(Cards):
    def chosen(self, cases, rng):
        found = Cards.chosen(self, cases, rng)
        other = {"even": "odd", "odd": "even"}
        return {subject: other[client] for subject, client in found.items()} if cases[0].site > "o" else found


@fails("global-random-numbers", "it draws from the global generator of numpy, or seeds it; draw from rng")
class Draws(Cards):
    def chosen(self, cases, rng):
        np.random.random()
        return Cards.chosen(self, cases, rng)
