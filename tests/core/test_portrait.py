"""The numbers of a portrait, each against another way to compute it."""

import subprocess
import sys

import numpy as np
import pytest

from pflbench.errors import UsageError
from pflbench.portrait import Holding, log_amplitude, low_frequency, portray


def holding(images, masks=None, subjects=None):
    """Return N x C x H x W images as a client's holding; each case of its own subject unless said otherwise."""
    count, _, height, width = images.shape
    masks = np.zeros((count, 1, height, width), np.uint8) if masks is None else masks
    names = [f"case-{i}" for i in range(count)]
    return Holding(images, masks, names, subjects or names)


def noise(seed, shape=(4, 3, 32, 32), low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.uint8)


def masks_of(shares, height=10, width=20):
    """Return masks whose shares of foreground, in 1/200, are given."""
    flat = np.zeros((len(shares), height * width), np.uint8)
    for row, share in zip(flat, shares, strict=True):
        row[:share] = 1
    return flat.reshape(-1, 1, height, width)


def one(images, **more):
    return portray({"A": holding(images, **more)}).clients[0]


def test_mean_and_deviation_are_those_of_all_pixels():
    images = noise(0)
    client = one(images)
    pixels = images.transpose(1, 0, 2, 3).reshape(3, -1).astype(float)
    assert client.mean == pytest.approx(pixels.mean(axis=1))
    assert client.sd == pytest.approx(pixels.std(axis=1))


def test_histograms_are_densities_over_all_pixels():
    images = noise(1, low=20, high=201)
    client = one(images)
    for channel in range(3):
        expected, _ = np.histogram(images[:, channel], bins=64, range=(0, 256), density=True)
        assert client.channel_histograms[channel] == pytest.approx(expected)
    assert client.histogram.sum() * 4 == pytest.approx(1)


def test_the_grey_histogram_is_of_the_mean_of_the_channels():
    plane = noise(2, (3, 1, 32, 32), 10, 200)
    images = np.concatenate([plane - 10, plane, plane + 10], axis=1)  # mean over channels: the plane
    expected, _ = np.histogram(plane, bins=64, range=(0, 256), density=True)
    assert one(images).histogram == pytest.approx(expected)


@pytest.mark.parametrize(("colour", "place"), [((3, 3, 4), 0), ((3, 4, 4), 1)])
def test_the_mean_of_the_channels_is_rounded_to_the_nearest_level(colour, place):
    images = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (1, 3, 8, 8))
    assert one(images).histogram.argmax() == place  # a bin ends at 4


def test_black_and_white_lie_in_the_first_and_the_last_bin():
    images = np.stack([np.zeros((1, 16, 16), np.uint8), np.full((1, 16, 16), 255, np.uint8)])
    histogram = one(images).histogram
    assert histogram[[0, -1]] == pytest.approx([1 / 8, 1 / 8])
    assert not histogram[1:-1].any()


def test_a_cosine_has_half_its_height_at_its_frequency_and_nothing_elsewhere():
    across = np.arange(64)
    image = np.tile(100 + 50 * np.cos(2 * np.pi * 3 * across / 64), (32, 1))
    log = log_amplitude(image[None])[0]
    assert log[0, 0] == pytest.approx(2)
    assert log[0, [3, -3]] == pytest.approx(np.log10([25, 25]))
    log[0, [0, 3, -3]] = np.nan
    assert np.nanmax(log) == pytest.approx(np.log10(np.sqrt(1 / 12 / (32 * 64))))  # what rounding alone leaves


def test_no_power_is_lost_in_the_spectrum():
    image = noise(3, (3, 24, 40)).astype(float)
    power = (10 ** (2 * log_amplitude(image))).sum(axis=(1, 2))
    assert power == pytest.approx((image**2).mean(axis=(1, 2)), rel=1e-3)  # Parseval


def test_the_window_is_the_centre_of_the_shifted_spectrum():
    images = noise(4, (5, 3, 40, 64))
    expected = np.fft.fftshift(np.log10(np.abs(np.fft.fft2(images)) / (40 * 64)), axes=(2, 3)).mean(axis=0)
    spectrum = one(images).spectrum
    assert spectrum.shape == (3, 5, 5)  # 40 * 0.05 = 2 to each side
    assert spectrum == pytest.approx(expected[:, 18:23, 30:35])


@pytest.mark.parametrize(("height", "width", "b"), [(256, 256, 12), (192, 384, 9), (64, 64, 3), (8, 300, 1)])
def test_the_window_follows_the_shorter_side_and_is_never_the_zero_frequency_alone(height, width, b):
    assert low_frequency(height, width) == b
    assert portray({"A": holding(noise(0, (1, 1, height, width)))}).low_frequency == b


@pytest.mark.parametrize(("axis", "cycles"), [(0, 8), (1, 16)])
def test_rings_have_one_length_in_both_directions(axis, cycles):
    """A wave of four pixels lies on ring 8 of a side of 32, along the shorter side and along the longer."""
    place = np.indices((32, 64))[axis]
    wave = np.rint(100 + 50 * np.cos(2 * np.pi * cycles * place / (32, 64)[axis])).astype(np.uint8)
    radial = one(wave[None, None]).radial
    assert len(radial) == 17
    assert radial[1:].argmax() + 1 == 8


def test_the_profile_of_white_noise_is_flat():
    radial = one(noise(5, (40, 1, 32, 32))).radial
    assert np.abs(radial[1:] - radial[1:].mean()).max() < 0.1


def test_shares_of_foreground_are_counted_per_case():
    shares = [10, 0, 40, 200]
    client = one(np.zeros((4, 1, 10, 20), np.uint8), masks=masks_of(shares))
    assert client.foreground == pytest.approx([0.05, 0, 0.2, 1])
    expected = {"min": 0, "q1": 0.0375, "median": 0.125, "q3": 0.4, "max": 1, "mean": 0.3125}
    assert client.foreground_summary == pytest.approx(expected)


def test_foreground_is_whatever_is_not_zero():
    masks = masks_of([20, 30])
    plain, bright = (one(np.zeros((2, 1, 10, 20), np.uint8), masks=m) for m in (masks, masks * 255))
    assert plain.foreground == pytest.approx(bright.foreground)


def test_samples_spread_over_the_shares_of_foreground():
    shares = [50, 10, 90, 20, 60, 30, 80, 40, 70]
    images = noise(6, (9, 3, 10, 20))
    client = one(images, masks=masks_of(shares))
    assert [200 * sample.foreground for sample in client.samples] == pytest.approx([20, 50, 80])
    for sample in client.samples:
        row = int(sample.case.removeprefix("case-"))
        assert np.array_equal(sample.image, images[row])
        assert sample.mask.sum() == shares[row]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_cases_are_each_shown_once(count):
    client = one(noise(7, (count, 1, 10, 20)), masks=masks_of([10] * count))
    assert sorted(sample.case for sample in client.samples) == [f"case-{i}" for i in range(count)]


def test_a_client_is_described_by_its_own_cases_only():
    alone, among = (portray(h) for h in ({"A": holding(noise(8))}, {"B": holding(noise(9)), "A": holding(noise(8))}))
    assert np.array_equal(alone.clients[0].spectrum, among.clients[1].spectrum)
    assert np.array_equal(alone.heterogeneity["intensity"].halves[0, 0], among.heterogeneity["intensity"].halves[1, 1])


def test_images_may_lie_on_disk(tmp_path):
    images = noise(10)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(one(mapped).radial, one(images).radial)
    assert not isinstance(one(mapped).samples[0].image, np.memmap)  # a sample outlives the file


def test_subjects_are_counted():
    client = one(noise(11), subjects=["p1", "p1", "p2", "p2"])
    assert (len(client.cases), client.subjects) == (4, 2)


def plain_types(value):
    if isinstance(value, dict):
        return set().union(*(plain_types(item) for pair in value.items() for item in pair), {dict})
    if isinstance(value, (list, tuple)):
        return set().union(*(plain_types(item) for item in value), {type(value)})
    return {type(value)}


def test_the_plain_form_holds_nothing_of_the_core():
    portrait = portray({"A": holding(noise(12)), "B": holding(noise(13))}, "Eyes", simulated=True)
    plain = portrait.plain()
    assert plain_types(plain) == {dict, tuple, str, int, float, bool, np.ndarray}
    assert (plain["title"], plain["simulated"], plain["verdict"]) == ("Eyes", True, portrait.verdict)
    assert np.array_equal(plain["heterogeneity"]["spectra"]["distances"], portrait.heterogeneity["spectra"].distances)


@pytest.mark.parametrize(
    ("holdings", "words"),
    [
        ({}, "no client"),
        ({"A": holding(np.zeros((0, 1, 8, 8), np.uint8))}, "client 'A' has no training case"),
        ({"A": holding(noise(0)), "B": holding(noise(0, (4, 1, 32, 32)))}, r"A: 3 x 32 x 32, B: 1 x 32 x 32"),
        ({"A": holding(noise(0), masks=np.zeros((4, 32, 32), np.uint8))}, r"masks of shape \(4, 1, 32, 32\)"),
        ({"A": holding(noise(0), subjects=["p"])}, "1 subjects"),
    ],
)
def test_what_cannot_be_portrayed_is_named(holdings, words):
    with pytest.raises(UsageError, match=words):
        portray(holdings)


def test_needs_no_torch_and_no_matplotlib():
    code = "import sys, pflbench.portrait; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
