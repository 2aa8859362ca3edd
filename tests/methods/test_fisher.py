"""The diagonal Fisher against a loop in float64, and in closed form."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pflbench.training import BCEDice
from pflbench.unet import UNet
from pflbench_methods.fisher import _add_vectorised, diagonal_fisher, evaluating, mean_fisher


def example(count=5, side=16, seed=0, dtype=torch.float32):
    """Return a UNet that has seen data, and images with masks."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = UNet(3, 4)
    images = torch.rand((count, 3, side, side), generator=rng)
    masks = (torch.rand((count, 1, side, side), generator=rng) < 0.3).float()
    with torch.no_grad():
        for _ in range(5):
            model.train()(torch.rand((4, 3, side, side), generator=rng) * 0.7)
    return model.to(dtype), images.to(dtype), masks.to(dtype)


def loss64(logits, masks):
    """Half cross-entropy, half soft Dice, written out; BCEDice itself works in float32."""
    entropy = torch.nn.functional.softplus(logits) - logits * masks
    p = 1 / (1 + torch.exp(-logits))
    dice = [1 - (2 * (q * y).sum() + 1e-6) / (q.sum() + y.sum() + 1e-6) for q, y in zip(p, masks, strict=True)]
    return 0.5 * entropy.mean() + 0.5 * sum(dice) / len(dice)


def by_loop(model, images, masks, train=False):
    """Return the Fisher by one backward pass per image, on a copy in float64."""
    model = copy.deepcopy(model).double().train(train)
    total = {name: np.zeros(tuple(p.shape)) for name, p in model.named_parameters()}
    for image, mask in zip(images.double(), masks.double(), strict=True):
        model.zero_grad(set_to_none=True)
        loss64(model(image[None]), mask[None]).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad.numpy() ** 2
    return {name: value / len(images) for name, value in total.items()}


def assert_same(found, expected, of_largest):
    """Compare entry by entry, to a share of the largest value of each entry."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        value = np.asarray(value)
        np.testing.assert_allclose(found[name].numpy(), value, rtol=0, atol=of_largest * value.max(), err_msg=name)


def test_it_is_the_mean_of_squared_gradients_of_single_images():
    model, images, masks = example()
    found = diagonal_fisher(model, images, masks, BCEDice(0.5))
    assert all(value.dtype is torch.float32 and (value >= 0).all() for value in found.values())
    assert_same(found, by_loop(model, images, masks), 1e-5)


def test_in_float64_it_agrees_to_the_last_digits():
    model, images, masks = example(dtype=torch.float64)
    assert_same(diagonal_fisher(model, images, masks, loss64), by_loop(model, images, masks), 1e-11)


def test_closed_form_of_a_linear_model_with_squared_loss():
    # z = sum_k w_k x_k + b and loss = 1/2 sum_s (z_s - y_s)^2: gradients are sum_s (z_s - y_s) x_ks and without x
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 2, 5, 7)), rng.random((6, 1, 5, 7))
    weight, bias = np.array([0.7, -1.3]), 0.4
    model = nn.Conv2d(2, 1, kernel_size=1).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weight).view(1, 2, 1, 1))
        model.bias.fill_(bias)
    error = np.einsum("k,nkhw->nhw", weight, x) + bias - y[:, 0]
    expected_weight = (np.einsum("nhw,nkhw->nk", error, x) ** 2).mean(0)
    expected_bias = (error.sum((1, 2)) ** 2).mean()

    def squared(z, target):
        return ((z - target) ** 2).sum() / 2

    found = diagonal_fisher(model, torch.from_numpy(x), torch.from_numpy(y), squared)
    np.testing.assert_allclose(found["weight"].numpy().ravel(), expected_weight, rtol=1e-12)
    np.testing.assert_allclose(found["bias"].item(), expected_bias, rtol=1e-12)


def test_it_is_the_average_of_single_images_and_not_of_batches():
    model, images, masks = example(dtype=torch.float64)
    singles = [diagonal_fisher(model, images[i : i + 1], masks[i : i + 1], loss64) for i in range(5)]
    expected = {name: sum(single[name] for single in singles) / 5 for name in singles[0]}
    uneven = [(images[:3], masks[:3]), (images[3:4], masks[3:4]), (images[4:], masks[4:])]
    assert_same(mean_fisher(model, uneven, loss64), expected, 1e-14)
    assert_same(diagonal_fisher(model, images, masks, loss64), expected, 1e-14)


def test_the_order_of_images_and_their_batches_do_not_matter():
    model, images, masks = example(dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 2, 1])
    batches = [(images[order[:1]], masks[order[:1]]), (images[order[1:]], masks[order[1:]])]
    assert_same(mean_fisher(model, iter(batches), loss64), diagonal_fisher(model, images, masks, loss64), 1e-14)


def test_images_are_alone_in_their_batch():
    # with batch statistics the second image would change the gradient of the first
    model, images, masks = example(2, dtype=torch.float64)
    pair = diagonal_fisher(model, images, masks, loss64)
    first, second = (diagonal_fisher(model, images[i : i + 1], masks[i : i + 1], loss64) for i in (0, 1))
    assert_same(pair, {name: (first[name] + second[name]) / 2 for name in first}, 1e-14)
    batch_gradient = by_loop(model.train(), images, masks, train=True)
    assert any(np.abs(batch_gradient[name] - pair[name].numpy()).max() > 0.1 * pair[name].max() for name in pair)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_model_is_left_as_it_was(training, fails):
    model, images, masks = example()
    model.train(training)
    model.enc2[1].train(not training)  # modes are restored one by one
    model.enc3[0].weight.requires_grad_(False)
    model.final.bias.grad = kept = torch.full((1,), 3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    wanting = [parameter.requires_grad for parameter in model.parameters()]
    assert len(set(modes)) == 2

    def failing(logits, masks):
        raise ArithmeticError("as asked")

    if fails:
        with pytest.raises(ArithmeticError, match="as asked"):
            diagonal_fisher(model, images, masks, failing)
    else:
        assert diagonal_fisher(model, images, masks, BCEDice(0.5))["enc3.0.weight"].max() > 0
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanting
    assert model.final.bias.grad is kept
    assert kept.item() == 3.0
    assert sum(parameter.grad is not None for parameter in model.parameters()) == 1
    for name, value in model.state_dict().items():  # also the running statistics and their counters
        assert torch.equal(value, before[name]), name


def test_neither_the_mode_nor_frozen_parameters_change_the_value():
    model, images, masks = example(3)
    expected = diagonal_fisher(model.eval(), images, masks, BCEDice(0.5))
    model.train().requires_grad_(False)
    with torch.no_grad():
        found = diagonal_fisher(model, images, masks, BCEDice(0.5))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not any(value.requires_grad for value in found.values())


def test_a_bias_before_a_normalization_layer_does_not_vanish():
    model, images, masks = example(dtype=torch.float64)
    found = diagonal_fisher(model.train(), images, masks, loss64)
    vanishing = by_loop(model, images, masks, train=True)
    for stage in ("enc1", "enc2", "enc3", "enc4", "dec4", "dec3", "dec2"):
        name = f"{stage}.0.bias"
        assert vanishing[name].max() < 1e-25
        assert found[name].max() > 1e-12, name


@pytest.mark.parametrize("count", [1, 8, 9, 17])  # eight at once: full, and with a rest
def test_the_vectorised_path_agrees_with_the_loop(count):
    model, images, masks = example(count, dtype=torch.float64)
    start = {name: torch.full_like(parameter, 0.5) for name, parameter in model.named_parameters()}
    with evaluating(model):
        _add_vectorised(model, images, masks, loss64, start)
    expected = by_loop(model, images, masks)
    found = {name: (value.detach() - 0.5) / count for name, value in start.items()}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-9, atol=1e-15, err_msg=name)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_vectorised_path_agrees_in_float32_with_the_training_loss():
    model, images, masks = example(9)
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    with evaluating(model):
        _add_vectorised(model, images, masks, BCEDice(0.5), total)
    assert_same({name: value / 9 for name, value in total.items()}, by_loop(model, images, masks), 1e-5)
