"""Counts and Dice against MONAI and numpy, inside a field of view too, and what an evaluation leaves alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice, get_confusion_matrix
from torch import nn

from pflbench.evaluation import HeldOut, evaluate
from pflbench.metrics import counts, dice
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.unet import UNet

NUMERICS = Numerics("cpu", "float32")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random_masks(count, seed, share=0.3, side=8):
    return (torch.rand(count, 1, side, side, generator=rng(seed)) < share).float()


def dices(prediction, mask):
    return [dice(*row) for row in counts(prediction, mask)]


shares = st.sampled_from([0.0, 0.02, 0.3, 1.0])


@given(st.integers(0, 2**31), shares, shares)
@settings(max_examples=60, deadline=None)
def test_dice_is_monais_with_empty_cases_counted(seed, found, true):
    prediction, mask = random_masks(4, seed, found), random_masks(4, seed + 1, true)
    expected = compute_dice(prediction, mask, include_background=True, ignore_empty=False)[:, 0]
    assert dices(prediction.bool(), mask.bool()) == pytest.approx(expected.tolist(), abs=1e-6)


@given(st.integers(0, 2**31), shares, shares)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_monais_confusion_matrix(seed, found, true):
    prediction, mask = random_masks(4, seed, found), random_masks(4, seed + 1, true)
    matrix = get_confusion_matrix(prediction, mask)[:, 0]  # true positives, false positives, true and false negatives
    assert counts(prediction.bool(), mask.bool()) == [(row[0], row[1], row[3]) for row in matrix.tolist()]


def test_dice_is_one_where_both_are_empty_and_zero_where_one_is():
    empty, full = torch.zeros(1, 1, 4, 4, dtype=torch.bool), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert dices(empty, empty) == [1.0]
    assert dices(empty, full) == [0.0]
    assert dices(full, empty) == [0.0]
    assert dices(full, full) == [1.0]


def test_dice_of_a_known_overlap():
    prediction = torch.tensor([[True, True, True, False, False]])
    mask = torch.tensor([[False, True, True, True, True]])
    assert counts(prediction, mask) == [(2, 1, 2)]
    assert dices(prediction, mask) == [2 * 2 / (3 + 4)]


def test_a_large_mask_is_counted_exactly():
    ones = torch.ones(1, 5000, 5000, dtype=torch.bool)  # more pixels than float32 can count
    missing = ones.clone()
    missing[0, 0, 0] = False
    assert dices(missing, ones) == [2 * (25_000_000 - 1) / (50_000_000 - 1)]


class Copy(nn.Module):
    """Says as a logit what the first channel holds."""

    def forward(self, images):
        return (images[:, :1] / (1 - images[:, :1])).log()


def drawn(count=5, side=8):
    """Return images without black and white, masks, and fields of view of about half of each image."""
    images = torch.randint(1, 255, (count, 1, side, side), dtype=torch.uint8, generator=rng(1))
    masks, fields = (torch.randint(2, (count, 1, side, side), dtype=torch.uint8, generator=rng(s)) for s in (2, 3))
    return HeldOut(images, masks, fields)


def by_hand(image, mask, field, threshold):
    """Count the pixels of one field of view by outcome, one after another."""
    hits = wrong = missed = 0
    for position in np.ndindex(mask.shape):
        if field[position]:
            found, true = image[position] / 255 > threshold, mask[position] == 1
            hits, wrong, missed = hits + (found and true), wrong + (found and not true), missed + (true and not found)
    return hits, wrong, missed


def scored(cases, threshold=0.25):
    return evaluate(Copy(), cases, Recipe(image_height=8, image_width=8, threshold=threshold), NUMERICS)


@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_a_model_is_evaluated_case_by_case_at_the_threshold(threshold):
    cases = drawn()
    everywhere = np.ones((1, 8, 8))
    expected = [
        by_hand(i, m, everywhere, threshold) for i, m in zip(cases.images.numpy(), cases.masks.numpy(), strict=True)
    ]
    assert scored(HeldOut(cases.images, cases.masks), threshold) == expected


def test_with_a_field_of_view_the_counts_inside_it_follow_those_of_the_image():
    cases = drawn()
    trios = zip(cases.images.numpy(), cases.masks.numpy(), cases.fields.numpy(), strict=True)
    expected = [(*by_hand(i, m, np.ones_like(f), 0.25), *by_hand(i, m, f, 0.25)) for i, m, f in trios]
    assert scored(cases) == expected
    assert all(score[:3] != score[3:] for score in expected)


def test_a_case_without_a_field_of_view_gets_no_counts_inside_it():
    cases = drawn()
    cases.fields[[0, 3]] = 0
    assert [len(score) for score in scored(cases)] == [3, 6, 6, 3, 6]
    assert [score[:3] for score in scored(cases)] == scored(HeldOut(cases.images, cases.masks))


def test_what_a_model_finds_outside_the_field_of_view_counts_outside_only():
    image = torch.full((1, 1, 8, 8), 200, dtype=torch.uint8)
    mask, field = torch.zeros_like(image), torch.zeros_like(image)
    mask[..., :4], field[..., :4] = 1, 1
    ((*whole, hits, wrong, missed),) = scored(HeldOut(image, mask, field))
    assert whole == [32, 32, 0]
    assert (hits, wrong, missed) == (32, 0, 0)


def test_many_cases_are_scored_in_parts_as_they_are_alone(monkeypatch):
    cases = drawn(count=7)
    at_once = scored(cases)
    monkeypatch.setattr("pflbench.evaluation._PIXELS", 3 * 8 * 8 * 16)  # three cases at a time
    assert scored(cases) == at_once


def test_evaluation_changes_neither_mode_nor_statistics():
    model = UNet(1, width=1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    evaluate(model, HeldOut(pixels, pixels), Recipe(image_height=8, image_width=8), NUMERICS)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
