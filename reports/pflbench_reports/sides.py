"""One side of a comparison: what a results folder, a trial folder or a file of scores holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pflbench.metrics import METRICS
from pflbench.results import Trial
from pflbench_reports.groups import Group, Variant, load
from pflbench_reports.tables import guests
from pflbench_reports.text import flat

VALUES = ["method", "client", "seed", "chosen", "metric", "value"]


@dataclass(frozen=True, eq=False)
class Part:
    """One comparison group of a side. ``facts`` is None where nothing but scores is known."""

    id: str
    dataset: str
    heading: str
    simulated: bool
    facts: Mapping[str, Any] | None  # the specification without method, seed and split, with dotted names
    methods: Mapping[str, Mapping[str, Any]]  # display name -> what is stated of the method
    values: pd.DataFrame  # VALUES; ratios in percent, distances in their unit
    trials: Mapping[tuple[str, int], Trial]  # (display name, seed) -> finished trial
    guests: frozenset[str]  # clients that never train


@dataclass(frozen=True)
class Side:
    """Everything below one path; ``unfinished`` names the trials without a result."""

    path: Path
    parts: tuple[Part, ...]
    unfinished: tuple[str, ...]
    problems: tuple[str, ...]


def read_side(path: Path) -> Side:
    """Read a results folder, one trial's folder or a CSV file of scores. Raises ResultsError where nothing is found."""
    groups, problems = load([path])
    waiting = tuple(f"{trial.id} ({trial.state})" for group in groups for trial in group.unfinished)
    return Side(path, tuple(_part(group) for group in groups), waiting, tuple(problems))


def _part(group: Group) -> Part:
    shared = {key: value for key, value in group.spec.items() if key not in ("method", "seed", "split", "format")}
    return Part(
        id=group.id,
        dataset=group.dataset,
        heading=group.heading,
        simulated=group.simulated,
        facts=flat(shared) if group.trials else None,
        methods={variant.display: _stated(group, variant) for variant in group.variants.values()},
        values=_printed(group.scores.rename(columns={"variant": "method"})[VALUES].dropna(subset=["value"])),
        trials={(group.variants[trial.id].display, int(trial.spec["seed"])): trial for trial in group.finished},
        guests=frozenset(guests(group)),
    )


_ABOUT = ("batch_norm", "aggregation", "travels")  # what a method says of itself and a reader must not miss


def _stated(group: Group, variant: Variant) -> dict[str, Any]:
    stated: dict[str, Any] = {"name": variant.name, "key": variant.key}
    for trial in group.trials:
        if group.variants[trial.id] == variant:
            about = {key: trial.about[key] for key in _ABOUT if trial.about.get(key)}
            return {**flat(trial.spec["method"]), **stated, **about}
    return stated


def _printed(values: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with ratios in percent, in the order it came."""
    ratios = values["metric"].map(lambda name: name not in METRICS or METRICS[name].percent).astype(bool)
    numbers = values["value"].astype(float)
    return values.assign(value=numbers.where(~ratios, 100.0 * numbers)).reset_index(drop=True)
