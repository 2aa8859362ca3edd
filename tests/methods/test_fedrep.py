"""FedRep: head before body, each with the other frozen; two rounds recomputed with Adam written out."""

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, HEAD, PARAMETERS, SIZES, cases, played, setting
from test_controls import CLIENTS, LAST_DECODER, apart_between_clients, assert_same_models, differing, plain

from pflbench.api import TaskCard, UsageError
from pflbench.sites import Client, Memory
from pflbench.testing import differences, toy_federation
from pflbench.training import BCEDice
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedper import FedPer
from pflbench_methods.fedrep import FedRep

IMAGES = dict(SIZES)
LOSS = BCEDice(0.5)
STEP = 1e-3  # Adam's learning rate: what an entry moves in a step, nearly
# batch norm takes away what a bias before it adds, so its gradient is rounding errors alone, which Adam makes steps of;
# the running mean follows it
COMPARED = {name for name in ENTRIES if not name.endswith((".0.bias", "running_mean"))}


# a federation by hand, for the tests of methods that split the model ---------------------------------------------


def stream(name, round, nth=1, stage="update", epochs=1):
    """Return the nth order of a step's batches."""
    toy = setting()
    client = Client(name, round, stage, cases(name, IMAGES[name]), Memory(toy.new_model()), toy)
    return list([client.batches(epochs) for _ in range(nth)][-1])


class AdamByHand:
    """m = .9 m + .1 g, v = .999 v + .001 g^2, w -= lr m^ / (sqrt(v^) + 1e-8), with g + 5e-4 w for g; float64."""

    def __init__(self):
        self.moments = {}

    @torch.no_grad()
    def step(self, weights, gradients, round):
        for name, gradient in gradients.items():
            weight = weights[name].double()
            g = gradient.double() + 5e-4 * weight
            m, v, t = self.moments.get(name, (torch.zeros_like(g), torch.zeros_like(g), 0))
            m, v, t = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g, t + 1
            self.moments[name] = (m, v, t)
            rate = STEP * 0.99 ** (round - 1)
            weights[name].copy_(weight - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))


def train(model, adam, batches, chosen, round):
    """Take a step on the chosen parameters for every batch, in training mode."""
    model.train()
    weights = dict(model.named_parameters())
    names = [name for name in weights if name in chosen]
    for images, masks in batches:
        found = torch.autograd.grad(LOSS(model(images), masks), [weights[name] for name in names])
        adam.step(weights, dict(zip(names, found, strict=True)), round)


@torch.no_grad()
def average(models, names):
    """Replace the named entries everywhere by their mean by training images: 5, 3 and 4 of 12."""
    trees = {client: model.state_dict() for client, model in models.items()}
    for name in names:
        mean = sum(count / 12 * trees[client][name].double() for client, count in SIZES)
        for tree in trees.values():
            tree[name].copy_(mean)


def assert_near(found, expected, names=COMPARED):
    """Compare within a thousandth of a step: Adam divides by the gradient, rounding errors of small ones with it."""
    for name in names:
        actual, desired = found[name].double().numpy(), expected[name].detach().double().numpy()
        np.testing.assert_allclose(actual, desired, rtol=0, atol=STEP / 1000, err_msg=name)


def counted(tables, clients=CLIENTS):
    """Return the gradients counted in all rounds and steps, by client."""
    return {c: sum(v for _, client, key, v in tables["logs"] if (client, key) == (c, "gradients")) for c in clients}


# the oracle ------------------------------------------------------------------------------------------------------


def train_head(model, adam, batches, round):
    """Train weights and bias of a linear map of features that do not change: those of evaluation."""
    model.eval()
    head = {name: value for name, value in model.named_parameters() if name in HEAD}
    for images, masks in batches:
        with torch.no_grad():
            features = model.features(images).permute(0, 2, 3, 1)
        w, b = (head[name].detach().clone().requires_grad_() for name in ("final.weight", "final.bias"))
        found = torch.autograd.grad(LOSS((features @ w.flatten() + b)[:, None], masks), [w, b])
        adam.step(head, dict(zip(("final.weight", "final.bias"), found, strict=True)), round)


def test_two_rounds_are_those_computed_by_hand():
    models = {client: setting().new_model() for client in CLIENTS}
    adams = {client: (AdamByHand(), AdamByHand()) for client in CLIENTS}
    for round in (1, 2):
        for client, model in models.items():
            train_head(model, adams[client][0], stream(client, round, 1), round)
            train(model, adams[client][1], stream(client, round, 2), set(PARAMETERS) - HEAD, round)
        average(models, set(ENTRIES) - HEAD)
    after = played(FedRep())
    for client in CLIENTS:
        assert_near(after.models[client], models[client].state_dict())


# limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("head_epochs", [0, 1, 3])
def test_with_an_empty_head_it_is_fedavg(seed, head_epochs):
    method = FedRep(personal="none", head_epochs=head_epochs)
    assert_same_models(played(method, 3, seed=seed), played(FedAvg(), 3, seed=seed))


def test_with_an_empty_head_all_epochs_of_any_recipe_are_the_body_s():
    one = toy_federation(FedRep(personal="none", head_epochs=2), epochs=3).play().kept()
    other = toy_federation(FedAvg(), epochs=3).play().kept()
    assert differences(one["clients"], other["clients"]) == []


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_head_without_epochs_stays_as_it_was_initially(rounds):
    initial = setting().new_model().state_dict()
    after = played(FedRep(head_epochs=0), rounds)
    for client in CLIENTS:
        assert differing(after.models[client], initial) & set(ENTRIES) == set(ENTRIES) - HEAD


@pytest.mark.parametrize("method", [FedAvg(), FedPer()])
def test_it_trains_other_weights_than_all_at_once(method):
    for client in CLIENTS:
        assert differing(played(FedRep()).models[client], played(method).models[client]) >= set(PARAMETERS)


# what stays, what travels ------------------------------------------------------------------------------------------

KEPT = {"head": HEAD, "last_decoder": HEAD | LAST_DECODER, "none": set()}


@pytest.mark.parametrize("personal", KEPT)
@pytest.mark.parametrize("rounds", [1, 3])
def test_exactly_the_personal_entries_differ_between_clients(personal, rounds):
    somewhere, everywhere = apart_between_clients(played(FedRep(personal=personal), rounds))
    assert somewhere == everywhere == KEPT[personal]


@pytest.mark.parametrize("personal", KEPT)
def test_bytes_up_and_down_are_those_of_the_body(personal):
    after = played(FedRep(personal=personal))
    for round in (1, 2):
        sent = dict.fromkeys(CLIENTS, plain(set(ENTRIES) - KEPT[personal]))
        assert after.ledger(round, "up") == after.ledger(round, "down") == sent


@pytest.mark.parametrize("head_epochs", [1, 2])
def test_statistics_stand_still_while_the_body_is_frozen(head_epochs):
    # every batch that a normalization layer takes statistics from counts once
    after = played(FedRep(head_epochs=head_epochs), 3)
    for client, images in SIZES:
        counters = [int(v) for name, v in after.models[client].items() if name.endswith("num_batches_tracked")]
        assert counters == [3 * -(-images // 2)] * 7


def test_a_personal_decoder_stage_takes_statistics_in_its_own_epochs_only():
    after = played(FedRep(personal="last_decoder", head_epochs=2), 3)
    for client, images in SIZES:
        batches = 3 * -(-images // 2)
        found = {name: int(v) for name, v in after.models[client].items() if name.endswith("num_batches_tracked")}
        assert found.pop("dec2.1.num_batches_tracked") == 2 * batches
        assert set(found.values()) == {batches}


# epochs and cost ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "head_epochs", "expected"),
    [(1, 1, 2), (2, 1, 3), (3, 1, 3), (4, 1, 4), (3, 2, 4), (3, 3, 5), (1, 0, 1), (2, 0, 2), (1, 4, 5)],
)
def test_the_body_gets_the_other_epochs_and_two_at_least_or_the_only_one(epochs, head_epochs, expected):
    method = FedRep(head_epochs=head_epochs)
    toy = toy_federation(method, epochs=epochs).play()
    clients = toy.card.clients
    assert counted(toy.federation.progress.tables, clients) == {c: 2 * expected * n for c, n in clients.items()}
    assert method.extra_gradients(toy.card) == {c: (expected - epochs) * n for c, n in clients.items()}


def test_an_empty_head_costs_nothing():
    card = TaskCard("toy", IMAGES, 3, 16, 16, 1, 3)
    assert FedRep(personal="none", head_epochs=4).extra_gradients(card) == dict.fromkeys(CLIENTS, 0)
    assert counted(played(FedRep(personal="none")).tables) == {client: 2 * n for client, n in SIZES}


def test_more_epochs_of_the_head_move_it_elsewhere():
    one, two = played(FedRep(), 1), played(FedRep(head_epochs=2), 1)
    for client in CLIENTS:
        assert differing(one.models[client], two.models[client]) >= HEAD


def test_a_hospital_alone_can_play():
    assert FedRep().unsuitable(TaskCard("toy", {"Bern": 5}, 3, 16, 16, 1, 2)) is None
    assert played(FedRep(), 2, (("Bern", 5),)).models.keys() == {"Bern"}


def test_negative_epochs_are_refused():
    with pytest.raises(UsageError, match="head_epochs"):
        FedRep(head_epochs=-1)


def test_it_says_what_becomes_of_batch_norm():
    assert FedRep().policies()["batch_norm"] == "parameters and statistics averaged"
    for method in (FedRep(personal="last_decoder"), FedPer(personal="last_decoder")):
        said = "parameters and statistics kept at the client in dec2.1 and averaged elsewhere"
        assert method.policies()["batch_norm"] == said
