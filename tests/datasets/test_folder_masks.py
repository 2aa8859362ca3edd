"""Masks in the ways people store them, and those that are no binary masks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from pflbench.api import DataError
from pflbench_datasets.binary import binary
from pflbench_datasets.readers import read_mask

FILE = Path("here/mask.png")
TRUTH = np.zeros((40, 30), bool)
TRUTH[8:20, 5:22] = True


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.sampled_from(
        [(np.uint8, 1), (np.uint8, 255), (np.uint8, 7), (np.uint16, 65535), (np.int16, 1), (np.float32, 1)]
    ),
)
def test_two_values_of_which_one_is_0_are_background_and_foreground(truth, kind):
    dtype, brightest = kind
    np.testing.assert_array_equal(binary(truth.astype(dtype) * dtype(brightest), None, FILE), truth)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value_is_empty_or_full(value, expected):
    assert (binary(np.full((4, 5), value, np.uint8), None, FILE) == expected).all()


def test_two_greys_are_a_binary_mask_too():
    np.testing.assert_array_equal(binary(np.where(TRUTH, 200, 90).astype(np.uint8), None, FILE), TRUTH)


@pytest.mark.parametrize("quality", [20, 50, 75, 95])
def test_a_jpeg_mask_keeps_its_shape(tmp_path, quality):
    file = tmp_path / "mask.jpg"
    Image.fromarray(TRUTH.astype(np.uint8) * 255).save(file, quality=quality)
    values = np.asarray(Image.open(file))
    assert len(np.unique(values)) > 2
    np.testing.assert_array_equal(read_mask(file, None), TRUTH)


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("method", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX])
def test_blurred_edges_are_cut_in_the_middle_and_are_no_labels(tmp_path, times, method):
    large = Image.new("L", (30 * times + 1, 40 * times + 1))
    ImageDraw.Draw(large).ellipse([20, 20, 22 * times, 30 * times], fill=252)
    small = large.resize((30, 40), method)
    small.save(tmp_path / "mask.png")
    values = np.asarray(small)
    assert ((values > 30) & (values < 220)).any()
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", None), values > 127)


def labels(*values: float) -> np.ndarray:
    """Return a map of stripes, five pixels wide."""
    return np.repeat(np.array(values), 5)[None].repeat(12, axis=0)


@pytest.mark.parametrize(
    "values", [(0, 1, 2), (0, 1, 2, 3), (1, 2), (0, 128, 255), (0, 40, 80, 120), (0.0, 1.0, 2.0), tuple(range(60))]
)
def test_a_map_of_labels_is_refused_with_the_way_out(values):
    with pytest.raises(DataError, match=r"mask\.png is no binary mask: .*--set folder\.foreground=\d+, or 'any'"):
        binary(labels(*values), None, FILE)


def test_thin_lines_of_small_labels_are_seen_too():
    values = np.zeros((9, 9), np.uint8)
    values[2], values[5] = 1, 2
    with pytest.raises(DataError, match="areas of 0, 1, 2"):
        binary(values, None, FILE)


def test_the_foreground_of_a_map_of_labels_can_be_chosen():
    values = labels(0, 1, 2, 3)
    np.testing.assert_array_equal(binary(values, 2, FILE), values == 2)
    np.testing.assert_array_equal(binary(values, 0, FILE), values == 0)
    np.testing.assert_array_equal(binary(values, "any", FILE), values != 0)


def test_artery_and_vein_colours_are_not_taken_for_one_mask(tmp_path):
    picture = np.zeros((12, 20, 3), np.uint8)
    picture[2:6, :, 0] = 255
    picture[7:11, :, 2] = 255
    Image.fromarray(picture).save(tmp_path / "av.png")
    with pytest.raises(DataError, match=r"av\.png is no binary mask"):
        read_mask(tmp_path / "av.png", None)


def test_values_below_0_are_refused():
    with pytest.raises(DataError, match="below 0"):
        binary(labels(-1, 0, 1), None, FILE)


def one_bit() -> Image.Image:
    return Image.fromarray(TRUTH)


def inverted_palette() -> Image.Image:
    indexed = Image.fromarray(np.where(TRUTH, 0, 1).astype(np.uint8), "P")
    indexed.putpalette([255, 255, 255, 0, 0, 0])
    return indexed


def red_on_black() -> Image.Image:
    return Image.fromarray(np.stack([TRUTH * 255, TRUTH * 0, TRUTH * 0], axis=2).astype(np.uint8))


def sixteen_bits() -> Image.Image:
    return Image.fromarray(TRUTH.astype(np.uint16) * 65535)


@pytest.mark.parametrize("kind", [one_bit, inverted_palette, red_on_black, sixteen_bits])
def test_every_mode_of_a_picture_reads_alike(tmp_path, kind):
    kind().save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", None), TRUTH)
