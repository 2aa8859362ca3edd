"""Average ranks over many blocks: Friedman's test and the critical difference of Nemenyi (Demsar 2006).

Works on plain frames with the columns dataset, client, variant, value; a block is one client of one dataset.
J. Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
BLOCKS, METHODS = 5, 3  # fewer do not make a diagram
ROUGH = 10  # below so many blocks the tests' distributions are rough approximations (Demsar 2006, section 3.2.2)
DIGITS = 9  # of scores: without, what is equal but for float noise would not tie


@dataclass(frozen=True)
class Ranking:
    """Mean ranks, best first, and how far apart they must be."""

    frame: pd.DataFrame  # as of ``mean_ranks``
    p: float  # Friedman's test that all methods rank alike
    critical: float  # difference of two mean ranks from which on Nemenyi's test tells them apart
    alike: tuple[tuple[int, int], ...]  # first and last place, from 0, of each run that is not told apart

    @property
    def blocks(self) -> int:
        """Return the number of complete blocks."""
        return int(self.frame["blocks"].iloc[0])


def mean_ranks(frame: pd.DataFrame, higher_is_better: bool = True) -> pd.DataFrame:
    """Return variant, mean_rank, blocks and wins, the best first, from dataset, client, variant and value.

    Several rows of one method in one block (seeds) are averaged first; ties get the average of their ranks.
    Only blocks with a score of every method count, and ``blocks`` is their number: without one the ranks are
    NaN. wins: blocks in which no method is better.
    """
    matrix = complete_blocks(frame)
    ranks = matrix.rank(axis=1, ascending=not higher_is_better)
    best = matrix.max(axis=1) if higher_is_better else matrix.min(axis=1)
    result = pd.DataFrame({"mean_rank": ranks.mean(), "blocks": len(matrix), "wins": matrix.eq(best, axis=0).sum()})
    result = result.rename_axis("variant").reset_index()
    return result.sort_values(["mean_rank", "variant"]).reset_index(drop=True)


def complete_blocks(frame: pd.DataFrame) -> pd.DataFrame:
    """Return blocks x methods, averaged over seeds; only blocks in which no method lacks a score."""
    seeds = frame.groupby(["dataset", "client", "variant"], sort=False)["value"]
    means = seeds.mean().where(seeds.count() == seeds.size()).astype(float).round(DIGITS)
    return means.unstack("variant").dropna()


def over_datasets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the same columns with one row per dataset and method: the mean over clients, without weights.

    ``mean_ranks`` of it ranks datasets, each with the same weight, however many clients it has. Only clients
    with a score of every method of their dataset count.
    """
    parts = []
    for dataset, rows in frame.groupby("dataset", sort=False):
        means = complete_blocks(rows).mean().rename("value").rename_axis("variant").reset_index()
        parts.append(means.assign(dataset=dataset, client="Average"))
    columns = ["dataset", "client", "variant", "value"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def why_none(frame: pd.DataFrame) -> str:
    """Return a sentence that says why there is no ranking; empty where there is one."""
    methods, blocks = frame["variant"].nunique(), len(complete_blocks(frame)) if len(frame) else 0
    if methods >= METHODS and blocks >= BLOCKS:
        return ""
    return (
        f"There is no critical-difference diagram: it needs at least {METHODS} methods and {BLOCKS} clients "
        f"(over all datasets) with a score of every method, and here are {methods} and {blocks}."
    )


def ranking(frame: pd.DataFrame) -> Ranking:
    """Return the mean ranks with Friedman's and Nemenyi's tests, at the level 0.05.

    Where Friedman's test tells nothing apart, nothing is: ``alike`` is one run over all methods.
    Raises ValueError where ``why_none`` has a reason.
    """
    if reason := why_none(frame):
        raise ValueError(reason)
    matrix, ranks = complete_blocks(frame), mean_ranks(frame)
    p, critical = friedman(matrix), critical_difference(matrix.shape[1], len(matrix))
    reach = critical if p < LEVEL else math.inf
    return Ranking(ranks, p, critical, runs(ranks["mean_rank"].to_list(), reach))


def friedman(matrix: pd.DataFrame) -> float:
    """Return the p of Friedman's test (scipy) over blocks x methods; 1 where every block is one tie."""
    if (matrix.nunique(axis=1) == 1).all():
        return 1.0
    return float(stats.friedmanchisquare(*matrix.to_numpy(dtype=float).T).pvalue)


def critical_difference(methods: int, blocks: int) -> float:
    """Return q * sqrt(k (k + 1) / (6 N)), q the studentized range's quantile over sqrt(2) (Demsar's table 5a)."""
    q = float(stats.studentized_range.ppf(1 - LEVEL, methods, np.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * blocks))


def runs(ranks: Sequence[float], critical: float) -> tuple[tuple[int, int], ...]:
    """Return the longest runs of sorted mean ranks whose ends are closer than the critical difference."""
    ends = [max(j for j in range(i, len(ranks)) if j == i or ranks[j] - ranks[i] < critical) for i in range(len(ranks))]
    longest = [(i, end) for i, end in enumerate(ends) if end > i and (i == 0 or end > ends[i - 1])]
    return tuple(longest)
