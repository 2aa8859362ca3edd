"""What changes over rounds, as tidy frames: validation Dice and the share of each layer kept personal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pflbench.results import Trial
from pflbench_reports.groups import Group

MASK = "mask_rate/"
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
    return pd.DataFrame(columns=["variant", "round", "value"])


def _trial_curve(trial: Trial, name: str) -> pd.DataFrame:
    rounds = trial.table("rounds")
    rows = rounds[rounds["split"] == "val"]
    means = 100.0 * rows.groupby("round")["dice"].mean()
    return means.rename("value").reset_index().assign(variant=name)


def spread(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return mean, population std (NaN for a single value) and count of ``value`` within each of ``by``."""
    grouped = frame.groupby(list(by), sort=False)["value"]
    result = grouped.agg(mean="mean", seeds="size").reset_index()
    deviation = pd.Series(grouped.std(ddof=0).to_numpy(dtype=float), index=result.index)
    result.insert(len(result.columns) - 1, "std", deviation.where(result["seeds"] > 1))
    return result


def mask_rates(group: Group) -> dict[str, pd.DataFrame]:
    """Return, for each method that logs "mask_rate/<layer>", the share of the layer kept personal.

    Columns: client, layer (in the order logged), round, mean and std over seeds (in 0..1), seeds.
    """
    frames: dict[str, list[pd.DataFrame]] = {}
    for trial in group.finished:
        logs = trial.table("logs")
        rows = logs[logs["key"].astype(str).str.startswith(MASK)]
        if not rows.empty:
            layer = rows["key"].astype(str).str.removeprefix(MASK)
            rows = rows.assign(layer=layer, value=rows["value"].astype(float))
            frames.setdefault(group.variants[trial.id].display, []).append(rows)
    return {name: spread(pd.concat(parts), ["client", "layer", "round"]) for name, parts in frames.items()}


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
