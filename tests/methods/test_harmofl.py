"""HarmoFL: amplitudes against shifted brightness and textbook spectra, perturbation against steps taken by hand."""

import numpy as np
import pytest
import torch
from one_hospital import assert_same_gradients, hospital, in_double, initial_model, same_batches, taken
from short_federation import SIDE, SIZES, STATISTICS, cases, played
from test_controls import ALL, CLIENTS, ONE, assert_same_models, described, differing, entry_bytes, plain, with_header
from test_spectral import fda

from pflbench.method import TaskCard
from pflbench.testing import toy_federation
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.harmofl import HarmoFL, harmonized
from pflbench_methods.local import Local

CARD = TaskCard("toy", dict(SIZES), 3, SIDE, SIDE, epochs=1, rounds=2)
PIXELS = SIDE * SIDE


def mean_brightness(images):
    """Return the mean of each channel of the images, in [0, 1], summed exactly in integers."""
    return images.long().sum((0, 2, 3)).double() / (255 * len(images) * PIXELS)


ALL_IMAGES = torch.cat([cases(name, count).images for name, count in SIZES])


# limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_without_both_halves_it_is_fedavg(seed):
    assert_same_models(played(HarmoFL(normalize=False, perturbation=0), 3, seed=seed), played(FedAvg(), 3, seed=seed))


def test_with_an_invisible_perturbation_it_is_fedavg_statistics_included():
    # two passes, the second at weights that differ by less than any digit shows
    after = played(HarmoFL(normalize=False, perturbation=1e-30), 3)
    assert_same_models(after, played(FedAvg(), 3))
    assert set(after.logs("gradients").values()) == {2.0 * count for _, count in SIZES}


def test_alone_without_both_halves_it_is_training_alone():
    assert_same_models(played(HarmoFL(normalize=False, perturbation=0), 2, ONE), played(Local(), 2, ONE))


@pytest.mark.parametrize(
    "method",
    [
        HarmoFL(),
        HarmoFL(normalize=False),
        HarmoFL(perturbation=0),
        HarmoFL(beta=0.13),
        HarmoFL(perturbation=0.5),
    ],
)
def test_every_setting_changes_what_is_learnt(method):
    others = [FedAvg(), HarmoFL(), HarmoFL(normalize=False), HarmoFL(perturbation=0)]
    for other in others:
        if other != method:
            assert differing(played(method).models["Bern"], played(other).models["Bern"])


# amplitudes ----------------------------------------------------------------------------------------------------


def test_the_window_is_the_mean_brightness_of_all_training_images_together():
    after = played(HarmoFL())
    for client in CLIENTS:
        kept = after.kept[client]
        expected = mean_brightness(ALL_IMAGES) * PIXELS
        for window in (kept["state"]["window"], kept["briefing"]["window"]):
            np.testing.assert_allclose(window.flatten().double(), expected, rtol=1e-6)


def test_a_wider_window_is_the_mean_of_the_images_amplitudes():
    window = played(HarmoFL(beta=0.13), 1).kept["Lyon"]["state"]["window"]
    amplitude = np.abs(np.fft.fft2(ALL_IMAGES.double().numpy() / 255)).mean(0)
    for row in range(-2, 3):
        for column in range(-2, 3):
            np.testing.assert_allclose(window[:, row + 2, column + 2], amplitude[:, row, column], rtol=1e-5)


def test_with_beta_zero_images_are_shifted_to_one_brightness_and_not_clipped():
    images = cases("Bern", 5).images.double() / 255
    target = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    changed = harmonized(images, (target * PIXELS).view(3, 1, 1))
    by_hand = images - images.mean((2, 3), keepdim=True) + target.view(3, 1, 1)
    np.testing.assert_allclose(changed, by_hand, rtol=0, atol=1e-12)
    assert changed.max() > 1
    assert changed.min() < 0


@pytest.mark.parametrize("b", [0, 1, 3])
def test_amplitudes_are_replaced_and_phases_kept(b):
    images = cases("Oslo", 4).images.double() / 255
    window = torch.rand(3, 2 * b + 1, 2 * b + 1, generator=torch.Generator().manual_seed(0)).double() * 40
    window = (window + window.flip(1, 2)) / 2  # that of a real image is symmetric
    expected = fda(images.numpy(), window.expand(4, *window.shape).numpy())
    np.testing.assert_allclose(harmonized(images, window), expected, rtol=0, atol=1e-12)


def test_evaluation_shifts_the_brightness_of_every_image():
    after = played(HarmoFL())
    client = hospital(model=initial_model(), stage="val")
    client.model.load_state_dict(after.models["Bern"])
    client.state.update(after.kept["Bern"]["state"])
    model, images = HarmoFL().personal_model(client).eval(), cases("Bern", 3, "test").images.float() / 255
    shift = mean_brightness(ALL_IMAGES).view(3, 1, 1) - images.mean((2, 3), keepdim=True)
    expected = client.model.eval()((images + shift).float())
    found, raw = model(images), client.model(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(found, raw, rtol=0, atol=1e-3)


def test_without_normalization_nothing_is_asked_before_the_first_round_and_images_stay():
    after = played(HarmoFL(normalize=False))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}
    assert all(not kept["state"] for kept in after.kept.values())
    client = hospital(stage="val")
    assert HarmoFL(normalize=False).personal_model(client) is client.model


def test_a_hospital_that_never_trains_gets_the_amplitudes_with_the_weights():
    toy = toy_federation(HarmoFL(), guests=("west",)).play()
    guest, other = toy.sites["west"].kept(), toy.sites["north"].kept()
    assert not guest["briefing"]
    assert torch.equal(guest["state"]["window"], other["state"]["window"])
    assert not differing(guest["model"], other["model"]) - {n for n in guest["model"] if "num_batches" in n}
    assert {row[2] for row in toy.federation.progress.tables["cases"]} == {"north", "south", "west"}


# perturbation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("normalize", "length"), [(False, 0.05), (False, 2.0), (True, 0.05), (True, 2.0)])
def test_a_step_takes_the_gradient_at_the_top_of_a_step_uphill(normalize, length):
    window = torch.tensor([150.0, 100.0, 50.0]).view(3, 1, 1)
    client = hospital(briefing={"window": window} if normalize else {})
    model = in_double(client.model)
    HarmoFL(normalize=normalize, perturbation=length).client_update(client)

    [(images, masks)] = same_batches()
    if normalize:
        images = images - images.mean((2, 3), keepdim=True) + window.double() / PIXELS
    client.loss(model(images), masks).backward()
    norm = sum(float((p.grad**2).sum()) for p in model.parameters()) ** 0.5
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += length / norm * parameter.grad
            parameter.grad = None
    client.loss(model(images), masks).backward()
    assert_same_gradients(taken(client.model), taken(model))


def test_without_a_step_uphill_a_step_takes_the_gradient_where_it_is():
    client = hospital()
    model = in_double(client.model)
    HarmoFL(normalize=False, perturbation=0).client_update(client)
    [(images, masks)] = same_batches()
    client.loss(model(images), masks).backward()
    assert_same_gradients(taken(client.model), taken(model))
    uphill = hospital()
    HarmoFL(normalize=False, perturbation=0.05).client_update(uphill)
    with pytest.raises(AssertionError):  # the comparison tells them apart
        assert_same_gradients(taken(uphill.model), taken(model))


def test_running_statistics_and_counters_are_those_of_the_first_pass():
    one_batch = (("Bern", 2),)
    far, near = played(HarmoFL(normalize=False, perturbation=5.0), 1, one_batch), played(FedAvg(), 1, one_batch)
    apart = differing(far.models["Bern"], near.models["Bern"])
    assert apart
    assert not apart & STATISTICS
    assert not {name for name in apart if "num_batches" in name}


# what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "passes"), [(HarmoFL(), 2), (HarmoFL(perturbation=0), 1)])
def test_it_takes_two_gradients_where_it_perturbs(method, passes):
    after = played(method)
    counted = {(round, client): float(passes * count) for round in (1, 2) for client, count in SIZES}
    assert after.logs("gradients") == counted
    assert method.extra_gradients(CARD) == {client: (passes - 1) * count for client, count in SIZES}


def test_it_sends_one_window_up_once_and_one_down_with_every_round():
    after = played(HarmoFL(beta=0.13))
    window = {"window": ["float32", [3, 5, 5]]}
    assert after.ledger(0, "up") == after.ledger(0, "down") == dict.fromkeys(CLIENTS, with_header(window, 4 * 75))
    for round in (1, 2):
        assert after.ledger(round, "up") == dict.fromkeys(CLIENTS, plain(ALL))
        down = with_header({"weights": described(ALL), **window}, entry_bytes(ALL) + 4 * 75)
        assert after.ledger(round, "down") == dict.fromkeys(CLIENTS, down)


def test_a_client_alone_may_use_it():
    assert HarmoFL().unsuitable(CARD) is None
    assert differing(played(HarmoFL(), 1, ONE).models["Bern"], played(Local(), 1, ONE).models["Bern"])
