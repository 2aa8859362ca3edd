"""The painter itself, on one fixed style: what version 1 drew, and what its settings do."""

from dataclasses import replace

import numpy as np

from pflbench_datasets.fundus import Style, paint
from pflbench_datasets.simulated import GENERATOR

STYLE = Style(
    rgb=(150, 80, 40),
    vessels=0.08,
    radius=(0.45, 0.55),
    zoom=1.2,
    calibre=1.0,
    disc=(0.4, 0.1),
    contrast=0.4,
    gradient=0.4,
    vignette=0.3,
    texture=0.1,
    blur=0.7,
    noise=3.0,
    jitter=0.1,
    unlabelled=0.2,
    bright=2.0,
    dark=3.0,
    streaks=1.0,
)


def draw(style=STYLE, seed=11, size=96):
    return paint(style, size, np.random.Generator(np.random.PCG64(seed)))


def test_still_draws_what_this_version_drew():
    """If this fails because the drawing was changed, raise GENERATOR and write the new figures here."""
    image, mask = draw()
    quarters = image.reshape(3, 2, 48, 2, 48).mean(axis=(2, 4))
    expected = [
        [[97.41, 100.49], [72.19, 82.94]],
        [[54.97, 56.73], [40.40, 48.77]],
        [[25.17, 26.09], [18.09, 22.21]],
    ]
    assert GENERATOR == 1
    assert abs(int(mask.sum()) - 732) <= 8  # rounding may differ between versions of numpy and pillow
    np.testing.assert_allclose(quarters, expected, atol=0.3)


def test_unlabelled_vessels_show_in_the_image_and_not_in_the_mask():
    plain, labelled = draw(replace(STYLE, unlabelled=0.0))
    crowded, same = draw(replace(STYLE, unlabelled=0.6))
    np.testing.assert_array_equal(labelled, same)
    darker = plain[1].astype(int) - crowded[1] > 4
    assert 0.2 * labelled.sum() < darker.sum() < labelled.sum()


def test_more_vessels_keep_those_that_were_there():
    few, many = draw(replace(STYLE, vessels=0.04))[1], draw(replace(STYLE, vessels=0.1))[1]
    assert many.sum() > 1.8 * few.sum()
    assert not (few & ~many & 1).any()


def test_noise_free_background_outside_the_field_of_view_is_black():
    image, mask = draw(replace(STYLE, noise=0.0, blur=0.0, radius=(0.4, 0.4)))
    assert not image[:, :8].any()
    assert not mask[:8].any()
