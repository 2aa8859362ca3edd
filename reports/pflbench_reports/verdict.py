"""What the headline table allows one to say, in sentences, and what it does not."""

from __future__ import annotations

import pandas as pd

from pflbench.metrics import METRICS
from pflbench_reports.groups import Group
from pflbench_reports.tables import (
    comparable,
    disputed_splits,
    local_of,
    main_metric,
    not_federated,
    seed_scores,
    summary,
)
from pflbench_reports.text import listed, ordinal, percent, several

ENOUGH_SEEDS = 5


def verdict(group: Group) -> list[str]:
    """Return honest sentences about who is best on average in this group; empty without a finished trial."""
    metric = METRICS[main_metric(group)]
    frame = seed_scores(group, "best")
    if frame.empty:
        return []
    totals, fair = summary(frame, local_of(group), metric.higher_is_better), comparable(group, frame)
    ranked = totals[totals["variant"].isin(fair)].reset_index(drop=True)
    if len(ranked) < 2:
        return [
            "Fewer than two methods have finished every seed, so nothing is ranked.",
            *_warnings(group, totals),
        ]
    units = ("%", "points") if metric.percent else (metric.unit, metric.unit)
    sentences = [_leader(ranked, *units), _decided(ranked, units[1]), *_focus(group, ranked, units[1])]
    sentences += _harm(ranked)
    return [*sentences, *_warnings(group, ranked)]


def _leader(ranked: pd.DataFrame, unit: str, steps: str) -> str:
    first, second = ranked.iloc[0], ranked.iloc[1]
    difference = first["average"] - second["average"]
    side = "above" if difference >= 0 else "below"  # of a distance, the smaller is the better
    return (
        f"The best on average is {first['variant']} with {percent(first['average'])} {unit}, "
        f"{percent(abs(difference))} {steps} {side} {second['variant']}."
    )


def _decided(ranked: pd.DataFrame, unit: str) -> str:
    first, second = ranked.iloc[0], ranked.iloc[1]
    seeds = int(min(first["seeds"], second["seeds"]))
    if seeds < 2:
        return "With one seed nothing is known about how far a repetition would move these numbers."
    spread = max(first["over_seeds"], second["over_seeds"])
    difference = abs(first["average"] - second["average"])
    larger = "larger" if difference > spread else "not larger"
    sentence = f"That difference is {larger} than the spread over seeds (± {percent(spread)} {unit})"
    if seeds < ENOUGH_SEEDS:
        return f"{sentence}, but {seeds} seeds are too few to decide an order."
    return f"{sentence}, taken over {several(seeds, 'seed')}."


def _focus(group: Group, ranked: pd.DataFrame, unit: str) -> list[str]:
    """Say plainly where the method under test ranks when it is not the best."""
    variants = sorted(set(group.variants.values()), key=lambda variant: (variant.label != "", variant.display))
    names = [v.display for v in variants if v.name == "resfim" and v.display in set(ranked["variant"])]
    places = {str(name): place for place, name in enumerate(ranked["variant"], start=1)}
    if not names or any(places[name] == 1 for name in names):
        return []
    behind = abs(ranked["average"].iloc[0] - ranked["average"].iloc[places[names[0]] - 1])
    return [f"{names[0]} ranks {ordinal(places[names[0]])} of {len(ranked)}, {percent(behind)} {unit} behind."]


def _harm(ranked: pd.DataFrame) -> list[str]:
    harmed = ranked[ranked["harmed"] > 0]
    if ranked["harmed"].isna().all():
        return ["Local training is not among the methods, so nobody knows whether federation helps here."]
    if harmed.empty:
        return ["None of the ranked methods leaves a client below its local training."]
    listing = [f"{v} ({int(h)})" for v, h in zip(harmed["variant"], harmed["harmed"], strict=True)]
    return [f"Methods that leave clients below their local training (number of clients): {listed(listing)}."]


def _warnings(group: Group, ranked: pd.DataFrame) -> list[str]:
    sentences = []
    apart = not_federated(group) & set(group.scores["variant"])
    if unranked := sorted(set(group.scores["variant"]) - set(ranked["variant"]) - apart):
        sentences.append(f"Not ranked, because seeds or clients are missing: {listed(unranked)}.")
    if apart:
        sentences.append(f"Not ranked, because it is no federated method but a ceiling: {listed(sorted(apart))}.")
    if disputed := disputed_splits(group.finished):
        seeds = listed([str(seed) for seed in disputed])
        sentences.append(f"The trials of seed {seeds} saw different splits of the data: do not compare them.")
    if group.file:
        remarks = " ".join(group.remarks)
        sentences.append(
            f"The scores are those of {group.file}; the file does not say how they came about. {remarks}".strip()
        )
    return sentences
