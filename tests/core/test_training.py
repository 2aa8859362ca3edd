"""The loss against MONAI, batches against numpy, Adam against its formula, and what `only` freezes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import nn

from pflbench.errors import TrialFailed
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.training import BCEDice, adam, batches, fit
from pflbench.unet import UNet
from pflbench.weights import norm_keys

NUMERICS = Numerics("cpu", "float32")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def random_masks(count, seed, share=0.3, side=8):
    return (torch.rand(count, 1, side, side, generator=rng(seed)) < share).float()


# ------------------------------------------------------------------------------------------------ loss


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("foreground", [0.0, 0.3, 1.0])
def test_the_loss_is_monais_dice_per_image_plus_torchs_cross_entropy(share, foreground):
    logits = 3 * torch.randn(5, 1, 8, 8, generator=rng(1))
    masks = random_masks(5, seed=2, share=foreground)
    soft_dice = DiceLoss(sigmoid=True, smooth_nr=1e-6, smooth_dr=1e-6)(logits.double(), masks.double())
    entropy = F.binary_cross_entropy(logits.double().sigmoid(), masks.double())
    expected = share * entropy + (1 - share) * soft_dice
    assert BCEDice(share)(logits, masks).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_has_the_gradient_of_the_reference():
    logits = torch.randn(3, 1, 8, 8, generator=rng(3)).requires_grad_()
    masks = random_masks(3, seed=4)
    BCEDice()(logits, masks).backward()
    reference = logits.detach().double().requires_grad_()
    soft_dice = DiceLoss(sigmoid=True, smooth_nr=1e-6, smooth_dr=1e-6)(reference, masks.double())
    (0.5 * soft_dice + 0.5 * F.binary_cross_entropy_with_logits(reference, masks.double())).backward()
    torch.testing.assert_close(logits.grad.double(), reference.grad, rtol=1e-4, atol=1e-8)


def test_the_dice_of_a_batch_is_the_mean_over_images_not_over_pixels():
    logits, masks = torch.randn(2, 1, 8, 8, generator=rng(5)), random_masks(2, seed=6)
    masks[0, 0, 1:] = 0
    alone = [BCEDice(0.0)(logits[i : i + 1], masks[i : i + 1]).item() for i in range(2)]
    assert BCEDice(0.0)(logits, masks).item() == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_the_most():
    masks = random_masks(2, seed=7)
    assert BCEDice()(100 * (2 * masks - 1), masks).item() == pytest.approx(0, abs=1e-6)
    assert BCEDice(0.0)(-100 * (2 * masks - 1), masks).item() == pytest.approx(1, abs=1e-6)


def test_the_loss_of_half_precision_logits_is_taken_in_float32():
    logits = torch.randn(2, 1, 8, 8, generator=rng(8)).bfloat16()
    value = BCEDice()(logits, random_masks(2, seed=9))
    assert value.dtype is torch.float32
    assert value.item() == BCEDice()(logits.float(), random_masks(2, seed=9)).item()


# --------------------------------------------------------------------------------------------- batches


def numbered(count, side=8):
    """Return images whose first pixel column is their number, and empty masks."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 1, side, side)
    return images.contiguous(), torch.zeros(count, 1, side, side, dtype=torch.uint8)


def numbers(stream):
    return [(images[:, 0, 0, 0] * 255).round().int().tolist() for images, _ in stream]


def toy_recipe(**changes):
    return Recipe(image_height=8, image_width=8, **changes)


@pytest.mark.parametrize(("count", "batch"), [(8, 4), (10, 4), (3, 4), (5, 1)])
def test_every_image_comes_exactly_once_an_epoch(count, batch):
    stream = numbers(batches(*numbered(count), toy_recipe(batch=batch), NUMERICS, 3, rng()))
    per_epoch = -(-count // batch)
    assert len(stream) == 3 * per_epoch
    for epoch in range(3):
        parts = stream[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(number for part in parts for number in part) == list(range(count))
        assert [len(part) for part in parts[:-1]] == [batch] * (per_epoch - 1)


def test_every_epoch_has_an_order_of_its_own():
    stream = numbers(batches(*numbered(32), toy_recipe(batch=32), NUMERICS, 3, rng()))
    assert len({tuple(order) for order in stream}) == 3


def test_one_generator_state_gives_one_order():
    def drawn(seed):
        images = torch.randint(256, (7, 3, 8, 8), dtype=torch.uint8, generator=rng(9))
        masks = torch.randint(2, (7, 1, 8, 8), dtype=torch.uint8, generator=rng(9))
        return [b for pair in batches(images, masks, toy_recipe(), NUMERICS, 2, rng(seed)) for b in pair]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not all(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_the_order_does_not_depend_on_torchs_global_generator():
    def drawn():
        return numbers(batches(*numbered(20), toy_recipe(), NUMERICS, 1, rng(4)))

    torch.manual_seed(1)
    first = drawn()
    torch.manual_seed(2)
    assert drawn() == first


@pytest.mark.parametrize("augment", ["flips+turns", "flips", "none"])
def test_a_mask_moves_with_its_image(augment):
    masks = torch.randint(2, (6, 1, 8, 8), dtype=torch.uint8, generator=rng(3))
    images = torch.cat([masks * 255, masks * 0 + 7, masks * 100], dim=1)
    for batch, labels in batches(images, masks, toy_recipe(augment=augment), NUMERICS, 10, rng(4)):
        assert torch.equal(batch[:, :1], labels)
        assert torch.equal((batch[:, 2:] > 0).float(), labels)
        assert batch.dtype is labels.dtype is torch.float32


@pytest.mark.parametrize(("augment", "moves"), [("flips+turns", 8), ("flips", 4), ("none", 1)])
def test_each_move_of_the_square_occurs_and_no_other(augment, moves):
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8)
    square = image[0, 0].numpy()
    turns = range(4) if augment == "flips+turns" else range(0, 4, 2) if augment == "flips" else range(1)
    expected = {np.rot90(side, turn).tobytes() for side in (square, square[:, ::-1]) for turn in turns}
    expected = expected if augment != "none" else {square.tobytes()}
    assert len(expected) == moves
    stream = batches(image, image, toy_recipe(augment=augment), NUMERICS, 200, rng(5))
    seen = [labels[0, 0].to(torch.uint8).numpy().tobytes() for _, labels in stream]
    assert set(seen) == expected
    assert all(200 / moves / 2 < seen.count(move) < 200 / moves * 2 for move in expected)


def test_images_of_one_batch_are_moved_independently():
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(16, 1, 8, 8)
    ((_, labels),) = batches(image, image, toy_recipe(batch=16), NUMERICS, 1, rng(6))
    assert len({labels[i].numpy().tobytes() for i in range(16)}) > 3


def test_pixels_become_shares_of_255_and_masks_stay():
    images = torch.full((1, 3, 8, 8), 51, dtype=torch.uint8)
    masks = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    ((batch, labels),) = batches(images, masks, toy_recipe(), NUMERICS, 1, rng())
    assert batch.unique().tolist() == pytest.approx([0.2])
    assert labels.unique().tolist() == [1.0]
    assert images.unique().tolist() == [51]


def test_images_that_are_not_square_are_not_turned():
    recipe = Recipe(image_height=8, image_width=16)
    images = torch.zeros(5, 1, 8, 16, dtype=torch.uint8)
    shapes = {batch.shape[2:] for batch, _ in batches(images, images, recipe, NUMERICS, 4, rng())}
    assert shapes == {(8, 16)}


# ------------------------------------------------------------------------------------------------- fit


def toy_batches(steps=3, seed=0):
    return [(torch.rand(2, 1, 8, 8, generator=rng(seed + i)), random_masks(2, seed + 100 + i)) for i in range(steps)]


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, model):
    return {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}


def trained(model, **options):
    optimizer = adam(model.parameters(), 1e-2, 5e-4)
    return fit(model, optimizer, toy_batches(), BCEDice(), NUMERICS, **options)


def test_training_changes_every_entry():
    model = UNet(1, width=2)
    before = snapshot(model)
    trained(model)
    biases_before_norm = {f"{stage}.0.bias" for stage in ("enc1", "enc2", "enc3", "enc4", "dec4", "dec3", "dec2")}
    assert changed(before, model) | biases_before_norm == set(before)


def test_training_lowers_the_loss_it_returns():
    model, data = UNet(1, width=4), toy_batches(1) * 10
    optimizer = adam(model.parameters(), 1e-2, 0.0)
    first, seen = fit(model, optimizer, data, BCEDice(), NUMERICS)
    second, _ = fit(model, optimizer, data, BCEDice(), NUMERICS)
    assert seen == 20
    assert second < first


def test_the_returned_loss_is_the_mean_over_steps():
    model = nn.Conv2d(1, 1, 1)
    data = toy_batches(3)
    expected = [BCEDice()(model(images), masks).item() for images, masks in data]
    mean, _ = fit(model, torch.optim.SGD(model.parameters(), lr=0.0), data, BCEDice(), NUMERICS)
    assert mean == pytest.approx(sum(expected) / 3, rel=1e-6)


def test_only_the_chosen_entries_are_trained_and_the_others_keep_their_statistics():
    model = UNet(1, width=2)
    before = snapshot(model)
    trained(model, only=frozenset({"final.weight", "final.bias"}))
    assert changed(before, model) == {"final.weight", "final.bias"}


def test_a_norm_layer_that_is_trained_collects_statistics_and_the_others_do_not():
    model = UNet(1, width=2)
    before = snapshot(model)
    trained(model, only=frozenset({"enc2.1.weight", "enc2.1.bias"}))
    assert changed(before, model) == {name for name in before if name.startswith("enc2.1.")}


def test_everything_but_the_norm_layers_can_be_trained():
    model = UNet(1, width=2)
    before = snapshot(model)
    norms = norm_keys(model)
    trained(model, only=frozenset(dict(model.named_parameters())) - norms)
    assert not changed(before, model) & norms
    assert "enc1.0.weight" in changed(before, model)


def test_frozen_entries_feel_no_weight_decay():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    trained(model)  # the optimiser of this one has moments for every entry
    optimizer = adam(model.parameters(), 1e-2, weight_decay=0.5)
    fit(model, optimizer, toy_batches(), BCEDice(), NUMERICS)
    before = snapshot(model)
    fit(model, optimizer, toy_batches(), BCEDice(), NUMERICS, only=frozenset({"1.weight"}))
    assert changed(before, model) == {"1.weight"}


@pytest.mark.parametrize("mode", [True, False])
def test_fit_restores_mode_and_gradients(mode):
    model = UNet(1, width=1).train(mode)
    model.enc1[0].weight.requires_grad_(False)
    trained(model, only=frozenset({"enc1.0.weight", "final.weight"}))
    assert all(module.training is mode for module in model.modules())
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {"enc1.0.weight"}


def test_fit_restores_gradients_after_an_error():
    model = UNet(1, width=1).eval()

    def broken(logits, masks):
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        fit(
            model,
            adam(model.parameters(), 1e-3, 0),
            toy_batches(),
            broken,
            NUMERICS,
            only=frozenset({"final.bias"}),
        )
    assert all(p.requires_grad for p in model.parameters())
    assert not model.training


def test_a_penalty_is_minimized_but_not_part_of_the_loss():
    model, data = nn.Conv2d(1, 1, 1), toy_batches(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    plain, _ = fit(model, optimizer, data, BCEDice(), NUMERICS)
    more, _ = fit(model, optimizer, data, BCEDice(), NUMERICS, penalty=lambda m: m.weight.sum() * 0 + 3.0)
    assert more == plain
    heavier = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    fit(
        model,
        heavier,
        [(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))],
        BCEDice(),
        NUMERICS,
        penalty=lambda m: 2 * m.weight.sum(),
    )
    torch.testing.assert_close(model.weight.detach(), before - 0.2)  # the input is 0: the penalty's gradient alone


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_its_step(value):
    data = toy_batches(3)
    data[1][0].fill_(value)
    model = nn.Conv2d(1, 1, 1)
    with pytest.raises(TrialFailed, match="not finite at step 2 of 3"):
        fit(model, torch.optim.SGD(model.parameters(), lr=0.0), data, BCEDice(), NUMERICS)


def test_training_in_bfloat16_keeps_weights_in_float32():
    model = UNet(1, width=2)
    fit(model, adam(model.parameters(), 1e-2, 0), toy_batches(1), BCEDice(), Numerics("cpu", "bfloat16"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# ------------------------------------------------------------------------------------------------ Adam


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4, 0.1])
def test_adam_is_its_formula_with_coupled_weight_decay(weight_decay):
    start = torch.randn(50, dtype=torch.float64, generator=rng(1))
    gradients = [torch.randn(50, dtype=torch.float64, generator=rng(10 + i)) for i in range(5)]
    parameter = nn.Parameter(start.clone())
    optimizer = adam([parameter], 1e-2, weight_decay)
    weight, first, second = start.clone(), torch.zeros(50).double(), torch.zeros(50).double()
    for step, gradient in enumerate(gradients, start=1):
        parameter.grad = gradient.clone()
        optimizer.step()
        decayed = gradient + weight_decay * weight
        first, second = 0.9 * first + 0.1 * decayed, 0.999 * second + 0.001 * decayed**2
        weight = weight - 1e-2 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        torch.testing.assert_close(parameter.detach(), weight, rtol=1e-10, atol=1e-12)


def test_the_fused_adam_is_torchs_plain_one():
    start, gradient = torch.randn(1000, generator=rng(2)), torch.randn(1000, generator=rng(3))
    results = []
    for make in (
        lambda p: adam(p, 1e-3, 5e-4),
        lambda p: torch.optim.Adam(p, 1e-3, weight_decay=5e-4, fused=False),
    ):
        parameter = nn.Parameter(start.clone())
        parameter.grad = gradient.clone()
        make([parameter]).step()
        results.append(parameter.detach())
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)
