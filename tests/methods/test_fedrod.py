"""FedRoD: FedAvg's model to the last bit, and a second head beside it, recomputed by its derivative written out."""

import copy

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, SIZES, WIDTH, cases, played, setting
from test_controls import ALL, CLIENTS, assert_same_models, differing, plain
from test_fedrep import IMAGES, LOSS, AdamByHand, counted, stream

from pflbench.api import TaskCard
from pflbench.sites import Client, Memory
from pflbench.testing import toy_federation
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedrod import BothHeads, FedRoD
from pflbench_methods.local import Local


def client_of(name, kept=None, stage="test", rounds=2):
    """Return a client as it was left, or as it begins."""
    toy = setting(rounds)
    model = toy.new_model()
    if kept:
        model.load_state_dict(kept["model"])
    memory = Memory(model, state=copy.deepcopy(kept["state"]) if kept else {})
    return Client(name, rounds, stage, cases(name, IMAGES[name]), memory, toy)


@torch.no_grad()
def logits(model, images):
    return model.eval()(images)


# the oracle ------------------------------------------------------------------------------------------------------


def slope(logit, mask):
    """Return the derivative of the loss by every logit: (p - y) / pixels, and Dice by the quotient rule; float64."""
    p, y = 1 / (1 + np.exp(-logit)), mask
    total = p.sum((1, 2), keepdims=True) + y.sum((1, 2), keepdims=True) + 1e-6
    overlap = 2 * (p * y).sum((1, 2), keepdims=True) + 1e-6
    dice = -(2 * y * total - overlap) / total**2 * p * (1 - p) / len(y)
    return ((p - y) / p.size + dice) / 2


def test_the_slope_is_the_derivative_of_the_loss():
    rng = torch.Generator().manual_seed(1)
    z = torch.randn((3, 1, 5, 4), generator=rng, requires_grad=True)
    y = (torch.rand((3, 1, 5, 4), generator=rng) < 0.4).float()
    (found,) = torch.autograd.grad(LOSS(z, y), z)
    expected = slope(z.detach().double().numpy()[:, 0], y.double().numpy()[:, 0])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-8)


def test_two_rounds_of_the_personal_heads_are_those_computed_by_hand():
    models = {client: setting().new_model() for client in CLIENTS}
    shared = {c: torch.optim.Adam(m.parameters(), lr=1e-3, weight_decay=5e-4, fused=True) for c, m in models.items()}
    heads = {c: {"weight": torch.zeros(WIDTH, dtype=torch.float64), "bias": torch.zeros(())} for c in CLIENTS}
    heads = {client: {name: value.double() for name, value in head.items()} for client, head in heads.items()}
    adams, losses = {client: AdamByHand() for client in CLIENTS}, {}
    for round in (1, 2):
        for client, model in models.items():
            shared[client].param_groups[0]["lr"] = 1e-3 * 0.99 ** (round - 1)
            losses[round, client] = []
            for images, masks in stream(client, round):
                features = model.features(images)
                generic, head, y = model.final(features), heads[client], masks[:, 0].double().numpy()
                z = features.detach().double().movedim(1, -1)
                both = generic.detach()[:, 0].double() + z @ head["weight"] + head["bias"]
                losses[round, client].append(float(LOSS(both[:, None], masks)))
                at = torch.from_numpy(slope(both.numpy(), y))
                gradients = {"weight": torch.einsum("nhw,nhwc->c", at, z), "bias": at.sum()}
                shared[client].zero_grad()
                LOSS(generic, masks).backward()
                shared[client].step()
                adams[client].step(head, gradients, round)
        trees = {client: model.state_dict() for client, model in models.items()}
        for name in ENTRIES:
            mean = sum(n / 12 * trees[client][name].double() for client, n in SIZES)
            for tree in trees.values():
                tree[name].copy_(mean)
    after = played(FedRoD())
    for client in CLIENTS:
        found = after.kept[client]["state"]["personal head"]
        for part in ("weight", "bias"):
            expected = heads[client][part].flatten()
            np.testing.assert_allclose(found[part].flatten().double(), expected, rtol=0, atol=1e-6)
    # the reported loss is that of both heads together
    reported = {(row[0], row[1]): row[4] for row in after.tables["rounds"] if row[2] == "train"}
    assert reported.keys() == losses.keys()
    for key, values in losses.items():
        assert reported[key] == pytest.approx(np.mean(values), abs=1e-6)


# limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rounds", [1, 3])
def test_what_is_shared_is_fedavg_s_model_to_the_last_bit(seed, rounds):
    assert_same_models(played(FedRoD(), rounds, seed=seed), played(FedAvg(), rounds, seed=seed))


def test_so_it_is_with_more_epochs():
    one, other = toy_federation(FedRoD(), epochs=3).play(), toy_federation(FedAvg(), epochs=3).play()
    for client in one.card.clients:
        pair = [toy.federation.kept()["clients"][client]["model"] for toy in (one, other)]
        assert not differing(*pair)


def test_without_what_the_personal_head_adds_fedavg_is_evaluated():
    after, fedavg = played(FedRoD(), 3), played(FedAvg(), 3)
    for client in CLIENTS:
        silent = client_of(client, after.kept[client])
        for value in silent.state["personal head"].values():
            value.zero_()
        plainly = client_of(client, fedavg.kept[client])
        one, other = FedRoD().personal_model(silent), FedAvg().personal_model(plainly)
        assert torch.equal(logits(one, silent.images), logits(other, plainly.images))


@pytest.mark.parametrize("name", CLIENTS)
def test_before_any_training_it_is_the_initial_model(name):
    client = client_of(name)
    found = logits(FedRoD().personal_model(client), client.images)
    assert torch.equal(found, logits(setting().new_model(), client.images))


def test_alone_the_shared_model_is_trained_alone():
    one = (("Bern", 5),)
    assert_same_models(played(FedRoD(), 2, one), played(Local(), 2, one))


# both heads --------------------------------------------------------------------------------------------------------


def test_the_logits_of_both_heads_are_added():
    after = played(FedRoD())
    for name in CLIENTS:
        client = client_of(name, after.kept[name])
        found = logits(FedRoD().personal_model(client), client.images)
        weights, own = client.model.state_dict(), client.state["personal head"]
        with torch.no_grad():
            z = client.model.eval().features(client.images).double().movedim(1, -1)
        w = (weights["final.weight"] + own["weight"]).double().flatten()
        b = (weights["final.bias"] + own["bias"]).double()
        np.testing.assert_allclose(found[:, 0], z @ w + b, rtol=0, atol=1e-6)
        assert not torch.equal(found, logits(client.model, client.images))


def test_the_loss_of_both_moves_the_personal_head_alone_and_that_of_the_generic_head_the_rest():
    model = setting().new_model()
    head = torch.nn.Conv2d(WIDTH, 1, 1)
    torch.nn.init.constant_(head.weight, 0.1)
    images, masks = stream("Bern", 1)[0]
    generic, both = BothHeads(model, head).logits(images)
    shared, personal = list(model.parameters()), list(head.parameters())
    found = torch.autograd.grad(LOSS(both, masks), personal + shared, allow_unused=True, retain_graph=True)
    assert all(bool(g.abs().sum() > 0) for g in found[: len(personal)])
    assert found[len(personal) :] == (None,) * len(shared)
    found = torch.autograd.grad(LOSS(generic, masks), shared + personal, allow_unused=True)
    assert all(g is not None for g in found[: len(shared)])
    assert found[len(shared) :] == (None, None)


def test_every_client_has_a_head_of_its_own():
    kept = played(FedRoD()).kept
    heads = [kept[client]["state"]["personal head"]["weight"] for client in CLIENTS]
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], heads[2])


def test_the_same_model_is_evaluated_in_every_step():
    kept = played(FedRoD()).kept["Lyon"]
    one, other = (FedRoD().personal_model(client_of("Lyon", kept, stage)).state_dict() for stage in ("val", "test"))
    assert not differing(one, other)


def test_evaluating_does_not_change_the_mode_or_the_weights_of_the_client_s_model():
    client = client_of("Lyon", played(FedRoD()).kept["Lyon"])
    before = {name: value.clone() for name, value in client.model.state_dict().items()}
    logits(FedRoD().personal_model(client), client.images)
    assert not differing(before, client.model.state_dict())


# what travels, what it costs ---------------------------------------------------------------------------------------


def test_bytes_up_and_down_are_fedavg_s():
    after = played(FedRoD())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))


def test_a_second_head_costs_no_gradient_of_the_network():
    assert FedRoD().extra_gradients(TaskCard("toy", IMAGES, 3, 16, 16, 1, 2)) == {}
    assert counted(played(FedRoD()).tables) == {client: 2 * n for client, n in SIZES}
