"""Dice against a setting: trials that differ in exactly one number, of a method or of the recipe (Fig. 3)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pflbench_reports.groups import Group
from pflbench_reports.tables import over_seeds, seed_scores
from pflbench_reports.text import flat, plain
from pflbench_reports.traces import spread

AVERAGE = "average over clients"
RECIPE = "recipe."
MANY_METHODS = 8  # lines that are told apart


@dataclass(frozen=True)
class Sweep:
    """Scores along one setting.

    ``frame`` has the columns kind ("client": one method's score there; "average": its unweighted mean over clients;
    "method": the same for one of several methods; "reference": for a method without the setting), line (client or
    method), value (of the setting; NaN for references), mean (test Dice in percent, over seeds), std (population,
    over seeds; NaN with one seed), seeds.
    """

    title: str  # the method, or the group's dataset
    setting: str
    frame: pd.DataFrame
    simulated: bool
    left_out: tuple[str, ...] = ()  # methods for which there is no room


def families(choices: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[tuple[str, dict[float, str]]]:
    """Return, for every name, the sets of two or more choices that differ in its number only, by that number."""
    found = []
    for name in dict.fromkeys(names):
        alike: dict[str, dict[float, str]] = defaultdict(dict)
        for key, settings in choices.items():
            if (value := _number(settings.get(name))) is not None:
                rest = plain({other: settings[other] for other in sorted(settings) if other != name})
                alike[rest][value] = key
        found += [(name, dict(sorted(values.items()))) for values in alike.values() if len(values) > 1]
    return found


def _number(value: object) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None  # type: ignore[arg-type]


def method_sweeps(group: Group) -> list[Sweep]:
    """Return a sweep for every set of one method's variants in the group that differ in one number only."""
    methods = {group.variants[trial.id].display: trial.spec["method"] for trial in group.finished}
    choices = {
        display: {"@": [method["name"], method.get("distribution"), method.get("version")], **_settings(method)}
        for display, method in methods.items()
    }
    names = [name for settings in choices.values() for name in settings]
    found = families(choices, names)
    scores = seed_scores(group, "best", "dice") if found else pd.DataFrame()
    return [_method_sweep(group, scores, methods, name, members) for name, members in found]


def _settings(method: Mapping[str, Any]) -> dict[str, Any]:
    return flat(method.get("settings") or {})


def _method_sweep(
    group: Group, scores: pd.DataFrame, methods: Mapping[str, Mapping[str, Any]], name: str, members: dict[float, str]
) -> Sweep:
    parts = [_of_clients(scores, display, value) for value, display in members.items()]
    parts += [_average(scores, display, value, "average", AVERAGE) for value, display in members.items()]
    for reference in _references(scores, methods, set(members.values())):
        parts.append(_average(scores, reference, math.nan, "reference", reference))
    method = methods[next(iter(members.values()))]
    title = str(method["title"]) + _others(members, methods, name)
    return Sweep(title, f"{method['name']}.{name}", pd.concat(parts, ignore_index=True), group.simulated)


def _others(members: Mapping[float, str], methods: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Name the settings in which this sweep differs from another sweep of the same setting and method."""
    own = _settings(methods[next(iter(members.values()))])
    same = [_settings(m) for m in methods.values() if m["name"] == methods[next(iter(members.values()))]["name"]]
    unlike = [k for k, v in own.items() if k != name and any(plain(v) != plain(o.get(k)) for o in same)]
    return f" ({', '.join(f'{k}={plain(own[k])}' for k in unlike)})" if unlike else ""


def _of_clients(scores: pd.DataFrame, display: str, value: float) -> pd.DataFrame:
    rows = scores[scores["variant"] == display].rename(columns={"dice": "value", "client": "line"})
    return spread(rows, ["line"]).assign(kind="client", value=value)


def _average(scores: pd.DataFrame, display: str, value: float, kind: str, line: str) -> pd.DataFrame:
    rows = scores[scores["variant"] == display]
    averages = over_seeds(rows, list(dict.fromkeys(rows["client"]))).to_numpy(dtype=float).ravel()
    frame = pd.DataFrame({"value": averages, "line": line}).dropna(subset=["value"])
    return spread(frame, ["line"]).assign(kind=kind, value=value)


def _references(scores: pd.DataFrame, methods: Mapping[str, Mapping[str, Any]], swept: set[str]) -> list[str]:
    """Return FedAvg and local training with their defaults; where one lacks, the best method without the setting."""
    others = [display for display in methods if display not in swept]
    plain_ones = {methods[d]["name"]: d for d in others if not methods[d]["label"]}
    found = [plain_ones[name] for name in ("fedavg", "local") if name in plain_ones]
    own = {methods[display]["name"] for display in swept}
    rest = [d for d in others if d not in found and methods[d]["name"] not in own]
    if len(found) < 2 and rest:
        means = {d: float(_average(scores, d, math.nan, "", d)["mean"].max()) for d in rest}
        found.append(max(rest, key=lambda display: means[display]))
    return found


def recipe_sweeps(groups: Sequence[Group]) -> list[Sweep]:
    """Return a sweep for every set of groups that differ in one number of the recipe only."""
    done = {group.id: group for group in groups if group.finished}
    ignored = ("method", "seed", "split")
    choices = {key: flat({k: v for k, v in group.spec.items() if k not in ignored}) for key, group in done.items()}
    names = [name for settings in choices.values() for name in settings if name.startswith(RECIPE)]
    found = [
        _recipe_sweep(name, {v: done[key] for v, key in members.items()}) for name, members in families(choices, names)
    ]
    return [sweep for sweep in found if sweep is not None]


def _recipe_sweep(name: str, members: Mapping[float, Group]) -> Sweep | None:
    scores = {value: seed_scores(group, "best", "dice") for value, group in members.items()}
    times = pd.Series([d for frame in scores.values() for d in dict.fromkeys(frame["variant"])]).value_counts(
        sort=False
    )
    methods = [str(display) for display, count in times.items() if count > 1]
    if not methods:
        return None
    shown = methods[:1]
    if len(methods) > 1:
        frame = pd.concat([_average(f, d, v, "method", d) for d in methods for v, f in scores.items() if _has(f, d)])
        shown = frame.groupby("line")["mean"].max().sort_values(ascending=False).index.to_list()[:MANY_METHODS]
        frame = frame[frame["line"].isin(shown)]
    else:
        pairs = [(value, own) for value, own in scores.items() if _has(own, methods[0])]
        parts = [_of_clients(own, methods[0], value) for value, own in pairs]
        parts += [_average(own, methods[0], value, "average", AVERAGE) for value, own in pairs]
        frame = pd.concat(parts)
    group = next(iter(members.values()))
    title = methods[0] if len(methods) == 1 else str(group.spec["dataset"]["title"])
    left_out = tuple(display for display in methods if display not in shown)
    return Sweep(title, name, frame.reset_index(drop=True), group.simulated, left_out)


def _has(scores: pd.DataFrame, display: str) -> bool:
    return bool((scores["variant"] == display).any())
