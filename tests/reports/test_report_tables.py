"""The arithmetic of the tables, against the paper's printed rows and against numbers worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from pflbench_reports.certainty import differences
from pflbench_reports.cost import cost
from pflbench_reports.display import dice_table, gain_table, marks
from pflbench_reports.groups import load
from pflbench_reports.rank_diagram import rank_scores
from pflbench_reports.tables import (
    between_clients,
    client_statistics,
    disputed_splits,
    local_of,
    seed_scores,
    summary,
)
from pflbench_reports.traces import shown_layers, spread
from pflbench_reports.verdict import verdict


def method(name, title=None, label="", **settings):
    return {"name": name, "title": title or name, "label": label, "settings": settings}


def only_group(tmp_path):
    groups, _ = load([tmp_path / "runs"])
    assert len(groups) == 1
    return groups[0]


def test_average_and_its_deviation_are_the_papers(paper):
    for (table, name), rows in paper.groupby(["table", "method"]):
        printed = rows[rows["client"] == "Average"].iloc[0]
        mean, deviation = between_clients(rows.loc[rows["client"] != "Average", "mean"].tolist())
        assert mean == pytest.approx(printed["mean"], abs=0.0051)
        if (table, name) == (3, "FedBN"):  # the paper prints 3.99, which its own means exclude
            assert deviation == pytest.approx(3.84, abs=1e-9)
        else:
            # the paper cuts the last digit (0.01) and its means are rounded (0.005)
            assert deviation == pytest.approx(printed["std"], abs=0.015)


def test_a_paper_row_survives_the_whole_way_from_folders_to_the_table(paper, trial, tmp_path):
    rows = paper[(paper["table"] == 1) & (paper["method"] == "FedBN")]
    means = dict(zip(rows["client"], rows["mean"] / 100, strict=True))
    means.pop("Average")
    trial(means, method=method("fedbn", "FedBN"))
    table = dice_table(only_group(tmp_path), "best", ["FedBN"], compared=True)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert (cells["BIDMC"].text, cells["BIDMC"].spread) == ("77.56", "")
    average = cells["Average ± between clients"]
    assert (average.text, average.spread) == ("84.54", "4.28")
    assert cells["Worst client"].text == "77.56 (BIDMC)"


def test_client_statistics_are_population_deviations_over_seeds(trial, tmp_path):
    for seed, value in enumerate((0.70, 0.73, 0.76)):
        trial({"A": value, "B": 0.5}, seed=seed)
    statistics = client_statistics(seed_scores(only_group(tmp_path), "best")).set_index("client")
    assert statistics.loc["A", "mean"] == pytest.approx(73.0)
    assert statistics.loc["A", "std"] == pytest.approx(math.sqrt((9 + 0 + 9) / 3))
    assert statistics.loc["B", "std"] == pytest.approx(0.0)


def test_spread_over_seeds_is_of_the_average_over_clients(trial, tmp_path):
    trial({"A": 0.6, "B": 0.8}, seed=0)  # average 70
    trial({"A": 0.7, "B": 0.9}, seed=1)  # average 80
    row = summary(seed_scores(only_group(tmp_path), "best"), None).iloc[0]
    assert (row["average"], row["over_seeds"]) == (pytest.approx(75), pytest.approx(5))
    assert row["between_clients"] == pytest.approx(10)  # client means 65 and 85
    assert (row["worst"], row["worst_client"]) == (pytest.approx(65), "A")


def test_gain_and_harm_are_against_local_training(trial, tmp_path):
    trial({"A": 0.6, "B": 0.8, "C": 0.7}, method=method("local", "Local"))
    trial({"A": 0.7, "B": 0.79, "C": 0.7}, method=method("fedavg", "FedAvg"))
    group = only_group(tmp_path)
    rows = summary(seed_scores(group, "best"), local_of(group)).set_index("variant")
    assert rows.loc["FedAvg", "gain"] == pytest.approx(3.0)
    assert rows.loc["FedAvg", "harmed"] == 1
    assert math.isnan(rows.loc["Local", "gain"])


def test_last_round_has_scores_of_its_own(trial, tmp_path):
    trial({"A": 0.6}, last={"A": 0.5})
    group = only_group(tmp_path)
    assert seed_scores(group, "best")["dice"].tolist() == [pytest.approx(60)]
    assert seed_scores(group, "last")["dice"].tolist() == [pytest.approx(50)]


def test_one_seed_has_no_spread(trial, tmp_path):
    trial({"A": 0.6, "B": 0.7})
    table = dice_table(only_group(tmp_path), "best", ["FedAvg"], compared=True)
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert (cells["A"].text, cells["A"].spread, cells["± over seeds"].text) == ("60.00", "", "–")
    assert cells["Gain over local"].text == "–"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 3.0, 2.0], ["", "best", "second"]),
        ([70.001, 70.002, 1.0], ["second", "best", ""]),  # equal once rounded, ranked before
        ([3.0, 3.0, 2.0], ["best", "best", ""]),
        ([3.0], [""]),
        ([float("nan"), 1.0, 2.0], ["", "second", "best"]),
        ([0.1 + 0.2, 0.3, 0.1], ["best", "best", ""]),  # equal but for the last bit
        ([1.0, 0.1 + 0.2, 0.3], ["best", "second", "second"]),
    ],
)
def test_marks_rank_the_unrounded_values(values, expected):
    assert marks(values) == expected


def test_of_a_distance_the_smaller_is_marked():
    assert marks([3.0, 1.0, 2.0], higher=False) == ["", "best", "second"]


def test_of_a_distance_worst_gain_and_harm_turn_round():
    rows = [("Local", "A", 5.0), ("Local", "B", 2.0), ("Mine", "A", 3.0), ("Mine", "B", 4.0)]
    frame = pd.DataFrame(rows, columns=["variant", "client", "dice"]).assign(seed=0)
    mine = summary(frame, "Local", higher=False).set_index("variant").loc["Mine"]
    assert (mine["worst"], mine["worst_client"]) == (4.0, "B")
    assert (mine["gain"], mine["harmed"]) == (0.0, 1)  # A gains 2, B loses 2
    assert summary(frame.assign(dice=[5, 2, 3, 3]), "Local", higher=False)["variant"].tolist() == ["Mine", "Local"]


def test_the_spread_between_clients_is_largest_minus_smallest(trial, tmp_path):
    trial({"A": 0.6, "B": 0.85, "C": 0.7})
    group = only_group(tmp_path)
    assert summary(seed_scores(group, "best"), None)["range_clients"].tolist() == [pytest.approx(25)]
    table = dice_table(group, "best", ["FedAvg"], compared=True)
    assert dict(zip(table.header, table.rows[0], strict=True))["Largest − smallest client"].text == "25.00"


def test_gains_are_shown_per_client_with_their_mean(trial, tmp_path):
    for seed, shift in enumerate((0.0, 0.02)):
        trial({"A": 0.6 + shift, "B": 0.8}, method=method("local", "Local"), seed=seed)
        trial({"A": 0.7, "B": 0.79}, seed=seed)
    table = gain_table(only_group(tmp_path), "best", ["FedAvg", "Local"])
    assert [cell.text for cell in table.rows[0]] == ["FedAvg", "+9.00", "-1.00", "+4.00", "1 of 2"]
    assert len(table.rows) == 1


def test_without_local_training_there_are_no_gains(trial, tmp_path):
    trial({"A": 0.6})
    assert gain_table(only_group(tmp_path), "best", ["FedAvg"]) is None


def test_the_same_scores_in_another_order_harm_nobody(trial, tmp_path):
    for seed, (one, other) in enumerate(((0.61, 0.73), (0.67, 0.61), (0.73, 0.67))):
        trial({"A": one}, method=method("local", "Local"), seed=seed)
        trial({"A": other}, seed=seed)
    group = only_group(tmp_path)
    assert summary(seed_scores(group, "best"), "Local").set_index("variant").loc["FedAvg", "harmed"] == 0


def test_a_method_with_fewer_seeds_is_footnoted_and_not_ranked(trial, tmp_path):
    for seed in (0, 1):
        trial({"A": 0.6}, seed=seed)
        trial({"A": 0.5}, seed=seed, method=method("b", "B"))
    trial({"A": 0.9}, method=method("lucky", "Lucky"))
    table = dice_table(only_group(tmp_path), "best", ["Lucky", "FedAvg", "B"], compared=False)
    assert [(row[0].note, row[1].text, row[2].mark) for row in table.rows] == [
        (1, "1", ""),
        (0, "2", "best"),
        (0, "2", "second"),
    ]
    assert table.notes == ("Lucky lacks 1 seed that others finished (1); its row is not ranked.",)


def test_what_is_not_federated_is_shown_but_stands_outside_every_comparison(trial, tmp_path):
    for seed in (0, 1):
        trial({"A": 0.6, "B": 0.5}, seed=seed)
        trial({"A": 0.5, "B": 0.6}, seed=seed, method=method("b", "B"))
        trial({"A": 0.9, "B": 0.9}, seed=seed, method=method("pooled", "Pooled"), says={"federated": False})
    group = only_group(tmp_path)
    table = dice_table(group, "best", ["Pooled", "FedAvg", "B"], compared=False)
    assert [(row[0].note, row[2].mark) for row in table.rows] == [(1, ""), (0, "best"), (0, "second")]
    assert table.notes == ("Pooled had everybody's data in one place: a ceiling, not ranked.",)
    said = " ".join(verdict(group))
    assert "no federated method but a ceiling: Pooled" in said
    assert "seeds or clients are missing" not in said
    assert not said.startswith("The best on average is Pooled")
    found = differences(group)
    assert set(found.frame["variant"]) <= {"FedAvg", "B"}
    assert set(rank_scores([group])["variant"]) == {"FedAvg", "B"}


def test_a_method_that_lacks_a_client_has_no_average(trial, tmp_path):
    trial({"A": 0.6, "B": 0.7})
    trial({"A": 0.9}, method=method("b", "B"))
    table = dice_table(only_group(tmp_path), "best", ["FedAvg", "B"], compared=False)
    cells = dict(zip(table.header, table.rows[1], strict=True))
    assert (cells["B"].text, cells["Average ± between clients"].text) == ("–", "–")
    assert "scores of B" in table.notes[0]


def test_different_splits_of_one_seed_are_noticed(trial, tmp_path):
    trial({"A": 0.6}, split="one")
    trial({"A": 0.6}, split="two", method=method("b"))
    assert disputed_splits(only_group(tmp_path).finished) == [0]


def test_costs_are_per_client_and_round_with_the_setup_apart(trial, tmp_path):
    trial({"A": 0.6, "B": 0.7})
    row = cost(only_group(tmp_path)).iloc[0]
    assert (row["setup_up_bytes"], row["up_bytes"], row["down_bytes"]) == (512, 2048, 1024)
    assert row["round_seconds"] == pytest.approx(2 * 1.5 + 0.5)
    assert (row["round_gradients"], row["peak_mib"]) == (64, 100)


def test_layers_shown_are_the_papers_or_first_middle_last():
    assert shown_layers(["enc1.0", "enc1.1", "enc4.0", "final"]) == ["enc1.0", "enc4.0", "final"]
    assert shown_layers(["a", "b", "c", "d", "e"]) == ["a", "c", "e"]
    assert shown_layers(["a"]) == ["a"]


def test_spread_of_a_single_value_is_unknown():
    frame = pd.DataFrame({"k": ["a", "a", "b"], "value": [1.0, 3.0, 5.0]})
    result = spread(frame, ["k"]).set_index("k")
    assert result.loc["a", "std"] == pytest.approx(1.0)
    assert math.isnan(result.loc["b", "std"])


def test_two_decimals_are_rounded_half_away_from_zero_and_never_minus_nothing():
    from pflbench_reports.text import percent

    given = [77.195, 77.1949, -1.005, -0.001, 0.0, 2.675]
    assert [percent(value) for value in given] == ["77.20", "77.19", "-1.01", "0.00", "0.00", "2.68"]
    assert percent(1.005, sign=True) == "+1.01"
    assert percent(-0.001, sign=True) == "+0.00"
