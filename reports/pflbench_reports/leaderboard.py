"""Methods over several datasets or partitions: the average on each, and mean ranks over all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pflbench.metrics import METRICS, Metric
from pflbench.results import hash_of
from pflbench_reports.cells import Cell, Table, marks, spread_cell
from pflbench_reports.groups import Group
from pflbench_reports.ranks import LEVEL, complete_blocks, friedman, mean_ranks, over_datasets
from pflbench_reports.tables import comparable, guests, seed_scores, summary
from pflbench_reports.text import MISSING, listed, number, several

COLUMNS = ["dataset", "client", "variant", "value"]  # dataset: the id of a comparison group
_ROUGH = 10  # blocks, as in ranks.py


def leaderboard(groups: Sequence[Group], metric: str = "dice") -> list[Table]:
    """Return a table of methods x groups with mean ranks, for the real groups and for the simulated ones.

    Each kind needs two groups that are not of the same data; real and simulated ones are never mixed. Only
    methods with every seed and client in every group are ranked; the others stand below, without a rank.
    """
    tables = []
    for simulated in (False, True):
        kind = [group for group in groups if group.simulated == simulated and _scored(group, metric)]
        if len({_data(group) for group in kind}) > 1:
            tables.append(_board(kind, METRICS[metric], simulated))
    return tables


def _scored(group: Group, metric: str) -> bool:
    return not seed_scores(group, "best", metric).empty


def _data(group: Group) -> str:
    """Return what names the data of a group: groups that share it are repetitions, not further evidence."""
    spec = group.spec
    return hash_of([spec["dataset"], spec["partitioner"]]) if spec else group.id


def _board(groups: Sequence[Group], metric: Metric, simulated: bool) -> Table:
    totals = {group.id: _totals(group, metric) for group in groups}
    ranked = ranked_methods(groups, metric.name)
    frame = ranking_frame(groups, ranked, metric.name)
    order = _order(totals, ranked, frame, metric)
    header, columns = ["Method"], [[Cell(method) for method in order]]
    for group in groups:
        header.append(f"{group.heading}: {metric.title} ({metric.unit}) ± over seeds")
        columns.append(_averages(totals[group.id], order, ranked, metric))
    for words, ranks in _ranks(frame, metric).items():
        header += [words] if words != _CLIENTS else [words, "Best on clients"]
        columns.append(_rank_column(ranks, order))
        columns += [_wins(ranks, order)] if words == _CLIENTS else []
    marked = " (SIMULATED DATA)" if simulated else ""
    title = f"Leaderboard over {several(len(groups), 'comparison group')}{marked}"
    csv = {f"leaderboard-{'simulated' if simulated else 'real'}": _numbers(groups, totals, frame, metric)}
    notes = _notes(groups, totals, ranked, frame, simulated)
    return Table(title, tuple(header), tuple(zip(*columns, strict=True)), tuple(notes), csv)


_GROUPS, _CLIENTS = "Mean rank over groups", "Mean rank over clients"


def _frame(group: Group, metric: str) -> pd.DataFrame:
    """Return the final scores of the clients that train."""
    frame = seed_scores(group, "best", metric)
    return frame[~frame["client"].isin(guests(group))]


def _totals(group: Group, metric: Metric) -> pd.DataFrame:
    return summary(_frame(group, metric.name), None, metric.higher_is_better).set_index("variant")


def ranked_methods(groups: Sequence[Group], metric: str = "dice") -> set[str]:
    """Return the methods that have every seed and client in every group."""
    fair = [comparable(group, _frame(group, metric)) for group in groups]
    return set.intersection(*fair) if fair else set()


def ranking_frame(groups: Sequence[Group], ranked: set[str], metric: str = "dice") -> pd.DataFrame:
    """Return dataset (the group's id), client, variant and value of the ranked methods, one row per seed."""
    parts = [_frame(group, metric).assign(dataset=group.id) for group in groups]
    every = pd.concat(parts).rename(columns={"dice": "value"})
    return every.loc[every["variant"].isin(ranked), COLUMNS].reset_index(drop=True)


def _ranks(frame: pd.DataFrame, metric: Metric) -> dict[str, pd.DataFrame]:
    """Return the mean ranks by the words of their column; nothing where fewer than two methods are ranked."""
    if frame["variant"].nunique() < 2:
        return {}
    frames = {_GROUPS: over_datasets(frame), _CLIENTS: frame}
    return {words: mean_ranks(one, metric.higher_is_better).set_index("variant") for words, one in frames.items()}


def _order(totals: Mapping[str, pd.DataFrame], ranked: set[str], frame: pd.DataFrame, metric: Metric) -> list[str]:
    """Put the ranked methods first, best mean rank over groups first, then the others by name."""
    methods = {str(name) for table in totals.values() for name in table.index}
    if ranks := _ranks(frame, metric):
        over = ranks[_GROUPS]["mean_rank"]
        return [*sorted(ranked, key=lambda name: (over[name], name)), *sorted(methods - ranked)]
    return sorted(methods)


def _averages(totals: pd.DataFrame, order: Sequence[str], ranked: set[str], metric: Metric) -> list[Cell]:
    """Return the column of one group; the best and second among the ranked methods are marked."""
    rows = totals.reindex(list(order))
    sign = 1.0 if metric.higher_is_better else -1.0
    contest = [sign * value if name in ranked else math.nan for name, value in zip(order, rows["average"], strict=True)]
    cells = zip(rows["average"], rows["over_seeds"], marks(contest), strict=True)
    return [spread_cell(mean, std, mark) for mean, std, mark in cells]


def _rank_column(ranks: pd.DataFrame, order: Sequence[str]) -> list[Cell]:
    values = [float(value) for value in ranks["mean_rank"].reindex(list(order))]
    placed = marks([-value for value in values])
    return [Cell(number(value, 2), mark=mark, value=value) for value, mark in zip(values, placed, strict=True)]


def _wins(ranks: pd.DataFrame, order: Sequence[str]) -> list[Cell]:
    rows = ranks.reindex(list(order))
    found = zip(rows["wins"], rows["blocks"], strict=True)
    return [Cell(f"{wins:.0f} of {blocks:.0f}" if math.isfinite(wins) else MISSING) for wins, blocks in found]


def _numbers(
    groups: Sequence[Group], totals: Mapping[str, pd.DataFrame], frame: pd.DataFrame, metric: Metric
) -> pd.DataFrame:
    """Return a row per method and group, with the mean ranks of the method beside it."""
    parts = [
        totals[group.id].reset_index().assign(group=group.id, heading=group.heading, simulated=group.simulated)
        for group in groups
    ]
    columns = ["group", "heading", "simulated", "variant", "average", "between_clients", "over_seeds", "seeds"]
    result = pd.concat(parts, ignore_index=True)[columns]
    for words, ranks in _ranks(frame, metric).items():
        column = words.lower().replace(" ", "_")
        result[column] = result["variant"].map(ranks["mean_rank"])
    return result


def _notes(
    groups: Sequence[Group],
    totals: Mapping[str, pd.DataFrame],
    ranked: set[str],
    frame: pd.DataFrame,
    simulated: bool,
) -> list[str]:
    notes = ["SIMULATED DATA: these numbers say nothing about patients."] if simulated else []
    notes.append(
        "Each group's column is the unweighted mean over its clients ± the population standard deviation over seeds. "
        "Best and second are marked among the ranked methods only, decided before rounding. A rank of 1 is best; over "
        "groups every group weighs alike, over clients every client. "
        "Each group has its own protocol card, in its section."
    )
    unranked = sorted({str(name) for table in totals.values() for name in table.index} - ranked)
    if unranked:
        notes.append(f"Not ranked, because a group, a seed or a client is missing: {listed(unranked)}.")
    if repeated := _repeated(groups):
        notes.append(f"Groups of the same data stand in several columns and weigh more in the ranks: {repeated}.")
    return [*notes, _certainty(frame)]


def _repeated(groups: Sequence[Group]) -> str:
    data = [_data(group) for group in groups]
    return listed([group.heading for group, name in zip(groups, data, strict=True) if data.count(name) > 1])


def _certainty(frame: pd.DataFrame) -> str:
    """Say what the ranks can decide, by Friedman's test over the clients of all groups."""
    methods = frame["variant"].nunique()
    if methods < 2:
        return "Fewer than two methods have every seed and client of every group, so nothing is ranked."
    matrix = complete_blocks(frame)
    if methods < 3 or len(matrix) < 3:
        return "With fewer than three methods or clients no test of the ranks is made: read the order as a description."
    p = friedman(matrix)
    told = "are told apart from chance" if p < LEVEL else "cannot be told apart from chance"
    rough = f", a rough approximation below {_ROUGH} clients" if len(matrix) < _ROUGH else ""
    return (
        f"The ranks over {several(len(matrix), 'client')} {told} as a whole (Friedman's test, p = {p:.2g}{rough}); "
        "clients of one group share their training, so they are less independent than the test takes them to be."
    )
