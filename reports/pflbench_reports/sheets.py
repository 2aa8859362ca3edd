"""CSV files of scores from elsewhere: one row per dataset, method, client, seed and metric."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pflbench.metrics import METRICS
from pflbench.results import ResultsError
from pflbench_reports.text import listed, several

COLUMNS = ("dataset", "method", "client", "seed", "metric", "value")
_SHOWN = 5  # rows left out that are named one by one


@dataclass(frozen=True)
class Sheet:
    """The scores of one file. ``scale`` says how its shares were read, ``problems`` which rows were left out.

    Columns of ``frame``: dataset, simulated, method, client, seed, chosen, metric, value (shares in 0..1).
    """

    path: Path
    frame: pd.DataFrame
    scale: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    number: int  # the header is row 1
    key: tuple[str, bool, str, str, int, str, str]  # all of ``Sheet.frame`` but the value
    value: float

    @property
    def metric(self) -> str:
        return self.key[-1]


def read_sheet(path: Path) -> Sheet:
    """Read a CSV file with ``COLUMNS`` in any order, and perhaps ``chosen`` ("best" or "last") and ``simulated``.

    Other columns are ignored. Rows that cannot be read or contradict each other are left out and named.
    Raises ResultsError where the file is no such table, none of its rows can be used, or nobody can know
    whether its values are shares or percentages.
    """
    places, lines = _lines(path)
    rows, problems = [], []
    for number, cells in lines:
        try:
            rows.append(_row(number, {name: cells[place].strip() for name, place in places.items()}))
        except ValueError as error:
            problems.append(f"{path}, row {number}: {error}; the row is left out.")
    kept, doubled = _once_each(path, rows)
    problems = [*_shortened(path, problems), *_shortened(path, doubled)]
    if not kept:
        raise ResultsError(" ".join([f"{path} holds no score that can be used.", *problems[:1]]))
    factor, scale = _scale(path, kept)
    values = [row.value * (factor if METRICS[row.metric].percent else 1.0) for row in kept]
    columns = ["dataset", "simulated", "method", "client", "seed", "chosen", "metric"]
    frame = pd.DataFrame([row.key for row in kept], columns=columns).assign(value=values)
    return Sheet(path, frame, scale, tuple(problems))


def _lines(path: Path) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Return the place of each known column, and the filled rows with their numbers."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"{path} is not a readable CSV file ({error}).") from error
    header = [name.strip().lower() for name in lines[0]] if lines else []
    if lacking := [name for name in COLUMNS if name not in header]:
        needs = listed(COLUMNS)
        raise ResultsError(f"{path} lacks the columns {listed(lacking)}; a file of scores has {needs}, by commas.")
    known = (*COLUMNS, "chosen", "simulated")
    if doubled := [name for name in known if header.count(name) > 1]:
        raise ResultsError(f"{path} has several columns called {listed(doubled)}; leave one of each.")
    numbered = [(number, cells) for number, cells in enumerate(lines[1:], start=2) if any(cells)]
    if torn := [number for number, cells in numbered if len(cells) != len(header)]:
        found, width = len(lines[torn[0] - 1]), len(header)
        raise ResultsError(f"{path}, row {torn[0]} has {found} cells, but the header names {width} columns.")
    return {name: header.index(name) for name in known if name in header}, numbered


def _row(number: int, cells: dict[str, str]) -> _Row:
    """Return the row; raises ValueError saying what is wrong with it."""
    if empty := [name for name in COLUMNS if not cells[name]]:
        raise ValueError(f"there is no {listed(empty)}")
    metric, chosen = cells["metric"].lower(), cells.get("chosen", "best")
    if metric not in METRICS:
        raise ValueError(f"the metric {cells['metric']!r} is unknown (known: {', '.join(METRICS)})")
    if chosen not in ("best", "last"):
        raise ValueError(f"chosen is {chosen!r}, not best or last")
    value = _number("value", cells["value"])
    if value < 0:
        raise ValueError(f"the value {cells['value']} is below 0")
    seed = _number("seed", cells["seed"])
    if not seed.is_integer():
        raise ValueError(f"the seed {cells['seed']} is no whole number")
    made_up = "simulated" in cells["dataset"].lower() or cells.get("simulated", "").lower() in ("true", "1", "yes")
    return _Row(number, (cells["dataset"], made_up, cells["method"], cells["client"], int(seed), chosen, metric), value)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"the {name} {text!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"the {name} {text!r} is not finite")
    return number


def _once_each(path: Path, rows: Sequence[_Row]) -> tuple[list[_Row], list[str]]:
    """Keep one of the rows that say the same; of rows that contradict each other keep none."""
    alike: dict[object, list[_Row]] = defaultdict(list)
    for row in rows:
        alike[row.key].append(row)
    kept, sentences = [], []
    for first, *others in alike.values():
        agree = all(other.value == first.value for other in others)
        if agree:
            kept.append(first)
        if others:
            numbers = listed([str(row.number) for row in (first, *others)])
            done = "one of them is used" if agree else "with different values: none of them is used"
            sentences.append(f"{path}, rows {numbers} give the same score, {done}.")
    return kept, sentences


def _scale(path: Path, rows: Sequence[_Row]) -> tuple[float, str]:
    """Return the factor that makes shares of the values, and a sentence about it.

    Shares are in 0..1, percentages above 1 and up to 100 (0 is 0 in both); a file holds one kind only. A
    percentage between 0 and 1 could as well be a share, so such a file is refused rather than guessed at.
    """
    shares = [row for row in rows if METRICS[row.metric].percent]
    above = next((row for row in shares if row.value > 1), None)
    if above is None:
        return 1.0, "Its shares are read as they stand, in 0..1." if shares else ""
    if beyond := next((row for row in shares if row.value > 100), None):
        raise ResultsError(f"{path}, row {beyond.number}: {beyond.value:g} is neither a share nor a percentage.")
    if below := next((row for row in shares if 0 < row.value <= 1), None):
        raise ResultsError(
            f"{path} mixes shares and percentages: row {above.number} has {above.value:g}, row {below.number} has "
            f"{below.value:g}; give all values of the file as shares in 0..1."
        )
    return 0.01, "Its values are read as percentages, because all of them but 0 exceed 1."


def _shortened(path: Path, sentences: Sequence[str]) -> Iterator[str]:
    yield from sentences[:_SHOWN]
    if more := len(sentences[_SHOWN:]):
        yield f"{path}: the same goes for {several(more, 'more place')}."
