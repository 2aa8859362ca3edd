"""What must hold for every partitioner: nobody twice, no person in two places, the same every time."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pflbench.dataset import Case
from pflbench.errors import UsageError
from pflbench.partition import Partitioner, check, divide
from pflbench.testing.checks import Check, CheckFailed, CheckSkipped, require
from pflbench.testing.fresh import elsewhere
from pflbench.testing.plays import global_generators
from pflbench.testing.toy_cases import FEDERATIONS, SITES, TRAITS, dealt, listed
from pflbench.testing.value_checks import Subject, value_checks

_VALIDATION, _TEST = 0.2, 0.2  # the recipe's shares
Holdings = Mapping[str, Sequence[Case]]


def partitioner_checks(partitioner: type[Partitioner] | Partitioner) -> list[Check]:
    """Return the checks of a partitioner, given as a class or, where a setting must be given, as a value.

    It deals out the cases of three sites (north, south, west) of thirty subjects each, with an official split, with
    official validation cases and with none; every case has the traits eye (left, right) and lid (upper, lower).
    """
    subject: Subject[Partitioner] = Subject("partitioner", partitioner)
    trial = _Trial(subject)
    sentences = {
        "deals": ("It deals the toy cases out, and no client is empty.", trial.deals),
        "once": ("Every case is given out at most once, and none is invented.", trial.once),
        "subjects": ("No subject is in two clients or two splits, and every client can train.", trial.subjects),
        "tests-stay": ("No official test case is trained on.", trial.tests_stay),
        "same-seed": ("The same seed gives the same split.", trial.same_seed),
        "fresh-process": ("A fresh process gives the same split.", trial.fresh),
        "order-of-sites": ("The order in which sites are listed changes nothing.", trial.order),
        "global-random-numbers": ("It draws from the generator it is given alone.", trial.global_numbers),
    }
    return [*value_checks(subject), *(subject.check(name, text, body) for name, (text, body) in sentences.items())]


class _Trial:
    """The divisions of one partitioner, and what must hold of them."""

    def __init__(self, subject: Subject[Partitioner]) -> None:
        self._subject = subject

    @functools.cached_property
    def _first(self) -> dict[str, Holdings]:
        return {name: dealt(self._subject.value, cases) for name, cases in FEDERATIONS.items()}

    @property
    def _dealt(self) -> dict[str, Holdings]:
        """Who holds what of every federation. Raises CheckSkipped where it is refused."""
        try:
            return self._first
        except CheckSkipped:
            raise
        except Exception:
            raise CheckSkipped("it deals out nothing: see above.") from None

    def deals(self) -> str:
        """Deal out the cases of every federation."""
        partitioner = self._subject.value
        try:
            found = self._first
        except UsageError as error:
            traits = ", ".join(f"{name} ({' or '.join(values)})" for name, values in TRAITS.items())
            raise CheckFailed(
                f"{str(error).rstrip('.')}: with its settings {partitioner.settings()} it refuses the toy cases, whose "
                f"sites are {', '.join(SITES)} and traits {traits}."
            ) from error
        for name, holdings in found.items():
            require(holdings, f"nobody is given a case of the toy with {name}.")
            empty = [client for client, cases in holdings.items() if not cases]
            require(not empty, f"{', '.join(map(repr, empty))} is given no case of the toy with {name}.")
        clients = list(next(iter(found.values())))
        return f"{len(clients)} clients: {', '.join(map(str, clients))}"

    def once(self) -> None:
        """Count every case, and compare it with what was handed in."""
        for name, holdings in self._dealt.items():
            known = {case.id: case for case in FEDERATIONS[name]}
            given = [case for cases in holdings.values() for case in cases]
            twice = [case for case, number in Counter(case.id for case in given).items() if number > 1]
            require(not twice, f"{next(iter(twice), None)!r} is given out twice.")
            for case in given:
                same = case.id in known and replace(case, split=known[case.id].split) == known[case.id]
                require(same, f"{case.id!r} is not one of the cases it was given; only split may be replaced.")

    def subjects(self) -> None:
        """Divide every client's cases as a run does, and look for a person in two places."""
        for holdings in self._dealt.values():
            unique = {
                client: list({case.id: case for case in cases}.values()) for client, cases in holdings.items() if cases
            }
            rng = np.random.default_rng(0)
            check({client: divide(own, _VALIDATION, _TEST, rng) for client, own in unique.items()})

    def tests_stay(self) -> None:
        """Look at what has become of official test cases."""
        for name, holdings in self._dealt.items():
            official = {case.id for case in FEDERATIONS[name] if case.split == "test"}
            for client, cases in holdings.items():
                moved = [case.id for case in cases if case.id in official and case.split != "test"]
                require(
                    not moved, f"{next(iter(moved), None)!r}, an official test case, may be trained on at {client!r}."
                )

    def same_seed(self) -> None:
        """Deal out again."""
        for name, holdings in self._dealt.items():
            again = dealt(self._subject.value, FEDERATIONS[name])
            require(listed(again) == listed(holdings), f"the toy with {name} is dealt out another way the second time.")

    def fresh(self) -> None:
        """Deal out in another process."""
        here = [listed(holdings) for holdings in self._dealt.values()]
        there = elsewhere(self._subject.value, "assigns")
        require(there == here, "the toy is dealt out another way in a fresh process.")

    def order(self) -> None:
        """Deal out with the last site first; within a site, cases keep their order."""
        for name, holdings in self._dealt.items():
            backwards = sorted(FEDERATIONS[name], key=lambda case: case.site, reverse=True)
            again = dealt(self._subject.value, backwards)
            require(
                listed(again) == listed(holdings),
                f"the toy with {name} is dealt out another way when its sites are listed in another order.",
            )

    def global_numbers(self) -> None:
        """Look whether it draws from what the whole process shares."""
        _ = self._dealt
        before = global_generators()
        for cases in FEDERATIONS.values():
            dealt(self._subject.value, cases)
        changed = [whose for whose, state in global_generators().items() if state != before[whose]]
        require(
            not changed,
            f"it draws from the global generator of {' and '.join(changed)}, or seeds it; draw from rng, which assign "
            "is given.",
        )
