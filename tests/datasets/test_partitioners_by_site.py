"""Clients that are the sites: all of them, with few training subjects, or one of them only tested."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pflbench.api import Case, UsageError
from pflbench.partition import check, divide
from pflbench_datasets.partitioners import Few, LeaveOneSiteOut, Natural
from pflbench_datasets.simulated import SimulatedVessel

CASES = [case for site in SimulatedVessel.sites for case in SimulatedVessel().cases(site)]
OPEN = [replace(case, split=None) for case in CASES]
EXPECTED = SimulatedVessel.expected


def rng(seed=0):
    return np.random.default_rng(seed)


def people(count, split=None, site="A", name="p", images=1):
    return [Case(f"{site}/{name}{n}-{i}", site, f"{name}{n}", split) for n in range(count) for i in range(images)]


def subjects(cases, split):
    return list(dict.fromkeys(case.subject for case in cases if case.split == split))


def test_natural_gives_each_site_its_own_cases_in_order():
    clients = Natural().assign(CASES, rng())
    assert list(clients) == list(SimulatedVessel.sites)
    assert [case for mine in clients.values() for case in mine] == CASES


# ------------------------------------------------------------------------------------------------ few


@pytest.mark.parametrize("count", [2, 3, 15])
def test_few_keeps_the_first_training_subjects_as_listed_and_the_whole_test_set(count):
    natural = Natural().assign(CASES, rng())
    few = Few(subjects=count).assign(CASES, rng())
    assert list(few) == list(natural)
    for site, mine in few.items():
        assert subjects(mine, "train") == subjects(natural[site], "train")[:count]
        assert [c for c in mine if c.split == "test"] == [c for c in natural[site] if c.split == "test"]


def test_few_counts_subjects_and_keeps_all_images_of_each():
    cases = people(6, "train", images=3) + people(2, "test", name="q")
    (mine,) = Few(subjects=4).assign(cases, rng()).values()
    assert Counter(c.subject for c in mine if c.split == "train") == dict.fromkeys(("p0", "p1", "p2", "p3"), 3)


def test_few_keeps_an_official_validation_set_beside_them():
    cases = people(6, "train") + people(3, "val", name="v") + people(2, "test", name="q")
    (mine,) = Few(subjects=2).assign(cases, rng()).values()
    split = divide(mine, 0.2, 0.2, rng())
    assert [len(part) for part in (split.train, split.val, split.test)] == [2, 3, 2]


@pytest.mark.parametrize(("test", "held"), [(0.2, 4), (0.5, 10), (0.01, 1)])
def test_without_an_official_split_the_test_set_is_drawn_first(test, held):
    cases = people(20, images=2)
    (mine,) = Few(subjects=3, test=test).assign(cases, rng()).values()
    testing = subjects(mine, "test")
    assert len(testing) == held
    assert subjects(mine, "train") == [f"p{n}" for n in range(20) if f"p{n}" not in testing][:3]
    assert len(mine) == 2 * (held + 3)


def test_the_drawn_test_set_is_the_same_however_few_train():
    tested = [
        {site: subjects(mine, "test") for site, mine in Few(subjects=count).assign(OPEN, rng(4)).items()}
        for count in (2, 5, 10)
    ]
    assert tested[0] == tested[1] == tested[2]


def test_the_drawn_test_set_does_not_depend_on_how_subjects_are_listed():
    forth, back = (Few().assign(cases, rng(4)) for cases in (people(30), people(30)[::-1]))
    assert set(subjects(forth["A"], "test")) == set(subjects(back["A"], "test"))


def test_two_training_subjects_give_one_for_training_and_one_for_validation():
    dealt = Few(subjects=2).assign(OPEN, rng())
    splits = {client: divide(mine, 0.2, 0.2, rng()) for client, mine in dealt.items()}
    check(splits)
    assert {(len(split.train), len(split.val)) for split in splits.values()} == {(1, 1)}


def test_a_subject_s_images_without_a_split_follow_its_others():
    cases = [
        *people(5, "train", images=2),
        *people(2, "test", name="q", images=2),
        *people(4, name="r"),
    ]
    cases[1], cases[11] = replace(cases[1], split=None), replace(cases[11], split=None)
    (mine,) = Few(subjects=5).assign(cases, rng()).values()
    assert {case.id: case.split for case in mine}["A/p0-1"] == "train"
    assert {case.id: case.split for case in mine}["A/q0-1"] == "test"
    check({"A": divide(mine, 0.2, 0.2, rng())})


def test_a_site_with_fewer_training_subjects_is_named():
    cases = people(9, "train") + people(4, "train", "B") + people(2, "test", "B", "q") + people(2, "test", "A", "q")
    with pytest.raises(UsageError, match=r"few\.subjects = 5, but B has only 4 training subjects"):
        Few(subjects=5).assign(cases, rng())


@pytest.mark.parametrize("wrong", [{"subjects": 1}, {"test": 0}, {"test": 1}])
def test_parameters_of_few_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"few\."):
        Few(**wrong)


# --------------------------------------------------------------------------------- leave one site out


@pytest.mark.parametrize("site", SimulatedVessel.sites)
def test_the_site_left_out_keeps_its_test_cases_only_and_the_others_all(site):
    natural = Natural().assign(CASES, rng())
    dealt = LeaveOneSiteOut(site=site).assign(CASES, rng())
    assert list(dealt) == list(natural)
    assert len(dealt[site]) == EXPECTED[site][1]
    assert dealt[site] == [case for case in natural[site] if case.split == "test"]
    assert all(dealt[other] == natural[other] for other in natural if other != site)


def test_the_site_left_out_may_be_tested_on_all_it_has():
    site = SimulatedVessel.sites[1]
    dealt = LeaveOneSiteOut(site=site, all_cases=True).assign(CASES, rng())
    assert Counter(case.split for case in dealt[site]) == {"test": sum(EXPECTED[site])}


def test_a_site_left_out_that_has_no_official_split_is_tested_on_all_it_has():
    site = SimulatedVessel.sites[1]
    dealt = LeaveOneSiteOut(site=site).assign(OPEN, rng())
    assert Counter(case.split for case in dealt[site]) == {"test": sum(EXPECTED[site])}
    assert all(case.split is None for other, mine in dealt.items() for case in mine if other != site)


def test_a_site_left_out_without_an_official_test_case_needs_all_cases():
    cases = people(5, "train") + people(5, "train", "B") + people(2, "test", "B", "q")
    with pytest.raises(UsageError, match=r"A has no official test case; .*leave-one-site-out\.all_cases=true"):
        LeaveOneSiteOut(site="A").assign(cases, rng())
    assert {case.split for case in LeaveOneSiteOut(site="A", all_cases=True).assign(cases, rng())["A"]} == {"test"}


@pytest.mark.parametrize("site", ["", "sim-HFR"])
def test_an_unknown_site_is_refused_with_the_known_ones(site):
    with pytest.raises(UsageError, match=rf"leave-one-site-out\.site = '{site}'.*{', '.join(SimulatedVessel.sites)}"):
        LeaveOneSiteOut(site=site).assign(CASES, rng())


@pytest.mark.parametrize(("given", "site"), [("SIM-hrf", "sim-HRF"), (1, "1")])
def test_a_site_may_be_given_in_any_case_or_as_a_number(given, site):
    cases = [*CASES, *people(5, "train", "1"), *people(2, "test", "1", "q")]
    assert {case.split for case in LeaveOneSiteOut(site=given).assign(cases, rng())[site]} == {"test"}


def test_leaving_out_the_only_site_is_refused():
    with pytest.raises(UsageError, match="leaving A out leaves no site to train on"):
        LeaveOneSiteOut(site="A").assign(people(9), rng())
