"""FedSM's SoftPull against pulls written out in float64, and in its limits."""

import math

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, SIZES, cases, play, played, setting
from test_controls import CLIENTS, ONE, assert_same_models, plain

from pflbench.method import TaskCard
from pflbench.sites import Client, Memory
from pflbench.weights import load
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedsm import FedSMSoftPull
from pflbench_methods.local import Local


def pulled(models, share):
    """Return share P_c + (1 - share) / (C - 1) sum of the others, entry by entry, in float64."""
    rest = (1 - share) / (len(models) - 1)
    return {
        client: {
            name: share * own[name].double()
            + rest * sum(other[name].double() for sender, other in models.items() if sender != client)
            for name in ENTRIES
        }
        for client, own in models.items()
    }


def by_hand(share, rounds):
    """Train client by client, and exchange float64 pulls after every round."""
    toy = setting(rounds)
    memories = {client: Memory(toy.new_model()) for client in CLIENTS}
    for round in range(1, rounds + 1):
        for client, count in SIZES:
            Client(client, round, "update", cases(client, count), memories[client], toy).fit()
        models = {client: memory.model.state_dict() for client, memory in memories.items()}
        for client, weights in pulled(models, share).items():
            load(memories[client].model, {name: value.float() for name, value in weights.items()})
    return {client: memory.model.state_dict() for client, memory in memories.items()}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7])
def test_after_a_round_each_client_has_its_weights_pulled_to_the_others_statistics_too(share):
    found, expected = played(FedSMSoftPull(own_share=share), 1), pulled(played(Local(), 1).models, share)
    for client in CLIENTS:
        for name in ENTRIES:
            own, wanted = found.models[client][name].double(), expected[client][name]
            np.testing.assert_allclose(own, wanted, rtol=5e-7, atol=1e-8, err_msg=name)


def test_two_rounds_are_those_played_by_hand():
    # Adam divides by the gradient's size: a last digit of round 1 may move an entry by some of the learning rate
    found, expected = played(FedSMSoftPull(), 2), by_hand(0.7, 2)
    off = [(found.models[c][name] - expected[c][name]).abs().flatten() for c in CLIENTS for name in ENTRIES]
    assert float(torch.cat(off).median()) < 1e-7
    assert float(torch.cat(off).max()) < 1e-4


def test_a_share_of_1_is_training_alone():
    assert_same_models(played(FedSMSoftPull(own_share=1.0), 3), played(Local(), 3))


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_alone_it_is_training_alone_whatever_the_share(share):
    assert_same_models(played(FedSMSoftPull(own_share=share), 2, ONE), played(Local(), 2, ONE))


def test_half_of_two_hospitals_of_one_size_is_fedavg():
    equal = (("Bern", 4), ("Oslo", 4))
    assert_same_models(played(FedSMSoftPull(own_share=0.5), 3, equal), played(FedAvg(), 3, equal))


def test_a_share_of_1_of_c_is_the_uniform_mean_whatever_the_number_of_images():
    found, alone = played(FedSMSoftPull(own_share=1 / 3), 1), played(Local(), 1)
    for name in ENTRIES:
        sent = [alone.models[c][name].double().flatten().tolist() for c in CLIENTS]
        mean = [math.fsum(values) / 3 for values in zip(*sent, strict=True)]
        for client in CLIENTS:
            np.testing.assert_allclose(found.models[client][name].flatten(), mean, rtol=5e-7, atol=1e-8)


def test_pulling_keeps_the_mean_of_all_models():
    found, alone = played(FedSMSoftPull(), 1), played(Local(), 1)
    for name in ENTRIES:
        before, after = (sum(p.models[c][name].double() for c in CLIENTS) / 3 for p in (alone, found))
        np.testing.assert_allclose(after, before, rtol=5e-7, atol=2e-8)


def test_the_nearer_to_1_the_farther_apart_the_models_stay():
    def apart(share):
        models = played(FedSMSoftPull(own_share=share), 1).models
        return sum(float((models["Bern"][name] - models["Oslo"][name]).norm()) for name in ENTRIES)

    # P_1 - P_2 shrinks by |share - (1 - share) / 2|: 0.1, 0.55 and 1
    assert apart(0.4) / apart(1.0) == pytest.approx(0.1, rel=1e-3)
    assert apart(0.7) / apart(1.0) == pytest.approx(0.55, rel=1e-3)


def test_all_entries_travel_both_ways():
    after = played(FedSMSoftPull())
    for round in (1, 2):
        expected = dict.fromkeys(CLIENTS, plain(set(ENTRIES)))  # P + B
        assert after.ledger(round, "up") == after.ledger(round, "down") == expected


def test_it_takes_no_more_gradients_than_training():
    card = TaskCard("toy", dict(SIZES), 3, 16, 16, epochs=1, rounds=2)
    assert FedSMSoftPull().extra_gradients(card) == {}
    counted = played(FedSMSoftPull()).logs("gradients")
    assert counted == {(round, client): count for round in (1, 2) for client, count in SIZES}


def test_the_share_is_named_for_the_report():
    assert FedSMSoftPull(own_share=0.25).policies()["aggregation"].startswith("0.25 of the client's own")


def test_it_does_not_matter_in_which_order_hospitals_are_listed():
    data = {name: cases(name, count) for name, count in SIZES}
    found = play(FedSMSoftPull(own_share=0.4), dict(reversed(data.items())), rounds=1)
    for client in CLIENTS:
        for name in ENTRIES:
            expected = played(FedSMSoftPull(own_share=0.4), 1).models[client][name]
            np.testing.assert_allclose(found.models[client][name], expected, rtol=1e-6, atol=1e-7)
