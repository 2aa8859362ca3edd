"""SCAFFOLD: corrections sum to zero, are what the original's formulas say, and begin as FedAvg."""

import math

import pytest
import torch
from by_hand import (
    SHARES,
    apart,
    assert_as_by_hand,
    half_bce_half_dice,
    hospitals,
    initial,
    mean_by_images,
    model_of,
)
from short_federation import PARAMETERS, SIZES, played
from test_controls import ALL, CLIENTS, assert_same_models, described, differing, entry_bytes, with_header

from pflbench.api import TaskCard
from pflbench.testing import toy_federation
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.local import Local
from pflbench_methods.scaffold import Scaffold, corrected

BOTH = pytest.mark.parametrize("variate", ["training", "received"])
ONE = (("Bern", 5),)


# limits --------------------------------------------------------------------------------------------------------


@BOTH
def test_with_zero_variates_in_round_one_it_is_fedavg(variate):
    one, other = played(Scaffold(variate=variate), 1), played(FedAvg(), 1)
    assert_same_models(one, other)
    assert one.tables["rounds"] == other.tables["rounds"]


@BOTH
def test_afterwards_it_is_not(variate):
    one, other = played(Scaffold(variate=variate), 2), played(FedAvg(), 2)
    for client in CLIENTS:
        assert differing(one.models[client], other.models[client]) & set(PARAMETERS)


@BOTH
def test_alone_it_is_training_alone(variate):
    # c is the client's own c_i, so nothing is corrected
    assert_same_models(played(Scaffold(variate=variate), 3, ONE), played(Local(), 3, ONE))


@BOTH
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_the_corrections_weighted_by_images_sum_to_zero(variate, rounds):
    after = played(Scaffold(variate=variate), rounds)
    assert not differing(after.models["Bern"], after.models["Lyon"]) & ALL
    corrections = {c: after.kept[c]["state"]["correction"] for c in CLIENTS}
    largest = max(float(value.abs().max()) for correction in corrections.values() for value in correction.values())
    assert largest > 1e-3
    for name in PARAMETERS:
        total = sum(n / 12 * corrections[c][name].double() for c, n in SIZES)
        assert float(total.abs().max()) < 1e-6 * largest, name  # a few roundings of float32


# the original's formulas ---------------------------------------------------------------------------------------


def by_hand(rounds, variate):
    """Return the models after each round with the original's bookkeeping: c and c_i change by increments."""
    sites, received, after = hospitals(), initial(), []
    zero = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in PARAMETERS.items()}
    own, everybody = {client: dict(zero) for client in sites}, dict(zero)
    for round in range(1, rounds + 1):
        sent, change = {}, {}
        for client, site in sites.items():
            given = {name: [] for name in PARAMETERS}

            def changed(name, w, gradient, c=everybody, c_i=own[client], given=given):
                given[name].append(gradient - c_i[name] + c[name])
                return given[name][-1]

            sent[client] = site.train(round, received, changed=changed)
            if variate == "training":  # option II, the mean direction in place of (x - y) / (K lr)
                new = {n: own[client][n] - everybody[n] + sum(g) / len(g) for n, g in given.items()}
            else:  # option I
                new = gradient_by_hand(site, round, received)
            change[client] = {name: new[name] - own[client][name] for name in new}
            own[client] = new
        everybody = {n: c + sum(SHARES[client] * change[client][n] for client in sites) for n, c in everybody.items()}
        received = received | mean_by_images(sent)
        after.append(mean_by_images(sent))
    return after, own, everybody


def gradient_by_hand(site, round, weights):
    """Return the mean gradient over the second stream of batches of a round, each image with equal weight."""
    model = model_of(weights)
    for images, masks in site.batches(round, stream=2):
        (half_bce_half_dice(model(images), masks) * len(images) / site.count).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@BOTH
def test_three_rounds_are_those_computed_by_hand_in_float64(variate):
    models, own, everybody = by_hand(3, variate)
    for rounds in (1, 2, 3):
        for client in CLIENTS:
            assert_as_by_hand(played(Scaffold(variate=variate), rounds).models[client], models[rounds - 1])
    for client in CLIENTS:
        kept = played(Scaffold(variate=variate), 3).kept[client]["state"]
        assert list(kept) == ["correction"]
        assert_as_by_hand(kept["correction"], {n: everybody[n] - own[client][n] for n in PARAMETERS})


def test_the_computation_by_hand_tells_the_options_apart():
    one, other = by_hand(2, "training")[0], by_hand(2, "received")[0]
    assert apart(one[0], other[0]) == 0
    assert apart(one[1], other[1]) > 1e-4


def test_under_sgd_the_mean_gradient_is_the_original_s_second_option():
    # c_i+ = c_i - c + (x - y) / (K lr)
    rng = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(3, 2).double()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    correction = {n: torch.randn(v.shape, generator=rng, dtype=torch.float64) for n, v in before.items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with corrected(model, correction) as sums:
        for _ in range(7):
            optimizer.zero_grad()
            model(torch.randn(4, 3, generator=rng, dtype=torch.float64)).square().mean().backward()
            optimizer.step()
    for name, value in model.named_parameters():
        option = -correction[name] + (before[name] - value.detach()) / (7 * 0.05)
        torch.testing.assert_close(sums[name] / 7, option, rtol=1e-12, atol=1e-12)
    model.zero_grad()
    model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    assert torch.equal(model.bias.grad, torch.ones(2, dtype=torch.float64))  # afterwards nothing is corrected


def test_a_correction_ends_with_its_block_even_where_training_fails():
    model = torch.nn.Linear(1, 1, bias=False)
    with pytest.raises(RuntimeError, match="stop"), corrected(model, {"weight": torch.ones(1, 1)}):
        raise RuntimeError("stop")
    model(torch.ones(1, 1)).backward()
    assert model.weight.grad.item() == 1


# what travels, what it costs -----------------------------------------------------------------------------------


@BOTH
def test_model_and_variate_travel_both_ways(variate):
    after = played(Scaffold(variate=variate))
    tree = {"weights": described(ALL), "variate": described(set(PARAMETERS))}
    size = with_header(tree, entry_bytes(ALL) + entry_bytes(PARAMETERS))  # 2P + B
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, size)


def test_a_hospital_that_never_trains_is_sent_the_model_alone():
    toy = toy_federation(Scaffold(), guests=("west",)).play()
    down = {client: size for round, client, way, size in toy.federation.progress.tables["ledger"] if way == "down"}
    assert down["west"] == with_header({"weights": described(ALL)}, entry_bytes(ALL))
    assert down["north"] > down["west"]
    kept = {client: site.kept() for client, site in toy.sites.items()}
    assert not differing(kept["west"]["model"], kept["north"]["model"]) & ALL
    assert kept["west"]["state"] == {}


def test_the_first_option_takes_one_more_gradient_per_image():
    task = TaskCard("toy", dict(SIZES), 3, 16, 16, 1, 2)
    for method in (Scaffold(), Scaffold(variate="received")):
        extra = method.extra_gradients(task)
        counted = {(round, c): n + extra.get(c, 0) for round in (1, 2) for c, n in SIZES}
        assert played(method).logs("gradients") == counted
        assert method.unsuitable(task) is None
    assert Scaffold().extra_gradients(task) == {}
    assert Scaffold(variate="received").extra_gradients(task) == {"Bern": 5, "Lyon": 3, "Oslo": 4}


def test_the_gradient_at_the_received_model_counts_no_batch_of_its_own():
    after = played(Scaffold(variate="received"), 3)
    for client, images in SIZES:
        counters = [v for name, v in after.models[client].items() if name.endswith("num_batches_tracked")]
        assert [int(value) for value in counters] == [3 * math.ceil(images / 2)] * 7
