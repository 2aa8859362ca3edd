"""Two sets of results: what differs between them, and that no difference is made up."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace

import pytest
from rich.console import Console

from pflbench.cli_report import compare_command
from pflbench.errors import UsageError
from pflbench.results import ResultsError, read_trial, write_trial
from pflbench.terminal_report import print_comparison
from pflbench_reports.compare import compare

BN = {"name": "fedbn", "title": "FedBN"}


@pytest.fixture
def side(tmp_path, trial):
    """Return a function that writes trials into a folder of their own and returns it."""

    def write(name, *trials):
        folder = tmp_path / name
        folder.mkdir()
        for dice, changes in trials:
            shutil.move(trial(dice, **changes).folder, folder)
        return folder

    return write


def only_pair(found):
    assert len(found["pairs"]) == 1
    return found["pairs"][0]


def fields(differences):
    return {difference["field"]: (difference["a"], difference["b"]) for difference in differences}


def points(method, chosen="best"):
    """Return client -> (difference, spread over seeds); None is the average."""
    return {s["client"]: (s["difference"], s["over_seeds"]) for s in method["scores"] if s["chosen"] == chosen}


def printed(found, **settings):
    file = io.StringIO()
    print_comparison(found, Console(file=file, width=200, **settings))
    return file.getvalue()


def test_results_are_the_same_as_themselves_to_the_last_digit(side):
    folder = side("a", ({"A": 0.6, "B": 0.7}, {}), ({"A": 0.61, "B": 0.71}, {"seed": 1}))
    pair = only_pair(compare(folder, folder))
    assert pair["comparable"]
    assert pair["reasons"] == pair["circumstances"] == []
    assert [method["identical"] for method in pair["methods"]] == [True]
    assert "Same to the last digit: FedAvg" in printed(compare(folder, folder))


def test_differences_are_paired_by_seed_and_given_in_points(side):
    a = side("a", ({"A": 0.60, "B": 0.50}, {}), ({"A": 0.62, "B": 0.50}, {"seed": 1}))
    b = side("b", ({"A": 0.65, "B": 0.40}, {}), ({"A": 0.63, "B": 0.50}, {"seed": 1}))
    found = points(only_pair(compare(a, b))["methods"][0])
    assert found["A"] == pytest.approx((3.0, 2.0))  # +5 and +1
    assert found["B"] == pytest.approx((-5.0, 5.0))  # -10 and 0
    assert found[None] == pytest.approx((-1.0, 1.5))  # of the clients' means within each seed: -2.5 and +0.5


def test_one_seed_has_no_spread_and_is_said_to_decide_nothing(side):
    found = compare(side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.7}, {})))
    assert points(only_pair(found)["methods"][0])["A"][1] is None
    assert "nothing is known about how far a repetition would move it" in printed(found)


def test_a_difference_within_its_spread_is_said_to_be_so(side):
    a = side("a", ({"A": 0.6}, {}), ({"A": 0.6}, {"seed": 1}))
    b = side("b", ({"A": 0.7}, {}), ({"A": 0.52}, {"seed": 1}))
    assert "not larger than its spread over seeds (± 9.00 over 2 common seeds, too few to decide)" in printed(
        compare(a, b)
    )


def test_equal_means_of_other_cases_are_not_the_same_to_the_last_digit(side):
    a, b = side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.6}, {}))
    cases = next(b.glob("*/cases.csv"))
    lines = cases.read_text().splitlines()
    swapped = [line.replace("A-0", "A-x").replace("A-1", "A-0").replace("A-x", "A-1") for line in lines]
    cases.write_text("\n".join(swapped) + "\n")
    method = only_pair(compare(a, b))["methods"][0]
    assert points(method)["A"][0] == pytest.approx(0.0, abs=1e-9)
    assert not method["identical"]


@pytest.mark.parametrize(
    ("changes", "field", "values"),
    [
        ({"recipe": {"optimizer_state": "reset"}}, "recipe.optimizer_state", ("not stated", "reset")),
        ({"recipe": {"epochs": 4}}, "recipe.epochs", ("1", "4")),
        ({"dataset": {"digest": "other"}}, "dataset digest (images or masks)", ("abc", "other")),
        ({"dataset": {"settings": {"labels": "union"}}}, "dataset.settings.labels", ("not stated", "union")),
        ({"dataset": {"simulated": True}}, "simulated data", ("false", "true")),
        ({"partitioner": {"name": "iid", "title": "At random"}}, "partitioner", ("natural", "iid")),
        ({"split": "elsewhere"}, "split hash of seed 0", ("hash", "elsewhere")),
    ],
)
def test_what_forbids_a_comparison_is_named_with_both_values(side, changes, field, values):
    found = compare(side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.7}, changes)))
    pair = only_pair(found)
    assert pair["comparable"] is False
    assert fields(pair["reasons"])[field] == values
    assert f"Not comparable because: {field}." in printed(found)


@pytest.mark.parametrize("changes", [{"dataset": {"digest": "other"}}, {"split": "elsewhere"}])
def test_scores_of_other_test_cases_are_never_subtracted(side, changes):
    pair = only_pair(compare(side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.7}, changes))))
    assert [method["scores"] for method in pair["methods"]] == [[]]


def test_a_seed_with_another_split_is_left_out_and_the_others_are_compared(side):
    a = side("a", ({"A": 0.6}, {}), ({"A": 0.6}, {"seed": 1}))
    b = side("b", ({"A": 0.7}, {}), ({"A": 0.9}, {"seed": 1, "split": "elsewhere"}))
    pair = only_pair(compare(a, b))
    assert pair["comparable"]
    assert list(fields(pair["reasons"])) == ["split hash of seed 1"]
    assert pair["methods"][0]["seeds"] == [0]
    assert points(pair["methods"][0])["A"][0] == pytest.approx(10.0)


def test_another_version_or_machine_is_told_apart_from_another_protocol(side):
    changes = {"version": "0.2.0", "numerics": {"device": "cuda"}}
    pair = only_pair(compare(side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.6}, changes))))
    assert pair["comparable"]
    assert fields(pair["circumstances"]) == {"pflbench version": ("0.1.0", "0.2.0"), "numerics.device": ("cpu", "cuda")}


def test_settings_and_statements_of_a_method_are_compared(side):
    says = {"says": {"aggregation": "batches", "batch_norm": "kept"}}
    b = side("b", ({"A": 0.6}, {"method": {"settings": {"mu": 1}, "label": "mu=1"}, **says}))
    pair = only_pair(compare(side("a", ({"A": 0.6}, {})), b))
    assert fields(pair["methods"][0]["differences"]) == {
        "settings.mu": ("not stated", "1"),
        "weighting of clients": ("not stated", "batches"),
        "batch norm": ("not stated", "kept"),
    }


def test_what_only_one_side_has_is_named(side):
    a = side(
        "a", ({"A": 0.6, "B": 0.6}, {}), ({"A": 0.6, "B": 0.6}, {"seed": 1}), ({"A": 0.6, "B": 0.6}, {"method": BN})
    )
    b = side("b", ({"A": 0.6, "C": 0.6}, {}), ({"A": 0.6, "C": 0.6}, {"seed": 7}))
    only = only_pair(compare(a, b))["only"]
    assert only["methods"] == {"a": ["FedBN"], "b": []}
    assert only["clients"] == {"a": ["B"], "b": ["C"]}
    assert only["seeds"] == {"FedAvg": {"a": [1], "b": [7]}}


def test_two_single_trials_of_different_methods_are_compared_with_each_other(side):
    a, b = side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.65}, {"method": BN}))
    pair = only_pair(compare(next(a.iterdir()), next(b.iterdir())))
    assert pair["comparable"]
    assert (pair["methods"][0]["a"], pair["methods"][0]["b"]) == ("FedAvg", "FedBN")
    assert points(pair["methods"][0])["A"][0] == pytest.approx(5.0)


def test_each_dataset_is_compared_with_itself_and_the_rest_stands_alone(side):
    prostate = {"dataset": {"name": "prostate", "title": "Prostate"}}
    a = side("a", ({"A": 0.6}, {}), ({"P": 0.8}, prostate))
    b = side("b", ({"P": 0.9}, prostate))
    found = compare(a, b)
    assert only_pair(found)["a"] == only_pair(found)["b"] == "Prostate: By site"
    assert found["alone"] == {"a": ["Retinal vessels: By site"], "b": []}


def test_a_client_that_never_trains_stands_outside_the_average(side):
    a, b = side("a", ({"A": 0.6, "G": 0.1}, {})), side("b", ({"A": 0.7, "G": 0.9}, {}))
    for folder in (a, b):
        of = read_trial(next(folder.iterdir()))
        clients = [{"name": "A", "train": 4}, {"name": "G", "train": 0}]
        write_trial(replace(of, about={**of.about, "clients": clients}))
    found = points(only_pair(compare(a, b))["methods"][0])
    assert found[None][0] == pytest.approx(10.0)
    assert found["G"][0] == pytest.approx(80.0)


def test_nobody_knows_whether_a_file_of_scores_is_comparable(side, tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text("dataset,method,client,seed,metric,value\nvessel,fedavg,A,0,dice,63.5\n")
    found = compare(file, side("b", ({"A": 0.6}, {})))
    pair = only_pair(found)
    assert pair["comparable"] is None
    assert points(pair["methods"][0])["A"][0] == pytest.approx(-3.5)
    assert "The scores of A were given as a file" in printed(found)


def test_without_a_common_seed_nothing_is_comparable_and_it_is_said_why(side):
    found = compare(side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.6}, {"seed": 1})))
    assert only_pair(found)["comparable"] is False
    assert "no seed in common" in printed(found)


def test_unfinished_and_broken_trials_are_named(side):
    b = side("b", ({"A": 0.6}, {}), ({"A": 0.6}, {"seed": 1, "state": "running", "done": 1}))
    (b / "foreign").mkdir()
    (b / "foreign/trial.json").write_text("{}")
    found = compare(side("a", ({"A": 0.6}, {})), b)
    assert len(found["sides"]["b"]["unfinished"]) == 1
    assert "foreign" in found["sides"]["b"]["problems"][0]
    text = printed(found)
    assert "(running)" in text
    assert "foreign" in text


def test_a_folder_without_results_is_refused(side, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="No readable trial"):
        compare(side("a", ({"A": 0.6}, {})), tmp_path / "empty")


def test_a_path_that_does_not_exist_is_bad_usage(tmp_path):
    with pytest.raises(UsageError, match="absent does not exist"):
        compare_command(tmp_path, tmp_path / "absent")


def test_everything_found_is_plain_json(side):
    found = compare(side("a", ({"A": 0.6}, {})), side("b", ({"A": 0.7}, {})))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_hostile_names_are_printed_as_text(side):
    name = "[red]\x1b[31m\u202e<b>"
    title = {"method": {"title": "[link=http://evil.example]x[/link]"}}
    text = printed(compare(side("a", ({name: 0.6}, title)), side("b", ({name: 0.7}, title))), force_terminal=True)
    assert "[link=http://evil.example]x[/link]" in text
    assert "[red][U+001B][31m[U+202E]<b>" in text
    assert "\u202e" not in text


def test_simulated_data_is_marked(side):
    made_up = {"dataset": {"simulated": True}}
    folder = side("a", ({"A": 0.6}, made_up))
    assert "SIMULATED DATA" in printed(compare(folder, folder))
