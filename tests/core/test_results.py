"""The results store: atomic, refusing what is foreign, readable without torch."""

import json
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pflbench import results
from pflbench.results import (
    ResultsError,
    Trial,
    find_trials,
    hash_of,
    read_trial,
    scores,
    write_atomically,
    write_json,
    write_table,
    write_trial,
)

SPEC = {
    "format": 2,
    "version": "0.1.0",
    "dataset": {"name": "discs", "simulated": True},
    "partitioner": {"name": "natural"},
    "split": "aaa",
    "method": {"name": "fedavg", "title": "FedAvg", "label": ""},
    "recipe": {"rounds": 4},
    "numerics": {"device": "cpu"},
    "seed": 0,
}


def trial(folder, name="t", state="finished", **changes):
    (folder / name).mkdir(parents=True, exist_ok=True)
    made = Trial(folder / name, name, state, 4, {**SPEC, **changes}, {"command": "pflbench run"})
    write_trial(made)
    return made


def row(chosen, round, client, case, dice, volume="", inside=None, counts=(1, 0, 0)):
    """Return a row of the cases of a client of one site; ``case`` is its subject, too."""
    return [chosen, round, client, client, case, volume, f"{client}/{case}", dice, inside, *counts]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------- writing


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    write_atomically(tmp_path / "a.txt", "grün")
    write_atomically(tmp_path / "b.bin", b"\0\1")
    assert (tmp_path / "a.txt").read_bytes() == "grün".encode()
    assert names(tmp_path) == ["a.txt", "b.bin"]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_is_interrupted_leaves_the_old_content(tmp_path, monkeypatch, moment):
    path = tmp_path / "trial.json"
    write_atomically(path, "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(results.os, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    write_atomically(path, "newer")
    assert path.read_text() == "newer"
    assert names(tmp_path) == ["trial.json"]


def test_content_is_on_disk_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    for moment in ("fsync", "replace"):
        original = getattr(results.os, moment)
        monkeypatch.setattr(results.os, moment, lambda *a, m=moment, o=original: (calls.append(m), o(*a)))
    write_atomically(tmp_path / "a", "x")
    assert calls == ["fsync", "replace"]


def test_json_is_indented_and_keeps_letters(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Gärtner"})
    assert (tmp_path / "a.json").read_text() == '{\n  "name": "Gärtner"\n}\n'


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=30, deadline=None)
def test_a_tables_numbers_keep_all_their_digits(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("table")
    write_table(folder, "rounds", [[i, "A", "val", value, None] for i, value in enumerate(values)])
    lines = (folder / "rounds.csv").read_text().splitlines()
    assert lines[0] == "round,client,split,dice,loss"
    assert [float(line.split(",")[3]) for line in lines[1:]] == values


def test_a_table_with_other_columns_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="columns"):
        write_table(tmp_path, "rounds", [[1, "A", "val"]])


def test_an_empty_table_has_its_columns(tmp_path):
    write_table(tmp_path, "ledger", [])
    assert (tmp_path / "ledger.csv").read_text() == "round,client,direction,bytes\n"


def test_hashes_depend_on_values_not_on_order():
    assert hash_of({"a": 1, "b": [2]}) == hash_of({"b": [2], "a": 1})
    assert hash_of({"a": 1}) != hash_of({"a": 2})
    assert len(hash_of({}, 24)) == 24
    assert hash_of({"a": 1}, 64) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


# ------------------------------------------------------------------------------------------- reading


def test_a_trial_comes_back_as_it_was_written(tmp_path):
    made = replace(trial(tmp_path), state="failed", error={"sentence": "no", "traceback": "..."})
    write_trial(made)
    assert read_trial(made.folder) == made


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "results format 'list'"),
        ("{}", "results format None"),
        ('{"format": 0}', "results format 0; this version reads format 2"),
        ('{"format": 1, "id": "t"}', "results format 1; this version reads format 2"),
        ('{"format": 3, "id": "t"}', "results format 3; this version reads format 2"),
        ('{"format": "2"}', "results format '2'"),
        ('{"format": 2, "id": "t"}', "lacks 'state'"),
    ],
)
def test_a_foreign_or_broken_trial_is_refused_with_its_file(tmp_path, content, reason):
    (tmp_path / "trial.json").write_text(content)
    with pytest.raises(ResultsError, match=reason) as error:
        read_trial(tmp_path)
    assert str(tmp_path / "trial.json") in str(error.value)


def test_a_file_that_is_no_text_is_refused_with_its_name(tmp_path):
    (tmp_path / "trial.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResultsError, match=r"trial\.json cannot be read"):
        read_trial(tmp_path)


def test_a_folder_without_a_trial_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="cannot be read"):
        read_trial(tmp_path / "absent")


def test_all_trials_are_found_and_broken_ones_listed(tmp_path):
    trial(tmp_path / "b", "two")
    trial(tmp_path / "a", "one", state="failed")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/trial.json").write_text("{}")
    (tmp_path / "d").mkdir()
    found, broken = find_trials([tmp_path])
    assert [one.id for one in found] == ["one", "two"]
    assert len(broken) == 1
    assert str(tmp_path / "c") in broken[0]


def test_a_trial_is_found_once_through_two_paths(tmp_path):
    trial(tmp_path / "a")
    found, broken = find_trials([tmp_path, tmp_path / "a", tmp_path / "a" / "t"])
    assert len(found) == 1
    assert broken == []


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert find_trials([tmp_path, tmp_path / "absent"]) == ([], [])


def test_a_table_that_was_not_written_is_empty_with_its_columns(tmp_path):
    frame = trial(tmp_path).table("logs")
    assert frame.empty
    assert list(frame.columns) == ["round", "client", "key", "value"]


def test_a_table_with_foreign_columns_is_refused_with_its_file(tmp_path):
    made = trial(tmp_path)
    (made.folder / "cases.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ResultsError, match=r"cases\.csv has the columns \['a', 'b'\]"):
        made.table("cases")


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3,4\n5\n", b"\xff\xfe"])
def test_a_table_that_is_none_is_refused_with_its_file(tmp_path, content):
    made = trial(tmp_path)
    (made.folder / "cases.csv").write_bytes(content)
    with pytest.raises(ResultsError, match=r"cases\.csv"):
        made.table("cases")


def test_a_table_comes_back_as_it_was_written(tmp_path):
    made = trial(tmp_path)
    rows = [
        row("best", 3, "007", "01", 0.1 + 0.2, volume="1", inside=1 / 7, counts=(3, 2**40, 0)),
        row("last", 4, "B", "x", 1 / 3, inside=2 / 7),
    ]
    write_table(made.folder, "cases", rows)
    assert made.table("cases").to_numpy().tolist() == rows


def test_a_case_without_volume_and_field_of_view_leaves_their_places_empty(tmp_path):
    made = trial(tmp_path)
    write_table(made.folder, "cases", [row("best", 3, "A", "p", 0.5), row("best", 3, "A", "q", 0.5, "v", 0.25)])
    lines = (made.folder / "cases.csv").read_text().splitlines()
    assert lines[0] == "chosen,round,client,site,subject,volume,case,dice,dice_fov,tp,fp,fn"
    assert lines[1:] == ["best,3,A,A,p,,A/p,0.5,,1,0,0", "best,3,A,A,q,v,A/q,0.5,0.25,1,0,0"]
    frame = made.table("cases")
    assert frame.volume.tolist() == ["", "v"]
    assert frame.dice_fov.isna().tolist() == [True, False]


@pytest.mark.parametrize("name", ["NA", "nan", "None", "null", "N/A"])
def test_a_client_may_be_called_anything(tmp_path, name):
    made = trial(tmp_path)
    write_table(made.folder, "cases", [row("best", 3, name, name, 0.5, volume=name), row("best", 3, "B", "1", 0.7)])
    assert list(made.table("cases").subject) == [name, "1"]
    assert list(made.table("cases").volume) == [name, ""]
    assert list(scores([made]).query("metric == 'dice'").client) == [name, "B"]


# --------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize(
    "change", [{"method": {"name": "fedbn", "title": "FedBN", "label": ""}}, {"seed": 1}, {"split": "bbb"}]
)
def test_methods_and_seeds_stand_in_one_table(tmp_path, change):
    assert trial(tmp_path, "other", **change).group == trial(tmp_path).group


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.2.0"},
        {"dataset": {"name": "discs", "simulated": False}},
        {"dataset": {"name": "squares", "simulated": True}},
        {"partitioner": {"name": "dirichlet"}},
        {"recipe": {"rounds": 5}},
        {"numerics": {"device": "cuda"}},
    ],
)
def test_what_else_differs_stands_in_another_table(tmp_path, change):
    assert trial(tmp_path, "other", **change).group != trial(tmp_path).group


# --------------------------------------------------------------------------------------------- scores


def test_the_scores_are_means_over_each_clients_cases(tmp_path):
    made = trial(tmp_path, seed=7)
    rows = [
        row("best", 3, "B", "p", 0.5),
        row("best", 3, "B", "q", 0.7),
        row("best", 2, "A", "p", 1.0),
        row("last", 4, "B", "p", 0.1),
        row("last", 4, "B", "q", 0.2),
        row("last", 4, "A", "p", 0.0),
    ]
    write_table(made.folder, "cases", rows)
    frame = scores([made])
    assert list(frame.columns) == [
        "trial",
        "group",
        "dataset",
        "simulated",
        "method",
        "title",
        "settings",
        "seed",
        "chosen",
        "round",
        "client",
        "metric",
        "value",
        "cases",
    ]
    assert frame.value.tolist() == pytest.approx([0.6, 1.0, 0.15, 0.0])
    assert frame[["chosen", "round", "client", "cases"]].to_numpy().tolist() == [
        ["best", 3, "B", 2],
        ["best", 2, "A", 1],
        ["last", 4, "B", 2],
        ["last", 4, "A", 1],
    ]
    assert frame.iloc[0][["trial", "dataset", "method", "title", "settings", "seed", "metric"]].tolist() == [
        "t",
        "discs",
        "fedavg",
        "FedAvg",
        "",
        7,
        "dice",
    ]
    assert frame.simulated.all()
    assert set(frame.group) == {made.group}


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_trial_that_is_not_finished_has_no_scores(tmp_path, state):
    made = trial(tmp_path, state=state)
    write_table(made.folder, "cases", [row("best", 3, "A", "p", 0.5)])
    frame = scores([made])
    assert frame.empty
    assert list(frame.columns) == list(scores([]).columns)


def test_scores_of_several_trials_stand_below_each_other(tmp_path):
    made = [trial(tmp_path, f"t{seed}", seed=seed) for seed in (0, 1)]
    for one in made:
        write_table(one.folder, "cases", [row("best", 3, "A", "p", 0.5)])
    frame = scores(made)
    assert frame.seed.tolist() == [0, 1]
    assert frame.index.tolist() == [0, 1]


def test_environments_are_read_in_order(tmp_path):
    made = trial(tmp_path)
    assert made.environment() == []
    (made.folder / "environment.json").write_text(json.dumps([{"torch": "1"}, {"torch": "2"}]))
    assert [entry["torch"] for entry in made.environment()] == ["1", "2"]


# ------------------------------------------------------------------------------------------- imports


@pytest.mark.parametrize(
    "module", ["pflbench", "pflbench.results", "pflbench.metrics", "pflbench.cli", "pflbench.errors"]
)
def test_importing_needs_no_torch(module):
    script = f"import sys, {module}; print([m for m in ('torch', 'monai') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_results_can_be_read_on_a_machine_without_torch(tmp_path):
    made = trial(tmp_path)
    write_table(made.folder, "cases", [row("best", 3, "A", "p", 0.5)])
    script = (
        "import sys; sys.modules['torch'] = sys.modules['monai'] = None\n"
        "from pathlib import Path; from pflbench.results import find_trials, scores\n"
        "print(scores(find_trials([Path(sys.argv[1])])[0]).value.tolist())"
    )
    shown = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[0.5]"


def test_an_unreadable_number_does_not_pass_as_a_score(tmp_path):
    made = trial(tmp_path)
    write_table(made.folder, "cases", [row("best", 3, "A", "p", 0.5, counts=(1, 1, 1))])
    path = made.folder / "cases.csv"
    path.write_text(path.read_text().replace("0.5", "oops"))
    with pytest.raises((ResultsError, TypeError, ValueError)):
        scores([made])
    assert isinstance(made.table("cases"), pd.DataFrame)
