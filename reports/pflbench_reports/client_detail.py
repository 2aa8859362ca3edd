"""One client at a time: every method's seeds, and the spread over the client's own test cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pflbench.metrics import METRICS
from pflbench_reports.boxes import case_scores
from pflbench_reports.display import Cell, Table
from pflbench_reports.groups import Group
from pflbench_reports.tables import client_statistics, seed_scores
from pflbench_reports.text import MISSING, percent, slug

_CASE_COLUMNS = ("deviation", "lowest", "median")
_CASE_HEADER = ("± over cases", "Worst case", "Median case")


def client_tables(group: Group, order: Sequence[str], metric: str) -> dict[str, Table]:
    """Return one table per client, by its name: mean and each seed of every method, and its cases where known.

    ``order`` is that of the rows; a method without a score of the client has none.
    """
    scores = seed_scores(group, "best", metric)
    spreads = over_cases(group) if metric == "dice" else over_cases(None)
    unit = METRICS[metric].unit
    return {
        str(client): _table(f"{client}: {METRICS[metric].title} ({unit})", str(client), index, rows, spreads, order)
        for index, (client, rows) in enumerate(scores.groupby("client", sort=False), start=1)
    }


def over_cases(group: Group | None) -> pd.DataFrame:
    """Return, per method and client, how the test cases differ: each case's Dice in percent, averaged over seeds.

    Columns: variant, client, deviation (population), lowest, median. No rows where no cases are known.
    """
    if group is None or not group.finished:
        return pd.DataFrame(columns=["variant", "client", *_CASE_COLUMNS])
    grouped = case_scores(group).groupby(["variant", "client"], sort=False)["dice"]
    spread = pd.DataFrame({"deviation": grouped.std(ddof=0), "lowest": grouped.min(), "median": grouped.median()})
    return spread.reset_index()


def _table(
    title: str, client: str, index: int, rows: pd.DataFrame, spreads: pd.DataFrame, order: Sequence[str]
) -> Table:
    seeds = sorted(int(seed) for seed in rows["seed"].unique())
    statistics = client_statistics(rows).set_index("variant")
    wide = rows.pivot(index="variant", columns="seed", values="dice")
    own = spreads[spreads["client"] == client].set_index("variant")
    methods = [method for method in order if method in wide.index]
    frame = statistics[["mean", "std"]].join(wide.rename(columns=lambda seed: f"seed_{seed}"))
    frame = frame.join(own[list(_CASE_COLUMNS)]).reindex(methods)
    cased = bool(frame["deviation"].notna().any())
    header = ("Method", "Mean ± over seeds", *(f"Seed {seed}" for seed in seeds), *(_CASE_HEADER if cased else ()))
    values = frame.to_dict("index")
    cells = tuple(_row(method, values[method], seeds, cased) for method in methods)
    numbers = frame.reset_index(names="variant").assign(client=client)
    return Table(title, header, cells, (), {f"client-{index}-{slug(client)}": numbers})


def _row(method: str, values: Mapping[Any, Any], seeds: Sequence[int], cased: bool) -> tuple[Cell, ...]:
    shown = [*(f"seed_{seed}" for seed in seeds), *(_CASE_COLUMNS if cased else ())]
    spread = percent(float(values["std"]))
    mean = Cell(percent(float(values["mean"])), "" if spread == MISSING else spread)
    return (Cell(method), mean, *(Cell(percent(float(values[name]))) for name in shown))
