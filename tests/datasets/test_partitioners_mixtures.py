"""Clients that mix the sites: even ones, uneven ones, and unlike ones."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pflbench.api import Case, UsageError
from pflbench.partition import check, divide
from pflbench_datasets.mixtures import Dirichlet, Iid, Quantity
from pflbench_datasets.simulated import SimulatedVessel

CASES = [case for site in SimulatedVessel.sites for case in SimulatedVessel().cases(site)]
OPEN = [replace(case, split=None) for case in CASES]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(clients):
    return [case for cases in clients.values() for case in cases]


def two_images_each(cases):
    return [copy for case in cases for copy in (case, replace(case, id=case.id + "R"))]


def people(count, split=None, site="A", name="p"):
    return [Case(f"{site}/{name}{n}", site, f"{name}{n}", split) for n in range(count)]


def sizes(clients, split):
    """Count each client's subjects of a split."""
    return [len({(c.site, c.subject) for c in mine if c.split == split}) for mine in clients.values()]


# ------------------------------------------------------------------------------------------------ iid


@pytest.mark.parametrize("clients", [2, 5, 7, 20])
@pytest.mark.parametrize("images", [1, 2])
def test_iid_clients_have_equally_many_subjects_of_each_split_and_altogether(clients, images):
    cases = CASES if images == 1 else two_images_each(CASES)
    dealt = Iid(clients=clients).assign(cases, rng())
    assert Counter(flat(dealt)) == Counter(cases)
    train, test = sizes(dealt, "train"), sizes(dealt, "test")
    assert sum(train) == sum(train for train, _ in SimulatedVessel.expected.values())
    for counts in (train, test, [sum(pair) for pair in zip(train, test, strict=True)]):
        assert max(counts) - min(counts) <= 1


def test_iid_clients_hold_the_sites_in_the_shares_of_the_federation():
    cases = people(300, "train", "A") + people(100, "train", "B") + people(40, "test", "A", "q")
    for mine in Iid(clients=4).assign(cases, rng()).values():
        # 100 of 400 subjects drawn, a quarter of them from B: hypergeometric, standard deviation 3.75
        assert abs(sum(case.site == "B" for case in mine) - 25) < 4 * 3.75


@pytest.mark.parametrize("train", range(3, 9))
@pytest.mark.parametrize("test", range(1, 5))
def test_iid_is_refused_exactly_where_somebody_would_have_too_little(train, test):
    cases = people(train, "train") + people(test, "test", name="q")
    if train // 2 >= 2 and test // 2 >= 1:
        assert sizes(Iid(clients=2).assign(cases, rng()), "train") == [-(-train // 2), train // 2]
    else:
        with pytest.raises(UsageError, match=r"client 'client-[12]' would .*lower iid\.clients"):
            Iid(clients=2).assign(cases, rng())


@pytest.mark.parametrize(("subjects", "fits"), [(5, False), (6, True)])
def test_three_subjects_without_a_split_are_enough_for_a_client(subjects, fits):
    cases = people(subjects)
    if fits:
        check({name: divide(mine, 0.2, 0.2, rng(1)) for name, mine in Iid(clients=2).assign(cases, rng()).items()})
    else:
        with pytest.raises(UsageError, match=r"client 'client-2' would have too few subjects \(2 undivided\)"):
            Iid(clients=2).assign(cases, rng())


def test_an_official_validation_subject_takes_the_place_of_a_second_training_subject():
    cases = people(2, "train") + people(2, "val", name="v") + people(2, "test", name="q")
    dealt = Iid(clients=2).assign(cases, rng())
    assert [sizes(dealt, split) for split in ("train", "val", "test")] == [[1, 1]] * 3
    check({name: divide(mine, 0.2, 0.2, rng(1)) for name, mine in dealt.items()})


# ------------------------------------------------------------------------------------------- quantity


def test_quantity_divides_each_split_geometrically():
    cases = people(70, "train") + people(35, "test", name="q")
    dealt = Quantity(clients=3, ratio=4).assign(cases, rng())  # 4 : 2 : 1
    assert sizes(dealt, "train") == [40, 20, 10]
    assert sizes(dealt, "test") == [20, 10, 5]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(2, 8), st.floats(1, 10), st.integers(0, 99))
def test_the_largest_client_is_ratio_times_the_smallest_up_to_rounding(clients, ratio, seed):
    train = sizes(Quantity(clients=clients, ratio=ratio).assign(OPEN, rng(seed)), None)
    assert sum(train) == len(OPEN)
    assert train == sorted(train, reverse=True)
    assert (train[0] - 1) / (train[-1] + 1) < ratio < (train[0] + 1) / (train[-1] - 1)


def test_a_ratio_of_one_makes_equal_sizes():
    assert sizes(Quantity(clients=5, ratio=1).assign(people(50), rng()), None) == [10] * 5


def test_quantity_mixes_the_sites():
    cases = people(300, "train", "A") + people(100, "train", "B") + people(60, "test", "A", "q")
    first, *_ = Quantity(clients=2, ratio=3).assign(cases, rng()).values()
    assert sum(case.split == "train" for case in first) == 300
    assert abs(sum(case.site == "B" for case in first) - 75) < 4 * 3.75  # as for iid: 100 of 400 are left out


def test_too_uneven_sizes_are_refused_with_what_to_change():
    with pytest.raises(UsageError, match=r"client 'client-[3-6]' would .*lower quantity\.clients or quantity\.ratio"):
        Quantity(ratio=200).assign(CASES, rng())


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(Iid, {"clients": 1}), (Quantity, {"clients": 1}), (Quantity, {"ratio": 0.5}), (Quantity, {"ratio": np.inf})],
)
def test_parameters_of_even_and_uneven_mixtures_out_of_range_are_refused(kind, wrong):
    with pytest.raises(UsageError, match=rf"{kind.name}\."):
        kind(**wrong)


# -------------------------------------------------------------------------------- dirichlet over sites


@settings(max_examples=25, deadline=None, derandomize=True)
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


@pytest.mark.parametrize("seed", range(3))
def test_draws_are_repeated_until_each_client_has_as_many_as_asked_for(seed):
    dealt = Dirichlet(alpha=0.5, at_least=14).assign(CASES, rng(seed))
    assert min(sizes(dealt, "train")) >= 14
    unasked = [min(sizes(Dirichlet(alpha=0.5, at_least=1).assign(CASES, rng(n)), "train")) for n in range(20)]
    assert np.median(unasked) < 14


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
