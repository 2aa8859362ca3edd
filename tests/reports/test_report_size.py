"""A report reads each table of a trial once; of the long ones it keeps no more than scores and costs."""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd

from pflbench_reports import page, write_report
from pflbench_reports.cost import cost
from pflbench_reports.display import dice_table, gain_table
from pflbench_reports.groups import load
from pflbench_reports.traces import validation
from pflbench_reports.verdict import verdict


def test_tables_are_read_while_loading_and_never_again(trial, tmp_path, monkeypatch):
    for seed in range(2):
        trial({"A": 0.6, "B": 0.7}, seed=seed)
        trial({"A": 0.5, "B": 0.8}, seed=seed, method={"name": "local", "title": "Local"})
    opened = Counter()
    read_csv = pd.read_csv

    def counting(path, *args, **kwargs):
        opened[str(path)] += 1
        return read_csv(path, *args, **kwargs)

    monkeypatch.setattr(pd, "read_csv", counting)
    groups, _ = load([tmp_path / "runs"])
    assert set(opened) == {str(path) for path in tmp_path.glob("runs/*/*.csv")}
    assert set(opened.values()) == {1}
    opened.clear()
    order = ["FedAvg", "Local"]
    for group in groups:
        assert dice_table(group, "best", order, compared=True).rows
        assert dice_table(group, "last", order, compared=False).rows
        assert gain_table(group, "best", order).rows
        assert verdict(group)
        assert len(cost(group)) == 2
        assert not validation(group).empty
    assert not opened


def test_a_kept_table_is_not_changed_by_who_reads_it(trial, tmp_path):
    trial({"A": 0.6})
    (reported,) = load([tmp_path / "runs"])[0][0].trials
    cases = reported.table("cases")
    cases["dice"] = 0.0
    assert reported.table("cases")["dice"].tolist() == trial_dice(tmp_path)


def trial_dice(tmp_path):
    (path,) = tmp_path.glob("runs/*/cases.csv")
    return pd.read_csv(path)["dice"].tolist()


def test_what_is_kept_does_not_grow_with_the_rounds(trial, tmp_path):
    for rounds in (2, 40):
        trial({"A": 0.6, "B": 0.7}, recipe={"rounds": rounds})
    short, long = sorted(load([tmp_path / "runs"])[0], key=lambda group: group.spec["recipe"]["rounds"])
    assert len(short.scores) == len(long.scores)
    assert [set(costs) for costs in short.costs.values()] == [set(costs) for costs in long.costs.values()]


def test_many_trials_are_drawn_in_several_processes_and_give_the_same_files(trial, tmp_path, monkeypatch):
    for recipe in (3, 4):
        for name in ("fedavg", "local"):
            trial({"A": 0.6, "B": 0.7}, recipe={"rounds": recipe}, method={"name": name, "title": name.title()})
    one, several = tmp_path / "one", tmp_path / "several"
    write_report([tmp_path / "runs"], one)
    monkeypatch.setattr(page, "MANY", 1)
    monkeypatch.setattr(page.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    write_report([tmp_path / "runs"], several)
    contents = [{path.relative_to(out): path.read_bytes() for path in out.rglob("*.*")} for out in (one, several)]
    assert contents[0] == contents[1]
    assert len([path for path in contents[0] if path.suffix == ".svg"]) >= 4


def test_columns_are_sorted_by_what_was_not_rounded(trial, tmp_path):
    trial({"A": 0.60004, "B": 0.7}, method={"name": "fedavg", "title": "FedAvg"})
    trial({"A": 0.60001, "B": 0.7}, method={"name": "local", "title": "Local"})
    write_report([tmp_path / "runs"], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    values = [float(value) for value in re.findall(r'data-value="([^"]+)"[^>]*>(?:<[bu]>)?60\.00', text)]
    assert {round(value, 4) for value in values} >= {60.004, 60.001}
