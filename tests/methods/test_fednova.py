"""FedNova: changes are averaged per local step; with equal steps it is FedAvg."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, PARAMETERS, SIZES, STATISTICS, cases, played, setting
from test_controls import ALL, CLIENTS, assert_same_models, described, differing, entry_bytes, plain, with_header

from pflbench.api import TaskCard
from pflbench.evaluation import HeldOut
from pflbench.recipe import Recipe
from pflbench.sites import Client, Memory, Server, Setting
from pflbench.steps import Site
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fednova import FedNova, local_steps, normalized_mean
from pflbench_methods.local import Local

ONE = (("Bern", 5),)
STEPS = {"Bern": 3, "Lyon": 2, "Oslo": 2}  # 5, 3 and 4 images in batches of two, one epoch


# limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(("Bern", 3), ("Lyon", 4)), (("Bern", 5), ("Lyon", 6), ("Oslo", 5))])
def test_with_equal_steps_it_is_fedavg_whatever_the_images(sizes):
    assert_same_models(played(FedNova(), 3, sizes), played(FedAvg(), 3, sizes))


@pytest.mark.parametrize("steps", [1, 3, 7, 900])
def test_with_equal_steps_no_rounding_enters_whatever_the_shares(steps):
    rng = torch.Generator().manual_seed(steps)
    for count in (1, 2, 3, 7, 11):
        names = [f"c{i}" for i in range(count)]
        images = dict(zip(names, torch.randint(1, 300, (count,), generator=rng).tolist(), strict=True))
        shares = {name: n / sum(images.values()) for name, n in images.items()}
        weights = {name: {"w": torch.randn(50, generator=rng)} for name in names}
        outbox = FedAvg().server_update(Server(1, "update", shares, {}, setting()), weights)
        found = normalized_mean({"w": torch.randn(50, generator=rng)}, weights, dict.fromkeys(names, steps), shares)
        assert torch.equal(found["w"], outbox["c0"]["w"])


def test_with_other_steps_it_is_not_fedavg():
    for client in CLIENTS:
        different = differing(played(FedNova(), 1).models[client], played(FedAvg(), 1).models[client])
        assert different & ALL == set(PARAMETERS)


def test_alone_it_is_training_alone():
    assert_same_models(played(FedNova(), 3, ONE), played(Local(), 3, ONE))


# the formula ---------------------------------------------------------------------------------------------------


def exactly(sent, weights, steps, images):
    """Return w + tau_eff sum_i p_i (w_i - w) / tau_i in rational arithmetic."""
    total = sum(images.values())
    share = {client: Fraction(n, total) for client, n in images.items()}
    effective = sum(share[client] * steps[client] for client in images)
    start = [Fraction(x) for x in sent.flatten().tolist()]
    ends = {client: [Fraction(x) for x in weights[client].flatten().tolist()] for client in images}
    return [
        float(w + effective * sum(share[c] * (ends[c][p] - w) / steps[c] for c in images)) for p, w in enumerate(start)
    ]


@pytest.mark.parametrize("steps", [(1, 50, 3), (7, 7, 8), (2, 2, 900)])
def test_the_normalized_mean_is_that_of_rational_arithmetic(steps):
    rng = torch.Generator().manual_seed(3)
    images = {"a": 40, "b": 7, "c": 300}
    steps = dict(zip(images, steps, strict=True))
    weights = {client: {"w": torch.randn(4, 5, generator=rng)} for client in images}
    sent = {"w": torch.randn(4, 5, generator=rng)}
    found = normalized_mean(sent, weights, steps, {client: n / 347 for client, n in images.items()})
    expected = exactly(sent["w"], {c: own["w"] for c, own in weights.items()}, steps, images)
    scale = max(abs(x) for x in expected)
    np.testing.assert_allclose(found["w"].flatten().double(), expected, rtol=0, atol=2e-6 * scale)


def test_who_moves_the_same_way_per_step_moves_the_mean_by_the_effective_steps():
    # w_i = w + tau_i d, p = 1/4, 3/4, tau = 2, 6: w + (2/4 + 18/4) d
    d = torch.tensor([1.0, -2.0])
    sent, steps = {"w": torch.tensor([8.0, 16.0])}, {"a": 2, "b": 6}
    weights = {client: {"w": sent["w"] + count * d} for client, count in steps.items()}
    found = normalized_mean(sent, weights, steps, {"a": 0.25, "b": 0.75})
    torch.testing.assert_close(found["w"], sent["w"] + 5 * d, rtol=1e-7, atol=0)


def test_with_steps_in_proportion_to_images_it_is_the_plain_mean_change_stretched():
    # what the docstring says of this benchmark: C sum p_i^2 times the mean change with equal weights
    rng = torch.Generator().manual_seed(1)
    shares = {"a": 0.5, "b": 0.25, "c": 0.25}
    sent = {"w": torch.randn(9, generator=rng)}
    weights = {client: {"w": torch.randn(9, generator=rng)} for client in shares}
    change = torch.stack([own["w"] - sent["w"] for own in weights.values()]).double().mean(0)
    found = normalized_mean(sent, weights, {"a": 20, "b": 10, "c": 10}, shares)
    expected = sent["w"].double() + 3 * (0.25 + 0.0625 + 0.0625) * change
    torch.testing.assert_close(found["w"].double(), expected, rtol=0, atol=1e-6)


def test_two_rounds_follow_the_formula_from_what_was_last_sent():
    toy, method, memory = setting(), FedNova(), {}
    data = {client: cases(client, count) for client, count in SIZES}
    held_out = {split: HeldOut(**vars(cases("Bern", 1, split))) for split in ("val", "test")}
    sites = {client: Site(client, method, toy, data[client], held_out) for client in data}
    shares = {client: count / 12 for client, count in SIZES}
    sent = toy.new_model().state_dict()
    for round in (1, 2):
        inbox = {client: site.run("update", round, {}).message for client, site in sites.items()}
        assert {client: message["steps"] for client, message in inbox.items()} == STEPS
        outbox = method.server_update(Server(round, "update", shares, memory, toy), inbox)
        for name in ENTRIES:
            ends = {client: message["weights"][name] for client, message in inbox.items()}
            counted = STEPS if name in PARAMETERS else dict.fromkeys(STEPS, 1)  # statistics: as FedAvg
            expected = exactly(sent[name], ends, counted, dict(SIZES))
            np.testing.assert_allclose(outbox["Lyon"][name].flatten().double(), expected, rtol=3e-7, atol=3e-7)
        sent = {name: value.clone() for name, value in outbox["Lyon"].items()}
        for client, site in sites.items():
            site.run("receive", round, outbox[client])
    for client in CLIENTS:
        assert not differing({n: played(method, 2).models[client][n] for n in ENTRIES}, {n: sent[n] for n in ENTRIES})


def test_statistics_are_those_of_fedavg():
    one, other = played(FedNova(), 1), played(FedAvg(), 1)
    for client in CLIENTS:
        assert not differing(one.models[client], other.models[client]) & STATISTICS
    assert "statistics averaged" in FedNova().policies()["batch_norm"]
    assert "step" in FedNova().policies()["aggregation"]


@pytest.mark.parametrize(("images", "batch", "epochs"), [(5, 2, 1), (4, 2, 3), (1, 4, 2), (9, 4, 2)])
def test_the_steps_are_those_that_training_took(images, batch, epochs):
    toy = setting()
    recipe = Recipe(**{**vars(toy.recipe), "batch": batch, "epochs": epochs})
    client = Client(
        "Bern", 1, "update", cases("Bern", images), Memory(toy.new_model()), Setting(recipe, toy.numerics, 0)
    )
    client.fit()
    assert local_steps(client) == int(client.model.state_dict()["enc1.1.num_batches_tracked"])
    assert local_steps(client) == epochs * math.ceil(images / batch)


# what travels, what it costs -----------------------------------------------------------------------------------


def test_a_count_travels_with_the_weights_and_the_mean_comes_back():
    after = played(FedNova())
    for round in (1, 2):
        # the header holds the count itself, one digit
        up = with_header({"weights": described(ALL), "steps": 3}, entry_bytes(ALL))
        assert after.ledger(round, "up") == dict.fromkeys(CLIENTS, up)
        assert after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))


def test_it_takes_the_gradients_of_fedavg():
    task = TaskCard("toy", dict(SIZES), 3, 16, 16, 1, 2)
    assert FedNova().extra_gradients(task) == {}
    assert played(FedNova()).logs("gradients") == {(round, c): n for round in (1, 2) for c, n in SIZES}
    assert FedNova().unsuitable(task) is None
