"""Tables as a reader sees them: scores, gains over local training, costs, trials without a result."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from pflbench.metrics import METRICS
from pflbench.results import ResultsError
from pflbench_reports.cells import Cell, Mark, Ranks, Table, marks, spread_cell
from pflbench_reports.cost import COLUMNS
from pflbench_reports.groups import Group
from pflbench_reports.quoted import REFERENCES, QuotedRow, quoted_cells, quoted_frame, quoted_rows
from pflbench_reports.tables import (
    client_statistics,
    comparable,
    gains,
    guests,
    has_volumes,
    local_of,
    main_metric,
    missing_clients,
    missing_seeds,
    not_federated,
    seed_scores,
    summary,
)
from pflbench_reports.text import MISSING, listed, number, percent, several, size

__all__ = ["Cell", "Mark", "Table", "cost_table", "dice_table", "gain_table", "marks", "status_table"]


def dice_table(
    group: Group,
    chosen: str,
    order: Sequence[str],
    compared: bool,
    metric: str | None = None,
    reference: str | None = None,
) -> Table:
    """Return methods x clients by one metric (None: the main one), shares in percent.

    ``compared`` adds the columns against local training. With ``reference`` "paper" the rows that the paper
    prints for this dataset stand below, quoted and unranked, where its clients are among these.
    """
    name = metric or main_metric(group)
    higher = METRICS[name].higher_is_better
    frame = seed_scores(group, chosen, name)
    away = guests(group)
    trained = frame[~frame["client"].isin(away)]
    statistics = client_statistics(frame)
    totals = summary(trained, local_of(group), higher).set_index("variant")
    order = [method for method in order if method in totals.index]
    notes, ranks = _notes(group, frame), Ranks(tuple(order), comparable(group, frame), higher)
    clients = list(dict.fromkeys(frame["client"]))
    columns = [[Cell(method, note=_place(notes, method)) for method in order]]
    columns += [[Cell(number(float(totals["seeds"][method]))) for method in order]]
    columns += [_client_column(statistics, client, ranks) for client in clients]
    columns += [_average(totals, ranks), _plain(totals, order, "over_seeds")]
    shown = [f"{client} (never trained)" if client in away else client for client in clients]
    header = ["Method", "Seeds", *shown, "Average ± between clients", "± over seeds"]
    if compared:
        columns += [_worst(totals, ranks), _plain(totals, order, "range_clients"), _gain(totals, order)]
        columns += [_harmed(totals, order, trained["client"].nunique())]
        header += ["Worst client", "Largest − smallest client", "Gain over local", "Clients harmed"]
    rows = list(zip(*columns, strict=True))
    stem = f"{name.replace('_', '-')}-{chosen}"
    frames = {"seeds": frame.rename(columns={"dice": name}), "clients": statistics, "summary": totals.reset_index()}
    csv = {f"{stem}-{part}": table for part, table in frames.items()}
    footnotes = list(notes.values())
    if quoted := _quoted(group, [client for client in clients if client not in away], name, chosen, reference):
        rows += quoted_cells(quoted, clients, compared, footnotes)
        csv[f"{stem}-quoted"] = quoted_frame(quoted)
    return Table(_title(group, name, chosen), tuple(header), tuple(rows), tuple(footnotes), csv)


def gain_table(group: Group, chosen: str, order: Sequence[str], metric: str | None = None) -> Table | None:
    """Return methods x clients of the gains over local training, and their mean; None without local training.

    In points (distances: in their unit), positive where the method is better than training alone.
    """
    name, local = metric or main_metric(group), local_of(group)
    frame = seed_scores(group, chosen, name)
    trained = frame[~frame["client"].isin(guests(group))]
    if trained.empty or local is None:
        return None
    gained = gains(trained, local, METRICS[name].higher_is_better)
    order = [method for method in order if method in gained.index]
    if not order:
        return None
    notes = _notes(group, frame)
    harmed = summary(trained, local, METRICS[name].higher_is_better).set_index("variant")
    rows = tuple(
        (
            Cell(method, note=_place(notes, method)),
            *(_gained(float(gained[client][method])) for client in gained.columns),
            *_gain(harmed, [method]),
            *_harmed(harmed, [method], len(gained.columns)),
        )
        for method in order
    )
    unit = "points" if METRICS[name].percent else METRICS[name].unit
    title = f"Gain over {local} by {METRICS[name].title} ({unit}; negative: worse than training alone)"
    header = ("Method", *map(str, gained.columns), "Mean gain", "Clients harmed")
    stem = f"{name.replace('_', '-')}-{chosen}-gains"
    return Table(title, header, rows, tuple(notes.values()), {stem: gained.reset_index()})


def _quoted(
    group: Group, clients: Sequence[str], metric: str, chosen: str, reference: str | None
) -> tuple[QuotedRow, ...]:
    """Return the rows to quote: of real data only, as the paper's is, and of the scores that the paper prints."""
    if reference is not None and reference not in REFERENCES:
        raise ResultsError(f"there is no reference {reference!r}; choose {listed(REFERENCES)}.")
    printed = metric == "dice" and chosen == "best" and not group.simulated
    return quoted_rows(group.dataset, clients) if reference and printed else ()


def _title(group: Group, metric: str, chosen: str) -> str:
    facts = METRICS[metric]
    known = any(words in facts.title for words in ("per slice", "per volume"))
    what = facts.title if known or not has_volumes(group) else f"{facts.title} per slice"
    unit = facts.unit if facts.higher_is_better else f"{facts.unit}, smaller is better"
    return f"Test {what} ({unit}) {_when(group, chosen)}"


def _when(group: Group, chosen: str) -> str:
    if group.file:
        return f"as given in {group.file}" + (", last round" if chosen == "last" else "")
    return {"best": "at each client's best validation round", "last": "after the last round"}[chosen]


def _notes(group: Group, frame: pd.DataFrame) -> dict[str, str]:
    """Say per method what it lacks, or that it is no rival; such a row takes no part in the ranking."""
    lacks: dict[str, list[str]] = {}
    for method, seeds in missing_seeds(frame).items():
        numbers = listed([str(seed) for seed in sorted(seeds)])
        lacks.setdefault(method, []).append(f"{several(len(seeds), 'seed')} that others finished ({numbers})")
    for method, clients in missing_clients(frame).items():
        lacks.setdefault(method, []).append(f"scores of {listed(clients)}")
    notes = {m: f"{m} lacks {listed(what)}; its row is not ranked." for m, what in lacks.items()}
    apart = sorted(not_federated(group) & set(frame["variant"]))
    return notes | {m: f"{m} had everybody's data in one place: a ceiling, not ranked." for m in apart}


def _place(notes: dict[str, str], method: str) -> int:
    return list(notes).index(method) + 1 if method in notes else 0


def _client_column(statistics: pd.DataFrame, client: str, ranks: Ranks) -> list[Cell]:
    rows = statistics[statistics["client"] == client].set_index("variant").reindex(list(ranks.order))
    means, stds = rows["mean"].to_list(), rows["std"].to_list()
    return [spread_cell(m, s, mark) for m, s, mark in zip(means, stds, ranks.marks(means), strict=True)]


def _average(totals: pd.DataFrame, ranks: Ranks) -> list[Cell]:
    rows = totals.loc[list(ranks.order)]
    means, stds = rows["average"].to_list(), rows["between_clients"].to_list()
    return [spread_cell(m, s, mark) for m, s, mark in zip(means, stds, ranks.marks(means), strict=True)]


def _plain(totals: pd.DataFrame, order: Sequence[str], column: str) -> list[Cell]:
    values = [float(totals[column][method]) for method in order]
    return [Cell(percent(value), value=value) for value in values]


def _worst(totals: pd.DataFrame, ranks: Ranks) -> list[Cell]:
    rows = totals.loc[list(ranks.order)]
    values, names = rows["worst"].to_list(), rows["worst_client"].to_list()
    return [
        Cell(f"{percent(value)} ({name})", mark=mark, value=value)
        for value, name, mark in zip(values, names, ranks.marks(values), strict=True)
    ]


def _gained(points: float) -> Cell:
    return Cell(percent(_zero(points), sign=True), value=points)


def _gain(totals: pd.DataFrame, order: Sequence[str]) -> list[Cell]:
    return [_gained(float(totals["gain"][method])) for method in order]


def _zero(value: float) -> float:
    """Return 0 for what rounds to it, so that nobody reads -0.00."""
    return 0.0 if abs(value) < 0.005 else value


def _harmed(totals: pd.DataFrame, order: Sequence[str], clients: int) -> list[Cell]:
    values = [float(totals["harmed"][method]) for method in order]
    return [Cell(f"{value:.0f} of {clients}" if math.isfinite(value) else MISSING, value=value) for value in values]


def cost_table(frame: pd.DataFrame, order: Sequence[str]) -> Table:
    """Return the costs with units; the CSV holds the raw values and the meaning of each column."""
    header = ["Method", "Sent once", "Sent per round", "Received once", "Received per round"]
    header += ["Seconds per round", "Gradients per round", "Peak memory"]
    indexed = frame.set_index("variant")
    rows = tuple(_cost_row(method, indexed) for method in order if method in indexed.index)
    meaning = pd.DataFrame({"column": list(COLUMNS), "meaning": list(COLUMNS.values())})
    return Table("Cost", tuple(header), rows, (), {"cost": frame, "cost-columns": meaning})


def _cost_row(method: str, frame: pd.DataFrame) -> tuple[Cell, ...]:
    value = {name: float(frame[name][method]) for name in COLUMNS}
    sent = [size(value[name]) for name in ("setup_up_bytes", "up_bytes", "setup_down_bytes", "down_bytes")]
    peak = size(value["peak_mib"] * 2**20)
    work = [number(value["round_seconds"], 2), number(value["round_gradients"]), peak]
    return tuple(Cell(text) for text in (method, *sent, *work))


def status_table(group: Group) -> Table | None:
    """Return the unfinished trials with their state, progress and reason; None where all are finished."""
    if not group.unfinished:
        return None
    header = ("Method", "Seed", "State", "Rounds done", "Reason", "Trial")
    rows = []
    for trial in group.unfinished:
        total = trial.spec["recipe"].get("rounds", "?")
        reason = (trial.error or {}).get("sentence", MISSING)
        state = "failed" if trial.state == "failed" else "running or interrupted"
        texts = (
            group.variants[trial.id].display,
            str(trial.spec["seed"]),
            state,
            f"{trial.round} of {total}",
        )
        rows.append(tuple(Cell(text) for text in (*texts, reason, trial.id)))
    return Table("Trials without a result", header, tuple(rows))
