"""FedDF against a round of distillation in float64, and in its limits."""

import math

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, SIDE, SIZES, STAGES, STATISTICS, WIDTH, cases, play, played, setting
from test_controls import CLIENTS, assert_same_models, differing, plain

from pflbench import seeds
from pflbench.api import UNet
from pflbench.method import TaskCard
from pflbench.sites import Server
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.feddf import FedDF, bernoulli_kl, teacher
from pflbench_methods.local import Local

PUBLIC = cases("public", 10).images  # more than a teacher looks at at once, and no multiple of it
DATA = {name: cases(name, count) for name, count in SIZES}


def federation(rounds=1, public=PUBLIC, **settings):
    return play(FedDF(**settings), DATA, rounds, public=public)


def double_model(weights):
    """Return a UNet in float64 with the given entries."""
    model = UNet(3, WIDTH).double()
    model.load_state_dict({name: value.double() for name, value in weights.items()}, strict=False)
    return model


def teacher_by_hand(models):
    """Return the mean of the clients' logits, image by image, in float64."""
    total = torch.zeros((len(PUBLIC), 1, SIDE, SIDE), dtype=torch.float64)
    for weights in models.values():
        model = double_model(weights).eval()
        for i, image in enumerate(PUBLIC):
            with torch.no_grad():
                total[i] += model(image[None].double() / 255)[0] / len(models)
    return total


def kl_by_hand(teacher, student):
    """Return the mean over pixels of p log(p / q) + (1 - p) log((1 - p) / (1 - q))."""
    p, q = 1 / (1 + (-teacher).exp()), 1 / (1 + (-student).exp())
    return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()


def mean_by_hand(models):
    return {name: sum(count / 12 * models[c][name].double() for c, count in SIZES) for name in ENTRIES}


def distilled_by_hand(models, steps, batch, rate, decay=5e-4):
    """Return the student after Adam, written out, with cosine decay; and the KL of every step."""
    student, logits = double_model(mean_by_hand(models)).train(), teacher_by_hand(models)
    rng = seeds.generator(0, "server", "update", 1)
    first = {name: torch.zeros_like(value) for name, value in student.named_parameters()}
    second = {name: torch.zeros_like(value) for name, value in student.named_parameters()}
    losses = []
    for step in range(1, steps + 1):
        chosen = torch.randperm(len(PUBLIC), generator=rng)[:batch]
        loss = kl_by_hand(logits[chosen], student(PUBLIC[chosen].double() / 255))
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss, list(student.parameters()))
        now = rate * 0.5 * (1 + math.cos((step - 1) / steps * math.pi))
        for (name, value), gradient in zip(student.named_parameters(), gradients, strict=True):
            slope = gradient + decay * value.detach()
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            size = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
            value.data -= now * first[name] / (1 - 0.9**step) / size
    return student.state_dict(), losses


# the loss ------------------------------------------------------------------------------------------------------


def logits_of(seed, scale=3.0):
    return scale * torch.randn((2, 1, 5, 7), generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_divergence_written_out():
    found = bernoulli_kl(logits_of(0), logits_of(1))
    assert float(found) == pytest.approx(float(kl_by_hand(logits_of(0).double(), logits_of(1).double())), rel=1e-5)
    assert found > 0.1


def test_its_gradient_is_the_difference_of_probabilities():
    target, logits = logits_of(0), logits_of(1).requires_grad_()
    (gradient,) = torch.autograd.grad(bernoulli_kl(target, logits), logits)
    expected = (torch.sigmoid(logits.double()) - torch.sigmoid(target.double())) / logits.numel()
    np.testing.assert_allclose(gradient, expected.detach(), rtol=1e-5, atol=1e-8)


def test_it_is_nothing_between_equals_and_finite_between_opposites():
    assert float(bernoulli_kl(logits_of(0), logits_of(0))) == 0
    sure = torch.full((1, 1, 2, 2), 90.0)
    assert float(bernoulli_kl(sure, -sure)) == pytest.approx(90.0)
    assert bernoulli_kl(logits_of(0).bfloat16(), logits_of(1).bfloat16()).dtype is torch.float32


# the server ----------------------------------------------------------------------------------------------------


def test_the_teacher_is_the_mean_of_all_logits_with_equal_parts_in_evaluation_mode():
    models = {c: {name: played(Local(), 1).models[c][name] for name in ENTRIES} for c in CLIENTS}
    server = Server(1, "update", {c: n / 12 for c, n in SIZES}, {}, setting(), PUBLIC)
    np.testing.assert_allclose(teacher(server, models), teacher_by_hand(models), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [3, 64])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_round_is_distillation_in_float64_statistics_too(steps, batch):
    after = federation(steps=steps, batch=batch, learning_rate=1e-3, statistics="public")
    expected, losses = distilled_by_hand(played(Local(), 1).models, steps, batch, 1e-3)
    mean = mean_by_hand(played(Local(), 1).models)
    for name in ENTRIES:
        moved = (expected[name] - mean[name]).abs().max()
        assert moved > 5e-4  # half a step, or a tenth of the way of a statistic
        # a hundredth of a step; a bias before a normalization has no gradient, and Adam divides rounding by its size
        rounding = 1e-4 if name.endswith(".0.bias") else 1e-5
        np.testing.assert_allclose(after.models["Bern"][name], expected[name], rtol=0, atol=rounding, err_msg=name)
    assert after.logs("distillation_loss")[1, ""] == pytest.approx(sum(losses) / steps, rel=1e-3)


def test_averaged_statistics_are_fedavg_s_and_all_else_is_as_with_public_ones():
    averaged, public = federation(steps=3), federation(steps=3, statistics="public")
    for client in CLIENTS:
        assert differing(averaged.models[client], public.models[client]) & set(ENTRIES) == STATISTICS
        assert not differing(averaged.models[client], played(FedAvg(), 1).models[client]) & STATISTICS


@pytest.mark.parametrize(("round", "expected"), [(1, 1e-3), (2, 5e-4), (4, 1.25e-4)])
def test_the_student_s_rate_falls_from_round_to_round_as_the_recipe_s(round, expected):
    # Adam's first step is as long as its rate, wherever the gradient is not nothing
    models = {c: {name: played(Local(), 1).models[c][name] for name in ENTRIES} for c in CLIENTS}
    server = Server(round, "update", {c: n / 12 for c, n in SIZES}, {}, setting(lr_decay=0.5), PUBLIC)
    sent = FedDF(steps=1, learning_rate=1e-3).server_update(server, models)["Bern"]
    mean = mean_by_hand(models)
    step = max(float((sent[name].double() - mean[name]).abs().max()) for name in set(ENTRIES) - STATISTICS)
    assert step == pytest.approx(expected, rel=1e-2)


def test_without_a_step_it_is_fedavg():
    for statistics in ("averaged", "public"):
        assert_same_models(federation(3, steps=0, statistics=statistics), played(FedAvg(), 3))
    assert federation(1, steps=0).logs("distillation_loss") == {}


def test_it_brings_the_student_nearer_to_its_teachers():
    models = played(Local(), 1).models
    logits = teacher_by_hand(models)

    def apart(weights):
        with torch.no_grad():
            return float(kl_by_hand(logits, double_model(weights).train()(PUBLIC.double() / 255)))

    student = {name: federation(steps=20, learning_rate=1e-3).models["Bern"][name] for name in ENTRIES}
    assert apart(student) < 0.5 * apart(mean_by_hand(models))


def test_everybody_gets_the_student():
    after = federation(2, steps=2)
    for client in CLIENTS[1:]:
        assert differing(after.models["Bern"], after.models[client]) & set(ENTRIES) == set()
    assert FedDF.newcomers


def test_it_learns_from_the_public_images():
    one, other = federation(steps=2), federation(steps=2, public=255 - PUBLIC)
    assert differing(one.models["Bern"], other.models["Bern"]) >= set(ENTRIES) - STATISTICS
    public = [federation(steps=2, public=images, statistics="public") for images in (PUBLIC, 255 - PUBLIC)]
    assert differing(*(after.models["Bern"] for after in public)) >= STATISTICS


@pytest.mark.parametrize(
    "changed", [{"steps": 3}, {"batch": 2}, {"learning_rate": 1e-3}, {"statistics": "public"}], ids=str
)
def test_every_setting_changes_the_model(changed):
    # two rounds: the statistics that are sent change the weights by what teachers make of them in the next
    one, other = federation(2, steps=2), federation(2, **{"steps": 2, **changed})
    kernels = {f"{stage}.0.weight" for stage in STAGES}
    assert differing(one.models["Bern"], other.models["Bern"]) >= STATISTICS | kernels


# what it needs and costs ---------------------------------------------------------------------------------------


def card(public):
    return TaskCard("toy", dict(SIZES), 3, SIDE, SIDE, epochs=1, rounds=2, public=public)


def test_without_public_images_it_says_what_to_give():
    assert FedDF().unsuitable(card(1)) is None
    assert "--public SITE" in FedDF().unsuitable(card(0))


@pytest.mark.parametrize(("batch", "of_a_step"), [(4, 4), (64, 10)])
def test_the_server_s_gradients_are_counted(batch, of_a_step):
    method = FedDF(steps=3, batch=batch)
    counted = play(method, DATA, 2, public=PUBLIC).logs("gradients")
    assert method.extra_gradients(card(10)) == {"": 3 * of_a_step}
    for round in (1, 2):
        assert counted[round, ""] == 3 * of_a_step
        assert {client: counted[round, client] for client in CLIENTS} == dict(SIZES)


def test_all_entries_travel_both_ways():
    after = federation(2, steps=1)
    for round in (1, 2):
        expected = dict.fromkeys(CLIENTS, plain(set(ENTRIES)))  # P + B
        assert after.ledger(round, "up") == after.ledger(round, "down") == expected
