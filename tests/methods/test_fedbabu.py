"""FedBABU: the head stands still until a copy is fine-tuned; two rounds recomputed with Adam written out."""

import functools
import math

import pytest
import torch
from short_federation import ENTRIES, HEAD, PARAMETERS, SIDE, SIZES, STATISTICS, cases, played, setting
from test_controls import CLIENTS, apart_between_clients, assert_same_models, differing, plain
from test_fedrep import IMAGES, AdamByHand, assert_near, average, counted, stream, train

from pflbench.api import TaskCard, UsageError
from pflbench.sites import Client, Memory
from pflbench.testing import toy_federation
from pflbench_methods.fedbabu import FedBABU
from pflbench_methods.fedrep import FedRep

BODY = set(ENTRIES) - HEAD
INITIAL = setting().new_model().state_dict()


def evaluated(method, after, name, stage="test", rounds=2):
    """Return the entries of the model that is evaluated at a client after the last round."""
    kept, toy = after.kept[name], setting(rounds)
    model = toy.new_model()
    model.load_state_dict(kept["model"])
    client = Client(name, rounds, stage, cases(name, IMAGES[name]), Memory(model, state=kept["state"]), toy)
    return method.personal_model(client).state_dict()


# the oracle ------------------------------------------------------------------------------------------------------


@functools.cache
def by_hand():
    """Return the models after two rounds: every client's body trained under the initial head, and averaged."""
    models = {client: setting().new_model() for client in CLIENTS}
    adams = {client: AdamByHand() for client in CLIENTS}
    for round in (1, 2):
        for client, model in models.items():
            train(model, adams[client], stream(client, round), set(PARAMETERS) - HEAD, round)
        average(models, BODY)
    return models


def test_the_shared_model_is_that_computed_by_hand():
    after = played(FedBABU())
    for client in CLIENTS:
        assert_near(after.models[client], by_hand()[client].state_dict())


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_copy_is_the_shared_model_fine_tuned_by_hand(epochs):
    method = FedBABU(tuning_epochs=epochs)
    after = played(method)
    for client in CLIENTS:
        copy = setting().new_model(after.models[client])
        train(copy, AdamByHand(), stream(client, 2, stage="receive", epochs=epochs), set(PARAMETERS), 2)
        assert_near(evaluated(method, after, client), copy.state_dict())


def test_fine_tuning_the_head_alone_is_that_by_hand():
    method = FedBABU(tuning_epochs=3, tuned="head")
    after = played(method)
    for client in CLIENTS:
        copy = setting().new_model(by_hand()[client].state_dict())
        weights, adam = {name: value for name, value in copy.named_parameters() if name in HEAD}, AdamByHand()
        copy.eval()  # a frozen normalization layer uses its running statistics
        for images, masks in stream(client, 2, stage="receive", epochs=3):
            # BCE is (p - y) / pixels at a logit; Dice by the quotient rule; then the head's map of features
            with torch.no_grad():
                features, p = copy.features(images).double(), copy(images).double().sigmoid()
                y, area = masks.double(), (1, 2, 3)
                total = (p.sum(area) + y.sum(area) + 1e-6).view(-1, 1, 1, 1)
                overlap = (2 * (p * y).sum(area) + 1e-6).view(-1, 1, 1, 1)
                dice = -(2 * y * total - overlap) / total**2 * p * (1 - p) / len(y)
                slope = ((p - y) / p.numel() + dice) / 2
                found = {
                    "final.weight": (slope * features).sum((0, 2, 3)).view(1, -1, 1, 1),
                    "final.bias": slope.sum().view(1),
                }
                adam.step(weights, found, 2)
        assert_near(evaluated(method, after, client), copy.state_dict())


# the head --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("method", [FedBABU(), FedBABU(tuned="head"), FedBABU(tuning_epochs=0)])
def test_during_federation_the_head_is_everywhere_the_initial_one(method, rounds):
    after = played(method, rounds)
    for client in CLIENTS:
        assert differing(after.models[client], INITIAL) & set(ENTRIES) == BODY
    assert apart_between_clients(after) == (set(), set())


def test_fine_tuning_moves_it_for_every_client_elsewhere():
    after = played(FedBABU())
    copies = [evaluated(FedBABU(), after, client) for client in CLIENTS]
    for copy in copies:
        assert differing(copy, INITIAL) >= set(ENTRIES)
    assert differing(copies[0], copies[1]) >= set(PARAMETERS)


# limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
def test_without_fine_tuning_the_shared_body_with_the_initial_head_is_evaluated(rounds):
    method = FedBABU(tuning_epochs=0)
    after = played(method, rounds)
    for client in CLIENTS:
        assert not differing(evaluated(method, after, client, rounds=rounds), after.models[client])


@pytest.mark.parametrize("seed", [0, 1])
def test_without_fine_tuning_it_is_fedrep_without_epochs_of_the_head(seed):
    one, other = played(FedBABU(tuning_epochs=0), 3, seed=seed), played(FedRep(head_epochs=0), 3, seed=seed)
    assert_same_models(one, other)
    for table in ("rounds", "cases", "ledger"):
        assert one.tables[table] == other.tables[table]


@pytest.mark.parametrize("tuned", ["all", "head"])
def test_nothing_of_fine_tuning_goes_back_into_the_federation(tuned):
    assert_same_models(played(FedBABU(tuned=tuned), 4), played(FedBABU(tuning_epochs=0), 4))


def test_alone_its_body_is_trained_as_in_federation():
    after = played(FedBABU(), 2, (("Bern", 5),))
    model, adam = setting().new_model(), AdamByHand()
    for round in (1, 2):
        train(model, adam, stream("Bern", round), set(PARAMETERS) - HEAD, round)
    assert_near(after.models["Bern"], model.state_dict())


# the copy --------------------------------------------------------------------------------------------------------


def test_tuning_the_head_leaves_the_shared_body_and_its_statistics_as_they_are():
    method = FedBABU(tuned="head")
    after = played(method)
    for client in CLIENTS:
        assert differing(evaluated(method, after, client), after.models[client]) == HEAD


def test_tuning_all_moves_the_statistics_too():
    after = played(FedBABU())
    for client in CLIENTS:
        assert differing(evaluated(FedBABU(), after, client), after.models[client]) >= STATISTICS


def test_the_same_model_is_evaluated_in_every_step():
    after = played(FedBABU())
    for client in CLIENTS:
        one, other = (evaluated(FedBABU(), after, client, stage) for stage in ("val", "test"))
        assert not differing(one, other)
        assert differing(one, after.models[client])


def test_before_the_second_half_the_shared_model_is_evaluated():
    # rounds 1 and 2 of 6 cannot be selected; the third can
    first, late = (toy_federation(FedBABU(), rounds=6).play(rounds=n).federation.kept()["clients"] for n in (2, 3))
    assert all(kept["state"] == {} for kept in first.values())
    assert all(kept["state"]["adapted"].keys() == INITIAL.keys() for kept in late.values())


# what travels, what it costs ---------------------------------------------------------------------------------------


def test_bytes_up_and_down_are_those_of_the_body():
    after = played(FedBABU())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(BODY))


@pytest.mark.parametrize(("rounds", "tuned_rounds"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
@pytest.mark.parametrize("method", [FedBABU(tuning_epochs=1), FedBABU(tuning_epochs=2, tuned="head")])
def test_gradients_counted_are_the_training_s_and_the_copies_in_rounds_that_may_be_selected(
    method, rounds, tuned_rounds
):
    extra = {client: n * method.tuning_epochs * tuned_rounds for client, n in SIZES}
    assert counted(played(method, rounds).tables) == {client: rounds * n + extra[client] for client, n in SIZES}
    card = TaskCard("toy", IMAGES, 3, SIDE, SIDE, 1, rounds)
    assert method.extra_gradients(card) == {client: math.ceil(value / rounds) for client, value in extra.items()}


@pytest.mark.parametrize("changed", [{"tuning_epochs": 1}, {"tuning_epochs": 0}, {"tuned": "head"}])
def test_every_setting_changes_what_is_evaluated(changed):
    one, other = FedBABU(**changed), FedBABU()
    for client in CLIENTS:
        assert differing(evaluated(one, played(one), client), evaluated(other, played(other), client)) >= HEAD


def test_negative_epochs_are_refused():
    with pytest.raises(UsageError, match="tuning_epochs"):
        FedBABU(tuning_epochs=-1)


def test_it_says_what_becomes_of_batch_norm():
    assert FedBABU().policies()["batch_norm"] == "parameters and statistics averaged, then fine-tuned at the client"
    assert FedBABU(tuned="head").policies()["batch_norm"] == "parameters and statistics averaged"
