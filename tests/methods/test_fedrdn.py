"""FedRDN: statistics, draws and the normalized images that the network really sees, recomputed one by one."""

import numpy as np
import pytest
import torch
from one_hospital import Recorder, assert_same_gradients, hospital, in_double, initial_model, same_batches, taken
from short_federation import SIDE, SIZES, cases, play, played
from test_controls import ALL, CLIENTS, ONE, differing, plain, with_header

from pflbench.method import TaskCard
from pflbench.sites import TrainingData
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedrdn import FedRDN
from pflbench_methods.local import Local

CARD = TaskCard("toy", dict(SIZES), 3, SIDE, SIDE, epochs=1, rounds=2)
OTHERS = {
    "Bern": {"mean": torch.tensor([0.2, 0.3, 0.4]), "deviation": torch.tensor([0.1, 0.2, 0.3])},
    "Lyon": {"mean": torch.tensor([0.5, 0.6, 0.1]), "deviation": torch.tensor([0.3, 0.1, 0.2])},
    "Oslo": {"mean": torch.tensor([0.9, 0.1, 0.7]), "deviation": torch.tensor([0.2, 0.4, 0.5])},
}


def own_statistics(data):
    """Return the means over images of each channel's mean and deviation, by loops over single images."""
    means, deviations = [], []
    for image in data.images:
        pixels = [channel.flatten().tolist() for channel in image]
        means.append([sum(values) / len(values) / 255 for values in pixels])
        deviations.append([np.sqrt(np.mean([(v - np.mean(values)) ** 2 for v in values])) / 255 for values in pixels])
    return np.mean(means, axis=0), np.mean(deviations, axis=0)


def by_hand(image, statistics):
    """Return one C x H x W image normalized, pixel by pixel and in float64."""
    image, mean, deviation = (np.asarray(value, dtype=float) for value in (image, *statistics.values()))
    return np.stack([(image[c] - mean[c]) / deviation[c] for c in range(len(image))])


# statistics ----------------------------------------------------------------------------------------------------


def test_everybody_is_told_the_statistics_of_all_images_means_and_deviations():
    briefings = {client: kept["briefing"] for client, kept in played(FedRDN(), 1).kept.items()}
    for briefing in briefings.values():
        assert list(briefing) == CLIENTS
        for name, count in SIZES:
            mean, deviation = own_statistics(cases(name, count))
            np.testing.assert_allclose(briefing[name]["mean"], mean, rtol=1e-5)
            np.testing.assert_allclose(briefing[name]["deviation"], deviation, rtol=1e-5)


def test_the_deviation_is_that_within_images_not_between_them():
    # a black and a white image: each has none, all their pixels together would have 0.5
    data = cases("Bern", 2)
    data.images[0], data.images[1] = 0, 255
    sent = FedRDN().client_setup(hospital_with(data))
    torch.testing.assert_close(sent["mean"], torch.full((3,), 0.5))
    assert torch.equal(sent["deviation"], torch.zeros(3))


def hospital_with(data, **options):
    client = hospital(len(data.images), stage="setup", **options)
    client._data.images.copy_(data.images)
    return client


# training ------------------------------------------------------------------------------------------------------


def seen_in_training(count, **changes):
    """Return the raw and the normalized batches of one round, in order, of a model that only looks."""
    model = Recorder()
    FedRDN().client_update(hospital(count, briefing=OTHERS, model=model, **changes))
    return [images for images, _ in same_batches(count, **changes)], model.seen


def clients_whose_statistics_fit(raw, normalized):
    found = [c for c, own in OTHERS.items() if np.allclose(by_hand(raw, own), normalized, rtol=1e-4, atol=1e-4)]
    assert len(found) == 1
    return found[0]


def test_every_image_is_normalized_with_the_statistics_of_one_client_drawn_for_it():
    drawn = []
    for raw, normalized in zip(*seen_in_training(150), strict=True):
        drawn.append([clients_whose_statistics_fit(*pair) for pair in zip(raw, normalized, strict=True)])
    assert sum(map(len, drawn)) == 150
    counts = [sum(batch.count(client) for batch in drawn) for client in CLIENTS]
    assert all(30 <= count <= 70 for count in counts), counts  # 50 expected, standard deviation 5.8
    assert 35 <= sum(len(set(batch)) == 2 for batch in drawn) <= 65  # 75 pairs, of which two thirds differ


def test_a_round_draws_anew():
    first, second = (
        [tensor for client in CLIENTS for tensor in played(FedRDN(), rounds).models[client].values()]
        for rounds in (1, 2)
    )
    assert not all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_alone_a_client_trains_on_images_normalized_with_its_own_statistics():
    own = dict(zip(("mean", "deviation"), map(torch.tensor, own_statistics(cases("Bern", 2))), strict=True))
    client = hospital(briefing={"Bern": {name: value.float() for name, value in own.items()}})
    model = in_double(client.model)
    FedRDN().client_update(client)
    [(images, masks)] = same_batches()
    normalized = torch.from_numpy(np.stack([by_hand(image, own) for image in images]))
    client.loss(model(normalized), masks).backward()
    assert_same_gradients(taken(client.model), taken(model))


def test_alone_a_whole_training_is_that_of_images_normalized_beforehand():
    # two rounds by hand, in the same precision: plain loops over the client's batches, one optimiser
    after = played(FedRDN(), 2, ONE)
    mean, deviation = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in own_statistics(cases("Bern", 5)))
    client = hospital(5)
    model = client.model.train()
    optimizer = torch.optim.Adam(
        model.parameters(), lr=client.recipe.learning_rate(1), weight_decay=client.recipe.weight_decay
    )
    for round in (1, 2):
        client.round, client._streams = round, 0
        optimizer.param_groups[0]["lr"] = client.recipe.learning_rate(round)
        for images, masks in client.batches():
            optimizer.zero_grad()
            client.loss(model((images - mean) / deviation), masks).backward()
            optimizer.step()
    # not the biases before batch norm: their gradients are rounding, which Adam scales up
    names = [n for n, _ in model.named_parameters() if not n.endswith(".0.bias")]
    for name in names:
        torch.testing.assert_close(after.models["Bern"][name], model.state_dict()[name], rtol=0, atol=2e-5)
        assert not torch.allclose(played(Local(), 2, ONE).models["Bern"][name], model.state_dict()[name], atol=2e-5)


def test_it_learns_other_weights_than_fedavg():
    for client in CLIENTS:
        assert differing(played(FedRDN()).models[client], played(FedAvg()).models[client])


# evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENTS)
def test_evaluation_normalizes_with_the_client_s_own_statistics(name):
    client = hospital(name=name, briefing=OTHERS, model=initial_model(), stage="val")
    images = cases(name, 3, "test").images.float() / 255
    found = FedRDN().personal_model(client).eval()(images)
    for other, statistics in OTHERS.items():
        normalized = torch.from_numpy(np.stack([by_hand(image, statistics) for image in images])).float()
        expected = client.model.eval()(normalized)
        assert torch.allclose(found, expected, rtol=0, atol=1e-4) == (other == name)


def test_one_model_serves_all_clients():
    after = played(FedRDN())
    apart = differing(after.models["Bern"], after.models["Oslo"])
    assert {name.rpartition(".")[2] for name in apart} <= {"num_batches_tracked"}


# a channel without contrast ------------------------------------------------------------------------------------


def test_a_channel_of_one_colour_does_not_divide_by_zero():
    data = {"Bern": cases("Bern", 2), "Oslo": cases("Oslo", 2)}
    grey = TrainingData(data["Oslo"].images.clone(), data["Oslo"].masks)
    grey.images[:, 1] = 7
    after = play(FedRDN(), data | {"Oslo": grey}, rounds=1)
    assert all(value.isfinite().all() for value in after.models["Bern"].values() if value.is_floating_point())
    client = hospital(briefing=after.kept["Oslo"]["briefing"], name="Oslo", model=Recorder(), stage="val")
    FedRDN().personal_model(client)(torch.full((1, 3, SIDE, SIDE), 9 / 255))
    np.testing.assert_allclose(client.model.seen[0][0, 1], 2.0, rtol=1e-4)  # two grey levels above the mean


# what it costs -------------------------------------------------------------------------------------------------


def test_it_sends_six_numbers_once_and_then_as_fedavg():
    after = played(FedRDN())
    one = {"mean": ["float32", [3]], "deviation": ["float32", [3]]}
    assert after.ledger(0, "up") == dict.fromkeys(CLIENTS, with_header(one, 24))
    assert after.ledger(0, "down") == dict.fromkeys(CLIENTS, with_header(dict.fromkeys(CLIENTS, one), 72))
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))


def test_it_takes_no_gradient_more_than_fedavg():
    assert played(FedRDN()).logs("gradients") == played(FedAvg()).logs("gradients")
    assert FedRDN().extra_gradients(CARD) == {}


def test_a_hospital_without_training_images_has_no_statistics_of_its_own():
    assert not vars(FedRDN).get("newcomers", False)
    assert FedRDN().unsuitable(CARD) is None
