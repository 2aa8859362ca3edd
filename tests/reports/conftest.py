"""Fake trial folders with known numbers, written by the store's own functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pflbench.results import Trial, hash_of, write_table, write_trial

Dice = Mapping[str, float]
PAPER = Path(__file__).parents[2].parent / "shared/reference/paper_tables.csv"


def specification(**changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "format": 2,
        "version": "0.1.0",
        "dataset": {
            "name": "vessel",
            "title": "Retinal vessels",
            "simulated": False,
            "settings": {},
            "sites": ["A", "B"],
            "digest": "abc",
        },
        "partitioner": {"name": "natural", "title": "By site", "settings": {}},
        "split": "hash",
        "method": {
            "name": "fedavg",
            "title": "FedAvg",
            "label": "",
            "settings": {},
            "distribution": "pflbench",
            "version": "0.1.0",
        },
        "recipe": {"rounds": 2, "epochs": 1, "batch": 4},
        "numerics": {"device": "cpu", "precision": "float32", "threads": 1},
        "seed": 0,
    }
    for key, value in changes.items():
        spec[key] = {**spec[key], **value} if isinstance(value, dict) else value
    return spec


def about(clients: Any, **changes: Any) -> dict[str, Any]:
    return {
        "clients": [{"name": name, "train": 16, "val": 4, "test": 8} for name in clients],
        "licences": {"A": "CC BY 4.0"},
        "citations": {"A": "Someone, 2020"},
        "method_citation": "McMahan, 2017",
        "method_summary": "Averages all weights.",
        "travels": "all weights",
        "command": "pflbench run --methods fedavg --dataset vessel",
    } | changes


def counts(dice: float) -> tuple[int, int, int]:
    """Return pixels by outcome that have a Dice: as many wrong as missed, so that it is the share of hits."""
    hits = round(10**6 * dice)
    return hits, 10**6 - hits, 10**6 - hits


def fill(folder: Path, dice: Dice, last: Dice, rounds: int) -> None:
    """Write the five tables: two test cases per client, 0.01 below and above its Dice."""
    chosen = {"best": (rounds - 1, dice), "last": (rounds, last)}
    cases = [
        [which, at, name, name, f"p{i}", "", f"{name}-{i}", value + shift, None, *counts(value + shift)]
        for which, (at, values) in chosen.items()
        for name, value in values.items()
        for i, shift in enumerate((-0.01, 0.01))
    ]
    every = [(r, name) for r in range(1, rounds + 1) for name in dice]
    write_table(folder, "cases", cases)
    write_table(folder, "rounds", [[r, n, "val", dice[n] - 0.1 / r, 0.5] for r, n in every])
    write_table(folder, "logs", [[r, n, "gradients", 32] for r, n in every])
    ledger = [[r, n, d, b] for r, n in every for d, b in (("up", 2048), ("down", 1024))]
    write_table(folder, "ledger", ledger + [[0, n, "up", 512] for n in dice])
    timing = [[r, n, "update", 1.5, 100.0] for r, n in every]
    write_table(folder, "timing", timing + [[r, None, "server", 0.5, 50.0] for r in range(1, rounds + 1)])


def writer(runs: Path) -> Callable[..., Trial]:
    """Return a function that writes one trial below ``runs`` and returns it."""

    def write(
        dice: Dice,
        *,
        last: Dice | None = None,
        state: Any = "finished",
        done: int | None = None,
        error: Mapping[str, str] | None = None,
        says: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Trial:
        spec = specification(**changes)
        identity = hash_of(spec)
        folder = runs / identity
        folder.mkdir(parents=True)
        rounds = spec["recipe"]["rounds"]
        completed = rounds if done is None else done
        made = Trial(folder, identity, state, completed, spec, about(dice, **(says or {})), error)
        write_trial(made)
        if state == "finished":
            fill(folder, dice, last or dice, rounds)
        entry = {
            "python": "3.11",
            "cpu": "Some CPU",
            "cores": 2,
            "gpu": None,
            "commit": "abc123",
            "packages": {"a": "1"},
        }
        (folder / "environment.json").write_text(json.dumps([entry]))
        return made

    return write


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Trial]:
    """Return a function that writes one trial below ``tmp_path / "runs"`` and returns it."""
    return writer(tmp_path / "runs")


@pytest.fixture(scope="session")
def trials_in() -> Callable[[Path], Callable[..., Trial]]:
    """Return ``writer``, for reports that several tests share."""
    return writer


@pytest.fixture
def paper() -> pd.DataFrame:
    """Return the paper's three tables, where the reference is at hand."""
    if not PAPER.exists():
        pytest.skip("the paper's tables (shared/reference/paper_tables.csv) are not beside this checkout")
    return pd.read_csv(PAPER)
