"""One pass over the tables of a trial: what is wrong with them, its scores and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from pflbench.results import TABLES, TRIAL, ResultsError, Trial, scores
from pflbench_reports.cost import trial_cost

# the columns that the report computes with
NUMBERS = {
    "rounds": ("round", "dice"),
    "cases": ("round", "dice"),
    "logs": ("round", "value"),
    "ledger": ("round", "bytes"),
    "metrics": ("value",),
    "timing": ("round", "seconds"),
}


_KEPT = ("cases", "rounds")  # small, and wanted by several figures and the statistics


@dataclass(frozen=True)
class KeptTrial(Trial):
    """A trial that reads its small tables from disk once."""

    held: dict[str, pd.DataFrame] = field(default_factory=dict, compare=False, repr=False)

    def table(self, name: str) -> pd.DataFrame:
        """Return one of ``TABLES``, as ``Trial.table`` does; columns may be added to it without harm."""
        if name not in _KEPT:
            return super().table(name)
        if name not in self.held:
            self.held[name] = super().table(name)
        return self.held[name].copy(deep=False)


@dataclass(frozen=True)
class Reading:
    """A sound trial with its ``pflbench.results.scores`` and its cost; None where it has not finished."""

    trial: Trial
    scores: pd.DataFrame
    cost: Mapping[str, float] | None


def read(trial: Trial) -> Reading:
    """Read every table of a trial once. A finished one must have its final test scores.

    Raises ResultsError saying why the trial cannot be reported.
    """
    trial = KeptTrial(**vars(trial))
    try:
        _must_have(trial.spec)
        tables = {name: trial.table(name) for name in TABLES}
        for name, table in tables.items():
            _must_be_numbers(name, table)
        finished = trial.state == "finished"
        if finished and not _scored(tables["cases"]):
            raise ResultsError(f"{trial.folder} is marked finished but cases.csv lacks the test scores of a client.")
        return Reading(trial, scores([trial]), trial_cost(trial, tables) if finished else None)
    except KeyError as error:
        raise ResultsError(f"{trial.folder / TRIAL} lacks {error} in its specification.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ResultsError(f"{trial.folder} cannot be reported ({error}).") from error


def _must_have(spec: Mapping[str, Any]) -> None:
    for part, keys in {
        "dataset": ("name", "title", "simulated"),
        "partitioner": ("name", "title"),
        "method": ("name", "title", "label"),
    }.items():
        for key in keys:
            spec[part][key]
    dict(spec["recipe"])
    int(spec["seed"])


def _must_be_numbers(name: str, table: pd.DataFrame) -> None:
    for column in NUMBERS[name]:
        values = table[column]
        if not is_numeric_dtype(values):  # else the reader found nothing but numbers
            _must_be_float(name, column, values[_drawn(table)] if name == "logs" else values)


def _drawn(logs: pd.DataFrame) -> pd.Series[bool]:
    """Pick the rows that are drawn: a method may log words under other keys."""
    key = logs["key"].astype(str)
    return key.str.startswith("mask_rate/") | (key == "gradients")


def _must_be_float(name: str, column: str, values: pd.Series[Any]) -> None:
    try:
        values.astype(float)
    except ValueError as error:
        raise ValueError(f"{name}.csv, column {column}: {error}") from error


def _scored(cases: pd.DataFrame) -> bool:
    best = cases[cases["chosen"] == "best"]
    return not best.empty and set(best.loc[best["dice"].notna(), "client"]) == set(best["client"])
