"""FedDG: styles against textbook spectra, episodes against two models in float64, the contrast against loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from one_hospital import Recorder, assert_same_gradients, hospital, in_double, same_batches, taken
from scipy import ndimage
from short_federation import SIDE, SIZES, STATISTICS, cases, play, played
from test_controls import ALL, CLIENTS, ONE, assert_same_models, differing, plain, with_header
from test_spectral import fda, windows_by_hand

from pflbench.method import TaskCard
from pflbench.sites import TrainingData
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.feddg import FedDG, bands, boundary_contrast, drawn_windows, normalized_cross_entropy
from pflbench_methods.spectral import windows_of_others

CARD = TaskCard("toy", dict(SIZES), 3, SIDE, SIDE, epochs=1, rounds=2)


# limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_without_outer_loss_and_contrast_it_is_fedavg(seed):
    assert_same_models(played(FedDG(outer=0, contrast=0), 3, seed=seed), played(FedAvg(), 3, seed=seed))


def test_with_invisible_outer_loss_and_contrast_it_is_fedavg_statistics_included():
    after = played(FedDG(outer=1e-30, contrast=1e-30), 3)
    assert_same_models(after, played(FedAvg(), 3))
    assert set(after.logs("gradients").values()) == {3.0 * count for _, count in SIZES}


@pytest.mark.parametrize(
    "changed",
    [
        {"beta": 0.13},
        {"interpolation": "swap"},
        {"inner_step": 0.5},
        {"inner_step": 0.5, "inner_clip": 1e-4},
        {"outer": 0.5},
        {"contrast": 0},
        {"temperature": 0.5},
        {"edge": 2},
        {"surroundings": 1},
    ],
)
def test_every_setting_changes_what_is_learnt(changed):
    without_last = dict(list(changed.items())[:-1])
    for client in CLIENTS:
        assert differing(played(FedDG(**changed)).models[client], played(FedDG(**without_last)).models[client])


def test_alone_there_is_nobody_to_take_styles_from():
    assert FedDG().unsuitable(CARD) is None
    alone = FedDG().unsuitable(TaskCard("toy", dict(ONE), 3, SIDE, SIDE, epochs=1, rounds=2))
    assert alone.startswith("there is no other client")


# styles --------------------------------------------------------------------------------------------------------


def test_everybody_gets_the_windows_of_all_others():
    inbox = {name: {"windows": torch.full((count, 3, 1, 1), float(count))} for name, count in SIZES}
    passed = windows_of_others(inbox)
    assert {client: list(others) for client, others in passed.items()} == {
        "Bern": ["Lyon", "Oslo"],
        "Lyon": ["Bern", "Oslo"],
        "Oslo": ["Bern", "Lyon"],
    }
    assert all(windows is inbox[other]["windows"] for others in passed.values() for other, windows in others.items())


def test_a_style_is_that_of_a_random_client_then_of_a_random_image_of_it():
    few, many = torch.zeros(1, 3, 1, 1), torch.arange(1.0, 10.0).view(9, 1, 1, 1).expand(9, 3, 1, 1)
    drawn = drawn_windows({"few": few, "many": many}, 900, torch.Generator().manual_seed(0))[:, 0, 0, 0]
    counts = torch.bincount(drawn.long(), minlength=10).tolist()
    assert 400 <= counts[0] <= 500  # half, though it has a tenth of the images
    assert all(25 <= count <= 80 for count in counts[1:]), counts


def seen_in_training(method, windows, count=40):
    """Return raw and restyled images of one round, of a model that only looks, on images far from black and white."""
    model = Recorder()
    client = hospital(count, briefing=windows, model=model)
    client._data.images.copy_(client._data.images // 4 + 96)
    method.client_update(client)
    return torch.cat(model.seen[0::2]).double(), torch.cat(model.seen[1::2]).double()


def symmetric_windows(count, b, seed):
    """Return windows near those of the images of ``seen_in_training``, as symmetric as those of real images."""
    images = np.random.default_rng(seed).uniform(0.3, 0.7, (count, 3, SIDE, SIDE))
    return torch.from_numpy(windows_by_hand(images, b)).float()


@pytest.mark.parametrize("b", [0, 1])
def test_a_swap_takes_all_of_the_other_s_amplitudes(b):
    others = {"Lyon": symmetric_windows(2, b, 1), "Oslo": symmetric_windows(3, b, 2)}
    raw, restyled = seen_in_training(FedDG(interpolation="swap", beta=b / SIDE), others)
    candidates = torch.cat(list(others.values())).double().numpy()
    chosen = []
    for image, found in zip(raw.numpy(), restyled.numpy(), strict=True):
        expected = fda(np.repeat(image[None], 5, axis=0), candidates)
        [which] = [i for i in range(5) if np.allclose(found, expected[i], rtol=0, atol=1e-5)]
        chosen.append(which)
    assert set(chosen) == set(range(5))


@pytest.mark.parametrize("b", [0, 1])
def test_an_interpolation_goes_a_random_part_of_the_way_for_each_image(b):
    window = symmetric_windows(1, b, 1)
    raw, restyled = seen_in_training(FedDG(beta=b / SIDE), {"Lyon": window})
    own, found = windows_by_hand(raw.numpy(), b), windows_by_hand(restyled.numpy(), b)
    way = window.double().numpy() - own
    shares = (found - own)[:, 0, b, b] / way[:, 0, b, b]
    np.testing.assert_allclose(found, own + shares[:, None, None, None] * way, rtol=0, atol=2e-4)
    np.testing.assert_allclose(restyled, fda(raw.numpy(), found), rtol=0, atol=1e-5)  # phases and all else kept
    assert shares.min() > -0.01
    assert shares.max() < 1.01
    assert np.abs(shares[0::2] - shares[1::2]).min() > 1e-3  # also within a batch
    assert np.histogram(shares, bins=4, range=(0, 1))[0].min() >= 4  # 10 expected in each quarter


def test_what_is_restyled_is_clipped_to_the_range_of_images():
    model = Recorder()
    client = hospital(20, briefing={"Lyon": torch.full((1, 3, 1, 1), 0.9 * SIDE * SIDE)}, model=model)
    FedDG(interpolation="swap").client_update(client)
    brightest = max(float(images.max()) for images in model.seen[1::2])
    assert brightest == 1.0


# the contrast --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), density=st.sampled_from([0.02, 0.5, 0.97]), edge=st.integers(1, 2))
def test_bands_are_those_of_binary_morphology(seed, density, edge):
    masks = np.random.default_rng(seed).random((2, 1, 12, 17)) < density
    inside, outside = bands(torch.from_numpy(masks).float(), edge, 5)
    for i, mask in enumerate(masks[:, 0]):
        eroded = ndimage.binary_erosion(mask, iterations=edge, border_value=1)  # an image's border is no boundary
        dilated = ndimage.binary_dilation(mask, iterations=5)
        np.testing.assert_array_equal(inside[i, 0], mask & ~eroded)
        np.testing.assert_array_equal(outside[i, 0], dilated & ~mask)


def by_loops(similarity, kind, usable):
    """Return the mean over pairs of -log e^s / (e^s + sum of e^(negatives)), with the definition's exponentials."""
    terms = []
    for a in range(len(kind)):
        negatives = [
            math.exp(similarity[a][n]) for n in range(len(kind)) if kind[n] != kind[a] and usable[a] and usable[n]
        ]
        for p in range(len(kind)):
            if p != a and kind[p] == kind[a] and usable[a] and usable[p]:
                pair = math.exp(similarity[a][p])
                terms.append(-math.log(pair / (pair + math.fsum(negatives))))
    return math.fsum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("usable", [[1] * 8, [1, 0, 1, 1] * 2, [0, 0, 1, 0] * 2, [0] * 8])
def test_the_contrast_is_the_mean_over_pairs_of_one_kind(usable):
    rng = np.random.default_rng(0)
    similarity, kind = rng.uniform(-5, 20, (8, 8)), [1] * 4 + [0] * 4
    values = torch.tensor(similarity, requires_grad=True)
    found = normalized_cross_entropy(values, torch.tensor(kind, dtype=torch.bool), torch.tensor(usable).bool())
    assert found.item() == pytest.approx(by_loops(similarity, kind, usable), rel=1e-9, abs=1e-12)
    found.backward()
    assert values.grad.isfinite().all()


def contrast_by_loops(maps, masks, temperature, edge=1, surroundings=5):
    """Return the contrast in float64 from the definitions: bands by scipy, means and cosines one by one."""
    means, kinds, usable = [], [], []
    for kind in (1, 0):
        for features in maps:
            for image, mask in zip(np.asarray(features, dtype=float), np.asarray(masks)[:, 0] > 0, strict=True):
                inside = mask & ~ndimage.binary_erosion(mask, iterations=edge, border_value=1)
                outside = ndimage.binary_dilation(mask, iterations=surroundings) & ~mask
                band = inside if kind else outside
                means.append(image[:, band].mean(1) if band.any() else np.zeros(len(image)))
                kinds.append(kind)
                usable.append(inside.any() and outside.any())
    unit = [mean / max(np.linalg.norm(mean), 1e-12) for mean in means]
    return by_loops([[one @ other / temperature for other in unit] for one in unit], kinds, usable)


def test_the_contrast_compares_mean_features_of_bands_in_both_maps():
    rng = torch.Generator().manual_seed(0)
    maps = tuple(torch.rand(3, 6, SIDE, SIDE, generator=rng) for _ in range(2))
    masks = cases("Bern", 3).masks.float()
    masks[1] = 0  # an image without a boundary is left out
    masks[0, :, :, 8:] = 0
    found = boundary_contrast(maps, *bands(masks, 1, 5), 0.05)
    assert float(found) == pytest.approx(contrast_by_loops(maps, masks, 0.05), rel=1e-4)


def test_the_contrast_vanishes_where_boundaries_are_told_from_their_surroundings_in_every_style():
    masks = cases("Bern", 3).masks.float()
    edge, around = bands(masks, 1, 5)
    apart = torch.cat([edge, around], dim=1)
    assert float(boundary_contrast((apart, 3 * apart), edge, around, 0.05)) < 1e-6
    alike = torch.ones_like(apart)
    assert float(boundary_contrast((alike, alike), edge, around, 0.05)) == pytest.approx(math.log(7))  # 1 + 6 others


def test_images_without_a_mask_are_learnt_too():
    empty = cases("Oslo", 3)
    data = {"Bern": cases("Bern", 3), "Oslo": TrainingData(empty.images, torch.zeros_like(empty.masks))}
    for kept in play(FedDG(), data, rounds=1).models.values():
        assert all(value.isfinite().all() for value in kept.values())


# an episode ----------------------------------------------------------------------------------------------------


class Traced(torch.nn.Module):
    """The features and logits of a model, written out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        features = self.model.features(images)
        return features, self.model.final(features)


@pytest.mark.parametrize(
    "method",
    [
        FedDG(interpolation="swap", beta=0),
        FedDG(interpolation="swap", beta=0, inner_step=2.0),
        FedDG(interpolation="swap", beta=0, inner_step=20.0, inner_clip=0.002),
        FedDG(interpolation="swap", beta=0, outer=0.3, contrast=2.0, temperature=0.5, surroundings=2),
        FedDG(interpolation="swap", beta=0, contrast=0),
        FedDG(interpolation="swap", beta=0, outer=0),
    ],
)
def test_an_episode_takes_the_gradients_of_two_models_one_inner_step_apart(method):
    target = torch.tensor([0.5, 0.4, 0.3])
    client = hospital(briefing={"Oslo": (target * SIDE * SIDE).view(1, 3, 1, 1)})
    start, fast = in_double(client.model), in_double(client.model)
    method.client_update(client)

    [(images, masks)] = same_batches()
    client.loss(start(images), masks).backward()
    with torch.no_grad():
        for moved, parameter in zip(fast.parameters(), start.parameters(), strict=True):
            moved -= method.inner_step * parameter.grad.clip(-method.inner_clip, method.inner_clip)
            parameter.grad = None
    restyled = (images - images.mean((2, 3), keepdim=True) + target.double().view(3, 1, 1)).clip(0, 1)
    (raw_map, raw_logits), (other_map, other_logits) = Traced(start)(images), Traced(fast)(restyled)
    loss = client.loss(raw_logits, masks) + method.outer * client.loss(other_logits, masks)
    contrast = written_out_contrast(raw_map, other_map, masks, method)
    (loss + method.contrast * contrast).backward()
    expected, of_fast = taken(start), taken(fast)
    assert_same_gradients(taken(client.model), {name: expected[name] + of_fast[name] for name in expected})


def test_the_reported_loss_is_that_of_raw_images_as_fedavg_s():
    # one batch: the loss at the common initial weights
    other, plainly = hospital(briefing={"Oslo": torch.full((1, 3, 1, 1), 90.0)}, name="Bern"), hospital()
    FedDG(beta=0).client_update(other)
    FedAvg().client_update(plainly)
    assert other.losses == plainly.losses


def written_out_contrast(raw, other, masks, method):
    """Return the contrast in float64 for autograd, from scipy's bands and a loop over pairs."""
    means = {True: [], False: []}
    for i, mask in enumerate(masks[:, 0].numpy() > 0):
        inside = mask & ~ndimage.binary_erosion(mask, iterations=method.edge, border_value=1)
        outside = ndimage.binary_dilation(mask, iterations=method.surroundings) & ~mask
        for features in (raw[i], other[i]):
            means[True].append(features[:, torch.from_numpy(inside)].mean(1))
            means[False].append(features[:, torch.from_numpy(outside)].mean(1))
    terms = []
    for kind in (True, False):
        for a, one in enumerate(means[kind]):
            negatives = sum(likeness(one, n, method.temperature) for n in means[not kind])
            for p, two in enumerate(means[kind]):
                if p != a:
                    pair = likeness(one, two, method.temperature)
                    terms.append(-torch.log(pair / (pair + negatives)))
    return sum(terms) / len(terms)


def likeness(one, other, temperature):
    return torch.exp(one @ other / (one.norm() * other.norm()) / temperature)


def test_running_statistics_and_counters_are_those_of_raw_images():
    data = {"Bern": cases("Bern", 2), "Oslo": cases("Oslo", 2)}
    episodes, plainly = play(FedDG(inner_step=1.0), data, rounds=1), play(FedAvg(), data, rounds=1)
    apart = differing(episodes.models["Bern"], plainly.models["Bern"])
    assert apart
    assert not apart & STATISTICS
    assert not {name for name in apart if "num_batches" in name}


# what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "passes"),
    [(FedDG(), 3), (FedDG(contrast=0), 3), (FedDG(outer=0), 3), (FedDG(outer=0, contrast=0), 1)],
)
def test_it_takes_three_gradients_of_each_image(method, passes):
    after = played(method, 1)
    assert after.logs("gradients") == {(1, client): float(passes * count) for client, count in SIZES}
    assert method.extra_gradients(CARD) == {client: (passes - 1) * count for client, count in SIZES}


def test_it_sends_windows_once_and_then_as_fedavg():
    after = played(FedDG(beta=0.13))  # b = 2: 5 x 5 amplitudes per channel
    shapes = {client: ["float32", [count, 3, 5, 5]] for client, count in SIZES}
    assert after.ledger(0, "up") == {
        client: with_header({"windows": shapes[client]}, 4 * 75 * count) for client, count in SIZES
    }
    others = {client: {other: shape for other, shape in shapes.items() if other != client} for client in CLIENTS}
    assert after.ledger(0, "down") == {
        client: with_header(others[client], 4 * 75 * (12 - count)) for client, count in SIZES
    }
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(ALL))
