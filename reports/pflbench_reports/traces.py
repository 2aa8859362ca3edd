"""What changes over rounds, as tidy frames: validation Dice, shares of layers kept personal, overlap of masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import unquote

import pandas as pd

from pflbench.results import Trial
from pflbench_reports.groups import Group

MASK = "mask_rate/"
OVERLAP = "mask_iou/"
PAPER_LAYERS = ("enc1.0", "enc4.0", "final")  # input layer, intermediate layer, classifier of Fig. 4


def validation(group: Group) -> pd.DataFrame:
    """Return validation Dice in percent per method and round.

    Columns: variant, round, mean (over seeds, of the unweighted mean over clients), std (population,
    over seeds; NaN with one seed), seeds.
    """
    frames = [_trial_curve(trial, group.variants[trial.id].display) for trial in group.finished]
    frame = pd.concat(frames, ignore_index=True) if frames else _trial_curve_columns()
    return spread(frame, ["variant", "round"])


def _trial_curve_columns() -> pd.DataFrame:
    return pd.DataFrame(columns=["variant", "client", "round", "value"])


def _trial_curve(trial: Trial, name: str) -> pd.DataFrame:
    means = _validated(trial).groupby("round")["value"].mean()
    return means.reset_index().assign(variant=name)


def _validated(trial: Trial) -> pd.DataFrame:
    rounds = trial.table("rounds")
    rows = rounds[rounds["split"] == "val"]
    return rows.assign(value=100.0 * rows["dice"].astype(float))[["client", "round", "value"]]


def client_validation(group: Group) -> pd.DataFrame:
    """Return validation Dice in percent per method, client and round.

    Columns: variant, client, round, mean (over seeds), std (population, over seeds; NaN with one seed), seeds.
    """
    frames = [_validated(trial).assign(variant=group.variants[trial.id].display) for trial in group.finished]
    frame = pd.concat(frames, ignore_index=True) if frames else _trial_curve_columns()
    return spread(frame, ["variant", "client", "round"])


def spread(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return mean, population std (NaN for a single value) and count of ``value`` within each of ``by``."""
    grouped = frame.groupby(list(by), sort=False)["value"]
    result = grouped.agg(mean="mean", seeds="count").reset_index()
    deviation = pd.Series(grouped.std(ddof=0).to_numpy(dtype=float), index=result.index)
    result.insert(len(result.columns) - 1, "std", deviation.where(result["seeds"] > 1))
    return result


def mask_rates(group: Group) -> dict[str, pd.DataFrame]:
    """Return, for each method that logs "mask_rate/<layer>", the share of the layer kept personal.

    Columns: client, layer (in the order logged), round, mean and std over seeds (in 0..1), seeds.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for name, rows in _logged(group, MASK):
        frames.setdefault(name, []).append(rows.rename(columns={"rest": "layer"}))
    return {name: spread(pd.concat(parts), ["client", "layer", "round"]) for name, parts in frames.items()}


def mask_overlaps(group: Group) -> dict[str, pd.DataFrame]:
    """Return, for each method that logs "mask_iou/<one>/<other>", how much two clients' masks overlap.

    Columns: one, other (client names, each pair once), round, mean and std over seeds of the intersection
    over union (in 0..1), seeds. In the key, names are percent-encoded, so that they may contain "/".
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for name, rows in _logged(group, OVERLAP):
        pairs = rows["rest"].str.split("/", n=1, expand=True).reindex(columns=[0, 1]).fillna("")
        named = rows.assign(one=pairs[0].map(unquote), other=pairs[1].map(unquote))
        frames.setdefault(name, []).append(named)
    return {name: spread(pd.concat(parts), ["one", "other", "round"]) for name, parts in frames.items()}


def _logged(group: Group, prefix: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Give each finished trial's rows whose key starts with ``prefix``; "rest" is the remainder of the key."""
    for trial in group.finished:
        logs = trial.table("logs")
        key = logs["key"].astype(str)
        rows = logs[key.str.startswith(prefix)]
        if not rows.empty:
            values = pd.to_numeric(rows["value"], errors="coerce")
            rest = key[rows.index].str.removeprefix(prefix)
            yield group.variants[trial.id].display, rows.assign(rest=rest, value=values)


def shown_layers(layers: Sequence[str]) -> list[str]:
    """Return the layers of the paper's Fig. 4 where they exist; else the first, middle and last one."""
    if set(PAPER_LAYERS) <= set(layers):
        return list(PAPER_LAYERS)
    return list(dict.fromkeys([layers[0], layers[len(layers) // 2], layers[-1]]))


def last_round(rates: pd.DataFrame) -> pd.DataFrame:
    """Return a matrix layer x client of the mean rate at the last logged round, layers as logged."""
    final = rates[rates["round"] == rates["round"].max()]
    matrix = final.pivot(index="layer", columns="client", values="mean")
    layers, clients = list(dict.fromkeys(rates["layer"])), list(dict.fromkeys(rates["client"]))
    ordered: pd.DataFrame = matrix.reindex(index=layers, columns=clients)
    return ordered
