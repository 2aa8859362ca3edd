"""The rows that the pFL-ResFIM paper prints, to be shown beside one's own: quoted, never ranked.

Source: ``paper_tables.csv``, Tables 1-3 of "Personalized Federated Learning with Residual Fisher Information for
Medical Image Segmentation", arXiv:2603.14848v1: mean and deviation of Dice in percent, as printed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

import pandas as pd

from pflbench_reports.cells import Cell, spread_cell
from pflbench_reports.text import MISSING, percent

SOURCE = "arXiv:2603.14848"
REFERENCES = ("paper",)  # what ``--reference`` takes
_AVERAGE = "Average"
_SPELLINGS = {"chasedb1": "chasedb"}  # ours -> the paper's, both folded


@dataclass(frozen=True)
class QuotedRow:
    """One method of the paper; ``cells`` holds (mean, deviation) in percent by one's own names of the clients.

    ``average`` is over all of one's own clients: as printed where they are the paper's, else computed from the
    printed means (``computed``); None where the paper lacks a client.
    """

    method: str  # as the paper spells it
    display: str
    table: int
    cells: Mapping[str, tuple[float, float]]
    average: tuple[float, float] | None
    computed: bool
    remark: str  # a sentence where the printed average contradicts the printed clients


def quoted_rows(dataset: str, clients: Sequence[str]) -> tuple[QuotedRow, ...]:
    """Return the paper's rows for a dataset, in its order; empty where it shares no client with ``clients``."""
    printed = _printed()
    rows = printed[printed["dataset"] == dataset]
    found = [_quoted(part, clients) for _, part in rows.groupby("method", sort=False)]
    return tuple(row for row in found if row.cells)


def quoted_frame(rows: Sequence[QuotedRow]) -> pd.DataFrame:
    """Return what is quoted, one row per method and client, with its source."""
    lines = [
        [row.method, client, mean, std, f"{SOURCE}, Table {row.table}"]
        for row in rows
        for client, (mean, std) in row.cells.items()
    ]
    return pd.DataFrame(lines, columns=["variant", "client", "mean", "std", "source"])


def quoted_cells(
    rows: Sequence[QuotedRow], clients: Sequence[str], compared: bool, notes: list[str]
) -> list[tuple[Cell, ...]]:
    """Return the rows as ``dice_table`` has its columns; what must be said of them is added to ``notes``."""
    notes.append(_note(rows))
    first = len(notes)
    return [_cells(row, clients, compared, notes, first) for row in rows]


def _cells(row: QuotedRow, clients: Sequence[str], compared: bool, notes: list[str], note: int) -> tuple[Cell, ...]:
    none = (float("nan"), float("nan"))
    average = spread_cell(*(row.average or none), "quoted")
    if row.remark:
        notes.append(row.remark)
        average = replace(average, note=len(notes))
    cells = [Cell(row.display, mark="quoted", note=note), Cell(MISSING, mark="quoted")]
    cells += [spread_cell(*row.cells.get(client, none), "quoted") for client in clients]
    cells += [average, Cell(MISSING, mark="quoted")]
    return (*cells, *(_fairness(row) if compared else ()))


def _fairness(row: QuotedRow) -> list[Cell]:
    """Return worst client and spread where the paper has all clients; it has no local training to gain over."""
    texts = [MISSING] * 4
    if row.average is not None:
        means = {client: mean for client, (mean, _) in row.cells.items()}
        worst = min(means, key=lambda client: means[client])
        texts[:2] = [f"{percent(means[worst])} ({worst})", percent(max(means.values()) - min(means.values()))]
    return [Cell(text, mark="quoted") for text in texts]


def _note(rows: Sequence[QuotedRow]) -> str:
    note = (
        f"Quoted as printed in Table {rows[0].table} of {SOURCE}. Protocol, split and implementation differ from those "
        "of this table, so quoted rows are not ranked and no difference to them is tested."
    )
    if rows[0].computed:
        note += " Their averages are over the clients shown here, computed from the printed means."
    return note


def folded(name: str) -> str:
    """Return a client's name without case, spaces and hyphens, in the paper's spelling."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    return _SPELLINGS.get(plain, plain)


def _quoted(rows: pd.DataFrame, clients: Sequence[str]) -> QuotedRow:
    columns = [rows[column].to_list() for column in ("client", "mean", "std")]
    printed = {folded(client): (mean, std) for client, mean, std in zip(*columns, strict=True)}
    average = printed.pop(folded(_AVERAGE))
    cells = {client: printed[folded(client)] for client in clients if folded(client) in printed}
    method, table = str(rows["method"].iloc[0]), int(rows["table"].iloc[0])
    own = _average(cells)
    whole = len(cells) == len(clients) and cells != {}
    same = whole and len(cells) == len(printed)
    remark = ""
    if same and own is not None and abs(own[1] - average[1]) > _CUT:
        remark = f"{method}: the paper prints ± {average[1]:.2f}, but its own client means give ± {own[1]:.2f}."
    return QuotedRow(
        method=method,
        display=f"{method} (quoted: {SOURCE})",
        table=table,
        cells=cells,
        average=average if same else own if whole else None,
        computed=whole and not same,
        remark=remark,
    )


_CUT = 0.02  # the paper cuts its last digit (0.01) and its client means are rounded


def _average(cells: Mapping[str, tuple[float, float]]) -> tuple[float, float] | None:
    means = pd.Series([mean for mean, _ in cells.values()], dtype=float)
    return (float(means.mean()), float(means.std(ddof=0))) if len(means) else None


@cache
def _printed() -> pd.DataFrame:
    with files("pflbench_reports").joinpath("paper_tables.csv").open("rb") as file:
        return pd.read_csv(file)
