"""A report reads each table of a trial once; of the long ones it keeps no more than scores and costs."""

from __future__ import annotations

from collections import Counter

import pandas as pd

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
