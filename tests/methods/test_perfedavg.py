"""Per-FedAvg: its gradient on a quadratic, two rounds in float64 loops, its limits, and what it costs."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, PARAMETERS, SIDE, SIZES, STATISTICS, WIDTH, cases, played, setting
from test_controls import CLIENTS, assert_same_models, plain
from test_running import statistics_by_hand
from torch import nn
from torch.nn import functional as F

from pflbench.api import TaskCard
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.sites import Client, Memory, Setting
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.perfedavg import PerFedAvg, loss_after_a_step

LATE = 4  # rounds, of which the first may not be selected


# the gradient --------------------------------------------------------------------------------------------------


class Points(nn.Module):
    """A model whose output is its weight, so that the loss is a quadratic."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))

    def forward(self, curvature):
        return curvature.sqrt() * self.weight


def half_square(scaled, target):
    return ((scaled - target) ** 2).sum() / 2


@pytest.mark.parametrize("rate", [0.0, 0.1, 2.0])
def test_on_quadratics_the_gradient_is_that_of_the_second_where_the_first_leads(rate):
    a1, x1, a2, x2 = torch.rand(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = Points()
    w = model.weight.detach().clone()
    value = loss_after_a_step(model, {}, half_square, rate, (a1, a1.sqrt() * x1), (a2, a2.sqrt() * x2))
    value.backward()
    moved = w - rate * a1 * (w - x1)
    np.testing.assert_allclose(value.item(), (a2 * (moved - x2) ** 2).sum() / 2, rtol=1e-12)
    # the Hessian would add the factor 1 - rate a1
    np.testing.assert_allclose(model.weight.grad, a2 * (moved - x2), rtol=1e-12)
    assert torch.equal(model.weight.detach(), w)


class Watched(torch.autograd.Function):
    """Nothing but a witness: whether the backward pass runs in the precision of the forward pass."""

    casting: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        Watched.casting.append(torch.is_autocast_enabled("cpu"))
        return gradient


def test_the_inner_gradient_is_taken_outside_autocast_as_that_of_training_is():
    Watched.casting.clear()
    batch = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss_after_a_step(Points(), {}, lambda *found: half_square(*map(Watched.apply, found)), 0.1, batch, batch)
    assert Watched.casting == [False]


# two rounds in float64 -----------------------------------------------------------------------------------------


def toy(rounds=2):
    # Adam divides by the gradient's size, so entries whose gradient is nothing but rounding need a firm decay
    recipe = Recipe(base_width=WIDTH, image_height=SIDE, image_width=SIDE, rounds=rounds, epochs=2, batch=2,
                    precision="float32", weight_decay=0.05)  # fmt: skip
    return Setting(recipe, Numerics("cpu", "float32"), 0)


def a_client(name, count, round, stage, memory, toy):
    return Client(name, round, stage, cases(name, count), memory, toy)


def loss_by_hand(logits, masks):
    p, y = logits.sigmoid().flatten(1), masks.double().flatten(1)
    dice = 1 - ((2 * (p * y).sum(1) + 1e-6) / (p.sum(1) + y.sum(1) + 1e-6)).mean()
    return 0.5 * F.binary_cross_entropy(p, y) + 0.5 * dice


def gradient_by_hand(model, images, masks):
    model.zero_grad()
    loss_by_hand(model(images.double()), masks).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}


def moved_by(model, rate, gradients):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for n, p in other.named_parameters():
            p -= rate * gradients[n]
    return other


def updated_by_hand(model, moments, drawn, round, alpha):
    """Train a float64 model with Adam written out; ``drawn`` are the pairs (first batch, second batch)."""
    for step, (first, second) in enumerate(drawn, start=1 + (round - 1) * len(drawn)):
        away = moved_by(model, alpha, gradient_by_hand(copy.deepcopy(model), *first))
        gradients = gradient_by_hand(away, *second)
        with torch.no_grad():
            for n, b in away.named_buffers():
                model.get_buffer(n).copy_(b)  # the statistics of the pass at w'
            for n, p in model.named_parameters():
                g = gradients[n] + 0.05 * p
                m, v = moments.setdefault(n, (torch.zeros_like(p), torch.zeros_like(p)))
                moments[n] = m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                p -= 1e-3 * 0.99 ** (round - 1) * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8)


def adapted_by_hand(model, batches, alpha, count):
    model = copy.deepcopy(model)
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for images, masks in batches:
        for n, g in gradient_by_hand(model, images, masks).items():
            total[n] += len(images) / count * g
    return moved_by(model, alpha, total)


def assert_close(found, model, tolerance):
    for n, value in model.state_dict().items():
        if n in ENTRIES:
            np.testing.assert_allclose(found[n].double(), value, rtol=1e-4, atol=tolerance, err_msg=n)


@pytest.mark.parametrize("alpha", [0.01, 0.5])
def test_two_rounds_of_a_client_are_those_computed_by_hand(alpha):
    method, memory = PerFedAvg(inner_rate=alpha), Memory(toy().new_model())
    model, moments = toy().new_model().double(), {}
    for round in (1, 2):
        draws = a_client("Bern", 5, round, "update", Memory(toy().new_model()), toy())
        second, first = list(draws.batches()), list(draws.batches())  # fit draws the ordinary order first
        updated_by_hand(model, moments, list(zip(first, second, strict=True)), round, alpha)
        client = a_client("Bern", 5, round, "update", memory, toy())
        sent = method.client_update(client)
        assert set(sent) == set(ENTRIES)
        assert_close(sent, model, 1e-5)
        client = a_client("Bern", 5, round, "receive", memory, toy())
        method.client_receive(client, {n: v.clone() for n, v in sent.items()})
        draws = a_client("Bern", 5, round, "receive", Memory(toy().new_model()), toy())
        adapted = adapted_by_hand(model, draws.batches(1), alpha, 5)
        adapted.load_state_dict(statistics_by_hand(adapted, draws.batches(1)), strict=False)
        assert_close(memory.state["adapted"], adapted, 2e-5)
        assert_close(memory.model.state_dict(), model, 1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_adapting_takes_steps_along_the_gradient_of_all_training_images(steps):
    method, memory = PerFedAvg(inner_rate=0.3, adaptation_steps=steps), Memory(toy().new_model())
    client = a_client("Oslo", 4, 2, "receive", memory, toy())
    start = {n: v.clone() for n, v in memory.model.state_dict().items() if n in ENTRIES}
    method.client_receive(client, start)
    draws, model = a_client("Oslo", 4, 2, "receive", Memory(toy().new_model()), toy()), toy().new_model().double()
    for _ in range(steps):
        model = adapted_by_hand(model, draws.batches(1), 0.3, 4)
    model.load_state_dict(statistics_by_hand(model, draws.batches(1)), strict=False)
    assert_close(memory.state["adapted"], model, 2e-6)
    assert max((memory.state["adapted"][n] - start[n]).abs().max() for n in PARAMETERS) > 1e-2
    assert all(torch.equal(memory.model.state_dict()[n], start[n]) for n in ENTRIES)


def test_after_a_round_everybody_has_the_mean_by_images():
    after = played(PerFedAvg(inner_rate=0.3), 1)
    sent = {}
    for name, count in SIZES:
        client = a_client(name, count, 1, "update", Memory(setting(1).new_model()), setting(1))
        sent[name] = {n: v.clone() for n, v in PerFedAvg(inner_rate=0.3).client_update(client).items()}
    for n in ENTRIES:
        mean = sum(count / 12 * sent[name][n].double() for name, count in SIZES)
        for name in CLIENTS:
            np.testing.assert_allclose(after.models[name][n].double(), mean, rtol=3e-7, atol=1e-8)


# limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"adaptation_steps": 0}, {"statistics": "averaged"}])
@pytest.mark.parametrize("seed", [0, 1])
def test_without_an_inner_rate_the_shared_model_is_fedavg_s_statistics_and_counters_included(settings, seed):
    one = played(PerFedAvg(inner_rate=0.0, **settings), 3, seed=seed)
    assert_same_models(one, played(FedAvg(), 3, seed=seed))


def test_without_an_inner_rate_it_is_fedavg_in_bfloat16_too():
    def trained(method):
        half = Setting(setting().recipe, Numerics("cpu", "bfloat16"), 0)
        client = a_client("Bern", 5, 1, "update", Memory(half.new_model()), half)
        method.client_update(client)
        return client.model.state_dict(), client.losses

    (one, losses), (other, expected) = trained(PerFedAvg(inner_rate=0.0)), trained(FedAvg())
    assert all(torch.equal(one[n], other[n]) for n in one)
    assert losses == expected


def test_without_an_inner_rate_the_evaluated_copy_has_other_statistics_alone():
    after = played(PerFedAvg(inner_rate=0.0))
    for name in CLIENTS:
        adapted = after.kept[name]["state"]["adapted"]
        assert {n for n in ENTRIES if not torch.equal(adapted[n], after.models[name][n])} == STATISTICS


@pytest.mark.parametrize("unmoved", [{"inner_rate": 0.0}, {"inner_rate": 0.3, "adaptation_steps": 0}])
def test_a_copy_that_does_not_move_is_the_shared_model_where_its_statistics_are_the_averaged(unmoved):
    after = played(PerFedAvg(**unmoved, statistics="averaged"))
    for name in CLIENTS:
        adapted = after.kept[name]["state"]["adapted"]
        assert all(torch.equal(adapted[n], after.models[name][n]) for n in ENTRIES)


def test_a_copy_that_moves_keeps_the_averaged_statistics_where_told_so():
    after = played(PerFedAvg(inner_rate=0.3, statistics="averaged"))
    for name in CLIENTS:
        adapted = after.kept[name]["state"]["adapted"]
        assert {n for n in STATISTICS if not torch.equal(adapted[n], after.models[name][n])} == set()
        assert not torch.equal(adapted["final.weight"], after.models[name]["final.weight"])


@pytest.mark.parametrize("changed", [{"inner_rate": 0.1}, {"inner_rate": 0.3, "adaptation_steps": 2}])
def test_every_setting_changes_what_is_evaluated(changed):
    one, other = (played(PerFedAvg(**s)).kept["Bern"]["state"]["adapted"] for s in ({"inner_rate": 0.3}, changed))
    assert any(not torch.equal(one[n], other[n]) for n in PARAMETERS)


# what is evaluated ---------------------------------------------------------------------------------------------


def test_the_copy_is_made_in_the_rounds_that_may_be_selected():
    method, memory, long = PerFedAvg(inner_rate=0.3), Memory(setting(LATE).new_model()), setting(LATE)
    for round in range(1, LATE + 1):
        client = a_client("Bern", 5, round, "receive", memory, long)
        method.client_receive(client, {n: v.clone() for n, v in long.new_model().state_dict().items() if n in ENTRIES})
        assert (method.personal_model(client) is client.model) == (2 * round < LATE)
        assert client.gradients == (0 if 2 * round < LATE else 5)


def test_the_same_copy_is_evaluated_in_every_step():
    method, memory = PerFedAvg(inner_rate=0.3), Memory(setting().new_model())
    client = a_client("Bern", 5, 2, "receive", memory, setting())
    method.client_receive(client, {})
    found = [
        method.personal_model(a_client("Bern", 5, 2, stage, memory, setting())).state_dict()
        for stage in ("val", "test")
    ]
    for n in ENTRIES:
        assert torch.equal(found[0][n], found[1][n])
    assert not torch.equal(found[0]["final.weight"], memory.model.state_dict()["final.weight"])


# costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_gradients_counted_are_two_per_image_and_those_of_adapting(rounds, steps):
    method = PerFedAvg(adaptation_steps=steps)
    counted = [row for row in played(method, rounds).tables["logs"] if row[2] == "gradients"]  # of update and receive
    extra = method.extra_gradients(TaskCard("toy", dict(SIZES), 3, 16, 16, 1, rounds))
    for client, images in SIZES:
        total = sum(value for _, name, _, value in counted if name == client)
        selected = sum(2 * round >= rounds for round in range(1, rounds + 1))
        assert total == 2 * images * rounds + selected * steps * images
        assert extra[client] == -(-(total - images * rounds) // rounds)


def test_bytes_are_those_of_fedavg():
    after = played(PerFedAvg())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(set(ENTRIES)))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}
