"""A model on a set of cases -> one score per case."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pflbench.metrics import dice
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe

_PIXELS = 2**21  # per forward pass: enough to be quick, little enough for any memory


@torch.inference_mode()
def evaluate(model: nn.Module, images: Tensor, masks: Tensor, recipe: Recipe, numerics: Numerics) -> list[float]:
    """Return the Dice of each case in 0..1, in float32 and in evaluation mode; the model's mode is restored.

    ``images`` N x C x H x W uint8, ``masks`` N x 1 x H x W uint8.
    """
    was_training = model.training
    model.eval()
    height, width = images.shape[-2:]
    step = max(1, _PIXELS // (height * width * 16))
    scores: list[float] = []
    for start in range(0, len(images), step):
        logits = model(numerics.images(images[start : start + step]))
        found = logits.sigmoid() > recipe.threshold
        scores += dice(found, masks[start : start + step].bool()).tolist()
    model.train(was_training)
    return scores
