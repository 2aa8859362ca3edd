"""The Dice tables as plain frames: per client, on average, over seeds, against local training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pflbench.results import Trial, scores
from pflbench_reports.groups import Group, Variant


def seed_scores(group: Group, chosen: str, metric: str = "dice") -> pd.DataFrame:
    """Return one row per method, client and seed: the mean test score of the client's cases, in percent.

    Columns: variant (its display name), client, seed, round, cases, dice. ``chosen`` is "best" (the
    client's best validation round in the second half) or "last", ``metric`` one of ``pflbench.results.scores``.
    Unfinished trials give no rows.
    """
    frame = scores(group.finished)
    frame = frame[(frame["chosen"] == chosen) & (frame["metric"] == metric)]
    names = {trial: variant.display for trial, variant in group.variants.items()}
    frame = frame.assign(variant=frame["trial"].map(names), dice=100.0 * frame["value"].astype(float))
    return frame[["variant", "client", "seed", "round", "cases", "dice"]].reset_index(drop=True)


def guests(group: Group) -> set[str]:
    """Return the clients that never trained and were only tested."""
    listed = [client for trial in group.trials for client in trial.about.get("clients") or ()]
    return {str(client.get("name")) for client in listed if client.get("train") == 0}


def has_volumes(group: Group) -> bool:
    """Say whether the test cases are slices of volumes."""
    frame = scores(group.finished)
    return bool((frame["metric"] == "dice_volume").any())


def other_metrics(group: Group) -> list[str]:
    """Return the metrics besides Dice that some trial of the group has, in a fixed order."""
    found = set(scores(group.finished)["metric"])
    return [metric for metric in ("dice_volume", "dice_fov") if metric in found]


def client_statistics(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean and standard deviation over seeds per method and client.

    mean = sum_s x_s / S and std = sqrt(sum_s (x_s - mean)^2 / S): the population form (ddof=0), as in
    Tables 1-3 of the pFL-ResFIM paper (reference/methods.md, section 7). One seed has no spread: NaN.
    Columns: variant, client, mean, std, seeds.
    """
    grouped = frame.groupby(["variant", "client"], sort=False)["dice"]
    result = grouped.agg(mean="mean", seeds="size").reset_index()
    spread = grouped.std(ddof=0).to_numpy()
    result["std"] = pd.Series(spread, index=result.index).where(result["seeds"] > 1)
    return result[["variant", "client", "mean", "std", "seeds"]]


def between_clients(means: Sequence[float]) -> tuple[float, float]:
    """Return the unweighted mean over clients and the population deviation between clients (ddof=0).

    This is what the paper's column "Average" prints: 14 of its 15 rows agree within the last digit
    (the one that does not, FedBN in Table 3, cannot be reached by any rounding). It is a spread
    between hospitals and says nothing about how far a repetition would move.
    """
    values = pd.Series(means, dtype=float)
    return float(values.mean(skipna=False)), float(values.std(ddof=0, skipna=False))


def over_seeds(frame: pd.DataFrame, clients: Sequence[str]) -> pd.DataFrame:
    """Return the average over clients per method (index) and seed (columns); NaN where a client lacks."""
    wide = frame.pivot_table(index=["variant", "seed"], columns="client", values="dice", sort=False)
    averages = wide.reindex(columns=list(clients)).mean(axis=1, skipna=False)
    by_seed: pd.DataFrame = averages.unstack("seed")
    return by_seed


def summary(frame: pd.DataFrame, local: str | None) -> pd.DataFrame:
    """Return one row per method, best average first.

    average, between_clients: see ``between_clients``, over the clients' seed-means. over_seeds:
    population deviation over seeds of the average over clients; NaN with one seed. worst: the lowest
    client mean, worst_client its name. gain: average minus the average of ``local``. harmed: number of
    clients whose mean is below their mean under ``local``; both NaN without ``local`` and for itself.
    """
    statistics = client_statistics(frame)
    means = statistics.pivot(index="variant", columns="client", values="mean")
    means = means[list(dict.fromkeys(frame["client"]))]
    by_seed = over_seeds(frame, list(means.columns))
    rows = [_row(str(name), means, by_seed, local) for name in means.index]
    result = pd.DataFrame(rows).sort_values(["average", "variant"], ascending=[False, True])
    return result.reset_index(drop=True)


def _row(name: str, means: pd.DataFrame, by_seed: pd.DataFrame, local: str | None) -> dict[str, object]:
    own = means.T[name]
    average, spread = between_clients(own.to_list())
    seeds = by_seed.T[name].dropna().to_numpy(dtype=float)
    row: dict[str, object] = {"variant": name, "average": average, "between_clients": spread}
    row["over_seeds"] = float(seeds.std(ddof=0)) if len(seeds) > 1 else float("nan")
    row |= {"seeds": len(seeds), "worst": own.min(), "worst_client": own.idxmin()}
    row |= {"gain": float("nan"), "harmed": float("nan")}
    if local is not None and name != local:
        base = means.T[local]
        row |= {"gain": average - base.mean(skipna=False), "harmed": float((own < base).sum())}
    return row


def local_of(group: Group) -> str | None:
    """Return the display name of local training, the one with default settings first; None if absent."""
    found = {group.variants[trial.id] for trial in group.finished}
    candidates = sorted((v for v in found if v.name == "local"), key=lambda v: (v.label != "", v.display))
    return candidates[0].display if candidates else None


def seeds_of(group: Group) -> dict[Variant, set[int]]:
    """Return the finished seeds of every method that has any."""
    result: dict[Variant, set[int]] = {}
    for trial in group.finished:
        result.setdefault(group.variants[trial.id], set()).add(int(trial.spec["seed"]))
    return result


def missing_seeds(group: Group) -> dict[str, set[int]]:
    """Return, for each method in the table, the seeds that another method finished and it did not."""
    seeds = seeds_of(group)
    every = set().union(*seeds.values()) if seeds else set()
    return {variant.display: every - own for variant, own in seeds.items() if every - own}


def missing_clients(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return, for each method of ``seed_scores``, the clients without a score in some of its seeds."""
    wide = frame.pivot_table(index=["variant", "seed"], columns="client", values="dice", sort=False)
    lacking = wide.isna().groupby(level="variant", sort=False).any()
    return {str(v): [str(c) for c in lacking.columns[row]] for v, row in lacking.iterrows() if row.any()}


def comparable(group: Group, frame: pd.DataFrame) -> set[str]:
    """Return the methods that may be ranked: those with every seed and every client that any other has."""
    return set(frame["variant"]) - set(missing_seeds(group)) - set(missing_clients(frame))


def disputed_splits(trials: Sequence[Trial]) -> list[int]:
    """Return the seeds whose trials did not all see the same split: methods cannot be compared there."""
    splits: dict[int, set[str]] = {}
    for trial in trials:
        splits.setdefault(int(trial.spec["seed"]), set()).add(str(trial.spec.get("split", "")))
    return sorted(seed for seed, found in splits.items() if len(found) > 1)


def splits_of(trials: Sequence[Trial]) -> Mapping[int, list[str]]:
    """Return the split hashes per seed, in the order of the seeds."""
    result: dict[int, list[str]] = {}
    for trial in sorted(trials, key=lambda trial: int(trial.spec["seed"])):
        known = result.setdefault(int(trial.spec["seed"]), [])
        if (split := str(trial.spec.get("split", ""))) not in known:
            known.append(split)
    return result
