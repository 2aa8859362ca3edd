"""The protocol card beside every table: what must be equal before two numbers may be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pflbench.metrics import METRICS
from pflbench_reports.groups import Group
from pflbench_reports.protocol import SELECTION, Facts, first_trials
from pflbench_reports.tables import disputed_splits, has_volumes, splits_of
from pflbench_reports.text import listed, plain

UNKNOWN = "unknown: scores were given as a file"
NOT_RECORDED = "not recorded"


def card(group: Group, metric: str = "dice") -> Facts:
    """Return what a reader must know before comparing a table of ``metric`` with another one, one fact a row."""
    if not group.trials:
        return [("Protocol", UNKNOWN), *(("Scale", remark) for remark in group.remarks)]
    spec, recipe = group.spec, group.spec["recipe"]
    return [
        ("Data", f"{spec['dataset']['name']}, digest {spec['dataset'].get('digest', NOT_RECORDED)}"),
        ("Split hashes", _splits(group)),
        ("Model selection", f"{SELECTION} (validation share {_set(recipe, 'validation')})"),
        ("Threshold", _set(recipe, "threshold")),
        ("Scored per", "slice, averaged over slices" if has_volumes(group) else "test image, averaged over images"),
        ("Empty masks", METRICS[metric].empty_rule if metric in METRICS else NOT_RECORDED),
        ("Batch norm", per_method(group, "batch_norm") or "not recorded; see what leaves the hospital, per method"),
        ("Clients weighted by", per_method(group, "aggregation") or _SHARES),
        ("Optimiser state", f"{_set(recipe, 'optimizer_state')} across rounds"),
        ("Training", _training(recipe)),
        ("Numerics", _numerics(spec.get("numerics") or {})),
        ("pflbench", str(spec.get("version", NOT_RECORDED))),
        ("Comparison group", group.id),
    ]


def card_line(group: Group, metric: str = "dice") -> str:
    """Return the card as one line, for the notes of a CSV or LaTeX table."""
    return "; ".join(f"{name}: {value.rstrip('.')}" for name, value in card(group, metric))


# what Server.shares holds for every method; a method may weigh in another way and should say so
_SHARES = "training images, unless a method says otherwise"


def per_method(group: Group, key: str) -> str:
    """Return what the methods state under a key of ``about``, alike ones together; empty where none states it."""
    first = first_trials(group)
    if not any(trial.about.get(key) for trial in first.values()):
        return ""
    said: dict[str, list[str]] = {}
    for display, trial in first.items():
        said.setdefault(str(trial.about.get(key) or NOT_RECORDED), []).append(display)
    return "; ".join(f"{text} ({listed(names)})" for text, names in said.items())


def _splits(group: Group) -> str:
    said = [f"seed {seed}: {listed(hashes)}" for seed, hashes in splits_of(group.trials).items()]
    disputed = disputed_splits(group.trials)
    warning = f" (different splits within seed {listed([str(seed) for seed in disputed])})" if disputed else ""
    return ", ".join(said) + warning


def _set(recipe: Mapping[str, Any], name: str) -> str:
    return plain(recipe[name]) if name in recipe else NOT_RECORDED


def _training(recipe: Mapping[str, Any]) -> str:
    named = {"rounds": "rounds", "epochs": "local epochs", "batch": "batch", "lr": "learning rate"}
    named |= {"lr_decay": "decay per round", "weight_decay": "weight decay", "augment": "augmentation"}
    size = f"{_set(recipe, 'image_height')} x {_set(recipe, 'image_width')} pixels"
    return ", ".join([*(f"{words} {_set(recipe, name)}" for name, words in named.items() if name in recipe), size])


def _numerics(numerics: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}" for name, value in numerics.items()) or NOT_RECORDED
