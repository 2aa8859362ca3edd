"""Ditto, APFL and FML: both models of each client recomputed by hand, and the limits in which they are others."""

import math

import numpy as np
import pytest
import torch
from by_hand import half_bce_half_dice
from short_federation import ENTRIES, PARAMETERS, SIZES, STATISTICS, WIDTH, cases, played, setting
from test_controls import ALL, plain
from torch.distributions import Bernoulli, kl_divergence

from pflbench.api import TaskCard, UNet, UsageError
from pflbench.sites import Client, Memory
from pflbench_methods.apfl import APFL
from pflbench_methods.ditto import Ditto
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fml import FML, divergence
from pflbench_methods.local import Local
from pflbench_methods.siobn import SiloBN

CLIENTS = dict(SIZES)
ROUNDS = 2
TOTAL = sum(CLIENTS.values())
METHODS = [Ditto(), APFL(), APFL(adaptation=0.5), FML()]


def evaluated(method, after, client, rounds=ROUNDS):
    """Return the entries of the model that is evaluated, from what the client keeps."""
    toy = setting(rounds)
    memory = Memory(toy.new_model(after.models[client]), state=after.kept[client]["state"])
    seen = Client(client, rounds, "test", cases(client, CLIENTS[client]), memory, toy)
    return method.personal_model(seen).state_dict()


def scores(after):
    """Return all tables of scores, and the losses of training: those of what is evaluated."""
    return repr([after.tables["rounds"], after.tables["cases"]])


def same(one, other):
    assert list(one) == list(other)
    return all(torch.equal(one[name], other[name]) for name in one)


# two rounds by hand --------------------------------------------------------------------------------


class Plain:
    """The network, whose gradients Adam takes up in float64, written out."""

    def __init__(self):
        self.network = UNet(3, WIDTH)
        self.network.load_state_dict(setting().new_model().state_dict())
        self.parameters = dict(self.network.named_parameters())
        self.first = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in self.parameters.items()}
        self.second = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in self.parameters.items()}
        self.steps = 0
        self.losses = {}  # round -> the loss of what was looked at, batch by batch

    def values(self):
        return {name: value.detach().double() for name, value in self.parameters.items()}

    def write(self, values):
        own = self.network.state_dict()
        for name, value in values.items():
            own[name].copy_(value)

    def logits(self, images):
        self.network.train()
        self.seen = self.network(images)
        return self.seen

    def gradients(self, logits, by_logits):
        """Return the gradient of every parameter from that of the logits."""
        found = torch.autograd.grad(logits, list(self.parameters.values()), by_logits.float())
        return {name: gradient.double() for name, gradient in zip(self.parameters, found, strict=True)}

    @torch.no_grad()
    def step(self, gradients, round):
        self.steps += 1
        for name, value in self.parameters.items():
            gradient = gradients[name] + 5e-4 * value.double()
            self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
            self.second[name] = 0.999 * self.second[name] + 0.001 * gradient**2
            mean, square = self.first[name] / (1 - 0.9**self.steps), self.second[name] / (1 - 0.999**self.steps)
            value -= 1e-3 * 0.99 ** (round - 1) * mean / (square.sqrt() + 1e-8)


def by_logits(logits, masks):
    """Return the derivative of 0.5 BCE + 0.5 Dice loss by every logit, derived by hand."""
    p = logits.detach().double().sigmoid()
    entropy = (p - masks) / masks.numel()
    total = (p + masks).sum(dim=(1, 2, 3), keepdim=True) + 1e-6
    overlap = 2 * (p * masks).sum(dim=(1, 2, 3), keepdim=True) + 1e-6
    dice = -(2 * masks / total - overlap / total**2) * p * (1 - p) / len(masks)
    return 0.5 * entropy + 0.5 * dice


def by_hand(take, rounds=ROUNDS):
    """Return each client's companion and shared model; ``take(W, v, received, images, masks)`` gives both gradients."""
    shared, own = {c: Plain() for c in CLIENTS}, {c: Plain() for c in CLIENTS}
    for round in range(1, rounds + 1):
        for c, count in CLIENTS.items():
            received = shared[c].values()
            client = Client(c, round, "update", cases(c, count), Memory(setting().new_model()), setting())
            for images, masks in client.batches():
                by_shared, by_own = take(shared[c], own[c], received, images, masks)
                loss = half_bce_half_dice(own[c].seen.detach().double(), masks)
                own[c].losses.setdefault(round, []).append(loss.item())
                shared[c].step(by_shared, round)
                own[c].step(by_own, round)
        sent = {c: {n: v.double() for n, v in shared[c].network.state_dict().items()} for c in CLIENTS}
        mean = {name: sum(CLIENTS[c] / TOTAL * sent[c][name] for c in CLIENTS) for name in ENTRIES}
        for model in shared.values():
            model.write(mean)
    return own, shared


def task_gradients(model, images, masks):
    logits = model.logits(images)
    return model.gradients(logits, by_logits(logits, masks))


def assert_close(found, expected):
    """Compare how far every entry has moved; an element alone may be off where Adam divides by almost nothing."""
    initial = setting().new_model().state_dict()
    for name in ENTRIES:
        off = (found[name].double() - expected[name].double()).norm()
        # batch norm takes the bias before it out again: its gradient is rounding and weight decay, blown up by Adam
        allowed = 2e-2 if name.endswith(".0.bias") else 1e-3
        assert off <= allowed * (expected[name].double() - initial[name].double()).norm(), name


def assert_reported(after, own):
    """Compare the reported losses of training with those of what is evaluated, mixture or companion."""
    reported = {(row[0], row[1]): row[4] for row in after.tables["rounds"] if row[2] == "train"}
    assert len(reported) == ROUNDS * len(CLIENTS)
    for (round, client), value in reported.items():
        assert value == pytest.approx(np.mean(own[client].losses[round]), rel=1e-4)


def test_the_derivative_by_hand_is_that_of_the_loss():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 1, 4, 4), generator=rng, dtype=torch.float64, requires_grad=True)
    masks = (torch.rand((2, 1, 4, 4), generator=rng) < 0.4).double()
    p = logits.sigmoid()
    entropy = -(masks * p.log() + (1 - masks) * (1 - p).log()).mean()
    overlap, total = (2 * p * masks).sum(dim=(1, 2, 3)) + 1e-6, (p + masks).sum(dim=(1, 2, 3)) + 1e-6
    (found,) = torch.autograd.grad(0.5 * entropy + 0.5 * (1 - overlap / total).mean(), logits)
    np.testing.assert_allclose(by_logits(logits, masks), found, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("proximity", [0.3, 1.0])
def test_ditto_is_pulled_towards_what_was_received(proximity):
    def take(shared, own, received, images, masks):
        pulled = task_gradients(own, images, masks)
        for name, value in own.values().items():
            pulled[name] = pulled[name] + proximity * (value - received[name])
        return task_gradients(shared, images, masks), pulled

    own, shared = by_hand(take)
    method = Ditto(proximity=proximity)
    after = played(method)
    assert_reported(after, own)
    for client in CLIENTS:
        assert_close(evaluated(method, after, client), own[client].network.state_dict())
        assert_close(after.models[client], shared[client].network.state_dict())


@pytest.mark.parametrize("statistics", ["mixed", "kept"])
@pytest.mark.parametrize(("share", "adaptation"), [(0.5, 0.0), (0.25, 0.0), (0.6, 0.5)])
def test_apfl_trains_its_own_model_on_the_loss_of_the_mixture(share, adaptation, statistics):
    shares = {}

    def take(shared, own, received, images, masks):
        alpha = shares.setdefault(own, share)
        before, constant = own.values(), shared.values()
        own.write({name: alpha * before[name] + (1 - alpha) * constant[name] for name in before})
        mixture = task_gradients(own, images, masks)  # at the mixture, and its statistics go into those beside v
        own.write(before)
        slope = sum(((before[name] - constant[name]) * mixture[name]).sum().item() for name in before)
        shares[own] = min(1.0, max(0.0, alpha - adaptation * slope))
        return task_gradients(shared, images, masks), {name: alpha * value for name, value in mixture.items()}

    own, shared = by_hand(take)
    method = APFL(own_share=share, adaptation=adaptation, statistics=statistics)
    after = played(method)
    assert_reported(after, own)
    for client in CLIENTS:
        alpha = shares[own[client]]
        v, w = own[client].network.state_dict(), shared[client].network.state_dict()
        expected = {name: alpha * v[name] + (1 - alpha) * w[name] for name in ENTRIES}
        if statistics == "kept":
            expected |= {name: v[name] for name in STATISTICS}
        assert_close(evaluated(method, after, client), expected)
        if adaptation:
            assert abs(alpha - share) > 1e-4  # it has moved, and each client's its own way
            assert after.logs("own_share")[ROUNDS, client] == pytest.approx(alpha, abs=1e-6)
    assert bool(after.logs("own_share")) == bool(adaptation)


@pytest.mark.parametrize(("private", "meme"), [(0.5, 0.5), (0.2, 0.9)])
def test_fml_learns_from_the_other_s_predictions_as_they_are(private, meme):
    def take(shared, own, received, images, masks):
        w, v = shared.logits(images), own.logits(images)
        q, p = w.detach().double().sigmoid(), v.detach().double().sigmoid()
        # the derivative of KL(q || sigmoid(s)) by s is sigmoid(s) - q
        by_w = meme * by_logits(w, masks) + (1 - meme) * (q - p) / p.numel()
        by_v = private * by_logits(v, masks) + (1 - private) * (p - q) / p.numel()
        return shared.gradients(w, by_w), own.gradients(v, by_v)

    own, shared = by_hand(take)
    method = FML(private_weight=private, meme_weight=meme)
    after = played(method)
    assert_reported(after, own)
    for client in CLIENTS:
        assert_close(evaluated(method, after, client), own[client].network.state_dict())
        assert_close(after.models[client], shared[client].network.state_dict())


# the divergence of FML -----------------------------------------------------------------------------------------


def logits(seed, spread=3.0):
    return spread * torch.randn((3, 1, 5, 7), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_divergence_is_that_of_bernoulli_distributions_averaged_over_pixels():
    teacher, student = logits(0), logits(1)
    expected = kl_divergence(Bernoulli(logits=teacher), Bernoulli(logits=student))
    assert expected.shape == teacher.shape
    assert divergence(teacher, student).item() == pytest.approx(expected.mean().item(), rel=1e-12)
    assert divergence(teacher, student).item() != pytest.approx(divergence(student, teacher).item(), rel=1e-3)


def test_the_divergence_from_the_same_predictions_is_none():
    assert divergence(logits(0), logits(0)).item() == 0


def test_the_divergence_of_models_that_are_sure_is_finite():
    student = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    teacher = torch.tensor([-200.0, 200.0, 200.0, -200.0])
    value = divergence(teacher, student)
    value.backward()
    assert value.item() == pytest.approx(100)  # two of four pixels disagree by 200 nats
    assert student.grad.tolist() == pytest.approx([0.25, -0.25, 0, 0])


# limits --------------------------------------------------------------------------------------------------------

ALONE = [Ditto(proximity=0), APFL(own_share=1), APFL(own_share=1, statistics="mixed"), FML(private_weight=1)]


@pytest.mark.parametrize("method", ALONE)
@pytest.mark.parametrize("rounds", [1, 3])
def test_without_the_other_s_influence_the_evaluated_model_is_training_alone(method, rounds):
    after, alone = played(method, rounds), played(Local(), rounds)
    for client in CLIENTS:
        assert same(evaluated(method, after, client, rounds), alone.models[client])
    assert scores(after) == scores(alone)


@pytest.mark.parametrize(
    "method", [Ditto(proximity=0), Ditto(), Ditto(proximity=30), APFL(), APFL(adaptation=0.5), FML(meme_weight=1)]
)
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_shared_model_is_fedavg_s(method, rounds):
    after, averaged = played(method, rounds), played(FedAvg(), rounds)
    for client in CLIENTS:
        assert same(after.models[client], averaged.models[client])


def test_a_meme_that_is_taught_is_another_than_fedavg_s():
    for client in CLIENTS:
        assert not same(played(FML()).models[client], played(FedAvg()).models[client])


@pytest.mark.parametrize(("statistics", "limit"), [("mixed", FedAvg()), ("kept", SiloBN())])
@pytest.mark.parametrize("rounds", [1, 3])
def test_apfl_with_nothing_of_its_own_is_fedavg_or_with_its_own_statistics_silobn(statistics, limit, rounds):
    method = APFL(own_share=0, statistics=statistics)
    after, averaged = played(method, rounds), played(limit, rounds)
    for client in CLIENTS:
        assert same(evaluated(method, after, client, rounds), averaged.models[client])
    assert scores(after) == scores(averaged)


def test_a_strong_pull_keeps_ditto_near_what_was_received():
    def distance(method):
        before, after = played(FedAvg(), 1), played(method, 2)
        squares = [
            (evaluated(method, after, c)[name] - before.models[c][name]).square().sum().item()
            for c in CLIENTS
            for name in PARAMETERS
        ]
        return math.fsum(squares)

    assert distance(Ditto(proximity=100)) < 0.5 * distance(Ditto(proximity=0))


def test_the_own_share_never_leaves_its_bounds():
    leaps = played(APFL(own_share=0.5, adaptation=1e6), 3).logs("own_share")
    assert len(leaps) == 3 * len(CLIENTS)
    assert set(leaps.values()) <= {0.0, 1.0}


@pytest.mark.parametrize("method", [Ditto(), APFL()])
def test_in_a_federation_of_one_the_shared_model_is_training_alone(method):
    alone = (("Bern", 5),)
    assert same(played(method, 2, alone).models["Bern"], played(Local(), 2, alone).models["Bern"])


# what differs between clients, travels and costs ---------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_client_evaluates_its_own_model_and_shares_one(method):
    after = played(method)
    found = {client: evaluated(method, after, client) for client in CLIENTS}
    for one, other in [("Bern", "Lyon"), ("Lyon", "Oslo"), ("Bern", "Oslo")]:
        assert {n for n in ENTRIES if not torch.equal(found[one][n], found[other][n])} == set(ENTRIES)
        assert all(torch.equal(after.models[one][n], after.models[other][n]) for n in ENTRIES)


@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_those_of_fedavg(method):
    after = played(method)
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}


@pytest.mark.parametrize("method", METHODS)
def test_gradients_counted_are_those_announced(method):
    card = TaskCard("toy", CLIENTS, channels=3, height=16, width=16, epochs=1, rounds=ROUNDS)
    counted = played(method).logs("gradients")
    for client, images in CLIENTS.items():
        extra = method.extra_gradients(card)[client]
        assert extra == images
        assert {counted[round, client] for round in (1, 2)} == {images + extra}


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        (Ditto(), Ditto(proximity=0.1)),
        (APFL(), APFL(own_share=0.75)),
        (APFL(), APFL(adaptation=0.1)),
        (APFL(), APFL(statistics="mixed")),
        (FML(), FML(private_weight=0.75)),
        (FML(), FML(meme_weight=0.75)),
    ],
)
def test_every_setting_changes_what_is_evaluated(method, changed):
    for client in CLIENTS:
        one, other = evaluated(method, played(method), client), evaluated(changed, played(changed), client)
        assert not same(one, other)


@pytest.mark.parametrize(
    ("cls", "setting", "value"),
    [
        (Ditto, "proximity", -0.1),
        (Ditto, "proximity", math.inf),
        (APFL, "own_share", 1.1),
        (APFL, "adaptation", -1),
        (APFL, "statistics", "averaged"),
        (FML, "private_weight", -0.1),
        (FML, "meme_weight", 1.1),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(cls, setting, value):
    with pytest.raises(UsageError, match=rf"{cls.name}\.{setting}"):
        cls(**{setting: value})
