"""Trials sorted into comparison groups, and the methods of a report named apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pflbench.results import TABLES, ResultsError, Trial, find_trials, hash_of
from pflbench_reports.text import flat, listed, plain, slug

# the columns that the report computes with
NUMBERS = {
    "rounds": ("round", "dice"),
    "cases": ("round", "dice"),
    "logs": ("round", "value"),
    "ledger": ("round", "bytes"),
    "timing": ("round", "seconds"),
}


@dataclass(frozen=True)
class Variant:
    """A method with its settings: one row of every table. ``display`` is unique within a report."""

    key: str
    name: str
    title: str
    label: str  # the settings that differ from the defaults
    display: str


@dataclass(frozen=True)
class Group:
    """Trials that differ only in method and seed: the only ones that may share a table."""

    id: str
    slug: str
    heading: str
    simulated: bool
    trials: tuple[Trial, ...]
    variants: Mapping[str, Variant]  # trial id -> variant

    @property
    def finished(self) -> list[Trial]:
        """Return the trials that may give numbers."""
        return [trial for trial in self.trials if trial.state == "finished"]

    @property
    def unfinished(self) -> list[Trial]:
        """Return the trials that are running, interrupted or failed."""
        return [trial for trial in self.trials if trial.state != "finished"]

    @property
    def spec(self) -> Mapping[str, Any]:
        """Return the specification that all trials of the group share (method and seed aside)."""
        return self.trials[0].spec

    def of(self, variant: Variant) -> list[Trial]:
        """Return the finished trials of one variant."""
        return [trial for trial in self.finished if self.variants[trial.id] == variant]


def load(paths: Sequence[Path]) -> tuple[list[Group], list[str]]:
    """Return the comparison groups below the paths and a sentence for each folder that is left out.

    Raises ResultsError where no readable trial is found.
    """
    found, problems = find_trials(paths)
    sound: list[Trial] = []
    for trial in found:
        problem = fault(trial)
        if problem:
            problems.append(problem)
        else:
            sound.append(trial)
    kept, doubled = _once_each(sound)
    problems += doubled
    if not kept:
        raise ResultsError(_nothing(paths, problems))
    return _groups(kept), problems


def _nothing(paths: Sequence[Path], problems: Sequence[str]) -> str:
    where = listed([str(path) for path in paths]) or "no path at all"
    first = f" (of {len(problems)} broken ones the first: {problems[0].rstrip('.')})" if problems else ""
    return f"No readable trial is found below {where}{first}; run `pflbench run` first or name its folder."


def fault(trial: Trial) -> str | None:
    """Return why a trial cannot be reported, or None. A finished one must have its final test scores."""
    try:
        _must_have(trial.spec)
        for name in TABLES:
            _must_be_numbers(name, trial.table(name))
        if trial.state == "finished" and not _scored(trial.table("cases")):
            return f"{trial.folder} is marked finished but cases.csv lacks the test scores of a client."
    except ResultsError as error:
        return str(error)
    except KeyError as error:
        return f"{trial.folder / 'trial.json'} lacks {error} in its specification."
    except (TypeError, ValueError) as error:
        return f"{trial.folder} cannot be reported ({error})."
    return None


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
    if name == "logs":
        key = table["key"].astype(str)
        table = table[key.str.startswith("mask_rate/") | (key == "gradients")]
    for column in NUMBERS[name]:
        try:
            table[column].astype(float)
        except ValueError as error:
            raise ValueError(f"{name}.csv, column {column}: {error}") from error


def _scored(cases: pd.DataFrame) -> bool:
    best = cases[cases["chosen"] == "best"]
    return not best.empty and bool(best.groupby("client")["dice"].count().all())


def _once_each(trials: Sequence[Trial]) -> tuple[list[Trial], list[str]]:
    """Keep one trial per group, method and seed: the finished one, or the one that came farthest."""
    doubles: dict[tuple[str, str, int], list[Trial]] = defaultdict(list)
    for trial in trials:
        doubles[trial.group, hash_of(trial.spec["method"]), trial.spec["seed"]].append(trial)
    kept, sentences = [], []
    for same in doubles.values():
        first, *others = sorted(same, key=lambda trial: (trial.state != "finished", -trial.round))
        kept.append(first)
        sentences += [
            f"{other.folder} repeats the method and seed of {first.folder} and is left out." for other in others
        ]
    return kept, sentences


def _groups(trials: Sequence[Trial]) -> list[Group]:
    together: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        together[trial.group].append(trial)
    variants = _variants(trials)
    headings = _headings({key: members[0].spec for key, members in together.items()})
    groups = [_group(key, members, headings[key], variants) for key, members in together.items()]
    return sorted(groups, key=lambda group: (group.simulated, group.heading, group.id))


def _group(key: str, trials: Sequence[Trial], heading: str, variants: Mapping[str, Variant]) -> Group:
    spec = trials[0].spec
    dataset = slug(spec["dataset"]["name"])
    marked = spec["dataset"]["simulated"] and not dataset.startswith("simulated")
    parts = [*(["simulated"] if marked else []), dataset, slug(spec["partitioner"]["name"]), key[:8]]
    return Group(
        id=key,
        slug="-".join(parts),
        heading=heading,
        simulated=bool(spec["dataset"]["simulated"]),
        trials=tuple(trials),
        variants={trial.id: variants[hash_of(trial.spec["method"])] for trial in trials},
    )


def _variants(trials: Sequence[Trial]) -> dict[str, Variant]:
    """Name every (method, settings, distribution, version) so that no two share a name."""
    methods = {hash_of(trial.spec["method"]): trial.spec["method"] for trial in trials}
    short = {key: _name(method) for key, method in methods.items()}
    counts = Counter(short.values())
    result = {}
    for key, method in methods.items():
        display = short[key]
        if counts[display] > 1:
            display += f" [{method.get('distribution', '?')} {method.get('version', '?')}, {key[:6]}]"
        result[key] = Variant(key, method["name"], method["title"], method["label"] or "", display)
    return result


def _name(method: Mapping[str, Any]) -> str:
    return f"{method['title']} ({method['label']})" if method["label"] else str(method["title"])


def _headings(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Head each group by dataset and partitioner, and by the values in which such groups differ."""
    alike: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    for key, spec in specs.items():
        names = (spec["dataset"]["title"], spec["partitioner"]["title"])
        alike[names][key] = flat({k: v for k, v in spec.items() if k not in ("method", "seed", "split")})
    headings = {}
    for (dataset, partitioner), values in alike.items():
        for key, differing in _differing(values).items():
            mark = " (SIMULATED)" if specs[key]["dataset"]["simulated"] else ""
            headings[key] = ", ".join([f"{dataset}{mark}: {partitioner}", *differing])
    return headings


def _differing(values: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    names = list(dict.fromkeys(name for value in values.values() for name in value))
    unlike = [n for n in names if len({plain(value.get(n)) for value in values.values()}) > 1]
    unlike = [n for n in unlike if n != "dataset.simulated"]
    return {
        key: [f"{n.removeprefix('recipe.')} {plain(value.get(n))}" for n in unlike] for key, value in values.items()
    }
