"""FedALA: its weights against the derivative by the weights themselves in float64, and the methods it becomes."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, HEAD, NORMS, PARAMETERS, SIZES, STATISTICS, cases, played, setting
from test_controls import ALL, assert_same_models, differing, plain

from pflbench import seeds
from pflbench.method import TaskCard
from pflbench_methods.fedala import FedALA, between
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedper import FedPer
from pflbench_methods.local import Local

CLIENTS = [name for name, _ in SIZES]
ONE = (("Bern", 5),)
LAST_DECODER = {name for name in PARAMETERS if name.startswith("dec2.")}
ADAPTED = {"head": HEAD, "last_decoder": HEAD | LAST_DECODER, "all": set(PARAMETERS)}


def kept(after, client):
    return after.kept[client]["state"]["aggregation_weights"]


# the methods it becomes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", list(ADAPTED))
@pytest.mark.parametrize("still", [{"step": 0}, {"first_passes": 0, "passes": 0}], ids=["step", "passes"])
def test_with_weights_that_stay_1_it_is_fedavg(adaptive, still):
    assert_same_models(played(FedALA(adaptive=adaptive, **still), 3), played(FedAvg(), 3))


@dataclass(frozen=True)
class FromZero(FedALA):
    """FedALA whose weights are 0 before the first receipt."""

    def client_setup(self, client):
        parameters = client.model.named_parameters()
        client.state["aggregation_weights"] = {
            name: torch.zeros_like(value) for name, value in parameters if name in ADAPTED[self.adaptive]
        }


@pytest.mark.parametrize(
    ("adaptive", "local"),
    [("head", FedPer()), ("last_decoder", FedPer(personal="last_decoder")), ("all", Local())],
)
def test_with_weights_that_stay_0_its_adaptive_layers_are_local(adaptive, local):
    # statistics are averaged whatever the weights are, and training uses those of the batch
    zero = played(FromZero(adaptive=adaptive, passes=0), 3)
    averaged = {name for name in STATISTICS if name.rpartition(".")[0] + ".weight" in ADAPTED[adaptive]}
    assert_same_models(zero, played(local, 3), but=averaged)
    statistics = {name: zero.models["Bern"][name] for name in STATISTICS}
    assert not differing(statistics, {name: zero.models["Oslo"][name] for name in STATISTICS})


@pytest.mark.parametrize("adaptive", list(ADAPTED))
def test_alone_it_is_training_alone(adaptive):
    assert_same_models(played(FedALA(adaptive=adaptive, step=3e4), 3, ONE), played(Local(), 3, ONE))


def test_between_its_limits_it_is_neither():
    after = played(FedALA(step=3e4))
    for client in CLIENTS:
        for limit in (FedAvg(), FedPer()):
            assert differing(after.models[client], played(limit).models[client]) & set(PARAMETERS)


# the weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", list(ADAPTED))
def test_exactly_the_adaptive_parameters_have_weights_within_bounds(adaptive):
    after = played(FedALA(adaptive=adaptive, step=3e4))
    for client in CLIENTS:
        weights = kept(after, client)
        assert set(weights) == ADAPTED[adaptive]
        assert {name: tuple(value.shape) for name, value in weights.items()} == {n: ENTRIES[n] for n in weights}
        assert all(value.min() >= 0 and value.max() <= 1 for value in weights.values())
        assert any((value < 1).any() for value in weights.values())


def loss64(logits, masks):
    """Half cross-entropy, half soft Dice, written out; BCEDice itself works in float32."""
    entropy = torch.nn.functional.softplus(logits) - logits * masks
    p = 1 / (1 + torch.exp(-logits))
    dice = [1 - (2 * (q * y).sum() + 1e-6) / (q.sum() + y.sum() + 1e-6) for q, y in zip(p, masks, strict=True)]
    return 0.5 * entropy.mean() + 0.5 * sum(dice) / len(dice)


def learnt_again(method, client, own, mean, round, weights, passes):
    """Return weights and model of a receipt, in float64, with the derivative of the loss by the weights themselves."""
    model = setting().new_model().double().eval()
    data = cases(client, dict(SIZES)[client])
    images, masks = data.images.double() / 255, data.masks.double()
    count = math.floor(method.share * len(images) + 0.5)
    order = torch.randperm(len(images), generator=seeds.generator(0, "client", client, "receive", round))[:count]
    fixed = {name: mean[name] for name in ENTRIES if name not in weights}
    for _ in range(passes):
        for start in range(0, count, 2):
            chosen = order[start : start + 2]
            weights = {name: value.requires_grad_() for name, value in weights.items()}
            mixed = {name: (1 - a) * own[name] + a * mean[name] for name, a in weights.items()}
            loss = loss64(torch.func.functional_call(model, {**fixed, **mixed}, (images[chosen],)), masks[chosen])
            slopes = torch.autograd.grad(loss, list(weights.values()))
            weights = {
                name: torch.from_numpy(np.clip((a.detach() - method.step * slope).numpy(), 0, 1))
                for (name, a), slope in zip(weights.items(), slopes, strict=True)
            }
    mixed = {name: (1 - a) * own[name] + a * mean[name] for name, a in weights.items()}
    return weights, {**fixed, **mixed}


@functools.cache
def before_the_first_receipt():
    """Return each client's own trained entries, and their mean by images, in float64."""
    own = {c: {n: v.double() for n, v in played(Local(), 1).models[c].items()} for c in CLIENTS}
    return own, {name: sum(n / 12 * own[c][name] for c, n in SIZES) for name in ENTRIES}


@pytest.mark.parametrize(
    ("method", "rounding"),
    [
        (FedALA(first_passes=3), 3 * 2 * 2**-23),
        (FedALA(step=3e4, first_passes=3, share=0.6), 1e-5),
        (FedALA(adaptive="last_decoder", step=3e4, first_passes=2), 1e-5),
        (FedALA(adaptive="all", step=3e4, first_passes=2), 1e-5),
    ],
)
def test_weights_follow_the_derivative_of_the_loss_by_them(method, rounding):
    own, mean = before_the_first_receipt()
    after = played(method, 1)
    moved = 0.0
    for client in CLIENTS:
        ones = {name: torch.ones(ENTRIES[name], dtype=torch.float64) for name in ADAPTED[method.adaptive]}
        weights, model = learnt_again(method, client, own[client], mean, 1, ones, method.first_passes)
        moved = max(moved, *(float((1 - value).max()) for value in weights.values()))
        for name, value in kept(after, client).items():
            np.testing.assert_allclose(value.numpy(), weights[name].numpy(), rtol=0, atol=rounding, err_msg=name)
        for name in ENTRIES:
            found = after.models[client][name].numpy()
            np.testing.assert_allclose(found, model[name].numpy(), rtol=3e-7, atol=2e-7, err_msg=name)
    assert moved > 50 * rounding


def test_weights_are_kept_and_go_on_from_where_they_were():
    method = FedALA(step=3e4)
    first, second = played(method, 1), played(method, 2)
    frozen = played(FedALA(step=3e4, passes=0), 3)
    for client in CLIENTS:
        assert not differing(kept(frozen, client), kept(first, client))
    assert any(differing(kept(second, client), kept(first, client)) for client in CLIENTS)


def test_later_receipts_start_from_the_kept_weights():
    # both clients' trained models of round 2 come from replaying it with weights that no longer move
    method = FedALA(step=3e4, first_passes=3)
    second = played(method, 2)
    own = {c: {n: v.double() for n, v in trained_in_round_2(method)[c].items()} for c in CLIENTS}
    mean = {name: sum(n / 12 * own[c][name] for c, n in SIZES) for name in ENTRIES}
    for client in CLIENTS:
        start = {name: value.double() for name, value in kept(played(method, 1), client).items()}
        weights, _ = learnt_again(method, client, own[client], mean, 2, start, 1)
        for name, value in kept(second, client).items():
            np.testing.assert_allclose(value.numpy(), weights[name].numpy(), rtol=0, atol=1e-5, err_msg=name)


def trained_in_round_2(method):
    """Return what each client sends in round 2: the model of a run whose second receipt changes nothing."""

    @dataclass(frozen=True)
    class Deaf(FedALA):
        def client_receive(self, client, message):
            if client.round == 1:
                super().client_receive(client, message)

    return played(Deaf(**method.settings()), 2).models


@pytest.mark.parametrize("adaptive", list(ADAPTED))
def test_what_is_not_adaptive_is_the_mean_by_images(adaptive):
    _, mean = before_the_first_receipt()
    after = played(FedALA(adaptive=adaptive, step=3e4), 1)
    for client in CLIENTS:
        for name in ALL - ADAPTED[adaptive]:
            np.testing.assert_allclose(after.models[client][name].double(), mean[name], rtol=3e-7, atol=1e-8)
    assert {n for n in ALL if differing({n: after.models["Bern"][n]}, {n: after.models["Oslo"][n]})} <= ADAPTED[
        adaptive
    ]


def test_both_ends_are_exact():
    rng = torch.Generator().manual_seed(0)
    own, shared = ({"w": torch.randn(1000, generator=rng) * 10 ** torch.randn(1000, generator=rng)} for _ in range(2))
    weights = torch.rand(1000, generator=rng)
    assert torch.equal(between(own, shared, {"w": torch.ones(1000)})["w"], shared["w"])
    assert torch.equal(between(own, shared, {"w": torch.zeros(1000)})["w"], own["w"])
    assert not torch.equal(own["w"] + (shared["w"] - own["w"]), shared["w"])  # the formula as written is not
    found = between(own, shared, {"w": weights})["w"].double()
    expected = (1 - weights.double()) * own["w"].double() + weights.double() * shared["w"].double()
    size = (own["w"].abs() + shared["w"].abs()).double()
    assert ((found - expected).abs() <= 2e-7 * size).all()


def test_the_log_has_the_mean_weight_of_every_adaptive_tensor():
    after = played(FedALA(adaptive="last_decoder", step=3e4), 1)
    for name in ADAPTED["last_decoder"]:
        for client in CLIENTS:
            expected = kept(after, client)[name].double().mean().item()
            assert after.logs(f"aggregation_weight/{name}")[1, client] == pytest.approx(expected, rel=1e-6)


# settings and cost ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed", [{"adaptive": "all"}, {"step": 1e4}, {"share": 0.3}, {"first_passes": 2}, {"passes": 4}]
)
def test_every_setting_changes_the_result(changed):
    base = {"step": 3e4}
    one, other = played(FedALA(**base)), played(FedALA(**{**base, **changed}))
    assert any(differing(one.models[c], other.models[c]) & set(PARAMETERS) for c in CLIENTS)


@pytest.mark.parametrize(
    ("method", "images"),
    [
        (FedALA(), {"Bern": 4, "Lyon": 2, "Oslo": 3}),  # 0.8 of 5, 3 and 4
        (FedALA(share=0.1, first_passes=3, passes=2), {"Bern": 1, "Lyon": 1, "Oslo": 1}),
        (FedALA(share=1.0, first_passes=0), {"Bern": 5, "Lyon": 3, "Oslo": 4}),
    ],
)
def test_it_takes_a_gradient_for_each_image_and_pass(method, images):
    after = played(method, 3)
    for client, count in SIZES:
        counted = [r[3] for r in after.tables["logs"] if r[1:3] == [client, "gradients"]]
        extra = images[client] * (method.first_passes + 2 * method.passes)
        assert sum(counted) == 3 * count + extra
        card = TaskCard("toy", dict(SIZES), 3, 16, 16, epochs=1, rounds=3)
        assert method.extra_gradients(card)[client] == math.ceil(extra / 3)


def test_bytes_are_those_of_fedavg():
    after = played(FedALA())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}


def test_it_says_where_the_parameters_of_batch_norm_are_adapted():
    said = {adaptive: FedALA(adaptive=adaptive).policies()["batch_norm"] for adaptive in ADAPTED}
    assert {adaptive: "partly" in text for adaptive, text in said.items()} == {
        adaptive: bool(names & NORMS) for adaptive, names in ADAPTED.items()
    }
