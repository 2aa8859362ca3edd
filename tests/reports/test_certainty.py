"""What is said about differences from the best: sentences, caveats and the table, from folders and from frames."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from pflbench.results import write_table, write_trial
from pflbench_reports.certainty import differences, differences_of, subject_scores
from pflbench_reports.groups import load

HOSTILE = "<b>|x_1$ & 50 %\\"


def named(title):
    return {"name": title, "title": title, "label": "", "settings": {}}


def scores(**methods):
    """Return the frame of methods given as {client: [score of seed 0, ...]}."""
    rows = [
        (method, client, seed, value)
        for method, clients in methods.items()
        for client, values in clients.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["variant", "client", "seed", "value"])


def shifted(clients, seeds, **shifts):
    """Return methods that score 70 + client + seed, each moved by its own shift."""
    return scores(
        **{m: {f"c{c}": [70.0 + c + s + by for s in range(seeds)] for c in range(clients)} for m, by in shifts.items()}
    )


def only(tmp_path):
    (group,), _ = load([tmp_path / "runs"])
    return group


def said(found):
    return " ".join(found.sentences)


# sentences


def test_two_clients_and_three_seeds_cannot_decide_five_comparisons():
    found = differences_of(shifted(2, 3, best=0, a=-1, b=-2, c=-3, d=-4, e=-5), None, "x")
    assert (
        "With 2 clients × 3 seeds (6 pairs) no difference can reach p < 0.05 after correction for 5 comparisons: "
        "the smallest p is 0.156 (0.031 before); more seeds or clients are needed."
    ) in found.sentences
    assert "a, b, c, d and e cannot be told apart from best" in said(found)


def test_the_same_design_decides_a_single_comparison():
    found = differences_of(shifted(2, 3, best=0, a=-1), None, "x")
    assert "The smallest p that 2 clients × 3 seeds (6 pairs) can reach is 0.031, 0.031 after correction." in said(
        found
    )
    assert "On these 2 clients all other complete methods can be told apart from best." in found.sentences


def test_six_pairs_of_one_method_do_not_decide_where_five_do_not_either():
    found = differences_of(shifted(5, 1, best=0, a=-1), None, "x")
    assert "With 5 clients × 1 seed (5 pairs) no difference can reach p < 0.05: the smallest p is 0.062" in said(found)


def test_methods_that_can_and_cannot_be_told_apart_are_named_with_the_best():
    frame = shifted(6, 3, best=0, near=-0.1, far=-20)
    frame.loc[(frame["variant"] == "near") & (frame["client"] == "c0"), "value"] += 0.3
    found = differences_of(frame, None, "x")
    assert found.sentences[:2] == (
        "On these 6 clients near cannot be told apart from best, the best on average.",
        "On these 6 clients far can be told apart from best.",
    )


@pytest.mark.parametrize(("clients", "chance"), [(2, 50), (3, 75), (5, 94)])
def test_few_clients_are_said_to_speak_for_themselves_only(clients, chance):
    found = differences_of(shifted(clients, 2, best=0, a=-1), None, "x")
    assert f"An interval over {clients} clients is at most their range" in said(found)
    assert f"a chance of {chance} % at best" in said(found)


def test_six_clients_and_two_seeds_need_no_such_warning():
    found = said(differences_of(shifted(6, 2, best=0, a=-1), None, "x"))
    assert "range" not in found
    assert "one seed" not in found


def test_one_client_and_one_seed_say_what_they_cannot():
    found = said(differences_of(shifted(1, 1, best=0, a=-1), None, "x"))
    assert "On this client a cannot be told apart from best" in found
    assert "With one client there is no interval over clients." in found
    assert "With one seed nothing is known about another training." in found


def test_an_incomplete_method_is_compared_but_not_judged():
    frame = shifted(6, 3, best=0, a=-1, gap=5)
    frame.loc[(frame["variant"] == "gap") & (frame["seed"] == 2), "value"] = math.nan
    found = differences_of(frame, None, "x")
    assert "gap: not judged, because scores of some seeds or clients are missing." in found.sentences
    assert found.table is not None
    noted = {row[0].text: row[0].note for row in found.table.rows}
    assert noted == {"gap": 1, "a": 0}
    assert "Lacks some of the 18 pairs" in found.table.notes[0]
    assert found.frame.set_index("variant").loc["gap", "pairs"] == 12


@pytest.mark.parametrize("frame", [scores(), shifted(2, 2, alone=0), scores(a={"A": [1.0]}, b={"B": [1.0]})])
def test_where_nothing_can_be_compared_a_sentence_says_so(frame):
    found = differences_of(frame, None, "x")
    assert found.table is None
    assert found.frame.empty
    assert len(found.sentences) == 1
    assert "no difference is tested" in found.sentences[0]


# the table


def cells(table, method):
    row = next(row for row in table.rows if row[0].text == method)
    return dict(zip(table.header, (cell.text for cell in row), strict=True))


def test_the_table_of_a_file_of_scores_has_no_cases():
    frame = scores(best={"A": [80, 80], "B": [70, 70]}, a={"A": [79, 78], "B": [65, 66]})
    found = differences_of(frame, None, "x")
    assert cells(found.table, "a") == {
        "Method": "a",
        "Difference over clients": "-3.00",
        "95 % interval (clients)": "-4.50 to -1.50",
        "p over client × seed (Holm)": "0.125",
        "Pairs": "4",
        "Told apart": "no",
    }
    assert "cases" not in " ".join(found.caveats)
    assert list(found.table.csv) == ["x", "x-columns"]
    assert found.table.title == "Differences from the best, best (Dice, points)"


def test_identical_methods_are_shown_as_zero_without_a_sign():
    found = cells(differences_of(shifted(3, 2, a=0, b=0), None, "x").table, "b")
    assert found["Difference over clients"] == "0.00"
    assert found["95 % interval (clients)"] == "0.00 to 0.00"
    assert found["p over client × seed (Holm)"] == "1.000"


def test_a_distance_is_better_where_it_is_lower_and_has_its_unit():
    frame = scores(near={"A": [2, 2], "B": [3, 3]}, far={"A": [5, 5], "B": [5, 5]})
    found = differences_of(frame, None, "x", "hd95")
    assert found.table.title == "Differences from the best, near (HD95 in 2-D, px)"
    assert cells(found.table, "far")["Difference over clients"] == "+2.50"


def test_names_of_users_come_out_as_they_are():
    frame = shifted(2, 2, best=0, a=-1).replace({"variant": {"a": HOSTILE}})
    found = differences_of(frame, None, "x")
    assert found.table.rows[0][0].text == HOSTILE
    assert HOSTILE in said(found)


# from trial folders


def test_a_group_is_compared_over_clients_and_over_subjects(trial, tmp_path):
    for seed in range(3):
        for title, less in (("Best", 0.0), ("Other", 0.1)):
            trial({"A": 0.8 - less, "B": 0.7 - less}, method=named(title), seed=seed)
    found = differences(only(tmp_path))
    shown = cells(found.table, "Other")
    # each client has two test cases of two subjects, all 0.1 lower in all three seeds: four equal differences
    assert shown["Difference over clients"] == shown["Difference over cases"] == "-10.00"
    assert shown["95 % interval (cases)"] == "-10.00 to -10.00"
    assert (shown["Pairs"], shown["p over client × seed (Holm)"]) == ("6", "0.031")
    assert (shown["Subjects"], shown["p over cases (Holm)"]) == ("4", "0.125")
    assert list(found.table.csv) == ["dice-differences-best", "dice-differences-best-columns"]


def test_the_same_report_has_the_same_numbers(trial, tmp_path):
    for title, values in (("Best", (0.8, 0.7)), ("Other", (0.7, 0.72))):
        trial(dict(zip("AB", values, strict=True)), method=named(title))
    group = only(tmp_path)
    assert differences(group).frame.to_csv() == differences(group).frame.to_csv()


def test_seeds_of_disputed_splits_and_clients_that_never_trained_take_no_part(trial, tmp_path):
    guests = {"clients": [{"name": "A", "train": 8}, {"name": "B", "train": 8}, {"name": "G", "train": 0}]}
    for title in ("Best", "Other"):
        dice = {"A": 0.8, "B": 0.7, "G": 0.1 if title == "Best" else 0.99}
        dice = dice if title == "Best" else {**dice, "A": 0.75}
        made = [trial(dice, method=named(title), seed=0), trial(dice, method=named(title), seed=1, split=title)]
        for one in made:
            write_trial(replace(one, about={**one.about, **guests}))
    found = differences(only(tmp_path))
    other = found.frame.set_index("variant").loc["Other"]
    assert (other["best"], other["clients"], other["pairs"], other["subjects"]) == ("Best", 2, 2, 4)
    assert found.sentences[-1].startswith("Seed 1 takes no part")


def test_a_subject_is_named_by_site_and_patient_or_volume_or_case(trial, tmp_path):
    made = trial({"A": 0.8})
    rows = [
        ["best", 1, "A", site, subject, volume, case, 0.5, None, 1, 1, 1]
        for site, subject, volume, case in (
            ("s", "p1", "v1", "k1"),
            ("s", "p1", "v2", "k2"),
            ("t", "p1", "v1", "k3"),
            ("s", "", "v1", "k4"),
            ("s", "", "v1", "k5"),
            ("s", "", "", "k6"),
            ("s", "", "", "k7"),
        )
    ]
    write_table(made.folder, "cases", [*rows, ["last", 2, *rows[0][2:]]])
    found = subject_scores(only(tmp_path), "best")
    owners = found.groupby("subject")["case"].agg(list).tolist()
    assert sorted(owners) == [["k1", "k2"], ["k3"], ["k4", "k5"], ["k6"], ["k7"]]
    assert set(found["value"]) == {50.0}


def test_a_metric_without_a_column_of_cases_has_no_subject_scores(trial, tmp_path):
    trial({"A": 0.8})
    assert subject_scores(only(tmp_path), "best", "dice_volume").empty
