"""Scores case by case: closed forms, distance transforms, empty masks, units, and what is refused."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from pflbench.errors import UsageError
from pflbench.metrics import METRICS
from pflbench.scoring import CHOICES, assd, chosen, cldice, hd95, in_units, rows, score, spacing

pytest.importorskip("monai")
skeletonize = pytest.importorskip("skimage.morphology").skeletonize

PIXEL = (1.0, 1.0)
SHAPE = (24, 20)
MASKS = arrays.arrays(bool, (11, 9))
SPACINGS = st.tuples(*[st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0])] * 2)
few = settings(max_examples=30, deadline=None)


def box(top, left, height, width, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def nothing(shape=SHAPE):
    return np.zeros(shape, bool)


def scores_of(found, truth, names, spacings=None):
    return score(np.stack(found), np.stack(truth), names, spacings or [None] * len(found))


# --------------------------------------------------------------------------------- distances, in closed form


@pytest.mark.parametrize(("shift", "mean"), [(1, 8 / 16), (2, 16 / 16)])
@pytest.mark.parametrize(("rows_apart", "columns_apart"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_squares_of_five_that_are_shifted(shift, mean, rows_apart, columns_apart):
    # of 16 border pixels the 5 behind are ``shift`` away: more than 5 %. Shift 1: so are the 3 inner ones of the front
    # side. Shift 2: those are 1, 2, 1 away, and 1 beside each corner behind is 1 away
    one, two = box(8, 8, 5, 5), box(8 + shift * rows_apart, 8 + shift * columns_apart, 5, 5)
    assert hd95(one, two, PIXEL) == shift
    assert assd(one, two, PIXEL) == mean


def test_concentric_squares():
    # inner: 16 pixels, 2 away. Outer: 20 opposite the inner sides, 8 beside the corners, 4 corners
    inner, outer = box(7, 7, 5, 5), box(5, 5, 9, 9)
    assert hd95(inner, outer, PIXEL) == pytest.approx(2 * math.sqrt(2))
    expected = (16 * 2 + 20 * 2 + 8 * math.sqrt(5) + 4 * 2 * math.sqrt(2)) / 48
    assert assd(inner, outer, PIXEL) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("unit", "expected"), [((1, 1), 5.0), ((0.5, 1), math.hypot(1.5, 4)), ((3, 0.25), math.hypot(9, 1))]
)
def test_two_dots_are_as_far_apart_as_the_spacing_of_rows_and_columns_says(unit, expected):
    one, two = box(2, 2, 1, 1), box(5, 6, 1, 1)
    assert hd95(one, two, unit) == pytest.approx(expected)
    assert assd(one, two, unit) == pytest.approx(expected)


def test_hd95_is_the_larger_of_the_two_percentiles_and_not_one_of_all():
    # from the row 0, 1, ... 10 away; from the dot 0. One percentile of all twelve distances would be 9.45
    assert hd95(box(3, 3, 1, 11), box(3, 3, 1, 1), PIXEL) == pytest.approx(9.5)
    assert hd95(box(3, 3, 1, 1), box(3, 3, 1, 11), PIXEL) == pytest.approx(9.5)


def test_the_percentile_leaves_out_a_single_far_pixel_of_many():
    found = box(2, 2, 1, 14)
    found[20, 2] = (
        True  # 1 of 15 border pixels, 18 rows away: between the 13th and 14th of 0..14 lies the 95th percentile
    )
    assert hd95(found, box(2, 2, 1, 14), PIXEL) == pytest.approx(0.3 * 18)
    assert assd(found, box(2, 2, 1, 14), PIXEL) == pytest.approx(18 / 29)


# -------------------------------------------------------------------- distances, by a distance transform


def border(mask):
    """Return the foreground that touches background or the edge of the image with a side."""
    around = np.pad(mask, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return mask & ~inner


def directed(one, two, unit):
    return ndimage.distance_transform_edt(~border(two), sampling=unit)[border(one)]


@few
@given(MASKS, MASKS, SPACINGS)
def test_distances_are_those_of_a_distance_transform(one, two, unit):
    assume(one.any() and two.any())
    there, back = directed(one, two, unit), directed(two, one, unit)
    assert hd95(one, two, unit) == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert assd(one, two, unit) == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "mask", [np.ones((6, 5), bool), box(0, 0, 3, 5, (6, 5)), np.ones((1, 1), bool), np.eye(5, dtype=bool)]
)
def test_the_edge_of_the_image_is_a_border(mask):
    dot = np.zeros_like(mask)
    dot[-1, -1] = True
    assert hd95(mask, dot, (2.0, 1.0)) == pytest.approx(np.percentile(directed(mask, dot, (2.0, 1.0)), 95), rel=1e-5)


@few
@given(MASKS, MASKS, SPACINGS, st.sampled_from([0.1, 7.0]))
def test_distances_are_symmetric_bounded_and_scale_with_the_spacing(one, two, unit, factor):
    diagonal = math.hypot(11 * unit[0], 9 * unit[1])
    for measure in (hd95, assd):
        found = measure(one, two, unit)
        assert found == pytest.approx(measure(two, one, unit), rel=1e-5)  # a mean in float32
        assert 0 <= found <= diagonal
        assert measure(one, one, unit) == 0
        assert measure(one.T, two.T, unit[::-1]) == pytest.approx(found, rel=1e-5)
        assert measure(one, two, (factor * unit[0], factor * unit[1])) == pytest.approx(factor * found, rel=1e-5)


# --------------------------------------------------------------------------------------------- centrelines


def test_identical_masks_have_a_cldice_of_1_and_disjoint_ones_of_0():
    vessel = box(4, 2, 3, 15)
    assert cldice(vessel, vessel) == 1
    assert cldice(vessel, box(12, 2, 3, 15)) == 0


def test_a_line_and_the_same_line_drawn_thick_have_the_same_centre():
    # through the whole image: where a thick line ends, its skeleton may bend aside by a pixel or two
    line, thick = box(0, 8, 24, 1), box(0, 7, 24, 3)
    assert cldice(line, thick) == cldice(thick, line) == 1
    (overlap,) = scores_of([line], [thick], ["dice"])["dice"]
    assert overlap == 2 * 24 / 96


def test_half_a_line_is_all_right_and_half_complete():
    assert cldice(box(5, 2, 1, 8), box(5, 2, 1, 16)) == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_a_gap_of_two_in_a_line_of_sixteen_costs_its_share_of_the_line():
    cut = box(5, 2, 1, 16)
    cut[5, 9:11] = False
    assert cldice(cut, box(5, 2, 1, 16)) == pytest.approx(2 * (14 / 16) / (1 + 14 / 16))


@few
@given(MASKS, MASKS)
def test_cldice_is_symmetric_in_0_to_1_and_1_of_a_mask_with_itself(one, two):
    assert 0 <= cldice(one, two) <= 1
    assert cldice(one, two) == pytest.approx(cldice(two, one))
    assert cldice(one, one) == 1


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_what_is_not_empty_has_a_centreline_inside_it(mask):
    # the original algorithm makes squares of two by two vanish; then a share of nothing would be asked for
    line = skeletonize(mask)
    assert line.any() == mask.any()
    assert not (line & ~mask).any()


# ------------------------------------------------------------------------------------------- empty masks


@pytest.mark.parametrize("name", CHOICES)
def test_both_empty_is_right_and_one_empty_is_as_wrong_as_can_be(name):
    found = scores_of([nothing(), box(2, 2, 3, 3), nothing()], [nothing(), nothing(), box(2, 2, 3, 3)], [name])[name]
    diagonal = math.hypot(*SHAPE)
    assert found == ([1, 0, 0] if METRICS[name].percent else [0, pytest.approx(diagonal), pytest.approx(diagonal)])


def test_the_diagonal_is_in_the_unit_of_the_distance():
    found = scores_of([nothing()], [box(2, 2, 3, 3)], ["hd95_mm", "hd95"], [(0.5, 2.0)])
    assert found == {"hd95_mm": [math.hypot(12, 40)], "hd95": [math.hypot(24, 20)]}


# ------------------------------------------------------------------------------------------- many cases


def test_every_case_is_scored_by_itself_in_its_order():
    found = [box(2, 2, 4, 4), box(2, 2, 4, 4), nothing()]
    truth = [box(2, 2, 4, 4), box(2, 4, 4, 4), nothing()]
    scores = scores_of(found, truth, ["dice", "iou", "sensitivity", "precision", "hd95"])
    assert scores["dice"] == [1, 0.5, 1]
    assert scores["iou"] == [1, 8 / 24, 1]
    assert scores["sensitivity"] == scores["precision"] == [1, 0.5, 1]
    assert scores["hd95"] == [0, 2, 0]


def test_pixels_ignore_the_spacing_and_millimetres_take_each_case_s_own():
    pair = [box(2, 2, 1, 1)] * 2, [box(2, 6, 1, 1)] * 2
    scores = scores_of(*pair, ["assd", "assd_mm"], [(1.0, 0.5), (1.0, 2.0)])
    assert scores == {"assd": [4, 4], "assd_mm": [2, 8]}


def test_millimetres_without_a_spacing_are_refused():
    with pytest.raises(ValueError, match="needs the spacing of every case"):
        scores_of([box(2, 2, 1, 1)], [box(2, 6, 1, 1)], ["hd95_mm"])


def test_no_case_gives_no_score():
    assert score(np.zeros((0, 4, 4), bool), np.zeros((0, 4, 4), bool), ["dice", "hd95", "cldice"], []) == {
        "dice": [],
        "hd95": [],
        "cldice": [],
    }


def test_scoring_leaves_torch_s_threads_as_they_were(request):
    before = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(before))
    torch.set_num_threads(2)
    scores_of([box(2, 2, 4, 4)], [box(3, 2, 4, 4)], ["hd95", "assd"])
    assert torch.get_num_threads() == 2


def test_scoring_warns_of_nothing(recwarn):
    scores_of([box(2, 2, 4, 4), nothing()], [box(3, 2, 4, 4), box(3, 2, 4, 4)], list(CHOICES))
    assert [str(warning.message) for warning in recwarn] == []


# ------------------------------------------------------------------------------------------- the table


TRUTHS = {"n/1": box(2, 2, 4, 4), "n/2": box(2, 2, 4, 4), "s/1": box(2, 2, 4, 4)}
PREDICTIONS = {
    "South": np.stack([box(2, 4, 4, 4)]),
    "North": np.stack([box(2, 2, 4, 4), box(2, 3, 4, 4)]),
}
CASES = {"North": ["n/1", "n/2"], "South": ["s/1"]}


def test_a_table_has_a_row_per_client_case_and_metric():
    found = rows(PREDICTIONS, TRUTHS, CASES, dict.fromkeys(TRUTHS), ["iou", "hd95"])
    assert found == [
        ("North", "n/1", "iou", 1.0),
        ("North", "n/1", "hd95", 0.0),
        ("North", "n/2", "iou", 12 / 20),
        ("North", "n/2", "hd95", 1.0),
        ("South", "s/1", "iou", 8 / 24),
        ("South", "s/1", "hd95", 2.0),
    ]


def test_distances_are_millimetres_only_if_every_case_of_every_client_has_a_spacing():
    known = {"n/1": (1.0, 1.0), "n/2": (1.0, 0.5), "s/1": (1.0, 3.0)}
    found = rows(PREDICTIONS, TRUTHS, CASES, known, ["hd95"])
    assert [row[2:] for row in found] == [("hd95_mm", 0.0), ("hd95_mm", 0.5), ("hd95_mm", 6.0)]
    found = rows(PREDICTIONS, TRUTHS, CASES, {**known, "s/1": None}, ["hd95"])
    assert [row[2:] for row in found] == [("hd95", 0.0), ("hd95", 1.0), ("hd95", 2.0)]


def test_a_client_without_test_cases_has_no_rows():
    none = {"North": np.zeros((0, *SHAPE), bool)}
    assert rows(none, TRUTHS, {"North": []}, {}, ["iou", "hd95", "cldice"]) == []


def test_predictions_that_are_not_those_of_the_cases_are_refused_by_name():
    with pytest.raises(UsageError, match="client 'North' has 2 stored predictions for 1 test cases"):
        rows(PREDICTIONS, TRUTHS, {"North": ["n/1"]}, dict.fromkeys(TRUTHS), ["iou"])


def test_only_distances_are_renamed():
    assert in_units(["iou", "hd95", "assd", "cldice"], [(1.0, 1.0)]) == ("iou", "hd95_mm", "assd_mm", "cldice")
    assert in_units(["hd95", "assd"], [(1.0, 1.0), None]) == ("hd95", "assd")
    assert in_units(["hd95"], []) == ("hd95",)


def test_the_spacing_of_a_resized_image_is_its_extent_over_its_new_size():
    assert spacing((60.0, 100.0), 128, 256) == (60 / 128, 100 / 256)
    assert spacing(None, 128, 256) is None


# ------------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("all", CHOICES),
        ("ALL,hd95", CHOICES),
        ("cldice, IoU ,hd95,iou", ("iou", "hd95", "cldice")),
        ("dice", ()),  # every trial reports it
        ("dice_fov,assd", ("assd",)),
        ("", ()),
    ],
)
def test_metrics_are_chosen_by_name_once_and_in_one_order(names, expected):
    assert chosen(names) == expected


@pytest.mark.parametrize(
    ("names", "hint"), [("iou,hd59", "did you mean 'hd95'"), ("cl_dice", "'cldice'"), ("zzzz", "known: all")]
)
def test_an_unknown_metric_is_refused_with_the_nearest(names, hint):
    with pytest.raises(UsageError, match=hint):
        chosen(names)


@pytest.mark.parametrize(("library", "metric"), [("monai", "hd95"), ("monai", "assd"), ("skimage", "cldice")])
def test_a_missing_library_is_said_before_anything_is_trained(monkeypatch, library, metric):
    monkeypatch.setitem(sys.modules, library, None)
    sentence = rf"metric '{metric}' needs {library}; install it with pip install 'pflbench\[metrics\]'"
    with pytest.raises(UsageError, match=sentence):
        chosen(metric)
    with pytest.raises(UsageError, match=sentence):
        scores_of([nothing()], [nothing()], [metric])
    assert chosen("iou,sensitivity,precision") == ("iou", "sensitivity", "precision")


def test_choosing_imports_no_heavy_library():
    program = (
        "import sys; from pflbench.scoring import chosen; chosen('all');"
        "print([name for name in ('torch', 'monai', 'skimage', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
