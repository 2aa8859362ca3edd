"""pFedLA against whole weights differentiated in float64, and in its limits."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, PARAMETERS, SIZES, STAGES, STATISTICS, played, setting
from test_controls import CLIENTS, ONE, assert_same_models, differing, plain
from torch import nn

from pflbench.method import TaskCard
from pflbench.sites import Server
from pflbench.testing import differences, toy_federation
from pflbench_methods.local import Local
from pflbench_methods.pfedla import PFedLA, all_rows, layer_rows, mixtures, row_gradients, stepped

LAYERS = [f"{stage}.{part}" for stage in STAGES for part in (0, 1)] + ["final"]
SHARES = {client: count / 12 for client, count in SIZES}


class Network(nn.Module):
    """The hypernetwork of the paper in modules, in float64: what the plain tensors must be."""

    def __init__(self, weights, own):
        super().__init__()
        width = len(weights["embedding"])
        self.own, self.clients = own, weights["rows.bias"].shape[1]
        self.embedding = nn.Embedding(1, width)
        self.body = nn.Sequential()
        for _ in range(3):
            self.body.extend([nn.Linear(width, width), nn.ReLU()])
        self.tops = nn.ModuleList(nn.Linear(width, self.clients) for _ in LAYERS)
        self.double()
        with torch.no_grad():
            self.embedding.weight[0] = weights["embedding"]
            for i in range(3):
                self.body[2 * i].weight.copy_(weights[f"hidden{i + 1}.weight"])
                self.body[2 * i].bias.copy_(weights[f"hidden{i + 1}.bias"])
            for top, weight, bias in zip(self.tops, weights["rows.weight"], weights["rows.bias"], strict=True):
                top.weight.copy_(weight)
                top.bias.copy_(bias)

    def forward(self):
        """Return a dictionary from layer to its row."""
        signal = self.body(self.embedding(torch.zeros(1, dtype=torch.long)))[0]
        rows = {}
        for name, top in zip(LAYERS, self.tops, strict=True):
            raw = top(signal).relu()
            rows[name] = (
                raw / raw.sum() if raw.sum() > 0 else nn.functional.one_hot(torch.tensor(self.own), self.clients)
            )
        return rows

    def plain(self):
        """Return the weights by the names the method keeps them under."""
        found = {"embedding": self.embedding.weight[0]}
        for i in range(3):
            found |= {f"hidden{i + 1}.weight": self.body[2 * i].weight, f"hidden{i + 1}.bias": self.body[2 * i].bias}
        found["rows.weight"] = torch.stack([top.weight for top in self.tops])
        found["rows.bias"] = torch.stack([top.bias for top in self.tops])
        return found

    def mixture(self, models):
        """Return this client's mixture of whole models, with a graph back to the network."""
        rows = self()
        return {
            name: sum(
                weight * weights[name].double()
                for weight, weights in zip(rows[name.rpartition(".")[0]], models.values(), strict=True)
            )
            for name in PARAMETERS
        }

    def distance(self, models, reached):
        """Return 1/2 |mixture - reached|^2."""
        return sum(((value - reached[name].double()) ** 2).sum() for name, value in self.mixture(models).items()) / 2


def models_of(seed, spread=0.1):
    """Return three models some way apart, and what each of their mixtures might be trained to."""
    rng = torch.Generator().manual_seed(seed)

    def drawn(around=None):
        return {
            name: (0 if around is None else around[name]) + spread * torch.randn(shape, generator=rng)
            for name, shape in PARAMETERS.items()
        }

    middle = drawn()
    return {client: drawn(middle) for client in CLIENTS}, {client: drawn(middle) for client in CLIENTS}


def networks(seed=0, hidden=20, shares=SHARES):
    server = Server(0, "setup", shares, {}, setting(seed=seed))
    assert PFedLA(hidden=hidden).server_setup(server, {}) == {}
    return server.state["networks"]


# the pure parts ------------------------------------------------------------------------------------------------


def test_with_one_hot_rows_everybody_gets_its_own_model_back():
    models, _ = models_of(0)
    rows = torch.eye(3)[:, None].expand(3, len(LAYERS), 3)
    mixed = mixtures(models, rows)
    for client in CLIENTS:
        assert list(mixed[client]) == list(PARAMETERS)
        assert differing(mixed[client], models[client]) == set()


def test_a_layer_is_mixed_by_its_own_row():
    models, _ = models_of(1)
    rows = torch.rand((3, len(LAYERS), 3), generator=torch.Generator().manual_seed(1))
    mixed = mixtures(models, rows)
    for i, client in enumerate(CLIENTS):
        for name in PARAMETERS:
            row = rows[i, LAYERS.index(name.rpartition(".")[0])].tolist()
            sent = [models[c][name].double().flatten().tolist() for c in CLIENTS]
            expected = [math.fsum(map(float.__mul__, row, values)) for values in zip(*sent, strict=True)]
            np.testing.assert_allclose(mixed[client][name].flatten(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_are_those_of_the_network_in_modules(seed):
    for own, network in enumerate(networks(seed).values()):
        network["rows.bias"] -= 3.0  # some are cut off by the ReLU
        expected = torch.stack(list(Network(network, own)().values())).detach()
        assert (expected == 0).any()
        np.testing.assert_allclose(layer_rows(network, own), expected, rtol=1e-5, atol=1e-7)


def test_at_first_every_row_is_near_equal_parts_and_no_two_are_the_same():
    rows = all_rows(networks(hidden=100))
    assert rows.shape == (3, len(LAYERS), 3)
    np.testing.assert_allclose(rows.sum(2), 1, rtol=1e-6)
    assert 0.2 < float(rows.min()) < 1 / 3 < float(rows.max()) < 0.5
    assert len(rows.flatten(0, 1).unique(dim=0)) == 3 * len(LAYERS)


def test_the_networks_start_as_linear_layers_do_and_rows_with_positive_weights():
    for network in networks(hidden=100).values():
        for i in (1, 2, 3):
            for part in ("weight", "bias"):
                drawn = network[f"hidden{i}.{part}"]
                assert 0.09 < float(drawn.abs().max()) < 0.1
                assert abs(float(drawn.mean())) < 0.02
        assert 0 <= float(network["rows.weight"].min()) < 0.01 < 0.99 < float(network["rows.weight"].max()) <= 1
        assert not network["rows.bias"].any()


def test_where_a_layer_has_no_weight_left_the_client_keeps_its_own_and_nothing_is_learnt_or_broken():
    for own, network in enumerate(networks().values()):
        network["rows.bias"][4] = -1e3
        rows = layer_rows(network, own)
        assert torch.equal(rows[4], torch.eye(3)[own])
        assert (rows[3] > 0).all()
        after = stepped(network, own, torch.ones_like(rows).cumsum(1), 0.01)
        assert all(bool(value.isfinite().all()) for value in after.values())
        assert torch.equal(after["rows.weight"][4], network["rows.weight"][4])
        assert not torch.equal(after["rows.weight"][3], network["rows.weight"][3])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_is_that_of_sgd_through_whole_weights(seed):
    before, reached = models_of(seed)
    drawn = networks(seed)
    slopes = row_gradients(before, reached, all_rows(drawn))
    for own, client in enumerate(CLIENTS):
        expected = Network(drawn[client], own)
        optimizer = torch.optim.SGD(expected.parameters(), lr=0.1)
        expected.distance(before, reached[client]).backward()
        optimizer.step()
        found = stepped(drawn[client], own, slopes[own], 0.1)
        for name, value in expected.plain().items():
            moved = (value - drawn[client][name].double()).abs().max()
            assert moved > 1e-4, name
            gap = (found[name].double() - value).abs().max()
            assert gap < 1e-4 * moved + 1e-7, name


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rate", [5e-3, 5e-4])
def test_a_step_brings_the_mixture_nearer_to_what_was_trained_from_it(seed, rate):
    before, reached = models_of(seed)
    drawn = networks(seed)
    slopes = row_gradients(before, reached, all_rows(drawn))
    for own, client in enumerate(CLIENTS):
        near = Network(stepped(drawn[client], own, slopes[own], rate), own).distance(before, reached[client])
        away = Network(stepped(drawn[client], own, -slopes[own], rate), own).distance(before, reached[client])
        assert near < Network(drawn[client], own).distance(before, reached[client]) < away


# at the server -------------------------------------------------------------------------------------------------


def server_at(round, state):
    return Server(round, "update", SHARES, state, setting())


def test_three_rounds_at_the_server_are_those_in_float64():
    method, state = PFedLA(hidden=20, learning_rate=0.02), {"networks": networks()}
    own = {client: Network(network, i) for i, (client, network) in enumerate(state["networks"].items())}
    before = None
    for round in (1, 2, 3):
        inbox = models_of(round)[0]
        outbox = method.server_update(server_at(round, state), inbox)
        for client, network in own.items():
            if before:
                network.zero_grad()
                network.distance(before, inbox[client]).backward()
                torch.optim.SGD(network.parameters(), lr=0.02).step()
            for name, value in network.mixture(inbox).items():
                np.testing.assert_allclose(outbox[client][name], value.detach(), rtol=1e-5, atol=1e-6)
        before = inbox


def test_the_first_round_teaches_the_networks_nothing():
    state = {"networks": networks()}
    drawn = copy.deepcopy(state["networks"])
    PFedLA(hidden=20).server_update(server_at(1, state), models_of(0)[0])
    assert differences(state["networks"], drawn) == []
    # and could not: where all models are one, so is every mixture
    same = dict.fromkeys(CLIENTS, models_of(0)[0]["Bern"])
    slopes = row_gradients(same, models_of(0)[1], all_rows(drawn))
    for own, client in enumerate(CLIENTS):
        for name, value in stepped(drawn[client], own, slopes[own], 0.1).items():
            np.testing.assert_allclose(value, drawn[client][name], rtol=1e-5, atol=1e-6)


def test_what_arrives_is_matched_by_name_whatever_the_order():
    inbox, outboxes = models_of(0)[0], []
    for arrived in (inbox, dict(reversed(inbox.items()))):
        outboxes.append(PFedLA(hidden=20).server_update(server_at(1, {"networks": networks()}), arrived))
    assert differences(*outboxes) == []


def test_the_mean_weight_of_the_own_model_is_logged():
    server = server_at(1, {"networks": networks()})
    PFedLA(hidden=20).server_update(server, models_of(0)[0])
    for own, client in enumerate(CLIENTS):
        rows = Network(server.state["networks"][client], own)().values()
        assert server.log[f"own_weight/{client}"] == pytest.approx(
            sum(float(row[own].detach()) for row in rows) / 15, abs=1e-6
        )


# whole federations ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AllCut(PFedLA):
    """pFedLA whose networks give nothing but zeros, so that all rows fall back."""

    def server_setup(self, server, inbox):
        outbox = super().server_setup(server, inbox)
        for network in server.state["networks"].values():
            network["rows.weight"].fill_(-1.0)
        return outbox


@dataclass(frozen=True)
class OneHot(PFedLA):
    """pFedLA whose networks give one-hot rows of themselves."""

    def server_setup(self, server, inbox):
        outbox = super().server_setup(server, inbox)
        for own, network in enumerate(server.state["networks"].values()):
            network["rows.weight"].zero_()
            network["rows.bias"][:, own] = 0.3
        return outbox


@pytest.mark.parametrize("method", [AllCut(), OneHot()])
def test_with_one_hot_rows_it_is_training_alone(method):
    assert_same_models(played(method, 3), played(Local(), 3))


def test_alone_it_is_training_alone():
    assert_same_models(played(PFedLA(), 3, ONE), played(Local(), 3, ONE))


def test_its_first_lesson_brings_every_mixture_nearer_to_what_was_trained_from_it():
    toy = toy_federation(PFedLA(), rounds=2)
    states = [copy.deepcopy(toy.federation.progress.server) for _ in toy.federation.play()]
    for own, client in enumerate(states[0]["models"]):
        one, two = (Network(state["networks"][client], own) for state in states)
        distances = [network.distance(states[0]["models"], states[1]["models"][client]) for network in (one, two)]
        assert distances[1] < distances[0]


def test_the_first_round_starts_from_the_common_weights_and_statistics_never_leave():
    after, alone = played(PFedLA(), 1), played(Local(), 1)
    drawn = networks(hidden=100)
    for own, client in enumerate(CLIENTS):
        expected = Network(drawn[client], own).mixture(alone.models)
        for name in ENTRIES:
            found = after.models[client][name]
            if name in STATISTICS:
                assert torch.equal(found, alone.models[client][name])
            else:
                np.testing.assert_allclose(found, expected[name].detach(), rtol=1e-5, atol=1e-7)


def test_every_client_has_a_model_of_its_own():
    models = played(PFedLA()).models
    assert differing(models["Bern"], models["Oslo"]) >= set(ENTRIES)


@pytest.mark.parametrize("changed", [{"learning_rate": 0.0}, {"hidden": 30}])
def test_every_setting_changes_the_models(changed):
    one, other = played(PFedLA(), 2), played(PFedLA(**changed), 2)
    assert all(differing(one.models[c], other.models[c]) & set(PARAMETERS) for c in CLIENTS)


def test_without_a_rate_the_rows_stay():
    toy = toy_federation(PFedLA(learning_rate=0.0), rounds=3)
    states = [copy.deepcopy(toy.federation.progress.server["networks"]) for _ in toy.federation.play()]
    assert differences(states[0], states[2]) == []
    toy = toy_federation(PFedLA(), rounds=3)
    states = [copy.deepcopy(toy.federation.progress.server["networks"]) for _ in toy.federation.play()]
    assert differences(states[0], states[1])
    assert differences(states[1], states[2])


def test_parameters_alone_travel_both_ways():
    after = played(PFedLA())
    for round in (1, 2):
        assert (
            after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(set(PARAMETERS)))
        )


def test_it_takes_no_more_gradients_than_training():
    assert PFedLA().extra_gradients(TaskCard("toy", dict(SIZES), 3, 16, 16, epochs=1, rounds=2)) == {}
    counted = played(PFedLA()).logs("gradients")
    assert counted == {(round, client): count for round in (1, 2) for client, count in SIZES}
