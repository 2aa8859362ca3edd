"""Tables as a reader sees them: cells with a mark for the best and the second, and footnotes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from pflbench_reports.cost import COLUMNS
from pflbench_reports.groups import Group
from pflbench_reports.tables import (
    client_statistics,
    comparable,
    guests,
    has_volumes,
    local_of,
    missing_clients,
    missing_seeds,
    seed_scores,
    summary,
)
from pflbench_reports.text import MISSING, listed, number, percent, several, size

Mark = Literal["", "best", "second"]


@dataclass(frozen=True)
class Cell:
    """One number (or text) with its spread, its rank in the column and the place of its footnote."""

    text: str
    spread: str = ""
    mark: Mark = ""
    note: int = 0


@dataclass(frozen=True)
class Table:
    """A table ready for either format, and the numbers behind it by file name."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    csv: dict[str, pd.DataFrame] = field(default_factory=dict)


def marks(values: Sequence[float]) -> list[Mark]:
    """Mark the largest and the second largest of the unrounded values; nothing where there is no contest.

    NaN takes no part.
    """
    finite = sorted({value for value in values if math.isfinite(value)}, reverse=True)
    if len(finite) < 2:
        return [""] * len(values)
    names: dict[float, Mark] = {finite[0]: "best", finite[1]: "second"}
    if sum(value == finite[0] for value in values) > 1:
        del names[finite[1]]  # two share the first place, so nobody is second
    return [names.get(value, "") for value in values]


def dice_table(group: Group, chosen: str, order: Sequence[str], compared: bool, metric: str = "dice") -> Table:
    """Return methods x clients in percent; ``compared`` adds the columns against local training."""
    frame = seed_scores(group, chosen, metric)
    trained = frame[~frame["client"].isin(guests(group))]
    statistics, totals = client_statistics(frame), summary(trained, local_of(group)).set_index("variant")
    clients = list(dict.fromkeys(frame["client"]))
    order = [method for method in order if method in totals.index]
    notes, fair = _notes(group, frame), comparable(group, frame)
    columns = [[Cell(method, note=_place(notes, method)) for method in order]]
    columns += [[Cell(number(float(totals["seeds"][method]))) for method in order]]
    columns += [_client_column(statistics, client, order, fair) for client in clients]
    columns += [_average(totals, order, fair), _plain(totals, order, "over_seeds")]
    shown = [f"{client} (never trained)" if client in guests(group) else client for client in clients]
    header = ["Method", "Seeds", *shown, "Average ± between clients", "± over seeds"]
    if compared:
        columns += [
            _worst(totals, order, fair),
            _gain(totals, order),
            _harmed(totals, order, trained["client"].nunique()),
        ]
        header += ["Worst client", "Gain over local", "Clients harmed"]
    stem = f"{metric.replace('_', '-')}-{chosen}"
    csv = {f"{stem}-seeds": frame, f"{stem}-clients": statistics}
    csv[f"{stem}-summary"] = totals.reset_index()
    rows = tuple(zip(*columns, strict=True))
    return Table(_title(chosen, metric, has_volumes(group)), tuple(header), rows, tuple(notes.values()), csv)


def _title(chosen: str, metric: str, volumes: bool) -> str:
    which = {"best": "at each client's best validation round", "last": "after the last round"}
    whole = "Test Dice per slice (%)" if volumes else "Test Dice (%)"
    names = {"dice": whole, "dice_fov": "Test Dice inside the field of view (%)", "dice_volume": _PER_VOLUME}
    return f"{names[metric]} {which[chosen]}"


_PER_VOLUME = "Test Dice per volume, all its slices together (%)"


def _notes(group: Group, frame: pd.DataFrame) -> dict[str, str]:
    """Say per method what it lacks; such a row takes no part in the ranking."""
    lacks: dict[str, list[str]] = {}
    for method, seeds in missing_seeds(group).items():
        numbers = listed([str(seed) for seed in sorted(seeds)])
        lacks.setdefault(method, []).append(f"{several(len(seeds), 'seed')} that others finished ({numbers})")
    for method, clients in missing_clients(frame).items():
        lacks.setdefault(method, []).append(f"scores of {listed(clients)}")
    return {m: f"{m} lacks {listed(what)}; its row is not ranked." for m, what in lacks.items()}


def _place(notes: dict[str, str], method: str) -> int:
    return list(notes).index(method) + 1 if method in notes else 0


def _fairly(order: Sequence[str], values: Sequence[float], fair: set[str]) -> list[Mark]:
    return marks([v if m in fair else float("nan") for m, v in zip(order, values, strict=True)])


def _client_column(statistics: pd.DataFrame, client: str, order: Sequence[str], fair: set[str]) -> list[Cell]:
    rows = statistics[statistics["client"] == client].set_index("variant").reindex(list(order))
    means, stds = rows["mean"].to_list(), rows["std"].to_list()
    return [_cell(m, s, mark) for m, s, mark in zip(means, stds, _fairly(order, means, fair), strict=True)]


def _cell(mean: float, std: float, mark: Mark) -> Cell:
    return Cell(percent(mean), percent(std) if math.isfinite(std) else "", mark)


def _average(totals: pd.DataFrame, order: Sequence[str], fair: set[str]) -> list[Cell]:
    rows = totals.loc[list(order)]
    means, stds = rows["average"].to_list(), rows["between_clients"].to_list()
    return [_cell(m, s, mark) for m, s, mark in zip(means, stds, _fairly(order, means, fair), strict=True)]


def _plain(totals: pd.DataFrame, order: Sequence[str], column: str) -> list[Cell]:
    return [Cell(percent(float(totals[column][method]))) for method in order]


def _worst(totals: pd.DataFrame, order: Sequence[str], fair: set[str]) -> list[Cell]:
    rows = totals.loc[list(order)]
    values, names = rows["worst"].to_list(), rows["worst_client"].to_list()
    return [
        Cell(f"{percent(value)} ({name})", mark=mark)
        for value, name, mark in zip(values, names, _fairly(order, values, fair), strict=True)
    ]


def _gain(totals: pd.DataFrame, order: Sequence[str]) -> list[Cell]:
    return [Cell(percent(float(totals["gain"][method]), sign=True)) for method in order]


def _harmed(totals: pd.DataFrame, order: Sequence[str], clients: int) -> list[Cell]:
    values = [float(totals["harmed"][method]) for method in order]
    return [Cell(f"{value:.0f} of {clients}" if math.isfinite(value) else MISSING) for value in values]


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
