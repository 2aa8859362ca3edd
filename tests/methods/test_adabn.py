"""AdaBN: FedAvg's parameters to the last bit, and of each client the statistics of its own training images."""

import pytest
import torch
from short_federation import ENTRIES, SIZES, STATISTICS, cases, played, setting
from test_controls import assert_same_models
from test_running import statistics_by_hand

from pflbench.sites import Client, Memory
from pflbench.unet import UNet
from pflbench_methods.adabn import AdaBN
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.siobn import SiloBN

ROUNDS = 3  # the last two may be selected


def evaluated(after, client):
    """Return the entries of the model that is evaluated; no image is needed for it any more."""
    model = UNet(3, 4)
    model.load_state_dict(after.models[client])
    memory = Memory(model, state=after.kept[client]["state"])
    there = Client(client, ROUNDS, "receive", cases(client, 1), memory, setting(ROUNDS))
    return AdaBN().personal_model(there).state_dict()


def test_the_shared_model_is_fedavg_s_statistics_included():
    assert_same_models(played(AdaBN(), ROUNDS), played(FedAvg(), ROUNDS))


@pytest.mark.parametrize("other", [FedAvg(), SiloBN()], ids=lambda method: method.name)
def test_what_is_evaluated_has_the_parameters_of_the_others(other):
    for client, _ in SIZES:
        found = evaluated(played(AdaBN(), ROUNDS), client)
        for name in set(ENTRIES) - STATISTICS:
            assert torch.equal(found[name], played(other, ROUNDS).models[client][name]), name


def test_its_statistics_are_the_mean_of_those_of_the_training_batches_under_the_shared_weights():
    after = played(AdaBN(), ROUNDS)
    for client, count in SIZES:
        model, toy = UNet(3, 4).double(), setting(ROUNDS)
        model.load_state_dict(after.models[client])
        same = Client(client, ROUNDS, "receive", cases(client, count), Memory(UNet(3, 4)), toy)
        found = evaluated(after, client)
        for name, expected in statistics_by_hand(model, list(same.batches(1))).items():
            torch.testing.assert_close(found[name].double(), expected, rtol=1e-5, atol=1e-6)
            assert not torch.allclose(found[name], after.models[client][name], rtol=1e-2)


def test_its_statistics_are_neither_fedavg_s_nor_silobn_s():
    for client, _ in SIZES:
        found = evaluated(played(AdaBN(), ROUNDS), client)
        for other in (FedAvg(), SiloBN()):
            theirs = played(other, ROUNDS).models[client]
            assert not {name for name in STATISTICS if torch.equal(found[name], theirs[name])}


@pytest.mark.parametrize(("round", "copied"), [(2, False), (3, True), (6, True)])
def test_a_copy_is_made_in_those_rounds_only_that_may_be_selected(round, copied):
    toy = setting(6)
    memory = Memory(toy.new_model())
    client = Client("Bern", round, "receive", cases("Bern", 5), memory, toy)
    AdaBN().client_receive(client, toy.new_model().state_dict())
    assert bool(memory.state) == copied
    assert (AdaBN().personal_model(client) is client.model) != copied


def test_nothing_of_it_is_trained_or_sent():
    own, fedavg = played(AdaBN(), ROUNDS), played(FedAvg(), ROUNDS)
    assert own.tables["ledger"] == fedavg.tables["ledger"]
    assert own.logs("gradients") == fedavg.logs("gradients")
