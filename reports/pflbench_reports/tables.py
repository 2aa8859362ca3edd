"""The numbers of the tables as plain frames: per client, on average, over seeds, against local training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pflbench.metrics import METRICS
from pflbench.results import Trial
from pflbench_reports.groups import Group

TIE = 1e-9  # points or units: what sums of equal numbers may differ by is no difference


def main_metric(group: Group) -> str:
    """Return the metric of the main table: Dice, or the first known one where a file of scores has no Dice."""
    found = set(group.scores["metric"])
    return next((metric for metric in METRICS if metric in found), "dice")


def other_metrics(group: Group) -> list[str]:
    """Return the metrics besides the main one that the group has, in a fixed order."""
    found = set(group.scores["metric"]) - {main_metric(group)}
    return [metric for metric in METRICS if metric in found]


def seed_scores(group: Group, chosen: str, metric: str | None = None) -> pd.DataFrame:
    """Return one row per method, client and seed: the mean test score of the client's cases.

    Columns: variant (its display name), client, seed, round, cases, dice (the score by any metric: shares in
    percent, distances in their unit). ``chosen`` is "best" (the client's best validation round in the second
    half, or what a file of scores gives) or "last", ``metric`` one of ``pflbench.metrics.METRICS``; None is the
    main one. Unfinished trials and cases without a score give no rows.
    """
    name = metric or main_metric(group)
    frame = group.scores
    frame = frame[(frame["chosen"] == chosen) & (frame["metric"] == name)]
    factor = 100.0 if METRICS[name].percent else 1.0
    frame = frame.assign(dice=factor * frame["value"].astype(float)).dropna(subset=["dice"])
    return frame[["variant", "client", "seed", "round", "cases", "dice"]].reset_index(drop=True)


def guests(group: Group) -> set[str]:
    """Return the clients that never trained and were only tested."""
    listed = [client for trial in group.trials for client in trial.about.get("clients") or ()]
    return {str(client.get("name")) for client in listed if client.get("train") == 0}


def has_volumes(group: Group) -> bool:
    """Say whether the test cases are slices of volumes."""
    return bool((group.scores["metric"] == "dice_volume").any())


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


def summary(frame: pd.DataFrame, local: str | None, higher: bool = True) -> pd.DataFrame:
    """Return one row per method, best average first; ``higher`` says whether larger scores are better.

    average, between_clients: see ``between_clients``, over the clients' seed-means. over_seeds: population
    deviation over seeds of the average over clients; NaN with one seed. worst: the worst client mean,
    worst_client its name. range_clients: largest minus smallest client mean; NaN where a client lacks.
    gain: how much better the average is than that of ``local``, positive where it is better. harmed: number
    of clients whose mean is worse than under ``local``; both NaN without ``local`` and for itself.
    """
    means = client_means(frame)
    by_seed = over_seeds(frame, list(means.columns))
    gained = gains(frame, local, higher)
    rows = [{**_row(str(name), means, by_seed, higher), **_against(str(name), gained)} for name in means.index]
    result = pd.DataFrame(rows).sort_values(["average", "variant"], ascending=[not higher, True])
    return result.reset_index(drop=True)


def client_means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return methods x clients of the means over seeds, clients in the order of the frame."""
    means = client_statistics(frame).pivot(index="variant", columns="client", values="mean")
    return means[list(dict.fromkeys(frame["client"]))]


def gains(frame: pd.DataFrame, local: str | None, higher: bool = True) -> pd.DataFrame:
    """Return methods x clients: how much better the client's mean is than under ``local``, which has no row.

    Positive is better, whatever the metric. Empty without ``local``.
    """
    means = client_means(frame)
    if local not in means.index:
        return means.iloc[:0]
    differences = means.sub(means.loc[str(local)], axis="columns").drop(index=str(local))
    return differences if higher else -differences


def _row(name: str, means: pd.DataFrame, by_seed: pd.DataFrame, higher: bool) -> dict[str, object]:
    own = pd.Series(means.loc[name], dtype=float)
    average, spread = between_clients(own.to_list())
    seeds = pd.Series(by_seed.loc[name], dtype=float).dropna().to_numpy()
    worst = str(own.idxmin() if higher else own.idxmax())
    return {
        "variant": name,
        "average": average,
        "between_clients": spread,
        "over_seeds": float(seeds.std(ddof=0)) if len(seeds) > 1 else float("nan"),
        "seeds": len(seeds),
        "worst": own[worst],
        "worst_client": worst,
        "range_clients": own.max(skipna=False) - own.min(skipna=False),
    }


def _against(name: str, gained: pd.DataFrame) -> dict[str, float]:
    if name not in gained.index:
        return {"gain": float("nan"), "harmed": float("nan")}
    own = pd.Series(gained.loc[name], dtype=float)
    return {"gain": float(own.mean(skipna=False)), "harmed": float((own < -TIE).sum())}


def local_of(group: Group) -> str | None:
    """Return the display name of local training, the one with default settings first; None if absent."""
    scored = set(group.scores["variant"])
    found = [v for v in group.variants.values() if v.name == "local" and v.display in scored]
    candidates = sorted(found, key=lambda v: (v.label != "", v.display))
    return candidates[0].display if candidates else None


def missing_seeds(frame: pd.DataFrame) -> dict[str, set[int]]:
    """Return, for each method of ``seed_scores``, the seeds that another method has and it has not."""
    seeds = {str(method): {int(seed) for seed in rows.unique()} for method, rows in frame.groupby("variant")["seed"]}
    every = set().union(*seeds.values())
    return {method: every - own for method, own in seeds.items() if every - own}


def missing_clients(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Return, for each method of ``seed_scores``, the clients without a score in some of its seeds."""
    wide = frame.pivot_table(index=["variant", "seed"], columns="client", values="dice", sort=False)
    lacking = wide.isna().groupby(level="variant", sort=False).any()
    return {str(v): [str(c) for c in lacking.columns[row]] for v, row in lacking.iterrows() if row.any()}


def not_federated(group: Group) -> set[str]:
    """Return the methods that had everybody's data in one place: a ceiling to look at, not rivals."""
    return {group.variants[trial.id].display for trial in group.trials if trial.about.get("federated") is False}


def comparable(group: Group, frame: pd.DataFrame) -> set[str]:
    """Return the methods that may be ranked: federated ones with every seed and every client that any other has."""
    return set(frame["variant"]) - set(missing_seeds(frame)) - set(missing_clients(frame)) - not_federated(group)


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
