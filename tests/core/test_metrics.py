"""Scores from counts of pixels: hand counts, MONAI's own, the rules for empty masks, and what the registry says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pflbench.metrics import FORMULAS, METRICS, counts, dice, iou, precision, sensitivity

COUNT = st.integers(0, 10**7)


def test_scores_of_counts_are_those_worked_out_by_hand():
    # 3 right, 1 too many, 2 missed: union 6, mask 5, prediction 4
    assert dice(3, 1, 2) == 6 / 9
    assert iou(3, 1, 2) == 3 / 6
    assert sensitivity(3, 1, 2) == 3 / 5
    assert precision(3, 1, 2) == 3 / 4


def test_scores_are_those_of_monai_s_confusion_matrix():
    monai = pytest.importorskip("monai.metrics")
    generator = torch.Generator().manual_seed(3)
    found, mask = (torch.rand(20, 1, 9, 7, generator=generator) < share for share in (0.4, 0.6))
    matrix = monai.get_confusion_matrix(found.float(), mask.float(), include_background=True)
    for name, its in (("sensitivity", "sensitivity"), ("precision", "precision"), ("dice", "f1 score")):
        expected = monai.compute_confusion_matrix_metric(its, matrix)[:, 0].tolist()
        assert [FORMULAS[name](*row) for row in counts(found, mask)] == pytest.approx(expected, rel=1e-6)
    expected = monai.compute_iou(found.float(), mask.float(), include_background=True)[:, 0].tolist()
    assert [iou(*row) for row in counts(found, mask)] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((0, 0, 0), 1.0),  # nothing there, nothing found
        ((0, 7, 0), 0.0),  # nothing there, something found
        ((0, 0, 7), 0.0),  # something there, nothing found
        ((0, 7, 7), 0.0),
        ((7, 0, 0), 1.0),
    ],
)
def test_empty_masks_and_limits_follow_the_stated_rule(name, row, expected):
    assert FORMULAS[name](*row) == expected


def test_one_wrong_pixel_in_an_image_of_ten_millions_is_seen():
    assert [formula(10**7, 1, 1) < 1 for formula in FORMULAS.values()] == [True] * 4


@given(COUNT, COUNT, COUNT)
def test_scores_lie_in_0_to_1_and_hang_together(hits, extra, missed):
    for name, formula in FORMULAS.items():
        assert 0 <= formula(hits, extra, missed) <= 1, name
    assert iou(hits, extra, missed) == iou(hits, missed, extra) <= dice(hits, extra, missed)
    assert sensitivity(hits, extra, missed) == precision(hits, missed, extra)
    overlap = dice(hits, extra, missed)
    assert iou(hits, extra, missed) == pytest.approx(overlap / (2 - overlap))
    if hits:
        share, right = sensitivity(hits, extra, missed), precision(hits, extra, missed)
        assert overlap == pytest.approx(2 * share * right / (share + right))


# -------------------------------------------------------------------------------------------- the registry


def test_metrics_are_keyed_by_their_names_and_pixels_are_told_from_millimetres():
    assert list(METRICS) == [metric.name for metric in METRICS.values()]
    titles = [(metric.title, metric.unit) for metric in METRICS.values()]
    assert len(set(titles)) == len(titles)
    for name in ("hd95", "assd"):
        assert (METRICS[name].unit, METRICS[f"{name}_mm"].unit) == ("px", "mm")
        assert "2-D" in METRICS[name].title


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_ratios_are_percent_and_better_when_high_and_distances_are_neither(metric):
    ratio = metric.unit == "%"
    assert metric.percent == ratio == metric.higher_is_better
    assert (metric.needs == "surfaces") != ratio
    assert ("diagonal" in metric.empty_rule) != ratio
    assert "both empty" in metric.empty_rule


def test_every_formula_belongs_to_a_metric_that_needs_counts_alone():
    assert {METRICS[name].needs for name in FORMULAS} == {"counts"}
