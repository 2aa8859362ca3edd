"""Is the difference real? Sentences and a table about every method against the best one."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pflbench.metrics import METRICS
from pflbench.results import TABLES
from pflbench_reports.cells import Cell, Table
from pflbench_reports.groups import Group
from pflbench_reports.significance import COLUMNS, LEVEL, RESAMPLES, best_method, compare
from pflbench_reports.tables import disputed_splits, guests, main_metric, not_federated, seed_scores
from pflbench_reports.text import MISSING, listed, number, percent, several

ENOUGH_CLIENTS = 6  # the range of so many clients covers a middle with 1 - 2^-5 = 97 %, of fewer with less than 95 %


@dataclass(frozen=True)
class Differences:
    """Every method against the best: the numbers, what they allow one to say, and how to read them."""

    frame: pd.DataFrame  # as of ``significance.compare``
    sentences: tuple[str, ...]
    caveats: tuple[str, ...]  # short, for below the table; empty without one
    table: Table | None  # None: fewer than two methods can be compared


def differences(group: Group, chosen: str = "best", metric: str | None = None) -> Differences:
    """Compare the federated methods of a group by a metric (None: the main one).

    Seeds whose trials saw different splits take no part, nor do clients that never trained.
    """
    name = metric or main_metric(group)
    disputed, never_trained, apart = disputed_splits(group.finished), guests(group), not_federated(group)
    scores, cases = (
        frame[~frame["client"].isin(never_trained) & ~frame["seed"].isin(disputed) & ~frame["variant"].isin(apart)]
        for frame in (
            seed_scores(group, chosen, name).rename(columns={"dice": "value"}),
            subject_scores(group, chosen, name),
        )
    )
    found = differences_of(scores, cases, f"{name.replace('_', '-')}-differences-{chosen}", name)
    if not disputed:
        return found
    seeds = listed([str(seed) for seed in disputed])
    left_out = f"Seed {seeds} takes no part in the comparison with the best: its trials saw different splits."
    return Differences(found.frame, (*found.sentences, left_out), found.caveats, found.table)


def subject_scores(group: Group, chosen: str, metric: str = "dice") -> pd.DataFrame:
    """Return variant, client, seed, subject, case and value of every finished trial, shares in percent.

    A subject is a patient of a site; where none is named it is the volume, and then the case itself. Empty
    for a file of scores and for a metric that cases.csv does not hold.
    """
    columns = ["variant", "client", "seed", "subject", "case", "value"]
    known = group.finished if metric in TABLES["cases"] else []
    frames = []
    for trial in known:
        rows = trial.table("cases")
        rows = rows[rows["chosen"] == chosen]
        owner = rows["subject"].where(rows["subject"] != "", rows["volume"])
        owner = owner.where(owner != "", rows["case"])
        named = rows.assign(
            variant=group.variants[trial.id].display,
            seed=int(trial.spec["seed"]),
            subject=rows["site"] + "\x1f" + owner,  # two sites may number their patients alike
            value=rows[metric].astype(float) * (100.0 if METRICS[metric].percent else 1.0),
        )
        frames.append(named[columns])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def differences_of(scores: pd.DataFrame, cases: pd.DataFrame | None, stem: str, metric: str = "dice") -> Differences:
    """Compare the methods of plain frames (see ``significance``); ``stem`` names the CSV of the table."""
    higher = METRICS[metric].higher_is_better
    best = best_method(scores, higher) if len(scores) else None
    if best is None or scores["variant"].nunique() < 2:
        reason = "Fewer than two methods have scores, or none has all of them, so no difference is tested."
        return Differences(pd.DataFrame(columns=list(COLUMNS)), (reason,), (), None)
    frame = compare(scores, best, cases, higher)
    unit = "points" if METRICS[metric].percent else METRICS[metric].unit
    title = f"Differences from the best, {best} ({METRICS[metric].title}, {unit})"
    table = _table(frame, scores, stem, title)
    return Differences(frame, tuple(_sentences(frame, scores)), _caveats(frame), table)


# sentences


def _sentences(frame: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    clients, seeds = scores["client"].nunique(), scores["seed"].nunique()
    whole = frame["pairs"] == _all_pairs(scores)
    return [
        *_told(frame[whole], clients),
        *_unjudged(frame[~whole]),
        _reach(frame, clients, seeds),
        *_few(clients, seeds),
    ]


def _all_pairs(scores: pd.DataFrame) -> int:
    return len(scores.dropna(subset=["value"])[["client", "seed"]].drop_duplicates())


def _told(ranked: pd.DataFrame, clients: int) -> list[str]:
    """Say which complete methods can be told from the best on these clients, and which cannot."""
    if ranked.empty:
        return []
    best, where = ranked["best"].iloc[0], "this client" if clients == 1 else f"these {clients} clients"
    same, apart = ([str(m) for m in ranked.loc[ranked["apart"] == told, "variant"]] for told in (False, True))
    sentences = [f"On {where} {listed(same)} cannot be told apart from {best}, the best on average."] if same else []
    if apart:
        others = "all other complete methods" if not same else listed(apart)
        sentences.append(f"On {where} {others} can be told apart from {best}.")
    return sentences


def _unjudged(partial: pd.DataFrame) -> list[str]:
    names = [str(name) for name in partial["variant"]]
    return [f"{listed(names)}: not judged, because scores of some seeds or clients are missing."] if names else []


def _reach(frame: pd.DataFrame, clients: int, seeds: int) -> str:
    """Say how small a p these few scores can give at all."""
    comparisons, pairs = int(frame["p"].notna().sum()), int(frame["pairs"].max())
    smallest = float(frame["smallest_p"].min())
    corrected = min(1.0, comparisons * smallest)
    design = f"{several(clients, 'client')} × {several(seeds, 'seed')} ({several(pairs, 'pair')})"
    if corrected >= LEVEL:
        counted = f" after correction for {several(comparisons, 'comparison')}" if comparisons > 1 else ""
        return (
            f"With {design} no difference can reach p < {LEVEL}{counted}: the smallest p is "
            f"{_p(corrected)}{f' ({_p(smallest)} before)' if counted else ''}; more seeds or clients are needed."
        )
    return f"The smallest p that {design} can reach is {_p(smallest)}, {_p(corrected)} after correction."


def _few(clients: int, seeds: int) -> list[str]:
    sentences = []
    if clients == 1:
        sentences.append("With one client there is no interval over clients.")
    elif clients < ENOUGH_CLIENTS:
        covered = 100 * (1 - 2.0 ** (1 - clients))
        sentences.append(
            f"An interval over {clients} clients is at most their range, which holds the median of all such clients "
            f"with a chance of {covered:.0f} % at best: what is said is about these clients, not about other hospitals."
        )
    if seeds == 1:
        sentences.append("With one seed nothing is known about another training.")
    return sentences


def _caveats(frame: pd.DataFrame) -> tuple[str, ...]:
    by_case = frame["case_p"].notna().any()
    steps = " Over cases: cases of a subject are averaged first, then seeds, subjects and clients." if by_case else ""
    intervals = "both intervals exclude 0" if by_case else "the interval excludes 0"
    within = " and, over cases, of the test subjects within each" if by_case else ""
    given = (
        " Over cases the trained models are taken as given and test subjects as exchangeable: "
        "that p says nothing about new trainings."
        if by_case
        else ""
    )
    return (
        f"Differences are method minus best. Over clients: mean over clients of the mean over seeds.{steps} "
        "The best was chosen by these same scores, which favours it.",
        f"95 % intervals: bootstrap clustered by client, {number(RESAMPLES)} resamples of the clients{within}, "
        "percentiles expanded for few clients (Hesterberg 2015), not corrected for the number of comparisons.",
        "p: two-sided Wilcoxon signed-rank test, zero differences dropped, Holm's correction over the methods. "
        "Over client × seed it only describes: the seeds of one client are not independent."
        f"{given}",
        f"Told apart: {intervals} and p over client × seed is below 0.05 after correction.",
    )


# the table

_HEADER = ("Method", "Difference over clients", "95 % interval (clients)", "p over client × seed (Holm)", "Pairs")
_CASE_HEADER = ("Difference over cases", "95 % interval (cases)", "p over cases (Holm)", "Subjects")


def _table(frame: pd.DataFrame, scores: pd.DataFrame, stem: str, title: str) -> Table:
    by_case = bool(frame["case_p"].notna().any())
    expected = _all_pairs(scores)
    lacking = set(frame.loc[frame["pairs"] < expected, "variant"])
    note = f"Lacks some of the {several(expected, 'pair')}: compared over those that it has, and not judged."
    notes = (note,) if lacking else ()
    header = (*_HEADER, *(_CASE_HEADER if by_case else ()), "Told apart")
    rows = tuple(_row(row, lacking, by_case) for row in frame.to_dict("records"))
    meaning = pd.DataFrame({"column": list(COLUMNS), "meaning": list(COLUMNS.values())})
    return Table(title, header, rows, notes, {stem: frame[list(COLUMNS)], f"{stem}-columns": meaning})


def _row(row: Mapping[Hashable, Any], lacking: Collection[str], by_case: bool) -> tuple[Cell, ...]:
    first = Cell(str(row["variant"]), note=1 if row["variant"] in lacking else 0)
    cells = [first, *_cells(row, "difference", "low", "high", "p_holm", "pairs")]
    if by_case:
        cells += _cells(row, "case_difference", "case_low", "case_high", "case_p_holm", "subjects")
    return (*cells, Cell("yes" if row["apart"] else "no"))


def _cells(row: Mapping[Hashable, Any], *names: str) -> list[Cell]:
    difference, low, high, p, count = (float(row[name]) for name in names)
    interval = f"{_signed(low)} to {_signed(high)}" if math.isfinite(low) else MISSING
    texts = ((_signed(difference), difference), (interval, low), (_p(p), p), (number(count), count))
    return [Cell(text, value=value) for text, value in texts]


def _signed(value: float) -> str:
    return percent(value, sign=value != 0)


def _p(value: float) -> str:
    """Return p with three decimals, never as 0."""
    if not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
