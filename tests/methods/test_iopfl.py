"""IOP-FL: the moving average of the trained models in closed form, and its limits."""

import functools
import math

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, SIZES, cases, played, setting
from test_controls import ALL, plain

from pflbench.api import TaskCard, UsageError, weighted_mean
from pflbench.evaluation import HeldOut
from pflbench.sites import Client, Memory
from pflbench.steps import Site
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.iopfl import IOPFL
from pflbench_methods.local import Local

CLIENTS = dict(SIZES)
SHARES = {client: count / 12 for client, count in SIZES}


def evaluated(method, client, rounds):
    after, toy = played(method, rounds), setting(rounds)
    memory = Memory(toy.new_model(after.models[client]), state=after.kept[client]["state"])
    seen = Client(client, rounds, "test", cases(client, CLIENTS[client]), memory, toy)
    return method.personal_model(seen).state_dict()


@functools.cache
def trained(rounds):
    """Return what each client's model was after training, round by round, in a federation of FedAvg."""
    held_out = {"test": HeldOut(**vars(cases("any", 1)))}
    sites = {c: Site(c, FedAvg(), setting(rounds), cases(c, count), held_out) for c, count in SIZES}
    found = []
    for round in range(1, rounds + 1):
        sent = {c: dict(site.run("update", round, {}).message) for c, site in sites.items()}
        found.append({c: {name: value.clone() for name, value in sent[c].items()} for c in CLIENTS})
        mean = weighted_mean(found[-1], SHARES)
        for site in sites.values():
            site.run("receive", round, mean)
    return found


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize("memory", [0.1, 0.7])
def test_the_evaluated_model_weighs_all_trained_ones_geometrically(memory, rounds):
    # theta_T = a^T W_0 + sum_t (1 - a) a^(T - t) W_t
    initial = setting().new_model().state_dict()
    for client in CLIENTS:
        found = evaluated(IOPFL(memory=memory), client, rounds)
        for name in ENTRIES:
            terms = [memory**rounds * initial[name].double()]
            for t, models in enumerate(trained(rounds), start=1):
                terms.append((1 - memory) * memory ** (rounds - t) * models[client][name].double())
            np.testing.assert_allclose(found[name].double(), sum(terms), rtol=3e-7, atol=3e-8, err_msg=name)


@pytest.mark.parametrize("rounds", [1, 3])
def test_without_memory_it_is_the_model_as_trained_this_round(rounds):
    for client in CLIENTS:
        found = evaluated(IOPFL(memory=0), client, rounds)
        assert all(torch.equal(found[name], trained(rounds)[-1][client][name]) for name in ENTRIES)


def test_without_memory_the_first_round_is_training_alone():
    for client in CLIENTS:
        found = evaluated(IOPFL(memory=0), client, 1)
        assert all(torch.equal(found[name], played(Local(), 1).models[client][name]) for name in ENTRIES)


@pytest.mark.parametrize("rounds", [1, 3])
def test_with_memory_alone_it_is_the_initial_model(rounds):
    initial = setting().new_model().state_dict()
    for client in CLIENTS:
        found = evaluated(IOPFL(memory=1), client, rounds)
        assert all(torch.equal(found[name], initial[name]) for name in ENTRIES)


def test_the_initial_model_is_evaluated_where_nothing_was_trained_yet():
    toy = setting()
    memory = Memory(toy.new_model())
    client = Client("Bern", 0, "val", cases("Bern", 5), memory, toy)
    found = IOPFL().personal_model(client)
    assert found is not client.model
    assert all(torch.equal(value, toy.new_model().state_dict()[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("memory", [0.0, 0.1, 1.0])
def test_the_shared_model_is_fedavg_s(memory):
    after, averaged = played(IOPFL(memory=memory), 3), played(FedAvg(), 3)
    for client in CLIENTS:
        for name, value in averaged.models[client].items():
            assert torch.equal(after.models[client][name], value)


def test_every_client_evaluates_its_own_model():
    found = {client: evaluated(IOPFL(), client, 2) for client in CLIENTS}
    for one, other in [("Bern", "Lyon"), ("Lyon", "Oslo"), ("Bern", "Oslo")]:
        assert all(not torch.equal(found[one][name], found[other][name]) for name in ENTRIES)


def test_bytes_and_gradients_are_those_of_fedavg():
    after = played(IOPFL())
    card = TaskCard("toy", CLIENTS, channels=3, height=16, width=16, epochs=1, rounds=2)
    assert not any(IOPFL().extra_gradients(card).values())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))
        assert {c: after.logs("gradients")[round, c] for c in CLIENTS} == CLIENTS
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}


@pytest.mark.parametrize("memory", [-0.1, 1.1, math.nan])
def test_a_memory_out_of_its_bounds_is_refused(memory):
    with pytest.raises(UsageError, match=r"iopfl\.memory"):
        IOPFL(memory=memory)
