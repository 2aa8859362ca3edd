"""Every method against the best one: paired differences, intervals clustered by client, signed-rank tests.

Works on plain frames, whatever they come from. ``scores``: columns variant, client, seed, value; ``cases``:
columns variant, client, seed, subject, case, value. NaN is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

LEVEL = 0.05
RESAMPLES = 10_000
LEAST_TAIL = 10 / RESAMPLES  # a quantile farther out would rest on fewer than ten resamples
EXACT, EXACT_WITH_TIES = 50, 10  # so many differences are enumerated; 2^10 sign patterns take 0.2 s
DIGITS = 9  # of differences: without, what is equal but for float noise would not tie

COLUMNS: dict[str, str] = {
    "variant": "the method",
    "best": "the method it is compared with",
    "difference": "method minus best, in points (shares) or the unit: mean over clients of the mean over seeds",
    "low": "lower end of its 95 % interval, clustered by client",
    "high": "upper end of its 95 % interval, clustered by client",
    "clients": "clients that both have scores of",
    "pairs": "pairs of scores of one client and seed",
    "p": "Wilcoxon signed-rank test over these pairs, two-sided",
    "p_holm": "the same with Holm's correction over the methods",
    "smallest_p": "the smallest p that so many pairs can reach, before correction",
    "case_difference": "the same difference as mean over clients of the mean over test subjects",
    "case_low": "lower end of its 95 % interval, clustered by client",
    "case_high": "upper end of its 95 % interval, clustered by client",
    "subjects": "test subjects that both have scores of",
    "case_p": "Wilcoxon signed-rank test over test subjects, averaged over seeds, two-sided",
    "case_p_holm": "the same with Holm's correction over the methods",
    "apart": "whether low..high and, where known, case_low..case_high exclude 0 and p_holm is below 0.05",
}


def best_method(scores: pd.DataFrame, higher: bool = True) -> str | None:
    """Return the complete method with the best mean over clients of the means over seeds; None without one."""
    complete = _wide(scores, ["client", "seed"])[complete_methods(scores)]
    if complete.empty:
        return None
    averages = complete.groupby(level="client").mean().mean() * (-1 if higher else 1)
    # a tie but for float noise goes to the first name
    return str(averages.round(DIGITS).sort_index().idxmin())


def complete_methods(scores: pd.DataFrame) -> list[str]:
    """Return the methods with a score of every client and seed that any method has a score of."""
    wide = _wide(scores, ["client", "seed"])
    return [str(name) for name in wide.columns[wide.notna().all()]]


def compare(scores: pd.DataFrame, best: str, cases: pd.DataFrame | None, higher: bool = True) -> pd.DataFrame:
    """Return one row per method other than ``best``, the closest in rank first, with the columns ``COLUMNS``.

    A method is compared over the pairs that it shares with the best. Without ``cases`` their columns are NaN.
    """
    pairs = _differences(scores, best, ["client", "seed"])
    per_client = pairs.groupby(level="client", sort=False).mean()
    result = cluster_intervals(per_client).assign(clients=per_client.count(), pairs=pairs.count())
    result = result.assign(p=pairs.apply(signed_rank), smallest_p=pairs.count().map(smallest_p))
    by_case = _over_cases(cases, best) if cases is not None and len(cases) else pd.DataFrame()
    result = result.join(by_case).assign(best=best).reindex(columns=[c for c in COLUMNS if c != "variant"])
    result["p_holm"], result["case_p_holm"] = holm(result["p"]), holm(result["case_p"])
    over_cases = result["case_low"].isna() | _excludes_zero(result, "case_low", "case_high")
    result["apart"] = _excludes_zero(result, "low", "high") & over_cases & (result["p_holm"] < LEVEL)
    rows = result.rename_axis("variant").reset_index()
    return rows.sort_values(["difference", "variant"], ascending=[not higher, True]).reset_index(drop=True)


def _wide(frame: pd.DataFrame, unit: Sequence[str]) -> pd.DataFrame:
    numbers = frame.assign(value=frame["value"].astype(float))
    return numbers.pivot_table(index=list(unit), columns="variant", values="value", sort=False)


def _differences(frame: pd.DataFrame, best: str, unit: Sequence[str]) -> pd.DataFrame:
    """Return units x methods: method minus best, NaN where either lacks a score."""
    wide = _wide(frame, unit)
    others = wide.drop(columns=best)
    return others.sub(wide[best], axis=0).round(DIGITS)


def _excludes_zero(frame: pd.DataFrame, low: str, high: str) -> pd.Series:
    return (frame[low] > 0) | (frame[high] < 0)


def _over_cases(cases: pd.DataFrame, best: str) -> pd.DataFrame:
    """Return the columns about cases: cases of a subject are averaged first, then seeds, then subjects."""
    single = _differences(cases, best, ["client", "seed", "subject", "case"])
    per_seed = single.groupby(level=["client", "seed", "subject"], sort=False).mean()
    subjects = per_seed.groupby(level=["client", "subject"], sort=False).mean().round(DIGITS)
    result = cluster_intervals(subjects).add_prefix("case_")
    return result.assign(subjects=subjects.count(), case_p=subjects.apply(signed_rank))


def cluster_intervals(differences: pd.DataFrame) -> pd.DataFrame:
    """Return difference, low and high per method from units x methods with an index level "client".

    difference: mean over clients, without weights, of the mean over the client's units. low, high: 95 %
    percentile bootstrap. Clients are drawn with replacement, then within each drawn client its units;
    ``scipy.stats.bootstrap`` draws single observations only. All methods see the same resamples, from a fixed
    seed. The percentiles are those of Hesterberg's expanded percentile interval, because the plain ones are too
    narrow for few clients (six: about 84 % instead of 95 %). NaN with a single client: nothing varies.

    T. C. Hesterberg, What teachers should know about the bootstrap, The American Statistician 69(4), 2015.
    """
    parts = [_interval(differences[methods].dropna()) for methods in _alike(differences)]
    empty = pd.DataFrame(columns=["difference", "low", "high"], dtype=float)
    return pd.concat(parts).reindex(differences.columns) if parts else empty


def _alike(differences: pd.DataFrame) -> list[list[str]]:
    """Return the methods in bunches that have a difference in the same units."""
    bunches: dict[bytes, list[str]] = {}
    for method in differences.columns:
        bunches.setdefault(differences[method].notna().to_numpy().tobytes(), []).append(method)
    return list(bunches.values())


def _interval(differences: pd.DataFrame) -> pd.DataFrame:
    clients = [rows.to_numpy() for _, rows in differences.groupby(level="client", sort=False)]
    result = pd.DataFrame(index=differences.columns, columns=["difference", "low", "high"], dtype=float)
    if clients:
        result["difference"] = np.mean([units.mean(axis=0) for units in clients], axis=0).round(DIGITS)
    if len(clients) > 1:
        tail = expanded_tail(len(clients))
        result[["low", "high"]] = np.quantile(_resampled(clients), [tail, 1 - tail], axis=0).T.round(DIGITS)
    return result


def expanded_tail(clients: int) -> float:
    """Return the share cut off at each end so that the percentile interval is as wide as Student's."""
    quantile = stats.t.ppf(1 - LEVEL / 2, clients - 1)
    return max(float(stats.norm.cdf(-math.sqrt(clients / (clients - 1)) * quantile)), LEAST_TAIL)


def _resampled(clients: Sequence[Any]) -> Any:
    """Return resamples x methods: the mean of each two-stage resample of arrays of units x methods."""
    rng = np.random.default_rng(0)
    count = len(clients)
    times = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    total = np.zeros((RESAMPLES, clients[0].shape[1]))
    for place, units in enumerate(clients):
        size = len(units)
        # a client drawn t times draws its units t times: only how often each was drawn matters for a mean
        drawn = rng.multinomial(times[:, place] * size, np.full(size, 1 / size))
        total += drawn @ units / (size * count)
    return total


def signed_rank(differences: pd.Series) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test (scipy); NaN without any difference.

    Zeros are dropped (Wilcoxon's way); nothing but zeros gives p = 1. The distribution is enumerated up to 50
    differences, up to 10 where some are equal in size, and approximated by the normal beyond.
    """
    found = differences.dropna().to_numpy(dtype=float)
    nonzero = found[found != 0]
    if not len(nonzero):
        return 1.0 if len(found) else math.nan
    ties = len(np.unique(np.abs(nonzero))) < len(nonzero)
    if len(nonzero) > (EXACT_WITH_TIES if ties else EXACT):
        return float(stats.wilcoxon(nonzero, method="approx").pvalue)
    every = stats.PermutationMethod(n_resamples=2**EXACT_WITH_TIES)
    return float(stats.wilcoxon(nonzero, method=every if ties else "exact").pvalue)


def smallest_p(pairs: int) -> float:
    """Return the smallest two-sided p that a signed-rank test can reach: all n signs alike, 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(values: pd.Series) -> pd.Series:
    """Return p values with Holm's correction (statsmodels) over those that are known."""
    known = values.astype(float).dropna()
    if known.empty:
        return values.astype(float)
    corrected = multipletests(known.to_numpy(), method="holm")[1]
    return pd.Series(corrected, index=known.index).reindex(values.index)
