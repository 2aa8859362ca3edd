"""Whole federations of seconds: toy hospitals of 16 x 16 pixels, and the UNet's entries written out by hand."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pflbench.engines.in_process import InProcess
from pflbench.evaluation import HeldOut
from pflbench.method import Method
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.rounds import CaseLabel, Federation
from pflbench.sites import Setting, TrainingData
from pflbench.steps import Site

SIDE = 16
WIDTH = 4
SIZES = (("Bern", 5), ("Lyon", 3), ("Oslo", 4))  # training images: three hospitals, three shares
STAGES = ("enc1", "enc2", "enc3", "enc4", "dec4", "dec3", "dec2")


@dataclass(frozen=True)
class Played:
    """What is left of a federation: models, what else each client keeps, and the harness's tables."""

    models: dict[str, dict[str, Tensor]]
    kept: dict[str, dict[str, Any]]
    tables: dict[str, list[list[Any]]]

    def ledger(self, round: int, direction: str) -> dict[str, int]:
        """Return the bytes of a round by client."""
        return {c: size for r, c, way, size in self.tables["ledger"] if (r, way) == (round, direction)}

    def logs(self, key: str) -> dict[tuple[int, str], float]:
        """Return what was logged under a name, by round and client."""
        return {(round, client): value for round, client, name, value in self.tables["logs"] if name == key}


def cases(name: str, count: int, purpose: str = "train") -> TrainingData:
    """Return random images, brighter or darker by hospital, and random blobs as their masks."""
    rng = torch.Generator().manual_seed(sum(f"{name} {purpose}".encode()))
    brightest = 96 + int(torch.randint(160, (), generator=rng))
    images = torch.randint(brightest, (count, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8)
    masks = torch.rand((count, 1, SIDE, SIDE), generator=rng) < 0.3
    return TrainingData(images, masks.to(torch.uint8))


def setting(rounds: int = 2, width: int = WIDTH, seed: int = 0, **changes: Any) -> Setting:
    """Return the toy recipe: one epoch of batches of two."""
    recipe = Recipe(
        base_width=width,
        image_height=SIDE,
        image_width=SIDE,
        rounds=rounds,
        epochs=1,
        batch=2,
        precision="float32",
        **changes,
    )
    return Setting(recipe, Numerics("cpu", "float32"), seed)


def play(
    method: Method, data: dict[str, TrainingData], rounds: int = 2, seed: int = 0, public: Tensor | None = None
) -> Played:
    """Play a federation in this process; ``public`` are the server's images, uint8."""
    toy = setting(rounds, seed=seed)
    held_out = {name: {split: HeldOut(**vars(cases(name, 1, split))) for split in ("val", "test")} for name in data}
    sites = {name: Site(name, method, toy, data[name], held_out[name]) for name in data}
    engine = InProcess(sites)
    labels = {name: [CaseLabel(name, "1", "", f"{name}-test")] for name in data}
    samples = {name: len(data[name].images) for name in data}
    federation = Federation(method, toy, engine, samples, labels, public=public)
    assert list(federation.play()) == list(range(1, rounds + 1))
    kept = copy.deepcopy(engine.kept())
    return Played({name: kept[name]["model"] for name in data}, kept, federation.progress.tables)


@functools.cache
def played(method: Method, rounds: int = 2, sizes: tuple[tuple[str, int], ...] = SIZES, seed: int = 0) -> Played:
    """Return the federation of the toy hospitals; a method is a value, so each is played once."""
    return play(method, {name: cases(name, count) for name, count in sizes}, rounds, seed)


def written_out(width: int, channels: int = 3) -> dict[str, tuple[int, ...]]:
    """Return the floating-point entries of the UNet and their shapes, from Fig. 4's stages, not from the code."""
    w = width
    inputs = (channels, w, 2 * w, 4 * w, 8 * w + 4 * w, 4 * w + 2 * w, 2 * w + w)
    outputs = (w, 2 * w, 4 * w, 8 * w, 4 * w, 2 * w, w)
    entries: dict[str, tuple[int, ...]] = {}
    for stage, before, after in zip(STAGES, inputs, outputs, strict=True):
        entries |= {f"{stage}.0.weight": (after, before, 3, 3), f"{stage}.0.bias": (after,)}
        for part in ("weight", "bias", "running_mean", "running_var"):
            entries[f"{stage}.1.{part}"] = (after,)
    return entries | {"final.weight": (1, w, 1, 1), "final.bias": (1,)}


ENTRIES = written_out(WIDTH)
STATISTICS = {name for name in ENTRIES if "running" in name}
NORMS = {name for name in ENTRIES if name.split(".")[1] == "1"}
HEAD = {"final.weight", "final.bias"}
PARAMETERS = {name: shape for name, shape in ENTRIES.items() if name not in STATISTICS}
P = sum(math.prod(shape) for shape in PARAMETERS.values())
