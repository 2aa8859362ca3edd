"""Differences between two sides, paired by method, client and seed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import pandas as pd

from pflbench_reports.sides import Part

AVERAGE = "Average"
_CASE = ["chosen", "client", "site", "subject", "volume", "case"]


def method_pairs(a: Part, b: Part) -> dict[str, str]:
    """Return which method of ``b`` each method of ``a`` is compared with.

    The same method with the same settings first; then what is displayed alike; then the same name where one is
    left on either side. Two single methods are compared whatever they are called.
    """
    if len(a.methods) == len(b.methods) == 1:
        return dict(zip(a.methods, b.methods, strict=True))
    pairs: dict[str, str] = {}
    for mark in (_key, _display, _name):
        left_a, left_b = _left(a, pairs, mark), _left(b, pairs.values(), mark)
        pairs |= {own[0]: left_b[m][0] for m, own in left_a.items() if len(own) == len(left_b.get(m, ())) == 1}
    return {name: pairs[name] for name in a.methods if name in pairs}


Stated = Mapping[str, object]


def _key(display: str, stated: Stated) -> str:
    return str(stated["key"])


def _display(display: str, stated: Stated) -> str:
    return display


def _name(display: str, stated: Stated) -> str:
    return str(stated["name"]).casefold()


def _left(part: Part, taken: Collection[str], mark: Callable[[str, Stated], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for display, stated in part.methods.items():
        if display not in taken:
            found.setdefault(mark(display, stated), []).append(display)
    return found


def paired_scores(a: Part, b: Part, pairs: Mapping[str, str], without: Collection[tuple[str, int]]) -> pd.DataFrame:
    """Return one row per method of ``a``, client, seed, choice of model and metric that both sides have.

    Columns: method, client, seed, chosen, metric, a, b (means over the client's test cases; ratios in percent,
    distances in their unit). ``without``: (method, seed) whose splits differ.
    """
    ours = a.values[a.values["method"].isin(pairs)].rename(columns={"value": "a"})
    theirs = b.values.rename(columns={"value": "b"})
    back = {other: own for own, other in pairs.items()}
    theirs = theirs[theirs["method"].isin(back)].assign(method=lambda rows: rows["method"].map(back))
    both = ours.merge(theirs, on=["method", "client", "seed", "chosen", "metric"], sort=False)
    keys = pd.MultiIndex.from_frame(both[["method", "seed"]])
    return both[~keys.isin(list(without))].reset_index(drop=True)


def differences(paired: pd.DataFrame, guests: Collection[str]) -> pd.DataFrame:
    """Return the mean difference b - a over the common seeds per method, client, choice of model and metric.

    Columns: method, chosen, metric, average, client, seeds, a, b (means over those seeds), difference, same (all
    values equal to the last digit), over_seeds (population standard deviation, ddof=0, over seeds of the paired
    difference; NaN with one seed). A row that is an ``average`` is, within each seed, the unweighted mean over
    the clients that ever train; seeds that lack one of them take no part.
    """
    by = ["method", "chosen", "metric"]
    every = pd.concat([paired.assign(average=False), _averages(paired[~paired["client"].isin(guests)])])
    every = every.assign(difference=every["b"] - every["a"], same=every["a"] == every["b"])
    grouped = every.groupby([*by, "average", "client"], sort=False)
    result = grouped.agg(
        seeds=("a", "size"), a=("a", "mean"), b=("b", "mean"), difference=("difference", "mean"), same=("same", "all")
    ).reset_index()
    spread = grouped["difference"].std(ddof=0).to_numpy(dtype=float)
    return result.assign(over_seeds=np.where(result["seeds"] > 1, spread, np.nan))


def _averages(paired: pd.DataFrame) -> pd.DataFrame:
    by = ["method", "chosen", "metric"]
    clients = paired.groupby(by)["client"].transform("nunique")
    complete = paired.assign(whole=clients).groupby([*by, "seed"], sort=False)
    means = complete.agg(
        a=("a", "mean"), b=("b", "mean"), whole=("whole", "first"), present=("a", "size")
    ).reset_index()
    means = means[means["whole"] == means["present"]].drop(columns=["whole", "present"])
    return means.assign(client=AVERAGE, average=True)


def identical(a: Part, b: Part, method: str, other: str, seeds: Collection[int], paired: pd.DataFrame) -> bool:
    """Say whether all scores of the common seeds are the same to the last digit: every test case, where known."""
    rows = paired[paired["method"] == method]
    if rows.empty or not bool((rows["a"] == rows["b"]).all()):
        return False
    known = [(a.trials.get((method, seed)), b.trials.get((other, seed))) for seed in seeds]
    tables = [(one.table("cases"), two.table("cases")) for one, two in known if one and two]
    return all(_sorted(one).equals(_sorted(two)) for one, two in tables)


def _sorted(cases: pd.DataFrame) -> pd.DataFrame:
    return cases.sort_values(_CASE).reset_index(drop=True)
