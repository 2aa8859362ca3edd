"""The specification of a trial: everything that decides its numbers, as plain values, and its folder's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pflbench.results import FORMAT, hash_of


def specification(
    *,
    version: str,
    dataset: Mapping[str, Any],
    partitioner: Mapping[str, Any],
    split: str,
    method: Mapping[str, Any],
    recipe: Mapping[str, Any],
    numerics: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Return the specification; two trials with equal ones give the same bytes."""
    return {
        "format": FORMAT,
        "version": version,
        "dataset": dict(dataset),
        "partitioner": dict(partitioner),
        "split": split,
        "method": dict(method),
        "recipe": dict(recipe),
        "numerics": dict(numerics),
        "seed": seed,
    }


def folder_name(spec: Mapping[str, Any]) -> str:
    """Return a readable name that ends with a hash of the full specification."""
    method = spec["method"]
    parts = [spec["dataset"]["name"], spec["partitioner"]["name"], method["name"]]
    if method["label"]:
        parts.append(re.sub(r"[^\w.=,-]+", "", method["label"])[:40])
    return "_".join([*parts, f"seed{spec['seed']}", hash_of(spec)])


def label(changed: Mapping[str, Any]) -> str:
    """Return settings that differ from their defaults, readable: ``delta=0.05, residual=raw``."""
    return ", ".join(f"{name}={value}" for name, value in changed.items())
