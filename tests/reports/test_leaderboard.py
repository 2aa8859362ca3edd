"""The leaderboard over several groups: who is ranked, by what, and what is never mixed."""

from __future__ import annotations

import pytest

from pflbench_reports.groups import load
from pflbench_reports.leaderboard import leaderboard

METHODS = {"one": "One", "two": "Two", "three": "Three"}
DATASETS = {"vessel": ("A", "B"), "gland": ("G", "H"), "prostate": ("P", "Q")}


@pytest.fixture
def boards(tmp_path):
    return lambda: leaderboard(load([tmp_path / "runs"])[0])


@pytest.fixture
def run(trial):
    """Return a function that writes a trial of a method on a dataset whose clients have the given Dice."""

    def write(method, dataset, *dice, **changes):
        names = {"name": dataset, "title": dataset.capitalize(), **changes.pop("data", {})}
        spec = {"method": {"name": method, "title": METHODS[method]}, "dataset": names}
        return trial(dict(zip(DATASETS[dataset], dice, strict=False)), **spec, **changes)

    return write


def column(table, words):
    place = next(i for i, heading in enumerate(table.header) if words in heading)
    return {row[0].text: row[place] for row in table.rows}


def federation(run, **changes):
    """Vessel: one, two, three on A and two, one, three on B. Gland: one, three, two on both clients."""
    for method, vessel, gland in (
        ("one", (0.80, 0.60), (0.90, 0.90)),
        ("two", (0.70, 0.75), (0.50, 0.50)),
        ("three", (0.60, 0.50), (0.70, 0.80)),
    ):
        run(method, "vessel", *vessel, **changes)
        run(method, "gland", *gland, **changes)


def test_mean_ranks_over_groups_and_over_clients_are_those_computed_by_hand(run, boards):
    federation(run)
    (board,) = boards()
    # averages on vessel 70, 72.5 and 55; on gland 90, 50 and 75
    assert {name: cell.text for name, cell in column(board, "rank over groups").items()} == {
        "One": "1.50",  # 2 and 1
        "Two": "2.00",  # 1 and 3
        "Three": "2.50",  # 3 and 2
    }
    assert {name: cell.text for name, cell in column(board, "rank over clients").items()} == {
        "One": "1.25",  # 1, 2, 1, 1
        "Two": "2.25",  # 2, 1, 3, 3
        "Three": "2.50",  # 3, 3, 2, 2
    }
    assert {name: cell.text for name, cell in column(board, "Best on").items()} == {
        "One": "3 of 4",
        "Two": "1 of 4",
        "Three": "0 of 4",
    }


def test_the_average_of_each_group_is_in_percent_with_its_spread_over_seeds(run, boards):
    federation(run)
    federation(run, seed=1)
    for method in METHODS:
        run(method, "vessel", 0.5, 0.9, seed=2)
        run(method, "gland", 0.5, 0.5, seed=2)
    cell = column(boards()[0], "Vessel")["One"]
    assert cell.text == "70.00"  # 70, 70 and 70
    assert cell.spread == "0.00"
    assert column(boards()[0], "Gland")["One"].text == "76.67"  # 90, 90 and 50
    assert column(boards()[0], "Gland")["One"].spread == "18.86"  # sqrt(2 * 40^2) / 3


def test_a_method_that_a_group_lacks_is_shown_but_not_ranked(run, boards):
    federation(run)
    for method in ("one", "two"):
        run(method, "prostate", 0.5, 0.5)
    (board,) = boards()
    assert column(board, "rank over groups")["Three"].text == "–"
    assert board.rows[-1][0].text == "Three"
    assert any("Not ranked" in note and "Three" in note for note in board.notes)
    assert column(board, "Best on")["One"].text == "5 of 6"  # shares both clients of prostate


def test_a_method_that_lacks_a_seed_is_not_ranked(run, boards):
    federation(run)
    run("one", "vessel", 0.9, 0.9, seed=1)
    (board,) = boards()
    assert "rank" not in " ".join(board.header)
    assert any("nothing is ranked" in note for note in board.notes)


def test_simulated_groups_have_a_leaderboard_of_their_own(run, boards):
    federation(run)
    federation(run, data={"simulated": True})
    real, simulated = boards()
    assert len(real.rows) == len(simulated.rows) == 3
    assert not any("SIMULATED" in heading for heading in real.header)
    assert "SIMULATED DATA" in simulated.title
    assert set(real.csv["leaderboard-real"]["simulated"]) == {False}
    assert set(simulated.csv["leaderboard-simulated"]["simulated"]) == {True}


def test_one_real_and_one_simulated_group_make_no_leaderboard(run, boards):
    run("one", "vessel", 0.6, 0.6)
    run("one", "gland", 0.6, 0.6, data={"simulated": True})
    assert boards() == []


def test_recipes_of_one_dataset_make_no_leaderboard(run, boards):
    run("one", "vessel", 0.6, 0.6)
    run("one", "vessel", 0.7, 0.7, recipe={"epochs": 9})
    assert boards() == []


def test_a_dataset_that_stands_in_two_columns_is_named(run, boards):
    federation(run)
    run("one", "vessel", 0.7, 0.7, recipe={"epochs": 9})
    assert any("same data" in note and "epochs 9" in note for note in boards()[0].notes)


def test_ranks_that_chance_explains_are_said_to_be_so(run, boards):
    federation(run)
    (note,) = [note for note in boards()[0].notes if "Friedman" in note]
    assert "cannot be told apart from chance" in note  # sums of ranks 5, 9 and 10: chi2 = 3.5, p = 0.17
    assert "p = 0.17" in note


def test_a_file_of_scores_over_datasets_has_a_leaderboard(tmp_path):
    file = tmp_path / "scores.csv"
    rows = [f"{data},{m},c,0,dice,{v}" for data in ("x", "y") for m, v in (("a|b", 70), ("$c_1", 60))]
    file.write_text("\n".join(["dataset,method,client,seed,metric,value", *rows]))
    (board,) = leaderboard(load([file])[0])
    assert {name: cell.text for name, cell in column(board, "rank over groups").items()} == {
        "a|b": "1.00",
        "$c_1": "2.00",
    }
