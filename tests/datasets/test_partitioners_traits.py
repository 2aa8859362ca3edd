"""Clients by a trait: a person in one of them only, the clients balanced, the rest with nobody."""

import re
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from pflbench.api import Case, UsageError
from pflbench.partition import check, divide
from pflbench_datasets.traits import Trait


def rng(seed=0):
    return np.random.default_rng(seed)


def person(number, lids, split=None, site="MGD-1K"):
    """Return one image per lid named; the eyes alternate."""
    return [
        Case(
            f"{site}/{number}-{index}",
            site,
            str(number),
            split,
            traits={"lid": lid, "eye": ("left", "right")[index % 2]},
        )
        for index, lid in enumerate(lids)
    ]


def crowd(count, lids, first=0, **kind):
    return [case for number in range(first, first + count) for case in person(number, lids, **kind)]


def holders(clients):
    return {client: len({(case.site, case.subject) for case in mine}) for client, mine in clients.items()}


def left_out(cases, clients):
    return len(cases) - sum(len(mine) for mine in clients.values())


def test_people_with_one_value_go_to_its_client_and_nothing_is_left_out():
    cases = crowd(10, ["upper"]) + crowd(20, ["lower", "lower"], first=10)
    clients = Trait(by="lid").assign(cases, rng())
    assert list(clients) == ["lower", "upper"]
    assert clients["upper"] == cases[:10]
    assert clients["lower"] == cases[10:]


@pytest.mark.parametrize("seed", range(4))
def test_people_with_both_lids_are_shared_evenly_and_leave_one_half_of_their_images_out(seed):
    cases = crowd(40, ["upper", "lower", "upper", "lower"])
    clients = Trait(by="lid").assign(cases, rng(seed))
    assert holders(clients) == {"lower": 20, "upper": 20}
    assert left_out(cases, clients) == 80
    assert all(case.traits["lid"] == client for client, mine in clients.items() for case in mine)


def test_people_with_both_lids_fill_the_client_that_has_fewer():
    cases = crowd(4, ["upper"]) + crowd(10, ["lower"], first=4) + crowd(16, ["upper", "lower"], first=14)
    assert holders(Trait(by="lid").assign(cases, rng())) == {"lower": 15, "upper": 15}


def test_clients_are_balanced_in_each_split():
    cases = crowd(20, ["upper", "lower"], split="train") + crowd(8, ["upper", "lower"], first=20, split="test")
    clients = Trait(by="lid").assign(cases, rng())
    assert {client: Counter(case.split for case in mine) for client, mine in clients.items()} == {
        lid: {"train": 10, "test": 4} for lid in ("lower", "upper")
    }


def test_of_two_values_with_as_many_people_the_one_with_more_images_is_kept():
    cases = [*crowd(6, ["upper"]), *crowd(6, ["lower"], first=6), *person(12, ["upper", "upper", "lower"])]
    clients = Trait(by="lid").assign(cases, rng())
    assert [case.traits["lid"] for mine in clients.values() for case in mine if case.subject == "12"] == ["upper"] * 2


def test_nobodys_images_are_in_two_clients_and_one_name_at_two_sites_is_two_people():
    lids = [list(lids) for count in (1, 2, 3) for lids in product(("upper", "lower"), repeat=count)]
    cases = [
        case
        for site in ("MGD-1K", "LFSC")
        for number in range(4 * len(lids))
        for case in person(number, lids[number % len(lids)], site=site)
    ]
    clients = Trait(by="lid").assign(cases, rng(3))
    assert sum(holders(clients).values()) == 2 * 4 * len(lids)
    assert {case.site for case in clients["upper"]} == {"MGD-1K", "LFSC"}
    check({client: divide(mine, 0.2, 0.2, rng()) for client, mine in clients.items()})


def test_three_values_make_three_clients_that_are_balanced():
    cases = crowd(30, ["upper", "lower", "third"])
    clients = Trait(by="lid").assign(cases, rng())
    assert holders(clients) == {"lower": 10, "third": 10, "upper": 10}
    assert left_out(cases, clients) == 60


def test_mgd_1k_in_numbers_is_divided_by_lid_and_by_eye():
    """338 people with 1-4 images; left and right, upper and lower as they fall."""
    draw = rng(1)
    cases = []
    for number in range(338):
        kinds = draw.permutation([(lid, eye) for lid in ("UPPER", "LOWER") for eye in ("OD", "OS")])
        for lid, eye in kinds[: draw.integers(1, 5)].tolist():
            cases.append(Case(f"{number}-{lid}-{eye}", "MGD-1K", str(number), traits={"lid": lid, "eye": eye}))
    for by in ("lid", "eye"):
        counts = list(holders(Trait(by=by).assign(cases, rng())).values())
        assert sum(counts) == 338
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("by", ["", "lidd"])
def test_an_unknown_trait_is_refused_with_the_known_ones(by):
    with pytest.raises(
        UsageError, match=rf"trait\.by = '{by}' is lacking in 18 of 18 cases, .*it can be set to: eye, lid\."
    ):
        Trait(by=by).assign(crowd(9, ["upper", "lower"]), rng())


def test_a_trait_that_one_case_lacks_is_refused_with_that_case():
    cases = crowd(9, ["upper", "lower"])
    cases[5] = replace(cases[5], traits={"eye": "left"})
    with pytest.raises(
        UsageError, match=rf"lacking in 1 of 18 cases, '{re.escape(cases[5].id)}' first; it can be set to: eye\."
    ):
        Trait(by="lid").assign(cases, rng())


def test_data_without_traits_is_refused():
    cases = [replace(case, traits={}) for case in crowd(9, ["upper", "lower"])]
    with pytest.raises(UsageError, match="it can be set to: none that all cases have"):
        Trait(by="lid").assign(cases, rng())


def test_a_trait_that_all_share_is_refused():
    with pytest.raises(UsageError, match=r"makes one client only, 'upper'; set it to another trait \(eye, lid\)"):
        Trait(by="lid").assign(crowd(9, ["upper"]), rng())


def test_a_value_that_too_few_people_have_is_refused_by_its_name():
    with pytest.raises(UsageError, match=r"client 'third' would have too few subjects \(2 undivided\)"):
        Trait(by="lid").assign(crowd(9, ["upper"]) + crowd(9, ["lower"], 9) + crowd(2, ["third"], 18), rng())


def test_a_value_met_in_test_cases_only_makes_no_silent_guest():
    cases = crowd(9, ["upper"], split="train") + crowd(3, ["upper"], 9, split="test")
    cases += crowd(3, ["lower"], 12, split="test")
    with pytest.raises(UsageError, match="client 'lower' would have too few subjects"):
        Trait(by="lid").assign(cases, rng())
