"""What differs between two sets of results, in specification and in scores, as plain values for any output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pflbench.metrics import METRICS
from pflbench_reports.paired import differences, identical, method_pairs, paired_scores
from pflbench_reports.sides import Part, Side, read_side
from pflbench_reports.text import listed, percent, several
from pflbench_reports.unlike import method_differences, protocol_differences, same_cases, split_differences

Facts = dict[str, Any]


def compare(a: Path, b: Path) -> Facts:
    """Compare two results folders, trial folders or CSV files of scores; return plain values, ready for JSON.

    ``sides``: path, problems and unfinished trials of each. ``alone``: the comparison groups without a
    counterpart. ``pairs``: for each two groups whether they are comparable (None: nothing is known of a file of
    scores), the ``reasons`` why not, the ``circumstances`` (version, machine) in which they differ, what only one
    side has, and per method the mean differences b - a over the common seeds. Raises ResultsError where a path
    holds no result.
    """
    one, two = read_side(Path(a)), read_side(Path(b))
    together = group_pairs(one.parts, two.parts)
    return {
        "sides": {"a": _side(one), "b": _side(two)},
        "alone": {
            "a": [part.heading for part in one.parts if part not in [pair[0] for pair in together]],
            "b": [part.heading for part in two.parts if part not in [pair[1] for pair in together]],
        },
        "pairs": [_pair(*pair) for pair in together],
    }


def _side(side: Side) -> Facts:
    return {"path": str(side.path), "problems": list(side.problems), "unfinished": list(side.unfinished)}


def group_pairs(a: Sequence[Part], b: Sequence[Part]) -> list[tuple[Part, Part]]:
    """Pair the comparison groups: the same first, then those of one dataset that differ least, then two single ones."""
    pairs: list[tuple[Part, Part]] = []
    free_a, free_b = list(a), list(b)
    candidates = sorted(
        ((_distance(x, y), i, j) for i, x in enumerate(a) for j, y in enumerate(b) if x.dataset == y.dataset),
        key=lambda candidate: candidate,
    )
    for _, i, j in candidates:
        if a[i] in free_a and b[j] in free_b:
            pairs.append((a[i], b[j]))
            free_a.remove(a[i])
            free_b.remove(b[j])
    if len(free_a) == len(free_b) == 1:
        pairs.append((free_a[0], free_b[0]))
    return pairs


def _distance(a: Part, b: Part) -> int:
    return sum(map(len, protocol_differences(a, b)))


def _pair(a: Part, b: Part) -> Facts:
    names = method_pairs(a, b)
    protocol, circumstances = protocol_differences(a, b)
    splits, unlike = split_differences(a, b, names)
    paired = paired_scores(a, b, names if same_cases(a, b) else {}, unlike)
    reasons = [*protocol, *splits]
    nothing = [] if len(paired) or reasons else [_nothing_common(a, b, names)]
    known = a.facts is not None and b.facts is not None
    table = differences(paired, a.guests | b.guests)
    return {
        "a": a.heading,
        "b": b.heading,
        "simulated": a.simulated or b.simulated,
        "comparable": not protocol and len(paired) > 0 if known else None,
        "reasons": [asdict(reason) for reason in reasons],
        "circumstances": [asdict(difference) for difference in circumstances],
        "only": _only(a, b, names),
        "methods": [_method(a, b, own, other, paired, table) for own, other in names.items()],
        "sentences": [*nothing, *_sentences(a, b, known, table)],
    }


def _nothing_common(a: Part, b: Part, names: Mapping[str, str]) -> str:
    if not names:
        return "They have no method in common."
    if not (set(a.values["client"]) & set(b.values["client"])):
        return "They have no client in common that both have scores of."
    return "They have no seed in common that has finished on both sides."


def _only(a: Part, b: Part, names: Mapping[str, str]) -> Facts:
    """Return the methods, clients and, per compared method, seeds that one side has alone."""
    seeds = {}
    for own, other in names.items():
        ours = set(a.values.loc[a.values["method"] == own, "seed"])
        theirs = set(b.values.loc[b.values["method"] == other, "seed"])
        if ours != theirs:
            seeds[own] = {"a": _integers(ours - theirs), "b": _integers(theirs - ours)}
    clients_a, clients_b = (list(dict.fromkeys(part.values["client"])) for part in (a, b))
    return {
        "methods": {
            "a": [name for name in a.methods if name not in names],
            "b": [name for name in b.methods if name not in names.values()],
        },
        "clients": {
            "a": [client for client in clients_a if client not in clients_b],
            "b": [client for client in clients_b if client not in clients_a],
        },
        "seeds": seeds,
    }


def _integers(values: set[Any]) -> list[int]:
    return sorted(int(value) for value in values)


def _method(a: Part, b: Part, own: str, other: str, paired: pd.DataFrame, table: pd.DataFrame) -> Facts:
    seeds = set(paired.loc[paired["method"] == own, "seed"])
    known = a.facts is not None and b.facts is not None
    unlike = method_differences(a.methods[own], b.methods[other]) if known else []
    return {
        "a": own,
        "b": other,
        "differences": [asdict(difference) for difference in unlike],
        "seeds": _integers(seeds),
        "identical": identical(a, b, own, other, seeds, paired),
        "scores": [_score(row) for row in table[table["method"] == own].to_dict("records")],
    }


def _score(row: Mapping[Any, Any]) -> Facts:
    metric = METRICS.get(row["metric"])
    return {
        "chosen": row["chosen"],
        "metric": row["metric"],
        "title": metric.title if metric else row["metric"],
        "unit": "points" if metric is None or metric.percent else metric.unit,
        "client": None if row["average"] else row["client"],
        "seeds": int(row["seeds"]),
        **{key: _finite(row[key]) for key in ("a", "b", "difference", "over_seeds")},
        "same": bool(row["same"]),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _sentences(a: Part, b: Part, known: bool, table: pd.DataFrame) -> list[str]:
    sentences = []
    if not known:
        files = listed([name for name, part in (("A", a), ("B", b)) if part.facts is None])
        sentences.append(
            f"The scores of {files} were given as a file: whether data, splits and protocol agree is unknown."
        )
    headline = table[table["average"] & (table["chosen"] == "best") & (table["metric"] == "dice")]
    return sentences + [_decided(row) for row in headline.to_dict("records") if not row["same"]]


def _decided(row: Mapping[Any, Any]) -> str:
    """Say how far a difference of averages can be trusted, without a test: two sides seldom share enough seeds."""
    size = f"{row['method']}: the average differs by {percent(row['difference'], sign=True)} points"
    if row["seeds"] < 2:
        return f"{size}; with one common seed nothing is known about how far a repetition would move it."
    larger = "larger" if abs(row["difference"]) > row["over_seeds"] else "not larger"
    many = several(int(row["seeds"]), "common seed")
    few = ", too few to decide" if row["seeds"] < _ENOUGH else ""
    return f"{size}, {larger} than its spread over seeds (± {percent(row['over_seeds'])} over {many}{few})."


_ENOUGH = 5  # seeds, as in verdict.py
