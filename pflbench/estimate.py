"""How long a plan will take, from one measured training step and the gradients it will count."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from pflbench.numerics import Numerics
from pflbench.plan import PlannedTrial
from pflbench.recipe import Recipe
from pflbench.sites import Setting
from pflbench.training import BCEDice, adam, fit

_STEPS = 3


def estimated_seconds(trials: Sequence[PlannedTrial], jobs: int) -> float:
    """Return the seconds the trials will take in ``jobs`` processes, evaluation left out (it is a few percent)."""
    costs: dict[tuple[str, str], tuple[float, float]] = {}
    total = 0.0
    for trial in trials:
        key = (str(trial.spec["recipe"]), str(trial.spec["numerics"]))
        if key not in costs:
            costs[key] = _seconds_per_image(trial)
        train, other = costs[key]
        images = sum(trial.card.clients.values())
        extra = sum(trial.method.extra_gradients(trial.card).values())
        total += trial.card.rounds * (images * trial.card.epochs * train + extra * other)
    return total / max(1, min(jobs, len(trials)))


def _seconds_per_image(trial: PlannedTrial) -> tuple[float, float]:
    """Return the measured seconds of one image's gradient: in training, and alone in float32."""
    recipe, numerics = Recipe.of(trial.spec["recipe"]), Numerics(**trial.spec["numerics"])
    numerics.prepare()
    setting = Setting(recipe, numerics, seed=0, channels=trial.card.channels)
    model = setting.new_model()
    shape = (recipe.batch, trial.card.channels, recipe.image_height, recipe.image_width)
    images = numerics.images(torch.zeros(shape, dtype=torch.uint8, device=numerics.device))
    batch = (images, torch.zeros(shape[0], 1, *shape[2:], device=numerics.device))
    optimizer, loss = adam(model.parameters(), recipe.lr, recipe.weight_decay), BCEDice(recipe.bce_share)
    fit(model, optimizer, [batch], loss, numerics)
    started = time.perf_counter()
    fit(model, optimizer, [batch] * _STEPS, loss, numerics)
    train = (time.perf_counter() - started) / (_STEPS * recipe.batch)
    model.eval()
    started = time.perf_counter()
    loss(model(batch[0][:1]), batch[1][:1]).backward()  # type: ignore[no-untyped-call]
    return train, time.perf_counter() - started
