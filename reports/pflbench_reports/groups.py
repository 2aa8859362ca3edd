"""Trials and files of scores sorted into comparison groups, and the methods of a report named apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pflbench.results import ResultsError, Trial, find_trials, hash_of
from pflbench_reports.reading import Reading, read
from pflbench_reports.sheets import Sheet, read_sheet
from pflbench_reports.text import flat, listed, plain, slug

SCORES = ("variant", "client", "seed", "chosen", "round", "metric", "value", "cases")


@dataclass(frozen=True)
class Variant:
    """A method with its settings: one row of every table. ``display`` is unique within a report."""

    key: str
    name: str
    title: str
    label: str  # the settings that differ from the defaults
    display: str


@dataclass(frozen=True, eq=False)
class Group:
    """Trials that differ only in method and seed, or one dataset of a file of scores: what may share a table.

    ``scores`` has the columns ``SCORES``, one row per method (its display name), client, seed, chosen round
    and metric; value is in 0..1 for shares, round and cases are NaN where a file does not tell.
    """

    id: str
    slug: str
    heading: str
    simulated: bool
    trials: tuple[Trial, ...]  # none in the group of a file of scores
    variants: Mapping[str, Variant]  # trial id (of a file: method) -> variant
    dataset: str = ""
    scores: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SCORES)), repr=False)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)  # by id of a finished trial
    file: str = ""  # the file of scores, where there is one
    remarks: tuple[str, ...] = ()  # how the file was read

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
        """Return the specification that all trials share (method and seed aside); empty for a file of scores."""
        return self.trials[0].spec if self.trials else {}

    def of(self, variant: Variant) -> list[Trial]:
        """Return the finished trials of one variant."""
        return [trial for trial in self.finished if self.variants[trial.id] == variant]


def load(paths: Sequence[Path]) -> tuple[list[Group], list[str]]:
    """Return the comparison groups of the paths, and a sentence for each folder, file or row that is left out.

    A path is a folder with trials somewhere below it, or a CSV file of scores (see ``sheets``). Every table
    of a trial is read once. Raises ResultsError where no score is found.
    """
    files = list(dict.fromkeys(path.resolve() for path in paths if path.is_file()))
    trials, problems = find_trials([path for path in paths if path.is_dir()])
    problems += [f"{path} does not exist." for path in paths if not path.exists()]
    readings: list[Reading] = []
    for trial in trials:
        try:
            readings.append(read(trial))
        except ResultsError as error:
            problems.append(str(error))
    kept, doubled = _once_each(readings)
    sheets, faults = _sheets(files)
    problems += [*doubled, *faults]
    if not kept and not sheets:
        raise ResultsError(_nothing(paths, problems))
    groups = [*_groups(kept), *(group for sheet in sheets for group in _groups_of(sheet))]
    return sorted(groups, key=lambda group: (group.simulated, group.heading, group.id)), problems


def _nothing(paths: Sequence[Path], problems: Sequence[str]) -> str:
    where = listed([str(path) for path in paths]) or "no path at all"
    count = f"of {len(problems)} broken ones the first: " if len(problems) > 1 else ""
    first = f" ({count}{problems[0].rstrip('.')})" if problems else ""
    todo = "run `pflbench run` first, or name its folder or a CSV file of scores"
    return f"No readable trial is found below {where}{first}; {todo}."


def _sheets(files: Sequence[Path]) -> tuple[list[Sheet], list[str]]:
    sheets: dict[str, Sheet] = {}
    problems: list[str] = []
    for path in files:
        try:
            sheet = read_sheet(path)
        except ResultsError as error:
            problems.append(str(error))
            continue
        problems += sheet.problems
        content = hash_of(sheet.frame.to_numpy().tolist())
        if content in sheets:
            problems.append(f"{path} holds the same scores as {sheets[content].path} and is left out.")
        else:
            sheets[content] = sheet
    return list(sheets.values()), problems


def _once_each(readings: Sequence[Reading]) -> tuple[list[Reading], list[str]]:
    """Keep one trial per group, method and seed: the finished one, or the one that came farthest."""
    doubles: dict[tuple[str, str, int], list[Reading]] = defaultdict(list)
    for reading in readings:
        trial = reading.trial
        doubles[trial.group, hash_of(trial.spec["method"]), trial.spec["seed"]].append(reading)
    kept, sentences = [], []
    for same in doubles.values():
        first, *others = sorted(same, key=lambda one: (one.trial.state != "finished", -one.trial.round))
        kept.append(first)
        sentences += [
            f"{other.trial.folder} repeats the method and seed of {first.trial.folder} and is left out."
            for other in others
        ]
    return kept, sentences


def _groups(readings: Sequence[Reading]) -> list[Group]:
    trials = [reading.trial for reading in readings]
    variants = _variants(trials)
    named = {trial.id: variants[hash_of(trial.spec["method"])] for trial in trials}
    together: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        together[reading.trial.group].append(reading)
    headings = _headings({key: members[0].trial.spec for key, members in together.items()})
    return [_group(key, members, headings[key], named) for key, members in together.items()]


def _group(key: str, readings: Sequence[Reading], heading: str, variants: Mapping[str, Variant]) -> Group:
    trials = tuple(reading.trial for reading in readings)
    spec = trials[0].spec
    dataset = slug(spec["dataset"]["name"])
    marked = spec["dataset"]["simulated"] and not dataset.startswith("simulated")
    parts = [*(["simulated"] if marked else []), dataset, slug(spec["partitioner"]["name"]), key[:8]]
    frame = pd.concat([reading.scores for reading in readings], ignore_index=True)
    frame["variant"] = frame["trial"].map({trial: variant.display for trial, variant in variants.items()})
    return Group(
        id=key,
        slug="-".join(parts),
        heading=heading,
        simulated=bool(spec["dataset"]["simulated"]),
        trials=trials,
        variants={trial.id: variants[trial.id] for trial in trials},
        dataset=str(spec["dataset"]["name"]),
        scores=frame[list(SCORES)],
        costs={reading.trial.id: reading.cost for reading in readings if reading.cost is not None},
    )


def _groups_of(sheet: Sheet) -> list[Group]:
    """Return a group per dataset of a file of scores; simulated rows are never put with others."""
    parts = sheet.frame.groupby(["dataset", "simulated"], sort=False)
    return [_group_of(sheet, str(name), bool(made_up), frame) for (name, made_up), frame in parts]


def _group_of(sheet: Sheet, dataset: str, simulated: bool, frame: pd.DataFrame) -> Group:
    rows = frame.rename(columns={"method": "variant"}).assign(round=float("nan"), cases=float("nan"))
    key = hash_of([dataset, simulated, sheet.path.name, frame.to_numpy().tolist()])
    methods = dict.fromkeys(rows["variant"])
    marked = simulated and not slug(dataset).startswith("simulated")
    parts = [*(["simulated"] if marked else []), slug(dataset), slug(sheet.path.stem), key[:8]]
    return Group(
        id=key,
        slug="-".join(parts),
        heading=f"{dataset}{' (SIMULATED)' if simulated else ''}: scores from {sheet.path.name}",
        simulated=simulated,
        trials=(),
        variants={name: Variant(hash_of(name), _known(name), name, "", name) for name in methods},
        dataset=dataset,
        scores=rows[list(SCORES)].reset_index(drop=True),
        file=sheet.path.name,
        remarks=(sheet.scale,) if sheet.scale else (),
    )


_KNOWN = {"local": "local", "localtraining": "local", "localonly": "local", "resfim": "resfim", "pflresfim": "resfim"}


def _known(method: str) -> str:
    """Return the name by which the report knows a method of a file: that of local training above all."""
    letters = "".join(c for c in method.casefold() if c.isalnum())
    return _KNOWN.get(letters, method)


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
