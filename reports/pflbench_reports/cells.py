"""What a table is made of: cells with a spread, a mark for the best and the second, and footnotes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from pflbench_reports.tables import TIE
from pflbench_reports.text import percent

Mark = Literal["", "best", "second", "quoted"]


@dataclass(frozen=True)
class Cell:
    """One number (or text) with its spread, its rank in the column and the place of its footnote."""

    text: str
    spread: str = ""
    mark: Mark = ""
    note: int = 0
    value: float | None = None  # unrounded: what a column is sorted by; None: what the text says


@dataclass(frozen=True)
class Table:
    """A table ready for either format, and the numbers behind it by file name."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    csv: dict[str, pd.DataFrame] = field(default_factory=dict)


def marks(values: Sequence[float], higher: bool = True) -> list[Mark]:
    """Mark the best and the second best of the unrounded values; nothing where there is no contest.

    NaN takes no part; values that differ by less than ``TIE`` are one value.
    """
    places = [round(value / TIE) * (1 if higher else -1) if math.isfinite(value) else None for value in values]
    ranked = sorted({place for place in places if place is not None}, reverse=True)
    if len(ranked) < 2:
        return [""] * len(values)
    names: dict[int | None, Mark] = {ranked[0]: "best", ranked[1]: "second"}
    if places.count(ranked[0]) > 1:
        del names[ranked[1]]  # two share the first place, so nobody is second
    return [names.get(place, "") for place in places]


@dataclass(frozen=True)
class Ranks:
    """Who stands in the table, who of them is ranked, and whether larger is better."""

    order: tuple[str, ...]
    fair: set[str]
    higher: bool

    def marks(self, values: Sequence[float]) -> list[Mark]:
        """Mark a column, methods that are not ranked left aside."""
        ranked = [v if m in self.fair else float("nan") for m, v in zip(self.order, values, strict=True)]
        return marks(ranked, self.higher)


def spread_cell(mean: float, std: float, mark: Mark = "") -> Cell:
    """Return mean ± deviation with two decimals; no deviation where it is NaN."""
    return Cell(percent(mean), percent(std) if math.isfinite(std) else "", mark, value=mean)
