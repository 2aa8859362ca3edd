"""Differences from the best method, against hand computation, enumeration and scipy on raw numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pflbench_reports.significance import (
    COLUMNS,
    best_method,
    cluster_intervals,
    compare,
    complete_methods,
    expanded_tail,
    holm,
    signed_rank,
    smallest_p,
)


def scores(**methods):
    """Return the frame of methods given as {client: [score of seed 0, score of seed 1, ...]}."""
    rows = [
        (method, client, seed, value)
        for method, clients in methods.items()
        for client, values in clients.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["variant", "client", "seed", "value"])


def units(**clients):
    """Return differences of one method, "m", given as the values of each client's units."""
    index = [(client, place) for client, values in clients.items() for place in range(len(values))]
    values = [value for values in clients.values() for value in values]
    return pd.DataFrame({"m": values}, index=pd.MultiIndex.from_tuples(index, names=["client", "unit"]), dtype=float)


def row(frame, method="m"):
    return frame.set_index("variant").loc[method] if "variant" in frame else frame.loc[method]


def enumerated(values, share):
    """Return the share-quantile of the mean over all resamples of the values."""
    means = sorted(sum(drawn) / len(values) for drawn in itertools.product(values, repeat=len(values)))
    return means[math.ceil(share * len(means)) - 1]


# the interval


@pytest.mark.parametrize("values", [(-3.0, 1.0), (-3.0, 0.5, 4.0), (-2.0, -1.5, 0.25, 7.0, 7.5)])
def test_the_interval_is_that_of_all_resamples_enumerated(values):
    found = row(cluster_intervals(units(**{f"c{place}": [value] for place, value in enumerate(values)})))
    assert found["low"] == pytest.approx(enumerated(values, 0.001), abs=1e-9)
    assert found["high"] == pytest.approx(-enumerated([-value for value in values], 0.001), abs=1e-9)


def test_within_a_drawn_client_its_cases_are_drawn_again():
    found = row(cluster_intervals(units(A=[1.0, 3.0], B=[6.0, 10.0])))
    # of the 64 equally likely resamples one has the lowest case only, and one the highest
    assert (found["low"], found["difference"], found["high"]) == (1.0, 5.0, 10.0)


def test_with_one_case_per_client_it_agrees_with_scipys_bootstrap():
    values = np.random.default_rng(5).gamma(2.0, size=12)
    found = row(cluster_intervals(units(**{f"c{place}": [value] for place, value in enumerate(values)})))
    level = 1 - 2 * expanded_tail(12)
    reference = stats.bootstrap(
        (values,), np.mean, method="percentile", confidence_level=level, n_resamples=100_000, rng=1
    ).confidence_interval
    width = reference.high - reference.low
    assert found["low"] == pytest.approx(reference.low, abs=0.03 * width)
    assert found["high"] == pytest.approx(reference.high, abs=0.03 * width)


def test_for_normal_differences_it_is_as_wide_as_students():
    values = stats.norm.ppf((np.arange(10) + 0.5) / 10)
    found = row(cluster_intervals(units(**{f"c{place}": [value] for place, value in enumerate(values)})))
    student = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["high"] - found["low"] == pytest.approx(student.high - student.low, rel=0.06)


def test_without_a_true_difference_the_interval_of_six_clients_holds_zero_about_95_times_in_100():
    rng = np.random.default_rng(11)
    clients = rng.normal(size=(6, 1, 1000)) + rng.normal(size=(6, 8, 1000))  # a thousand experiments of 8 cases each
    index = pd.MultiIndex.from_product([range(6), range(8)], names=["client", "unit"])
    found = cluster_intervals(pd.DataFrame(clients.reshape(48, 1000), index=index))
    covered = ((found["low"] <= 0) & (found["high"] >= 0)).mean()
    assert 0.92 < covered < 0.98  # the standard error of this share is 0.007; plain percentiles reach 0.90


def test_every_client_weighs_the_same_however_many_cases_it_has():
    assert row(cluster_intervals(units(A=[1.0], B=[3.0, 3.0, 3.0, 3.0])))["difference"] == 2.0


def test_one_client_has_no_interval():
    found = row(cluster_intervals(units(A=[1.0, 2.0])))
    assert found["difference"] == 1.5
    assert math.isnan(found["low"])
    assert math.isnan(found["high"])


def test_an_interval_does_not_change_with_the_methods_beside_it_nor_from_run_to_run():
    alone = units(A=[1.0, 2.0, 7.0], B=[0.0, 1.0, -3.0], C=[4.0, 4.0, 5.0])
    together = alone.assign(other=alone["m"] ** 2, gaps=alone["m"].where(alone["m"] > 0))
    assert row(cluster_intervals(together)).tolist() == row(cluster_intervals(alone)).tolist()


# the test


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),
        ([1, 2, 3, -4], 14 / 16),  # 7 of 16 sets of ranks have a sum of at most 4
        ([-0.5], 1.0),
        ([0, 0, 1, 2, 3], 2 / 8),  # zeros are dropped
        ([1, 1, 1, 1], 2 / 16),  # ties, all of rank 2.5
        ([1, 1, -1], 1.0),
        ([0, 0, 0], 1.0),
        ([1, math.nan, 2], 2 / 4),
    ],
)
def test_signed_rank_by_hand(differences, p):
    assert signed_rank(pd.Series(differences, dtype=float)) == pytest.approx(p, abs=1e-12)


def test_signed_rank_with_ties_is_that_of_all_signs_enumerated():
    differences = np.array([1.0, 1.0, -2.0, 2.0, 3.0, 5.0])
    ranks = stats.rankdata(np.abs(differences))
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=6)]
    upper, lower = ranks[differences > 0].sum(), ranks[differences < 0].sum()
    p = 2 * min(np.mean(np.array(sums) >= upper), np.mean(np.array(sums) <= upper))
    assert lower < upper
    assert signed_rank(pd.Series(differences)) == pytest.approx(p, abs=1e-12)


def test_many_differences_are_tested_by_the_normal_approximation():
    differences = np.random.default_rng(2).normal(0.3, 1, size=80)
    ranks = stats.rankdata(np.abs(differences))
    z = (ranks[differences > 0].sum() - 80 * 81 / 4) / math.sqrt(80 * 81 * 161 / 24)
    assert signed_rank(pd.Series(differences)) == pytest.approx(2 * stats.norm.sf(abs(z)), rel=1e-9)


def test_no_difference_at_all_has_no_p():
    assert math.isnan(signed_rank(pd.Series([math.nan, math.nan])))


@pytest.mark.parametrize("pairs", range(1, 13))
def test_the_smallest_p_is_2_over_2_to_the_n_and_is_reached_when_all_signs_agree(pairs):
    assert smallest_p(pairs) == 2 / 2**pairs
    assert signed_rank(pd.Series(np.arange(1.0, pairs + 1))) == pytest.approx(smallest_p(pairs), abs=1e-12)


def test_holms_correction_by_hand():
    corrected = holm(pd.Series({"a": 0.01, "b": 0.04, "gone": math.nan, "c": 0.03}))
    # 3 x 0.01; 2 x 0.03; and 0.04, which may not fall below the one before
    assert corrected.drop("gone").to_dict() == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert math.isnan(corrected["gone"])


# who is compared with whom


def test_the_best_has_every_score_and_the_highest_mean_over_clients():
    frame = scores(
        gap={"A": [99, math.nan], "B": [99, 99]},
        short={"A": [99], "B": [99]},
        many={"A": [80, 80], "B": [60, 60]},
        even={"A": [71, 71], "B": [70, 70]},
    )
    assert complete_methods(frame) == ["many", "even"]
    assert best_method(frame) == "even"
    assert best_method(frame, higher=False) == "many"


def test_a_tie_for_the_best_goes_to_the_first_name_whatever_the_float_noise():
    frame = scores(z={"A": [0.3], "B": [0.3]}, a={"A": [0.1 + 0.2], "B": [0.3]}, b={"A": [0.3], "B": [0.1 + 0.2]})
    assert best_method(frame) == "a"


def test_without_a_complete_method_there_is_no_best():
    assert best_method(scores(a={"A": [1.0]}, b={"B": [2.0]})) is None


def test_a_comparison_by_hand():
    frame = scores(
        best={"A": [80, 82], "B": [70, 72], "C": [60, 60]},
        m={"A": [79, 80], "B": [70, 69], "C": [56, 55]},
        n={"A": [80, 82], "B": [70, 72], "C": [60, 60]},
    )
    found = compare(frame, "best", None)
    assert list(found.columns) == list(COLUMNS)
    assert found["variant"].tolist() == ["n", "m"]
    # pairs: -1 -2 0 -3 -4 -5; per client: -1.5 -1.5 -4.5
    expected = {"difference": -2.5, "low": -4.5, "high": -1.5, "clients": 3, "pairs": 6}
    assert row(found)[list(expected)].to_dict() == pytest.approx(expected)
    assert row(found)["p"] == pytest.approx(2 / 2**5)
    assert row(found)["p_holm"] == pytest.approx(2 * 2 / 2**5)
    assert row(found)["smallest_p"] == 2 / 2**6
    assert not row(found)["apart"]
    assert found["case_difference"].isna().all()


def test_identical_methods_differ_by_exactly_nothing():
    frame = scores(a={"A": [0.1, 0.2], "B": [0.7, 0.3]}, b={"A": [0.1, 0.2], "B": [0.7, 0.3]})
    cases = frame.assign(subject="p", case="k")
    found = row(compare(frame, "a", cases), "b")
    for name in ("difference", "low", "high", "case_difference", "case_low", "case_high"):
        assert found[name] == 0
    assert (found["p"], found["p_holm"], found["case_p"], found["case_p_holm"]) == (1, 1, 1, 1)
    assert not found["apart"]


def test_a_method_is_told_apart_only_where_interval_and_test_agree():
    flat = [70.0] * 4
    frame = scores(
        best={"A": flat, "B": flat},
        worse={"A": [60, 61, 62, 63], "B": [50, 51, 52, 53]},
        mixed={"A": [20, 21, 22, 23], "B": [70.1, 70.2, 70.3, 70.4]},
    )
    found = compare(frame, "best", None)
    assert row(found, "worse")["apart"]
    assert not row(found, "mixed")["apart"]


def test_float_noise_is_no_difference():
    frame = scores(best={"A": [0.3] * 4, "B": [0.3] * 4}, m={"A": [0.1 + 0.2] * 4, "B": [0.1 + 0.2] * 4})
    found = row(compare(frame, "best", None))
    assert (found["difference"], found["p"], found["apart"]) == (0, 1, False)


def test_a_method_is_not_told_apart_where_the_interval_over_cases_holds_zero():
    flat = {"A": [70.0] * 4, "B": [70.0] * 4}
    frame = scores(best=flat, m={"A": [60, 61, 62, 63], "B": [50, 51, 52, 53]})
    best = [cases("best", client, 0, [70], [70]) for client in "AB"]
    steady = [cases("m", client, 0, [60], [50]) for client in "AB"]
    erratic = [cases("m", client, 0, [99], [1]) for client in "AB"]
    assert row(compare(frame, "best", frame_of(*best, *steady)))["apart"]
    assert not row(compare(frame, "best", frame_of(*best, *erratic)))["apart"]


@pytest.mark.parametrize("higher", [True, False])
def test_the_closest_to_the_best_comes_first(higher):
    frame = scores(a={"A": [1], "B": [1]}, b={"A": [2], "B": [2]}, c={"A": [3], "B": [3]})
    order = compare(frame, "c" if higher else "a", None, higher)["variant"].tolist()
    assert order == (["b", "a"] if higher else ["b", "c"])


def test_one_client_one_seed_one_case_is_compared_without_a_verdict():
    frame = scores(a={"A": [70]}, b={"A": [60]})
    found = row(compare(frame, "a", frame.assign(subject="p", case="k")), "b")
    assert (found["difference"], found["case_difference"]) == (-10, -10)
    assert (found["p"], found["smallest_p"], found["case_p"]) == (1, 1, 1)
    assert math.isnan(found["low"])
    assert not found["apart"]


def test_a_method_is_compared_over_the_pairs_that_it_has():
    frame = scores(
        best={"A": [80, 80], "B": [70, 70], "C": [60, 60]},
        gap={"A": [78, math.nan], "B": [69], "C": []},
        whole={"A": [79, 79], "B": [69, 69], "C": [59, 59]},
    )
    found = compare(frame, "best", None)
    assert row(found, "gap")[["clients", "pairs", "difference", "low", "high"]].tolist() == [2, 2, -1.5, -2, -1]
    assert row(found, "whole")[["clients", "pairs", "difference"]].tolist() == [3, 6, -1]


def test_a_method_without_a_common_pair_has_no_numbers_and_spoils_no_correction():
    frame = scores(best={"A": [80], "B": [70]}, m={"A": [79], "B": [68]}, other={"C": [50]})
    found = compare(frame, "best", None)
    assert row(found, "other")["pairs"] == 0
    assert math.isnan(row(found, "other")["p_holm"])
    assert row(found)["p_holm"] == row(found)["p"] == 0.5


def cases(method, client, seed, *subjects):
    """Return rows of a method: the scores of each subject's cases."""
    return [
        (method, client, seed, f"p{subject}", f"p{subject}-{case}", value)
        for subject, values in enumerate(subjects)
        for case, value in enumerate(values)
    ]


def frame_of(*parts):
    rows = [one for part in parts for one in part]
    return pd.DataFrame(rows, columns=["variant", "client", "seed", "subject", "case", "value"])


def test_cases_of_a_subject_are_one_observation():
    best = [cases("best", client, 0, [80, 80, 80], [70], [60]) for client in "AB"]
    other = [cases("m", client, 0, [79, 78, 77], [67], [56]) for client in "AB"]
    found = row(compare(scores(best={"A": [1], "B": [1]}, m={"A": [0], "B": [0]}), "best", frame_of(*best, *other)))
    assert found["subjects"] == 6
    assert found["case_difference"] == pytest.approx((-2 - 3 - 4) / 3)
    assert found["case_p"] == pytest.approx(2 / 2**6)


def test_cases_are_averaged_over_seeds_before_they_are_counted():
    best = [cases("best", "A", seed, [80], [70]) for seed in (0, 1)]
    other = [cases("m", "A", 0, [78], [71]), cases("m", "A", 1, [74], [72])]
    found = row(compare(scores(best={"A": [1]}, m={"A": [0]}), "best", frame_of(*best, *other)))
    assert found["subjects"] == 2
    assert found["case_difference"] == pytest.approx((-4 + 1.5) / 2)


def test_a_seed_with_many_cases_of_a_subject_weighs_no_more_than_one_with_a_single_case():
    best = [cases("best", "A", 0, [80, 80, 80]), cases("best", "A", 1, [80])]
    other = [cases("m", "A", 0, [70, 70, 70]), cases("m", "A", 1, [78])]
    found = row(compare(scores(best={"A": [1]}, m={"A": [0]}), "best", frame_of(*best, *other)))
    assert found["case_difference"] == pytest.approx((-10 - 2) / 2)


def test_a_case_that_either_lacks_takes_no_part():
    best = cases("best", "A", 0, [80, 90], [70])
    other = cases("m", "A", 0, [78, math.nan], [65])
    found = row(compare(scores(best={"A": [1]}, m={"A": [0]}), "best", frame_of(best, other)))
    assert found["case_difference"] == pytest.approx((-2 - 5) / 2)
