"""Scores of one segmentation against its mask, from counts of pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Counts = tuple[int, int, int]  # true positives, false positives, false negatives, in pixels


def counts(prediction: Tensor, mask: Tensor) -> list[Counts]:
    """Return each case's pixels by outcome, from N x ... boolean tensors."""
    prediction, mask = prediction.flatten(1), mask.flatten(1)
    hits = (prediction & mask).sum(1)
    return list(zip(hits.tolist(), (prediction.sum(1) - hits).tolist(), (mask.sum(1) - hits).tolist(), strict=True))


def dice(hits: float, false_positives: float, false_negatives: float) -> float:
    """Return the Dice coefficient 2 TP / (2 TP + FP + FN), in 0..1.

    Where prediction and mask are both empty the prediction is right and the score is 1.
    """
    total = 2 * hits + false_positives + false_negatives
    return 2 * hits / total if total else 1.0
