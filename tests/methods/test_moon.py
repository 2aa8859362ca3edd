"""MOON: the contrast is the original's, its two fixed models stay fixed, and without it it is FedAvg."""

import math

import pytest
import torch
from by_hand import apart, assert_as_by_hand, half_bce_half_dice, hospitals, initial, mean_by_images, model_of
from short_federation import PARAMETERS, SIZES, cases, played, setting
from test_controls import ALL, CLIENTS, assert_same_models, differing, plain

from pflbench.api import TaskCard, UsageError
from pflbench.numerics import Numerics
from pflbench.sites import Client, Memory, Setting
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.local import Local
from pflbench_methods.moon import Moon, contrast

ONE = (("Bern", 5),)


# limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", ["flattened", "pooled"])
@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_contrast_it_is_fedavg(features, seed):
    one, other = played(Moon(contrast=0, features=features), 3, seed=seed), played(FedAvg(), 3, seed=seed)
    assert_same_models(one, other)
    assert one.tables["rounds"] == other.tables["rounds"]


def test_the_first_round_is_fedavg_because_there_is_no_previous_model():
    assert_same_models(played(Moon(contrast=5.0), 1), played(FedAvg(), 1))


def test_the_second_round_is_not():
    for client in CLIENTS:
        assert differing(played(Moon()).models[client], played(FedAvg()).models[client]) & set(PARAMETERS)


@pytest.mark.parametrize("features", ["flattened", "pooled"])
def test_alone_it_is_training_alone(features):
    # what is received is the previous model, so what pulls and what pushes are one
    assert_same_models(played(Moon(features=features), 3, ONE), played(Local(), 3, ONE))


# the contrast --------------------------------------------------------------------------------------------------


def test_the_contrast_is_the_cross_entropy_of_two_cosines():
    own = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    received = torch.tensor([[4.0, 3.0], [0.0, 2.0]])  # cosines 24/25 and 0
    previous = torch.tensor([[0.0, 1.0], [5.0, 0.0]])  # cosines 4/5 and 1
    expected = [
        -math.log(math.exp(a / 0.5) / (math.exp(a / 0.5) + math.exp(b / 0.5))) for a, b in ((24 / 25, 4 / 5), (0, 1))
    ]
    assert contrast(own, received, previous, 0.5).item() == pytest.approx(sum(expected) / 2, rel=1e-6)
    cold = [math.log(1 + math.exp((b - a) / 0.1)) for a, b in ((24 / 25, 4 / 5), (0, 1))]
    assert contrast(own, received, previous, 0.1).item() == pytest.approx(sum(cold) / 2, rel=1e-5)


def test_the_gradient_of_the_contrast_is_that_of_finite_differences():
    rng = torch.Generator().manual_seed(0)
    own, received, previous = (torch.randn(3, 7, generator=rng, dtype=torch.float64) for _ in range(3))
    own.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: contrast(z, received, previous, 0.5), (own,))


def test_equal_models_contrast_by_the_logarithm_of_two_without_a_gradient():
    own, other = torch.rand(2, 5, requires_grad=True), torch.rand(2, 5)
    value = contrast(own, other, other, 0.5)
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert not own.grad.any()


def test_features_that_vanish_stay_finite():
    own = torch.zeros(2, 5, requires_grad=True)
    value = contrast(own, torch.rand(2, 5), torch.rand(2, 5), 0.5)
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert own.grad.isfinite().all()


# whole rounds --------------------------------------------------------------------------------------------------


def by_hand(rounds, mu, tau, features):
    """Return the models after each round and the clients' last training: the loss with its three forward passes."""
    sites, received, after, previous = hospitals(), initial(), [], {}
    for round in range(1, rounds + 1):
        sent = {}
        for client, site in sites.items():
            fixed = [model_of(w).eval() for w in (received, previous[client])] if round > 1 else []

            def minimized(model, images, masks, fixed=fixed):
                maps = model.features(images)
                loss = half_bce_half_dice(model.final(maps), masks)
                if not fixed:
                    return loss
                z = as_vectors(maps, features)
                scores = torch.stack([cosine(z, as_vectors(m.features(images), features).detach()) for m in fixed], 1)
                nearest = torch.zeros(len(images), dtype=torch.long)
                return loss + mu * torch.nn.functional.cross_entropy(scores / tau, nearest)

            sent[client] = site.train(round, received, minimized)
        previous = sent
        received = received | mean_by_images(sent)
        after.append(mean_by_images(sent))
    return after, previous, sites


def as_vectors(maps, features):
    images, channels = maps.shape[:2]
    return maps.reshape(images, -1) if features == "flattened" else maps.reshape(images, channels, -1).sum(2) / 256


def cosine(one, other):
    return (one * other).sum(1) / (one.square().sum(1).sqrt() * other.square().sum(1).sqrt())


@pytest.mark.parametrize(
    ("mu", "tau", "features"), [(1.0, 0.5, "flattened"), (5.0, 0.5, "pooled"), (2.0, 0.1, "pooled")]
)
def test_three_rounds_are_those_computed_by_hand_in_float64(mu, tau, features):
    models, last, sites = by_hand(3, mu, tau, features)
    for rounds in (1, 2, 3):
        after = played(Moon(contrast=mu, temperature=tau, features=features), rounds)
        for client in CLIENTS:
            assert_as_by_hand(after.models[client], models[rounds - 1])
    losses = {(row[0], row[1]): row[4] for row in after.tables["rounds"] if row[2] == "train"}
    for client in CLIENTS:
        previous = after.kept[client]["state"]["previous"]
        assert_as_by_hand(previous, {name: last[client][name] for name in ALL})
        # reported without the contrast
        assert [losses[round, client] for round in (1, 2, 3)] == pytest.approx(sites[client].losses, rel=1e-5)


@pytest.mark.parametrize("other", [(5.0, 0.5, "flattened"), (1.0, 0.1, "flattened"), (1.0, 0.5, "pooled")])
def test_the_computation_by_hand_tells_every_setting_apart(other):
    assert apart(by_hand(2, *other)[0][1], by_hand(2, 1.0, 0.5, "flattened")[0][1]) > 1e-4


def test_the_previous_model_is_the_one_before_the_server_s_reply_with_its_statistics():
    after, alone = played(Moon(), 1), played(Local(), 1)
    for client in CLIENTS:
        previous = after.kept[client]["state"]["previous"]
        assert not differing(previous, alone.models[client])
        assert differing(previous, after.models[client]) == ALL


@pytest.mark.parametrize("features", ["flattened", "pooled"])
def test_in_half_precision_vectors_are_compared_in_float32_and_training_goes_on(features):
    toy = setting()
    half = Setting(toy.recipe, Numerics("cpu", "bfloat16"), 0)
    memory = Memory(toy.new_model(), state={"previous": setting(seed=1).new_model().state_dict()})
    client = Client("Bern", 2, "update", cases("Bern", 4), memory, half)
    formats = []

    class Watching(Moon):
        def _vectors(self, maps):
            vectors = super()._vectors(maps)
            formats.append((maps.dtype, vectors.dtype))
            return vectors

    Watching(features=features).client_update(client)
    assert formats == [(torch.bfloat16, torch.float32)] * 3 * 2  # three models, two batches
    start = toy.new_model().state_dict()
    assert differing(start, client.state["previous"]) >= set(PARAMETERS)
    assert all(value.isfinite().all() for value in client.state["previous"].values())


# what travels, what it costs -----------------------------------------------------------------------------------


def test_it_sends_what_fedavg_sends_and_takes_as_many_gradients():
    after = played(Moon())
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))
    task = TaskCard("toy", dict(SIZES), 3, 16, 16, 1, 2)
    assert Moon().extra_gradients(task) == {}
    assert after.logs("gradients") == {(round, c): n for round in (1, 2) for c, n in SIZES}
    assert Moon().unsuitable(task) is None


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"contrast": -1.0}])
def test_what_cannot_be_is_refused(settings):
    with pytest.raises(UsageError, match=rf"moon.{next(iter(settings))} = .* is refused"):
        Moon(**settings)
