"""The controls: everybody's data in one place, and FedAvg with fine-tuning at home."""

import dataclasses

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, SIZES, cases, play, played, setting
from test_controls import assert_same_models, plain

from pflbench.matrix import run_plan
from pflbench.plan import Request, make_plan
from pflbench.plugins import registry
from pflbench.results import scores
from pflbench.sites import Client, Memory, TrainingData
from pflbench.task import pooled, pooled_card
from pflbench.testing import toy_federation
from pflbench.testing.toy import toy_images
from pflbench.training import BCEDice
from pflbench.unet import UNet
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.finetune import FineTune
from pflbench_methods.local import Local
from pflbench_methods.pooled import Pooled

CLIENTS = ("north", "south", "west")
HERE = "pooled data"


# pooled --------------------------------------------------------------------------------------------------------


def everything(clients=CLIENTS):
    parts = [toy_images(client, "train") for client in clients]
    return TrainingData(torch.cat([part.images for part in parts]), torch.cat([part.masks for part in parts]))


def only_at(place, clients=CLIENTS):
    """Return the data of a federation of one client that holds all training images."""
    return lambda client, split: everything(clients) if split == "train" else toy_images(client, split)


def test_the_pooled_model_is_that_of_one_hospital_with_all_images():
    toy = toy_federation(Pooled(), rounds=3).play()
    alone = toy_federation(Local(), rounds=3, clients=(HERE,), data=only_at(HERE)).play()
    expected = alone.sites[HERE].kept()["model"]
    for client in (*CLIENTS, HERE):
        found = toy.sites[client].kept()["model"]
        for name, value in expected.items():
            if "num_batches" not in name:
                assert torch.equal(found[name], value), (client, name)


def test_everybody_is_tested_on_its_own_cases_and_selects_by_its_own_validation():
    toy = toy_federation(Pooled(), rounds=4).play()
    rows = toy.federation.progress.tables["rounds"]
    assert {row[1] for row in rows if row[2] == "train"} == {HERE}
    assert {row[1] for row in rows if row[2] == "val"} == set(CLIENTS)
    assert {row[1] for row in rows if row[2] == "test"} == set(CLIENTS)
    best = toy.federation.progress.best
    for client in CLIENTS:
        curve = {row[0]: row[3] for row in rows if row[1:3] == [client, "val"] and row[0] >= 2}
        assert best[client]["dice"] == max(curve.values())
        assert curve[best[client]["round"]] == max(curve.values())


def test_nobody_but_the_one_place_sends_anything_and_everybody_is_sent_the_model():
    ledger = toy_federation(Pooled()).play().federation.progress.tables["ledger"]
    size = plain(set(ENTRIES))  # the toy's UNet is that of the short federation
    assert {tuple(row[1:]) for row in ledger if row[2] == "up"} == {(HERE, "up", size)}
    assert {tuple(row[1:]) for row in ledger if row[2] == "down"} == {(c, "down", size) for c in (*CLIENTS, HERE)}


def test_it_takes_as_many_gradients_as_all_clients_together():
    def gradients(method):
        logs = toy_federation(method, epochs=2).play().federation.progress.tables["logs"]
        return sum(row[3] for row in logs if row[0] == 1 and row[2] == "gradients")

    assert gradients(Pooled()) == gradients(FedAvg()) == 2 * 12


def test_a_hospital_that_never_trains_gives_no_image_and_is_tested():
    toy = toy_federation(Pooled(), guests=("west",)).play()
    alone = toy_federation(Local(), clients=(HERE,), data=only_at(HERE, ("north", "south"))).play()
    assert torch.equal(
        toy.sites["west"].kept()["model"]["final.weight"], alone.sites[HERE].kept()["model"]["final.weight"]
    )
    assert {row[2] for row in toy.federation.progress.tables["cases"]} == set(CLIENTS)


def test_a_client_may_be_called_like_the_pooled_data():
    card = toy_federation(FedAvg(), clients=("north", HERE)).card
    found = pooled_card(card)
    assert list(found.clients.values()) == [8]
    assert not set(found.clients) & {"north", HERE}
    assert found.guests == ("north", HERE)


@pytest.mark.parametrize("jobs", [1, 2])
def test_from_images_to_scores_in_one_process_and_in_two(tmp_path, jobs):
    small = {"recipe.rounds": 2, "recipe.epochs": 1, "recipe.image_height": 32, "recipe.image_width": 32}
    small |= {"recipe.base_width": 2, "recipe.precision": "float32"}
    request = Request(
        methods=("pooled",), dataset="vessel-simulated", seeds=(0,), settings=small, device="cpu",
        sites=("sim-DRIVE", "sim-LES-AV"), out=tmp_path,
    )  # fmt: skip
    (trial,) = run_plan(make_plan(request, registry()), jobs, lambda event: None)
    assert trial.state == "finished", trial.error
    frame = scores([trial])
    assert set(frame.client) == {"sim-DRIVE", "sim-LES-AV"}
    rounds = trial.table("rounds")
    assert set(rounds[rounds.split == "train"].client) == {HERE}
    assert trial.about["travels"].endswith("not federated")


def test_pooling_leaves_the_task_it_is_made_from_alone():
    from pflbench.recipe import Recipe
    from pflbench.testing.toy import _task

    task = _task(Recipe(), CLIENTS, (), toy_images)
    gathered = pooled(task)
    assert [len(data.training.images) for data in task.clients.values()] == [4, 4, 4]
    assert {c: len(data.training.images) for c, data in gathered.clients.items()} == {
        HERE: 12, "north": 0, "south": 0, "west": 0,
    }  # fmt: skip
    assert torch.equal(gathered.clients[HERE].training.images, everything().images)
    for client in CLIENTS:
        assert gathered.clients[client].held_out is task.clients[client].held_out


# fine-tuning ---------------------------------------------------------------------------------------------------


def evaluated(method, client, rounds, after):
    """Return the weights of the model that a client is evaluated with at the end of a played federation."""
    memory = Memory(UNet(3, 4), state=after.kept[client]["state"])
    memory.model.load_state_dict(after.models[client])
    return method.personal_model(
        Client(client, rounds, "val", cases(client, dict(SIZES)[client]), memory, setting(rounds))
    ).state_dict()


def test_the_shared_model_is_fedavg_s():
    assert_same_models(played(FineTune(), 3), played(FedAvg(), 3))


def test_without_epochs_it_is_fedavg():
    after = played(FineTune(tuning_epochs=0), 2)
    for client, _ in SIZES:
        tuned = evaluated(FineTune(tuning_epochs=0), client, 2, after)
        assert all(torch.equal(tuned[name], played(FedAvg(), 2).models[client][name]) for name in ENTRIES)


def adam_by_hand(model, batches, lr, decay):
    """Train by Adam's formula, written out in float64, with coupled weight decay."""
    loss, model = BCEDice(0.5), model.double().train()
    moments = {name: (np.zeros(p.shape), np.zeros(p.shape)) for name, p in model.named_parameters()}
    for step, (images, masks) in enumerate(batches, 1):
        model.zero_grad()
        loss(model(images.double()), masks.double()).backward()
        for name, parameter in model.named_parameters():
            gradient = parameter.grad.numpy() + decay * parameter.detach().numpy()
            first, second = moments[name]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            moments[name] = (first, second)
            change = lr * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            parameter.data -= torch.from_numpy(change)


@pytest.mark.parametrize("epochs", [1, 2])
def test_what_is_evaluated_is_the_mean_trained_on_at_home(epochs):
    method = FineTune(tuning_epochs=epochs)
    after = played(method, 1)
    for client, count in SIZES:
        model, toy = UNet(3, 4), setting(1)
        model.load_state_dict(after.models[client])
        batches = Client(client, 1, "receive", cases(client, count), Memory(model), toy).batches(epochs)
        adam_by_hand(model, list(batches), toy.recipe.learning_rate(1), toy.recipe.weight_decay)
        tuned = evaluated(method, client, 1, after)
        # a bias before a normalization layer has no gradient but rounding, and Adam makes that a whole step
        names = [name for name, _ in model.named_parameters() if not name.endswith(".0.bias")]
        far = torch.cat([(tuned[n].double() - model.state_dict()[n]).abs().flatten() for n in names])
        moved = torch.cat([(after.models[client][n] - tuned[n]).abs().flatten() for n in names])
        assert far.median() < 1e-8
        assert (far < 1e-5).double().mean() > 0.99
        assert moved.median() > 1e-4


def test_it_tunes_only_where_a_round_may_be_selected():
    for rounds, last_without in ((4, 1), (6, 2)):
        counted = played(FineTune(), rounds).logs("gradients")
        received = [counted[round, client] for round in range(1, rounds + 1) for client, _ in SIZES]
        # the ledger of gradients has a row for training and one for tuning under one name: the last one stands
        assert len(received) == rounds * 3
        rows = [row for row in played(FineTune(), rounds).tables["logs"] if row[2] == "gradients"]
        tuned = sorted({row[0] for row in rows if sum(r[:2] == row[:2] for r in rows) == 2})
        assert tuned == list(range(last_without + 1, rounds + 1))


def test_gradients_announced_are_those_counted():
    toy = toy_federation(FineTune(tuning_epochs=3), rounds=4).play()
    rows = [row for row in toy.federation.progress.tables["logs"] if row[2] == "gradients"]
    extra = FineTune(tuning_epochs=3).extra_gradients(toy.card)
    for client in CLIENTS:
        assert sum(row[3] for row in rows if row[1] == client) == 4 * 4 * 1 + 3 * 4 * 3  # three of four rounds
        assert extra[client] == 9


def test_before_it_tunes_the_shared_model_is_evaluated():
    after = played(FineTune(), 1)
    state = {**after.kept["Bern"], "state": {}}
    bare = dataclasses.replace(after, kept={"Bern": state})
    found = evaluated(FineTune(), "Bern", 1, bare)
    assert all(torch.equal(found[name], after.models["Bern"][name]) for name in ENTRIES)


def test_each_client_tunes_on_its_own_images_only():
    data = {name: cases(name, count) for name, count in SIZES}
    first = play(FineTune(), data, rounds=1).kept
    data["Lyon"].masks[:] = 1 - data["Lyon"].masks
    second = play(FineTune(), data, rounds=1).kept
    assert any(
        not torch.equal(first["Lyon"]["state"]["adapted"][name], second["Lyon"]["state"]["adapted"][name])
        for name in ENTRIES
    )
    assert set(first["Bern"]["state"]) == {"adapted"}
