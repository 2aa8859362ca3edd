"""Scores of one segmentation against its mask."""

from __future__ import annotations

from torch import Tensor


def dice(prediction: Tensor, mask: Tensor) -> Tensor:
    """Return the Dice coefficient 2|P and M| / (|P| + |M|) per case, N, from N x ... boolean tensors.

    Where both are empty the prediction is right and the score is 1.
    """
    prediction, mask = prediction.flatten(1), mask.flatten(1)
    overlap = (prediction & mask).sum(1).double()
    total = (prediction.sum(1) + mask.sum(1)).double()
    return (2 * overlap / total.clamp(min=1)).where(total > 0, 1.0)
