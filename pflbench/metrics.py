"""The metrics that a segmentation can be scored by: names, units and rules, and those that counts of pixels give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Counts = tuple[int, int, int]  # true positives, false positives, false negatives, in pixels

_RATIO_RULE = (
    "Where prediction and mask are both empty the prediction is right and scores 1; where only one of them is empty "
    "it scores 0."
)
_DISTANCE_RULE = (
    "Where prediction and mask are both empty the distance is 0; where only one of them is empty it is the diagonal "
    "of the image, which no distance in the image exceeds."
)


@dataclass(frozen=True)
class Metric:
    """What a reader must know of one score. Values are stored as fractions; ``percent`` says how to print them."""

    name: str  # in tables on disk and on the command line
    title: str  # in reports
    unit: str  # "%" where percent is true, "px" or "mm" for distances
    higher_is_better: bool
    percent: bool  # stored in 0..1, printed times 100
    needs: Literal["counts", "surfaces", "centrelines"]
    empty_rule: str  # one or two sentences: what an empty prediction or mask scores


def _ratio(name: str, title: str, needs: Literal["counts", "centrelines"] = "counts") -> Metric:
    return Metric(name, title, "%", higher_is_better=True, percent=True, needs=needs, empty_rule=_RATIO_RULE)


def _distance(name: str, title: str, unit: str) -> Metric:
    return Metric(name, title, unit, higher_is_better=False, percent=False, needs="surfaces", empty_rule=_DISTANCE_RULE)


# A distance has two names, so that pixels and millimetres never meet in one column. Distances lie within one image,
# which for volumes is one slice: hence "in 2-D". Definitions are where they are computed, in pflbench.scoring.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            _ratio("dice", "Dice"),
            _ratio("dice_volume", "Dice per volume"),
            _ratio("dice_fov", "Dice in the field of view"),
            _ratio("iou", "IoU"),
            _ratio("sensitivity", "Sensitivity"),
            _ratio("precision", "Precision"),
            _distance("hd95", "HD95 in 2-D", "px"),
            _distance("hd95_mm", "HD95 in 2-D", "mm"),
            _distance("assd", "ASSD in 2-D", "px"),
            _distance("assd_mm", "ASSD in 2-D", "mm"),
            _ratio("cldice", "clDice", needs="centrelines"),
        )
    }
)


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


def iou(hits: float, false_positives: float, false_negatives: float) -> float:
    """Return the intersection over union TP / (TP + FP + FN), in 0..1; 1 where both are empty."""
    return _share(hits, hits + false_positives + false_negatives, false_positives + false_negatives)


def sensitivity(hits: float, false_positives: float, false_negatives: float) -> float:
    """Return the share of the mask that was found, TP / (TP + FN), in 0..1.

    Of an empty mask there is no such share: it is 1 where the prediction is empty too, else 0.
    """
    return _share(hits, hits + false_negatives, false_positives)


def precision(hits: float, false_positives: float, false_negatives: float) -> float:
    """Return the share of the prediction that is right, TP / (TP + FP), in 0..1.

    Of an empty prediction there is no such share: it is 1 where the mask is empty too, else 0.
    """
    return _share(hits, hits + false_positives, false_negatives)


def _share(hits: float, of: float, wrong: float) -> float:
    """Return hits / of; where that is 0 / 0, 1 if nothing is wrong either, else 0."""
    return hits / of if of else float(not wrong)


FORMULAS: Mapping[str, Callable[[float, float, float], float]] = MappingProxyType(
    {"dice": dice, "iou": iou, "sensitivity": sensitivity, "precision": precision}
)
