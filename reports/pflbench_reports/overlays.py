"""What each method found in a client's worst, median and best test case, beside the image and its mask (Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pflbench.results import Picture as Case
from pflbench.results import ResultsError, Trial
from pflbench_reports.groups import Group
from pflbench_reports.text import listed

MANY = 8  # methods beside each other on one page
RANKS = ("worst", "median", "best")


@dataclass(frozen=True)
class Row:
    """One test case of one client: the image, its mask, and what each method found there."""

    rank: str  # "worst", "median", "best", or "only"
    case: str
    picture: Case
    found: Mapping[str, NDArray[np.bool_]]  # method -> H x W
    dice: Mapping[str, float]  # method -> percent


@dataclass(frozen=True)
class Sheet:
    """The chosen cases of one client, from the trials of one seed."""

    client: str
    seed: int
    rows: tuple[Row, ...]
    methods: tuple[str, ...]
    left_out: tuple[str, ...]  # methods of the table that are not shown
    simulated: bool


@dataclass(frozen=True)
class _Source:
    """A method's trial of the chosen seed: which case stands where among what it found."""

    cases: pd.DataFrame
    found: Mapping[str, NDArray[np.bool_]]


def sheets(group: Group, order: Sequence[str]) -> tuple[list[Sheet], str]:
    """Return a sheet per client, with at most ``MANY`` methods (the first of ``order``), or why there is none.

    The seed is the first of those that the most methods share. A case is ranked by the median over the shown
    methods of its Dice there; between equals the first stays first.
    """
    seed, trials = _shared(group, order[:MANY])
    try:
        sources = {method: source for method, trial in trials.items() if (source := _source(trial)) is not None}
        pictures = next(iter(trials.values())).pictures() if sources else None
    except (ResultsError, KeyError, ValueError, IndexError) as error:
        return [], f"There are no overlays: the stored images or predictions cannot be read ({error})."
    if not sources:
        return [], "There are no overlays: these results came without predictions."
    if pictures is None:
        return [], "There are no overlays: these results came without the test images."
    left_out = tuple(method for method in order if method not in sources)
    clients = list(dict.fromkeys(client for source in sources.values() for client in source.cases["client"]))
    found = [Sheet(c, seed, _rows(c, sources, pictures), tuple(sources), left_out, group.simulated) for c in clients]
    kept = [sheet for sheet in found if sheet.rows]
    return kept, "" if kept else "There are no overlays: the methods share no test case with a stored image."


def _shared(group: Group, methods: Sequence[str]) -> tuple[int, dict[str, Trial]]:
    """Return the first of the seeds that the most methods finished, and its trials in the order of the methods."""
    by_seed: dict[int, dict[str, Trial]] = {}
    for trial in group.finished:
        by_seed.setdefault(int(trial.spec["seed"]), {})[group.variants[trial.id].display] = trial
    ranked = sorted(by_seed.items(), key=lambda item: (-len(set(item[1]) & set(methods)), item[0]))
    seed, trials = ranked[0] if ranked else (0, {})
    return seed, {method: trials[method] for method in methods if method in trials}


def _source(trial: Trial) -> _Source | None:
    found = trial.predictions()
    if found is None:
        return None
    cases = trial.table("cases")
    best = cases[cases["chosen"] == "best"].copy()
    best["place"] = best.groupby("client", sort=False).cumcount()
    counts = {str(client): len(rows) for client, rows in best.groupby("client", sort=False)}
    if any(len(found[client]) != count for client, count in counts.items()):
        raise ResultsError(f"{trial.folder} has other predictions than cases.")
    return _Source(best[["client", "case", "dice", "place"]], found)


def _rows(client: str, sources: Mapping[str, _Source], pictures: Mapping[str, Case]) -> tuple[Row, ...]:
    scores = pd.DataFrame({method: _of(source, client)["dice"] for method, source in sources.items()})
    shared = scores[scores.index.isin(list(pictures))].dropna()
    ranked = [str(case) for case in shared.median(axis=1).sort_values(kind="stable").index]
    return tuple(
        Row(rank, case, pictures[case], _found(client, case, sources), _percent(shared, case))
        for rank, case in _chosen(ranked)
    )


def _percent(scores: pd.DataFrame, case: str) -> dict[str, float]:
    return {str(method): 100.0 * float(scores[method][case]) for method in scores.columns}


def _of(source: _Source, client: str) -> pd.DataFrame:
    rows = source.cases[source.cases["client"] == client]
    return rows.drop_duplicates("case").set_index("case")


def _found(client: str, case: str, sources: Mapping[str, _Source]) -> dict[str, NDArray[np.bool_]]:
    return {method: source.found[client][int(_of(source, client)["place"][case])] for method, source in sources.items()}


def _chosen(ranked: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give the worst, the median (of an even number the lower) and the best, each case once."""
    if len(ranked) == 1:
        yield "only", ranked[0]
    elif len(ranked) == 2:
        yield from zip(("worst", "best"), ranked, strict=True)
    elif ranked:
        yield from zip(RANKS, (ranked[0], ranked[(len(ranked) - 1) // 2], ranked[-1]), strict=True)


def outcome(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Return which pixels are true positives, false positives and false negatives (H x W each)."""
    return {"true positive": found & mask, "false positive": found & ~mask, "false negative": ~found & mask}


def numbers(sheet: Sheet) -> pd.DataFrame:
    """Return the numbers of a sheet: a row per case and method with Dice in percent and pixels by outcome."""
    rows = [
        {"client": sheet.client, "seed": sheet.seed, "rank": row.rank, "case": row.case, "method": method}
        | {"dice": row.dice[method]}
        | {f"{k.replace(' ', '_')}s": int(v.sum()) for k, v in outcome(row.found[method], row.picture.mask).items()}
        for row in sheet.rows
        for method in sheet.methods
    ]
    return pd.DataFrame(rows)


def frame_of(row: Row) -> tuple[int, int, int, int]:
    """Return top, bottom, left and right of the part worth showing: all that is marked by anyone, with a margin.

    It has the shape of the image; where it would save less than half of the area, it is the whole image.
    """
    height, width = row.picture.mask.shape
    marked = np.any([row.picture.mask, *row.found.values()], axis=0)
    lines, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(lines):
        return 0, height, 0, width
    share = 1.25 * max((np.ptp(lines) + 1) / height, (np.ptp(columns) + 1) / width)
    share = max(share, 0.2)  # what is tiny still needs something around it
    if 2 * share**2 >= 1:
        return 0, height, 0, width
    top, bottom = _around(int(lines[0]), int(lines[-1]) + 1, round(share * height), height)
    left, right = _around(int(columns[0]), int(columns[-1]) + 1, round(share * width), width)
    return top, bottom, left, right


def _around(start: int, end: int, length: int, whole: int) -> tuple[int, int]:
    """Return a stretch of ``length`` around the middle of another, within 0 .. ``whole``."""
    first = int(np.clip((start + end - length) // 2, 0, whole - length))
    return first, first + length


def story(sheet: Sheet) -> str:
    """Return in words which cases are shown, and which methods are not."""
    picked = listed([f"{row.rank} ({row.case})" for row in sheet.rows])
    words = [
        f"{sheet.client}: the {picked} of its test cases by the median over the shown methods of the case's Dice, "
        f"seed {sheet.seed}, each client's best validation round. Numbers: Dice of the case (%)."
    ]
    if sheet.left_out:
        words.append(f"Not shown: {listed(sheet.left_out)} (no room, or no predictions of this seed).")
    return " ".join(words)
