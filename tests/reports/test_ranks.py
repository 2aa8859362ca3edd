"""Mean ranks and critical differences, against Demsar's printed example and tables and against hand computation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pflbench_reports.groups import load
from pflbench_reports.rank_diagram import draw, no_diagram, rank_diagram
from pflbench_reports.ranks import (
    complete_blocks,
    critical_difference,
    friedman,
    mean_ranks,
    over_datasets,
    ranking,
    runs,
    why_none,
)


def blocks(**methods):
    """Return the frame of methods given by their scores of clients c0, c1, ... of one dataset."""
    rows = [("d", f"c{i}", method, value) for method, values in methods.items() for i, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["dataset", "client", "variant", "value"])


def of(frame, column):
    return frame.set_index("variant")[column].to_dict()


def test_mean_ranks_are_those_of_scipys_rankdata():
    values = np.random.default_rng(8).integers(0, 6, size=(14, 5))
    found = mean_ranks(blocks(**{f"m{place}": column for place, column in enumerate(values.T)}))
    expected = stats.rankdata(-values, axis=1).mean(axis=0)
    assert of(found, "mean_rank") == pytest.approx({f"m{place}": rank for place, rank in enumerate(expected)})
    assert found["mean_rank"].is_monotonic_increasing
    assert set(found["blocks"]) == {14}


def test_demsars_example_of_four_classifiers_and_14_data_sets_has_its_critical_difference():
    critical = critical_difference(4, 14)
    assert critical == pytest.approx(1.25, abs=0.005)
    # the post-hoc test "is not powerful enough" there: the ends, 1.964 and 3.143, are not told apart
    assert runs([1.964, 2.000, 2.893, 3.143], critical) == ((0, 3),)


@pytest.mark.parametrize(
    ("methods", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_values_are_those_of_demsars_table(methods, q):
    assert critical_difference(methods, 9) / math.sqrt(methods * (methods + 1) / 54) == pytest.approx(q, abs=0.001)


def test_friedmans_test_follows_its_formula_where_nothing_ties():
    values = np.random.default_rng(4).normal(size=(9, 4)) + np.arange(4) / 2
    means = stats.rankdata(values, axis=1).mean(axis=0)
    statistic = 12 * 9 / (4 * 5) * ((means**2).sum() - 4 * 5**2 / 4)
    assert friedman(pd.DataFrame(values)) == pytest.approx(stats.chi2.sf(statistic, 3), rel=1e-9)


def test_ties_share_their_ranks_and_their_wins():
    found = mean_ranks(blocks(a=[80, 70], b=[80, 60], c=[10, 75]))
    assert of(found, "mean_rank") == {"a": (1.5 + 2) / 2, "b": (1.5 + 3) / 2, "c": (3 + 1) / 2}
    assert of(found, "wins") == {"a": 1, "b": 1, "c": 1}


def test_scores_that_differ_by_float_noise_tie():
    assert of(mean_ranks(blocks(a=[0.1 + 0.2], b=[0.3])), "mean_rank") == {"a": 1.5, "b": 1.5}


def test_where_lower_is_better_the_lowest_is_first():
    found = mean_ranks(blocks(a=[3, 9], b=[2, 4]), higher_is_better=False)
    assert of(found, "mean_rank") == {"b": 1, "a": 2}
    assert of(found, "wins") == {"b": 2, "a": 0}


def test_seeds_are_averaged_before_ranking():
    frame = pd.concat([blocks(a=[80], b=[70]), blocks(a=[60], b=[75])])
    assert of(mean_ranks(frame), "mean_rank") == {"b": 1, "a": 2}


@pytest.mark.parametrize("gap", [math.nan, None])
def test_only_complete_blocks_count(gap):
    frame = blocks(a=[80, 80, 80], b=[70, 70, 90])
    frame = frame.drop(index=5) if gap is None else frame.assign(value=[*frame["value"][:5], gap])
    found = mean_ranks(frame)
    assert set(found["blocks"]) == {2}
    assert of(found, "mean_rank") == {"a": 1, "b": 2}


def test_a_block_with_one_seed_missing_is_not_complete():
    frame = pd.concat([blocks(a=[80, 80], b=[70, 70]), blocks(a=[80, math.nan], b=[70, 70])])
    assert len(complete_blocks(frame)) == 1


def test_without_a_complete_block_nothing_is_ranked():
    found = mean_ranks(blocks(a=[80, math.nan], b=[math.nan, 70]))
    assert set(found["blocks"]) == {0}
    assert found["mean_rank"].isna().all()


def test_over_datasets_every_dataset_weighs_the_same():
    small = blocks(a=[10], b=[90]).assign(dataset="small")
    large = blocks(a=[80] * 5, b=[70] * 5).assign(dataset="large")
    together = pd.concat([small, large])
    assert of(mean_ranks(together), "mean_rank") == {"a": 7 / 6, "b": 11 / 6}
    assert of(mean_ranks(over_datasets(together)), "mean_rank") == {"a": 1.5, "b": 1.5}
    assert set(mean_ranks(over_datasets(together))["blocks"]) == {2}


def test_runs_are_the_longest_that_are_closer_than_the_critical_difference():
    assert runs([1.0, 1.5, 2.25, 4.0], 1.0) == ((0, 1), (1, 2))
    assert runs([1.0, 1.5, 1.9, 4.0, 4.5], 1.0) == ((0, 2), (3, 4))
    assert runs([1.0, 2.0, 3.0], 1.0) == ()  # exactly the critical difference is told apart
    assert runs([1.0, 2.0, 3.0], math.inf) == ((0, 2),)


def test_where_friedman_tells_nothing_apart_one_bar_joins_all():
    # ranks of five clients: mean ranks 1.6, 2.2, 2.4 and 3.8, whose ends Nemenyi's test alone would tell apart
    found = ranking(blocks(a=[3, 3, 2, 3, 3], b=[4, 2, 3, 4, 4], c=[1, 1, 1, 2, 1], d=[2, 4, 4, 1, 2]))
    ends = found.frame["mean_rank"].iloc[-1] - found.frame["mean_rank"].iloc[0]
    assert ends > found.critical
    assert found.p > 0.05
    assert found.alike == ((0, 3),)


def test_methods_that_are_always_equal_have_p_1():
    found = ranking(blocks(a=[5] * 6, b=[5] * 6, c=[5] * 6))
    assert (found.p, found.alike) == (1.0, ((0, 2),))
    assert set(found.frame["mean_rank"]) == {2}


def test_a_clear_order_is_told_apart_at_its_ends():
    found = ranking(blocks(a=[90] * 8, b=[80] * 8, c=[70] * 8))
    # chi2 = 16 with 2 degrees of freedom; 2.343 x sqrt(12 / 48) = 1.17
    assert found.p == pytest.approx(math.exp(-8))
    assert found.critical == pytest.approx(1.17, abs=0.005)
    assert found.alike == ((0, 1), (1, 2))
    assert found.blocks == 8


@pytest.mark.parametrize("frame", [blocks(a=[1] * 9, b=[2] * 9), blocks(a=[1] * 4, b=[2] * 4, c=[3] * 4), blocks()])
def test_too_few_methods_or_blocks_give_a_reason_instead(frame):
    assert "at least 3 methods and 5 clients" in why_none(frame)
    with pytest.raises(ValueError, match="There is no critical-difference diagram"):
        ranking(frame)


HOSTILE = "<script>$x_1$ & 100 % | \\frac #"


@pytest.mark.parametrize("methods", [3, 25])
def test_the_diagram_shows_every_name_as_text_and_is_the_same_every_time(methods):
    values = {f"m{place}": [90 - place - client % 2 for client in range(6)] for place in range(methods - 1)}
    found = ranking(blocks(**values, **{HOSTILE: [10] * 6}))
    drawn = draw("ranks", found, simulated=False)
    svg = drawn.svg.decode()
    assert "<script>" not in svg
    assert "&lt;script&gt;$x_1$" in svg
    assert all(f">m{place}<" in svg for place in range(methods - 1))
    assert HOSTILE in drawn.alt
    again = draw("ranks", found, simulated=False)
    assert (again.svg, again.png) == (drawn.svg, drawn.png)
    assert "SIMULATED" not in svg


def test_the_diagram_of_simulated_data_says_so():
    found = ranking(blocks(a=[90] * 6, b=[80] * 6, c=[70] * 6))
    assert "SIMULATED" in draw("ranks", found, simulated=True).svg.decode()


def test_the_diagrams_numbers_name_the_bars_of_each_method():
    drawn = draw("ranks", ranking(blocks(a=[90] * 8, b=[80] * 8, c=[70] * 8)), simulated=False)
    assert drawn.data[["variant", "mean_rank", "wins", "bars"]].to_numpy().tolist() == [
        ["a", 1, 8, "1"],
        ["b", 2, 0, "1 2"],
        ["c", 3, 0, "2"],
    ]
    assert "Fewer than 10 clients" in drawn.caption


def named(name):
    return {"name": name, "title": name, "label": "", "settings": {}}


def group_of(tmp_path):
    (group,), _ = load([tmp_path / "runs"])
    return group


def test_the_diagram_of_a_group_ranks_its_complete_methods_over_clients(trial, tmp_path):
    clients = [f"c{place}" for place in range(5)]
    for place, method in enumerate(("one", "two", "three", "four")):
        for seed in (0, 1):
            if (method, seed) != ("four", 1):
                trial(dict.fromkeys(clients, 0.9 - 0.1 * place), method=named(method), seed=seed)
    group = group_of(tmp_path)
    drawn = rank_diagram(group)
    assert drawn is not None
    assert no_diagram(group) == ""
    assert of(drawn.data, "mean_rank") == {"one": 1, "two": 2, "three": 3}
    assert set(drawn.data["blocks"]) == {5}


def test_a_group_of_two_clients_has_a_sentence_instead_of_a_diagram(trial, tmp_path):
    for method in ("one", "two", "three"):
        trial({"A": 0.8, "B": 0.7}, method=named(method))
    group = group_of(tmp_path)
    assert rank_diagram(group) is None
    assert "here are 3 and 2" in no_diagram(group)


def test_groups_are_ranked_together_by_the_methods_that_all_of_them_have(trial, tmp_path):
    for digest, clients in (("x", ("A", "B", "C")), ("y", ("A", "B"))):
        for place, method in enumerate(("one", "two", "three", f"only-{digest}")):
            trial(dict.fromkeys(clients, 0.9 - 0.1 * place), method=named(method), dataset={"digest": digest})
    groups, _ = load([tmp_path / "runs"])
    drawn = rank_diagram(groups, name="all-ranks")
    assert drawn is not None
    assert drawn.name == "all-ranks"
    assert of(drawn.data, "blocks") == {"one": 5, "two": 5, "three": 5}
