"""In what two specifications differ, and whether that forbids to compare their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pflbench_reports.sides import Part
from pflbench_reports.text import plain

ABSENT = "not stated"

# the same protocol on another machine or by another version: the last digits may differ, the question is the same
_CIRCUMSTANCES = ("version", "numerics.device", "numerics.precision", "numerics.threads", "recipe.precision")
_NAMES = {
    "version": "pflbench version",
    "dataset.digest": "dataset digest (images or masks)",
    "dataset.name": "dataset",
    "dataset.simulated": "simulated data",
    "dataset.sites": "sites",
    "partitioner.name": "partitioner",
    "aggregation": "weighting of clients",
    "batch_norm": "batch norm",
    "travels": "what leaves the hospital",
}
_TITLES = ("dataset.title", "partitioner.title", "title", "label", "key")  # said by others already


@dataclass(frozen=True)
class Difference:
    """One field with its value on either side."""

    field: str
    a: str
    b: str


def protocol_differences(a: Part, b: Part) -> tuple[list[Difference], list[Difference]]:
    """Return the differences that forbid a comparison, and those of machine and version only.

    Nothing is known of a file of scores: both lists are empty then.
    """
    if a.facts is None or b.facts is None:
        return [], []
    found = _unlike(a.facts, b.facts)
    return (
        [difference for key, difference in found if key not in _CIRCUMSTANCES],
        [difference for key, difference in found if key in _CIRCUMSTANCES],
    )


def same_cases(a: Part, b: Part) -> bool:
    """Say whether both were tested on the same images at the same size, as far as that is known."""
    if a.facts is None or b.facts is None:
        return True
    return all(_shown(a.facts, key) == _shown(b.facts, key) for key in _CASES)


_CASES = ("dataset.name", "dataset.digest", "dataset.sites", "recipe.image_height", "recipe.image_width")


def method_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """Return in what two methods differ: name, settings, origin, and what they say of themselves."""
    return [difference for _, difference in _unlike(a, b)]


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Difference]]:
    keys = [key for key in dict.fromkeys([*a, *b]) if key not in _TITLES and {} not in (a.get(key), b.get(key))]
    unlike = [key for key in keys if _shown(a, key) != _shown(b, key)]
    return [(key, Difference(_NAMES.get(key, key), _shown(a, key), _shown(b, key))) for key in unlike]


def _shown(facts: Mapping[str, Any], key: str) -> str:
    return plain(facts[key]) if key in facts else ABSENT


def split_differences(a: Part, b: Part, names: Mapping[str, str]) -> tuple[list[Difference], set[tuple[str, int]]]:
    """Return the splits that differ, once per seed, and the (method of ``a``, seed) that they hold for.

    ``names`` maps a method of ``a`` to the one of ``b`` that it is compared with.
    """
    found: dict[Difference, None] = {}
    where = set()
    for (method, seed), trial in sorted(a.trials.items(), key=lambda item: item[0][1]):
        other = b.trials.get((names.get(method, ""), seed))
        if other is None or trial.spec.get("split") == other.spec.get("split"):
            continue
        found[Difference(f"split hash of seed {seed}", str(trial.spec["split"]), str(other.spec["split"]))] = None
        where.add((method, seed))
    return list(found), where
