"""FedProx + momentum keeps the contract of a method, and its server does what Hsu et al. write."""

import copy

import pytest
import torch
from pflbench.api import UsageError
from pflbench.testing import differences, method_checks, toy_federation
from pflbench_methods.fedprox import FedProx

from pflbench_fedprox_momentum import FedProxMomentum


@pytest.mark.parametrize("check", method_checks(FedProxMomentum), ids=str)
def test_contract(check):
    check()


def kept_at_clients(method, rounds=3):
    """Return the models and optimisers of all clients after some rounds."""
    return toy_federation(method, rounds=rounds).play().kept()["clients"]


@pytest.mark.parametrize("proximity", [0.0, 0.01, 1.0])
def test_without_momentum_it_is_fedprox_to_the_last_bit(proximity):
    mine = kept_at_clients(FedProxMomentum(momentum=0, proximity=proximity))
    assert differences(mine, kept_at_clients(FedProx(proximity=proximity))) == []


def test_the_pull_of_fedprox_still_matters():
    assert differences(kept_at_clients(FedProxMomentum(proximity=0)), kept_at_clients(FedProxMomentum(proximity=1)))


def recorded(momentum, rounds):
    """Play and return the initial weights and, for each round, shares, what clients sent and what they were sent."""
    start, exchanges = {}, []

    class Recorded(FedProxMomentum):
        def server_update(self, server, inbox):
            start.update(server.new_model().state_dict())
            outbox = super().server_update(server, inbox)
            exchanges.append(copy.deepcopy((server.shares, dict(inbox), outbox)))  # valid during the step only
            return outbox

    toy_federation(Recorded(momentum=momentum), rounds=rounds).play()
    return start, exchanges


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_server_follows_the_formula_of_the_paper_in_float64(momentum):
    """v <- momentum v + (mean - w), w <- w + v: another way to write it than the one of the method."""
    start, exchanges = recorded(momentum, rounds=4)
    w = {name: value.double() for name, value in start.items()}
    v = {name: torch.zeros_like(value) for name, value in w.items()}
    for shares, inbox, outbox in exchanges:
        for name in next(iter(inbox.values())):
            mean = sum(shares[client] * sent[name].double() for client, sent in inbox.items())
            v[name] = mean - w[name] + (0 if "running" in name else momentum * v[name])
            w[name] = w[name] + v[name]
            for sent in outbox.values():
                torch.testing.assert_close(sent[name].double(), w[name], rtol=0, atol=2e-6)


def test_no_running_variance_falls_below_zero():
    _, exchanges = recorded(0.9, rounds=10)
    variances = [value for _, _, sent in exchanges for name, value in sent["north"].items() if "running_var" in name]
    assert variances
    assert all((value > 0).all() for value in variances)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan"), "much"])
def test_a_momentum_that_cannot_be_is_refused(momentum):
    with pytest.raises(UsageError, match=r"fedprox-momentum\.momentum = .* is refused"):
        FedProxMomentum(momentum=momentum)
