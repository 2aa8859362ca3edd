"""A model on a set of cases -> each case's pixels by outcome."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pflbench.metrics import counts
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe

_PIXELS = 2**21  # per forward pass: enough to be quick, little enough for any memory

# true positives, false positives, false negatives; then the same inside the field of view where it is known
Score = tuple[int, ...]


@dataclass(frozen=True)
class HeldOut:
    """Cases that are only scored: N x C x H x W, N x 1 x H x W and, where one is known, the fields of view; uint8."""

    images: Tensor
    masks: Tensor
    fields: Tensor | None = None


@torch.inference_mode()
def segment(model: nn.Module, cases: HeldOut, recipe: Recipe, numerics: Numerics) -> Tensor:
    """Return what the model finds in each case, N x 1 x H x W, boolean.

    In float32 and in evaluation mode; the model's mode is restored.
    """
    was_training = model.training
    model.eval()
    height, width = cases.images.shape[-2:]
    step = max(1, _PIXELS // (height * width * 16))
    found = torch.empty_like(cases.masks, dtype=torch.bool)
    for start in range(0, len(cases.images), step):
        part = slice(start, start + step)
        found[part] = model(numerics.images(cases.images[part])).sigmoid() > recipe.threshold
    model.train(was_training)
    return found


@torch.inference_mode()
def score(found: Tensor, cases: HeldOut) -> list[Score]:
    """Return the score of each case from what was found in it, N x 1 x H x W, boolean."""
    masks = cases.masks.bool()
    whole = counts(found, masks)
    if cases.fields is None:
        return list(whole)
    fields = cases.fields.bool()
    known = fields.flatten(1).any(1).tolist()
    inside = counts(found & fields, masks & fields)
    return [(*all_, *within) if here else all_ for all_, within, here in zip(whole, inside, known, strict=True)]


def evaluate(model: nn.Module, cases: HeldOut, recipe: Recipe, numerics: Numerics) -> list[Score]:
    """Return the score of each case."""
    return score(segment(model, cases, recipe, numerics), cases)
