"""Who holds what: nobody twice, enough for everybody, and test images like the training images."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pflbench.api import Case, UsageError
from pflbench.partition import check, divide
from pflbench_datasets.partitioners import Dirichlet, Natural
from pflbench_datasets.simulated import SimulatedVessel

CASES = [case for site in SimulatedVessel.sites for case in SimulatedVessel().cases(site)]
OPEN = [replace(case, split=None) for case in CASES]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(clients):
    return [case for cases in clients.values() for case in cases]


def two_images_each(cases):
    return [copy for case in cases for copy in (case, replace(case, id=case.id + "R"))]


def test_natural_gives_each_site_its_own_cases_in_order():
    clients = Natural().assign(CASES, rng())
    assert list(clients) == list(SimulatedVessel.sites)
    assert flat(clients) == CASES


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.floats(0.2, 50), st.integers(1, 4), st.integers(0, 99), st.booleans(), st.booleans())
def test_dirichlet_leaves_nobody_out_and_gives_each_enough(clients, alpha, at_least, seed, official, paired):
    cases = CASES if official else OPEN
    cases = two_images_each(cases) if paired else cases
    dealt = Dirichlet(clients=clients, alpha=alpha, at_least=at_least).assign(cases, rng(seed))
    assert list(dealt) == [f"client-{number}" for number in range(1, clients + 1)]
    assert Counter(flat(dealt)) == Counter(cases)
    owners = {(case.site, case.subject, client) for client, mine in dealt.items() for case in mine}
    assert len(owners) == len({(case.site, case.subject) for case in cases})
    for mine in dealt.values():
        training = {(case.site, case.subject) for case in mine if case.split != "test"}
        assert len(training) >= at_least + (not official)
        assert not official or any(case.split == "test" for case in mine)


@pytest.mark.parametrize("cases", [CASES, OPEN, two_images_each(CASES)])
@pytest.mark.parametrize("seed", range(4))
def test_dirichlet_clients_can_be_divided_and_pass_the_core_s_check(cases, seed):
    dealt = Dirichlet(alpha=0.3).assign(cases, rng(seed))
    check({client: divide(mine, 0.2, 0.2, rng(1)) for client, mine in dealt.items()})


@pytest.mark.parametrize("seed", range(5))
def test_dirichlet_tests_a_client_on_the_sites_it_trains_on(seed):
    for mine in Dirichlet().assign(CASES, rng(seed)).values():
        held = Counter((case.site, case.split) for case in mine)
        for site, (train, test) in SimulatedVessel.expected.items():
            expected = held[site, "train"] * test / train
            assert abs(held[site, "test"] - expected) < 1
            assert held[site, "train"] or not held[site, "test"]


def test_small_alpha_makes_clients_less_alike():
    def unlikeness(alpha: float) -> float:
        spreads = []
        for seed in range(8):
            dealt = Dirichlet(alpha=alpha, at_least=1).assign(CASES, rng(seed))
            table = np.array(
                [[sum(c.site == s for c in mine) for s in SimulatedVessel.sites] for mine in dealt.values()]
            )
            spreads.append((table / table.sum(axis=0)).std())
        return float(np.mean(spreads))

    assert unlikeness(0.2) > 1.5 * unlikeness(2) > 1.5 * 1.5 * unlikeness(50)


def test_large_alpha_divides_evenly():
    dealt = Dirichlet(clients=4, alpha=1e6).assign(CASES, rng())
    for site, (train, _) in SimulatedVessel.expected.items():
        for mine in dealt.values():
            assert abs(sum(c.site == site and c.split == "train" for c in mine) - train / 4) < 1


def test_dirichlet_follows_its_generator_alone():
    assert Dirichlet().assign(CASES, rng(5)) == Dirichlet().assign(CASES, rng(5))
    assert Dirichlet().assign(CASES, rng(5)) != Dirichlet().assign(CASES, rng(6))


def test_validation_cases_follow_the_training_cases():
    cases = [Case(f"s/{n}", "s", str(n), ("train", "train", "val", "test")[n % 4]) for n in range(40)]
    for mine in Dirichlet(clients=2, alpha=5).assign(cases, rng()).values():
        held = Counter(case.split for case in mine)
        assert abs(held["val"] - held["train"] / 2) < 1


def test_too_many_clients_are_refused_with_what_to_change():
    with pytest.raises(UsageError, match=r"dirichlet\.clients.*dirichlet\.at_least.*dirichlet\.alpha"):
        Dirichlet(clients=60).assign(CASES, rng())


@pytest.mark.parametrize("wrong", [{"clients": 1}, {"alpha": 0}, {"alpha": float("inf")}, {"at_least": 0}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"dirichlet\."):
        Dirichlet(**wrong)
