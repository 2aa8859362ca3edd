"""pFedMe: its steps in closed form, two rounds in float64 loops, its limits, and what it costs."""

import copy
import math

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, PARAMETERS, SIZES, STATISTICS, cases, played, setting
from test_controls import CLIENTS, plain
from test_running import statistics_by_hand
from torch.nn import functional as F

from pflbench.api import TaskCard, UsageError
from pflbench.errors import TrialFailed
from pflbench.sites import Client, Memory
from pflbench_methods.pfedme import PFedMe, descend

OURS = {"proximity": 2.0, "outer_rate": 0.2, "inner_rate": 0.1, "inner_steps": 3}


# the steps on the Moreau envelope ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("proximity", [0.0, 0.5, 15.0])
@pytest.mark.parametrize("decay", [0.0, 0.25])
def test_steps_on_a_quadratic_are_those_of_the_closed_form(steps, proximity, decay):
    # grad = a (theta - x) + lambda (theta - w) + d theta vanishes at (a x + lambda w) / (a + lambda + d), and every
    # step multiplies the distance from there by 1 - rate (a + lambda + d)
    rng = torch.Generator().manual_seed(0)
    curvature = 0.5 + torch.rand(6, generator=rng, dtype=torch.float64)
    target, centre, start = (torch.randn(6, generator=rng, dtype=torch.float64) for _ in range(3))
    theta = start.clone().requires_grad_()
    rate, total = 0.03, curvature + proximity + decay
    losses = descend(
        [theta], [centre], lambda: (curvature * (theta - target) ** 2).sum() / 2, steps, rate, proximity, decay
    )
    rest = (curvature * target + proximity * centre) / total
    where = [rest + (1 - rate * total) ** k * (start - rest) for k in range(steps + 1)]
    np.testing.assert_allclose(theta.detach(), where[-1], rtol=1e-12)
    expected = [(curvature * (point - target) ** 2).sum() / 2 for point in where[:-1]]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_many_steps_reach_the_proximal_point():
    target, centre = torch.tensor([3.0, -1.0]), torch.tensor([0.0, 1.0])
    theta = centre.clone().requires_grad_()
    descend([theta], [centre], lambda: ((theta - target) ** 2).sum() / 2, 200, 0.2, 2.0)
    torch.testing.assert_close(theta.detach(), (target + 2 * centre) / 3)


# two rounds in float64 -----------------------------------------------------------------------------------------


def batches_of(name, round, epochs, toy, data):
    """Return what a client trains on, and then the batches of its statistics."""
    client = Client(name, round, "update", data, Memory(toy.new_model()), toy)
    return list(client.batches(epochs)), list(client.batches(1))


def loss_by_hand(logits, masks):
    p, y = logits.sigmoid().flatten(1), masks.double().flatten(1)
    dice = 1 - ((2 * (p * y).sum(1) + 1e-6) / (p.sum(1) + y.sum(1) + 1e-6)).mean()
    return 0.5 * F.binary_cross_entropy(p, y) + 0.5 * dice


def round_by_hand(received, batches, again, round, method):
    """Return (w, theta, statistics) of a client in float64, from the paper's lines one entry at a time."""
    model = setting().new_model().double()
    model.load_state_dict(received, strict=False)
    w = {n: p.detach().clone() for n, p in model.named_parameters()}
    rate = method.inner_rate * 0.99 ** (round - 1)
    for images, masks in batches:
        for _ in range(method.inner_steps):
            model.zero_grad()
            loss_by_hand(model(images.double()), masks).backward()
            with torch.no_grad():
                for n, p in model.named_parameters():
                    p -= rate * (p.grad + method.proximity * (p - w[n]) + 5e-4 * p)
        for n, p in model.named_parameters():
            w[n] = w[n] - method.proximity * method.outer_rate * (w[n] - p.detach())
    theta = {n: v.clone() for n, v in model.state_dict().items() if n in ENTRIES} | statistics_by_hand(model, again)
    return w, theta, {n: v for n, v in theta.items() if n in STATISTICS}


@pytest.mark.parametrize(
    "method", [PFedMe(**OURS), PFedMe(**OURS, server_rate=0.7), PFedMe(**OURS, server_rate=1.5, epochs=2)]
)
def test_two_rounds_are_those_computed_by_hand(method):
    toy = setting()
    shared = {n: v.double() for n, v in toy.new_model().state_dict().items() if n in ENTRIES}
    for round in (1, 2):
        found = {}
        for name, count in SIZES:
            batches, again = batches_of(name, round, method.epochs, toy, cases(name, count))
            found[name] = round_by_hand(shared, batches, again, round, method)
        mean = {n: sum(c / 12 * (found[name][0] | found[name][2])[n] for name, c in SIZES) for n in ENTRIES}
        beta = method.server_rate
        shared = {n: mean[n] if n in STATISTICS else (1 - beta) * shared[n] + beta * mean[n] for n in ENTRIES}
    after = played(method)
    for name in CLIENTS:
        for n in ENTRIES:
            np.testing.assert_allclose(after.models[name][n].double(), shared[n], rtol=1e-4, atol=2e-6, err_msg=n)
            kept = after.kept[name]["state"]["theta"][n]
            np.testing.assert_allclose(kept.double(), found[name][1][n], rtol=1e-4, atol=2e-6, err_msg=n)


def test_the_parameters_move_by_far_more_than_the_tolerance():
    start = setting().new_model().state_dict()
    after = played(PFedMe(**OURS)).models["Bern"]
    assert max(float((after[n] - start[n]).abs().max()) for n in PARAMETERS) > 1e-3


# limits --------------------------------------------------------------------------------------------------------


def stepped(method, round=1, name="Bern", count=5, toy=None):
    """Return a client after its update, the model it started from, and what it sent."""
    toy = toy or setting()
    client = Client(name, round, "update", cases(name, count), Memory(toy.new_model()), toy)
    before = copy.deepcopy(client.model.state_dict())
    return client, before, method.client_update(client)


@pytest.mark.parametrize("still", [{"proximity": 0.0, "outer_rate": 0.7}, {"proximity": 0.7, "outer_rate": 0.0}])
def test_a_local_copy_that_does_not_follow_stays_as_received(still):
    client, before, sent = stepped(PFedMe(inner_rate=0.1, **still))
    assert all(torch.equal(sent[n], before[n]) for n in PARAMETERS)
    assert not any(torch.equal(sent[n], before[n]) for n in STATISTICS)
    assert any(not torch.equal(client.state["theta"][n], before[n]) for n in PARAMETERS)


def test_a_local_copy_that_follows_all_the_way_is_the_personal_model():
    client, before, sent = stepped(PFedMe(proximity=4.0, outer_rate=0.25, inner_rate=0.1))
    assert all(torch.equal(sent[n], client.state["theta"][n]) for n in ENTRIES)
    assert not torch.equal(sent["enc1.0.weight"], before["enc1.0.weight"])


def test_one_step_followed_all_the_way_is_gradient_descent():
    # the centre is where the step starts, so the proximal term vanishes
    client, before, sent = stepped(PFedMe(proximity=4.0, outer_rate=0.25, inner_rate=0.05, inner_steps=1, epochs=2))
    model = setting().new_model(before)
    descent = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=5e-4)
    for images, masks in batches_of("Bern", 1, 2, setting(), cases("Bern", 5))[0]:
        descent.zero_grad()
        client.loss(model(images), masks).backward()
        descent.step()
    for n, value in model.named_parameters():
        torch.testing.assert_close(sent[n], value.detach(), rtol=1e-5, atol=1e-6)


def test_without_an_inner_rate_nothing_but_statistics_moves():
    client, before, sent = stepped(PFedMe(inner_rate=0.0))
    for n in PARAMETERS:
        assert torch.equal(client.state["theta"][n], before[n])
        assert torch.equal(sent[n], before[n])


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_server_that_does_not_move_leaves_the_shared_parameters(rounds):
    start = setting().new_model().state_dict()
    after = played(PFedMe(**OURS, server_rate=0.0), rounds)
    for name in CLIENTS:
        assert all(torch.equal(after.models[name][n], start[n]) for n in PARAMETERS)
        assert not any(torch.equal(after.models[name][n], start[n]) for n in STATISTICS)


def test_variances_stay_positive_however_far_the_server_goes():
    after = played(PFedMe(**OURS, server_rate=5.0))
    assert all((after.models["Oslo"][n] > 0).all() for n in STATISTICS if n.endswith("running_var"))


def test_the_personal_model_differs_between_clients_and_the_shared_does_not():
    after = played(PFedMe(**OURS))
    theta = [after.kept[name]["state"]["theta"] for name in CLIENTS]
    for n in ENTRIES:
        assert not torch.equal(theta[0][n], theta[1][n]), n
        assert torch.equal(after.models["Bern"][n], after.models["Lyon"][n])


def test_what_is_evaluated_is_the_personal_model_of_the_training_whatever_is_received():
    method = PFedMe(**OURS)
    client, _, sent = stepped(method)
    trained = {n: v.clone() for n, v in client.state["theta"].items()}
    method.client_receive(client, {n: v + 1 for n, v in sent.items()})
    for _ in ("val", "test"):
        evaluated = method.personal_model(client).state_dict()
        assert all(torch.equal(evaluated[n], trained[n]) for n in trained)


# settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [{"inner_steps": 2}, {"epochs": 2}, {"proximity": 1.0}, {"inner_rate": 0.05}, {"outer_rate": 0.1},
     {"server_rate": 0.5}],
)  # fmt: skip
def test_every_setting_changes_what_is_learnt(changed):
    one, other = played(PFedMe(**OURS)), played(PFedMe(**OURS | changed))
    assert any(not torch.equal(one.models["Bern"][n], other.models["Bern"][n]) for n in PARAMETERS)


def test_a_copy_that_would_jump_beyond_the_personal_model_is_refused():
    PFedMe(proximity=10.0, outer_rate=0.1)
    with pytest.raises(UsageError, match=r"proximity 11.0 x outer_rate 0.1 is above 1"):
        PFedMe(proximity=11.0, outer_rate=0.1)


def test_a_loss_that_is_not_finite_is_noticed_at_its_step():
    with pytest.raises(TrialFailed, match=r"pfedme.client_update at client Bern, round 1: .*not finite at step \d"):
        played(PFedMe(proximity=0.0, inner_rate=1e38))


# costs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "epochs"), [(5, 1), (2, 3)])
def test_gradients_counted_are_so_many_steps_for_every_image_and_epoch(steps, epochs):
    method = PFedMe(**OURS | {"inner_steps": steps, "epochs": epochs})
    counted = played(method).logs("gradients")
    extra = method.extra_gradients(TaskCard("toy", dict(SIZES), 3, 16, 16, 1, 2))
    for client, images in SIZES:
        for round in (1, 2):
            assert counted[round, client] == steps * epochs * images == images + extra[client]


def test_fewer_passes_than_the_recipe_s_are_told_as_fewer_gradients():
    extra = PFedMe(inner_steps=1, epochs=1).extra_gradients(TaskCard("toy", {"Bern": 5}, 3, 16, 16, 4, 2))
    assert extra == {"Bern": 5 - 4 * 5}


def test_bytes_are_those_of_fedavg():
    after = played(PFedMe(**OURS))
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(set(ENTRIES)))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}


def test_the_loss_told_is_the_mean_over_all_steps():
    client, before, _ = stepped(PFedMe(inner_rate=0.0, inner_steps=3))
    model = setting().new_model(before)
    losses = [client.loss(model(i), m).item() for i, m in batches_of("Bern", 1, 1, setting(), cases("Bern", 5))[0]]
    assert math.isclose(client.losses[0], sum(losses) / len(losses), rel_tol=1e-6)
