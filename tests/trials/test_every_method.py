"""What must hold for every registered method: it plays, resumes, and minds its own hospital."""

import functools

import pytest
import torch

from pflbench.checkpoint import load, save
from pflbench.engines.in_process import InProcess
from pflbench.message import decode, encode
from pflbench.plugins import registry
from pflbench.sites import TrainingData
from pflbench.task import pools_data
from pflbench.testing import differences, toy_federation
from pflbench.testing.toy import contains_image, toy_images

METHODS = registry().names("method")


def a(name):
    return registry().method(name)()


@pytest.fixture(params=METHODS)
def method(request):
    return a(request.param)


def test_it_plays_and_every_client_gets_scores(method):
    toy = toy_federation(method).play()
    cases = toy.federation.progress.tables["cases"]
    assert {(row[0], row[2]) for row in cases} == {
        (chosen, client) for chosen in ("best", "last") for client in ("north", "south", "west")
    }
    assert all(0 <= row[7] <= 1 for row in cases)


def test_it_learns_the_toy(method):
    toy = toy_federation(method, rounds=12, epochs=4).play()
    rows = toy.federation.progress.tables["rounds"]
    losses = {client: [row[4] for row in rows if row[1:3] == [client, "train"]] for client in toy.card.clients}
    for client, values in losses.items():
        assert values[-1] < 0.5 * values[0], (client, values)


def test_it_resumes_byte_for_byte(method, tmp_path):
    whole = toy_federation(method, rounds=3).play()
    first = toy_federation(method, rounds=3).play(rounds=1)
    save(tmp_path, 1, first.federation.kept())
    second = toy_federation(method, rounds=3)
    second.federation.restore(load(tmp_path))
    assert differences(whole.kept(), second.play().kept()) == []


def test_the_order_of_clients_changes_nothing(method):
    class Backwards(InProcess):
        def run(self, stage, round, messages):
            replies = super().run(stage, round, dict(reversed(messages.items())))
            return {client: replies[client] for client in messages}

    assert (
        differences(toy_federation(method).play().kept(), toy_federation(method, engine=Backwards).play().kept()) == []
    )


class Recorder(InProcess):
    """Keeps the bytes of what each client sends."""

    def __init__(self, sites):
        super().__init__(sites)
        self.sent = []

    def run(self, stage, round, messages):
        replies = super().run(stage, round, messages)
        self.sent += [(stage, round, client, encode(reply.message)) for client, reply in replies.items()]
        return replies


def recorded(method, **options):
    recorders = []

    def engine(sites):
        recorders.append(Recorder(sites))
        return recorders[0]

    toy = toy_federation(method, engine=engine, **options).play()
    return toy, recorders[0].sent


def test_no_training_image_or_mask_is_in_any_message(method):
    _, sent = recorded(method)
    for stage, round, client, message in sent:
        found = contains_image(decode(bytearray(message)), toy_images(client, "train"))
        assert found is None, (stage, round, client, found)


def test_the_search_for_images_finds_one():
    data = toy_images("north", "train")
    assert contains_image({"x": {"y": torch.cat([torch.zeros(7), data.images[1].float().reshape(-1) / 255])}}, data)


def test_what_a_hospital_sends_first_does_not_depend_on_the_others(method):
    if pools_data(method):
        pytest.skip("it is not federated: all data lies in one place")

    def other_south(client, split):
        data = toy_images(client, split)
        return TrainingData(255 - data.images, data.masks) if (client, split) == ("south", "train") else data

    def first_messages(data):
        """The setup messages, or where nothing came back from a setup, the first updates."""
        _, sent = recorded(method, data=data)
        setup = {client: m for stage, _, client, m in sent if stage == "setup" and m}
        return setup or {client: m for stage, round, client, m in sent if (stage, round) == ("update", 1)}

    before, after = first_messages(toy_images), first_messages(other_south)
    assert before["north"] == after["north"]
    assert before["west"] == after["west"]
    if before["south"]:
        assert before["south"] != after["south"]


def test_test_images_influence_only_scores(method):
    def other_tests(client, split):
        data = toy_images(client, split)
        return TrainingData(255 - data.images, data.masks) if split == "test" else data

    before, after = toy_federation(method).play().kept(), toy_federation(method, data=other_tests).play().kept()
    for kept in (before, after):
        del kept["tables"], kept["found"]  # scores, and what they are scores of
    assert differences(before, after) == []


def test_gradients_announced_are_those_counted(method):
    rounds, epochs = 5, 2
    toy = toy_federation(method, rounds=rounds, epochs=epochs).play()
    counted = dict.fromkeys([*toy.card.clients, ""], 0)
    for round, client, key, value in toy.federation.progress.tables["logs"]:
        if key == "gradients" and round:
            counted[client] += value
    extra = method.extra_gradients(toy.card)
    for client, total in counted.items():
        announced = epochs * toy.card.clients.get(client, 0) + extra.get(client, 0)
        assert 0 <= rounds * announced - total < rounds, client  # a mean over rounds, rounded up


def test_another_seed_gives_other_weights(method):
    assert differences(toy_federation(method).play().kept(), toy_federation(method, seed=1).play().kept())


@functools.cache
def sent_bytes(name):
    _, sent = recorded(a(name))
    return {(stage, client): len(m) for stage, round, client, m in sent if round <= 1 and stage in ("setup", "update")}


def test_the_control_sends_nothing():
    assert set(sent_bytes("local").values()) == {0}
