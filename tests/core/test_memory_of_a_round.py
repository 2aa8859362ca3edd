"""The bytes held for backward passes: counted as by hand, the same every time, in the paper's proportion."""

import gc

import pytest
import torch
from torch import nn

from pflbench.api import UNet
from pflbench.plugins import registry
from pflbench.testing.memory import SavedBytes, memory_of, peak_of_a_round, peak_of_a_step

N = 1000
FLOATS = 4 * N


def leaf():
    return torch.rand(N, requires_grad=True)


def test_a_tensor_saved_twice_counts_once():
    x = leaf()
    with SavedBytes() as saved:
        y = x * x  # both factors
        assert saved.now == FLOATS
        z = y.view(10, -1) * y.view(10, -1).detach()  # two views of one storage, which is y's
        assert saved.now == 2 * FLOATS
    assert z.shape == (10, 100)


def test_parameters_are_left_out_and_what_they_are_multiplied_with_is_not():
    weight, x = nn.Parameter(torch.rand(N)), leaf()
    with SavedBytes() as saved:
        y = weight * x
    assert saved.now == FLOATS
    del y
    assert saved.now == 0


def test_what_a_backward_pass_frees_is_held_no_longer_and_the_peak_stays():
    x = leaf()
    with SavedBytes() as saved:
        (x * x).exp().sum().backward()  # x; exp keeps its result
        assert (saved.now, saved.peak) == (0, 2 * FLOATS)
        (x * x).sum().backward()
        assert (saved.now, saved.peak) == (0, 2 * FLOATS)


def test_a_kept_graph_is_held_until_it_goes():
    x = leaf()
    with SavedBytes() as saved:
        y = (x * x).sum()
        y.backward(retain_graph=True)
        assert saved.now == FLOATS
        del y
        assert saved.now == 0


def test_gradients_are_those_without_counting_of_gradients_of_gradients_too():
    def second(x):
        (slope,) = torch.autograd.grad(x.sin().exp().sum(), x, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), x)[0]

    x = leaf()
    with SavedBytes() as saved:
        found = second(x)
    assert torch.equal(found, second(x))
    assert saved.peak > FLOATS
    assert saved.now == 0


def parameters(width):
    return 4 * sum(value.numel() for value in UNet(3, width).parameters())


def test_the_scale_model_has_the_paper_s_proportion_of_feature_maps_and_weights():
    paper, model = peak_of_a_step(64, 256, 4) / parameters(64), peak_of_a_step(4, 64, 4) / parameters(4)
    assert model == pytest.approx(paper, rel=0.1)  # three channels of an image are more beside four than beside 64


def test_a_round_of_fedavg_holds_one_step_s_and_of_fedprox_also_the_distance_from_what_was_received():
    step = peak_of_a_step(4, 64, 4)
    assert peak_of_a_round(registry().method("fedavg")()) == step
    assert peak_of_a_round(registry().method("fedprox")()) == step + parameters(4)


def test_two_networks_in_one_step_hold_twice_as_much():
    assert memory_of(registry().method("fedavg")()) == 1
    assert memory_of(registry().method("apfl")()) == pytest.approx(2, rel=0.06)  # they share the batch


def test_the_count_is_the_same_whether_or_not_garbage_is_collected():
    method = registry().method("feddg")()
    gc.disable()
    try:
        without = peak_of_a_round(method)
    finally:
        gc.enable()
    assert peak_of_a_round(method) == without
