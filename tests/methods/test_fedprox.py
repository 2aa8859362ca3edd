"""FedProx: the pull is mu/2 times the squared distance to what was received, and without it it is FedAvg."""

import pytest
import torch
from by_hand import apart, assert_as_by_hand, hospitals, initial, mean_by_images
from short_federation import PARAMETERS, SIZES, STATISTICS, played, setting
from test_controls import ALL, CLIENTS, assert_same_models, differing, plain

from pflbench.api import TaskCard, UsageError
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedprox import FedProx, squared_distance


@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_pull_it_is_fedavg(seed):
    one, other = played(FedProx(proximity=0), 3, seed=seed), played(FedAvg(), 3, seed=seed)
    assert_same_models(one, other)
    for client in CLIENTS:
        for name, moments in other.kept[client]["optimizers"]["model"].items():
            assert all(torch.equal(one.kept[client]["optimizers"]["model"][name][k], v) for k, v in moments.items())
    assert one.tables["rounds"] == other.tables["rounds"]


def by_hand(mu, rounds):
    """Return the models after each round: mu (w - w_received) is added to every gradient."""
    sites, received, after = hospitals(), initial(), []
    for round in range(1, rounds + 1):
        sent = {
            client: site.train(
                round, received, changed=lambda name, w, gradient, r=dict(received): gradient + mu * (w - r[name])
            )
            for client, site in sites.items()
        }
        received |= mean_by_images(sent)
        after.append(mean_by_images(sent))
    return after


@pytest.mark.parametrize("mu", [0.0, 1.0, 10.0])
def test_two_rounds_are_those_computed_by_hand_in_float64(mu):
    expected = by_hand(mu, 2)
    for rounds in (1, 2):
        for client in CLIENTS:
            assert_as_by_hand(played(FedProx(proximity=mu), rounds).models[client], expected[rounds - 1])


def test_the_computation_by_hand_tells_the_strengths_apart():
    assert apart(by_hand(1.0, 1)[0], by_hand(0.0, 1)[0]) > 1e-4


def test_a_stronger_pull_ends_nearer_to_what_was_received():
    start = setting().new_model().state_dict()
    distances = []
    for mu in (0.0, 1.0, 100.0):
        end = played(FedProx(proximity=mu), 1).models["Bern"]
        distances.append(sum(float((end[name] - start[name]).square().sum()) for name in PARAMETERS))
    assert distances[0] > distances[1] > distances[2]


def test_the_distance_is_over_all_entries_together_and_its_gradient_is_twice_the_difference():
    ours = [torch.nn.Parameter(torch.tensor([3.0, 1.0])), torch.nn.Parameter(torch.tensor([[2.0]]))]
    theirs = [torch.tensor([1.0, 1.0]), torch.tensor([[5.0]])]
    distance = squared_distance(ours, theirs)
    assert distance.item() == 2**2 + 3**2
    distance.backward()
    assert torch.equal(ours[0].grad, torch.tensor([4.0, 0.0]))
    assert torch.equal(ours[1].grad, torch.tensor([[-6.0]]))


def test_statistics_are_averaged_and_only_parameters_are_pulled():
    # a pull so strong that every first step leads straight back: the statistics still follow the batches
    start, end = setting().new_model().state_dict(), played(FedProx(proximity=1e6), 1).models["Bern"]
    assert all(not torch.equal(end[name], start[name]) for name in STATISTICS)
    assert not differing(played(FedProx(), 2).models["Bern"], played(FedProx(), 2).models["Oslo"]) & ALL


def test_it_sends_what_fedavg_sends_and_takes_as_many_gradients():
    after = played(FedProx())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))
    task = TaskCard("toy", dict(SIZES), 3, 16, 16, 1, 2)
    assert FedProx().extra_gradients(task) == {}
    assert after.logs("gradients") == {(round, c): n for round in (1, 2) for c, n in SIZES}
    assert FedProx().unsuitable(task) is None


def test_the_reported_loss_leaves_the_pull_out():
    losses = [row[4] for row in played(FedProx(proximity=10.0), 1).tables["rounds"] if row[2] == "train"]
    sites, start = hospitals(), initial()
    for site in sites.values():
        site.train(1, start, changed=lambda name, w, gradient: gradient + 10.0 * (w - start[name]))
    assert losses == pytest.approx([site.losses[0] for site in sites.values()], rel=1e-5)


def test_a_negative_pull_is_refused():
    with pytest.raises(UsageError, match=r"fedprox.proximity = -1.0 is refused"):
        FedProx(proximity=-1.0)
