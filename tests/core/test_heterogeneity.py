"""Distances between clients, the chance in them, and what the verdict makes of both."""

import itertools

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from pflbench.heterogeneity import CLEAR, SLIGHT, Heterogeneity, Traits, halves_of, heterogeneity, verdict
from pflbench.portrait import Holding, portray


def holding(images, masks=None, subjects=None):
    count, _, height, width = images.shape
    masks = np.zeros((count, 1, height, width), np.uint8) if masks is None else masks
    names = [f"case-{i}" for i in range(count)]
    return Holding(images, masks, names, subjects or names)


def noise(seed, count=6, low=0, high=128, channels=3):
    return np.random.default_rng(seed).integers(low, high, (count, channels, 32, 32), dtype=np.uint8)


def distances(**images):
    """Return measure -> distance between the first two of these clients."""
    found = portray({name: holding(pixels) for name, pixels in images.items()}).heterogeneity
    return {measure: item.distances[0, 1] for measure, item in found.items()}


def test_intensity_is_the_wasserstein_distance_of_the_pixels():
    a, b = noise(0), noise(1, count=4, low=30, high=220)
    expected = [wasserstein_distance(a[:, channel].ravel(), b[:, channel].ravel()) for channel in range(3)]
    assert distances(a=a, b=b)["intensity"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("k", [1, 7, 100])
def test_brighter_by_k_grey_levels_is_a_distance_of_k(k):
    found = distances(a=noise(2), b=noise(2) + np.uint8(k))
    assert found["intensity"] == pytest.approx(k, abs=1e-9)


def test_a_tint_counts_where_the_mean_of_the_channels_is_the_same():
    colour = np.array([160, 100, 100], np.uint8)[:, None, None]
    images = np.broadcast_to(colour, (4, 3, 16, 16))
    assert distances(a=images, b=images[:, ::-1])["intensity"] == pytest.approx((60 + 0 + 60) / 3)


def test_twice_the_contrast_is_a_distance_of_log_two_in_spectra():
    assert distances(a=noise(3), b=noise(3) * np.uint8(2))["spectra"] == pytest.approx(np.log10(2))


def test_spectra_do_not_see_where_something_lies():
    moved = np.roll(noise(4), (5, 11), axis=(2, 3))
    found = distances(a=noise(4), b=moved)
    assert found["spectra"] == pytest.approx(0, abs=1e-9)
    assert found["intensity"] == 0


@pytest.mark.parametrize(
    ("one", "other", "points"), [((10, 20), (25, 40), (15 + 20) / 2), ((10, 40), (25, 25), 15), ((5,), (5, 5, 5), 0)]
)
def test_foreground_is_compared_in_percentage_points(one, other, points):
    """Its spread over cases counts, not only its mean."""
    holdings = {}
    for name, counts in (("a", one), ("b", other)):
        masks = np.zeros((len(counts), 100), np.uint8)
        for mask, count in zip(masks, counts, strict=True):
            mask[:count] = 1
        holdings[name] = holding(np.zeros((len(counts), 1, 10, 10), np.uint8), masks.reshape(-1, 1, 10, 10))
    found = portray(holdings).heterogeneity["foreground"]
    assert found.distances[0, 1] == pytest.approx(points)
    assert found.unit == "percentage points"


def test_distances_are_symmetric_zero_to_oneself_and_follow_the_clients():
    clients = {name: holding(noise(seed, low=seed, high=90 + 9 * seed)) for seed, name in enumerate("abcd")}
    order = [2, 0, 3, 1]
    there = portray(clients).heterogeneity
    back = portray({name: clients[name] for name in np.array(list(clients))[order]}).heterogeneity
    for measure, item in there.items():
        assert np.array_equal(item.distances, item.distances.T)
        assert not np.diagonal(item.distances).any()
        assert np.array_equal(item.halves, item.halves.T)
        assert back[measure].distances == pytest.approx(item.distances[np.ix_(order, order)], abs=1e-12)
        assert back[measure].halves == pytest.approx(item.halves[np.ix_(order, order)], abs=1e-12)
        assert back[measure].ratio == pytest.approx(item.ratio)


def test_copies_lie_at_no_distance_and_no_further_than_their_halves():
    found = portray({name: holding(noise(5, count=8)) for name in "ab"}).heterogeneity
    for item in found.values():
        assert item.distances[0, 1] == 0
        assert item.ratio < 1.2


# chance: clients drawn from one population


def population(rng, count, repeats=1):
    """Return the traits of ``count`` subjects: brightness, contrast and foreground differ between them."""
    levels = np.exp(-0.5 * ((np.arange(256) - rng.normal(100, 15, (count, 1, 1))) / 20) ** 2)
    levels /= levels.sum(axis=-1, keepdims=True)
    spectra = rng.normal(0, 0.1, (count, 1, 1, 1)) + rng.normal(0, 0.1, (count, 1, 3, 3))
    parts = (levels, spectra, rng.normal(0.08, 0.02, count).clip(0))
    return Traits(*(np.repeat(part, repeats, axis=0) for part in parts))


@pytest.mark.parametrize("count", [2, 5, 8])
def test_halves_have_equally_many_subjects_and_share_none(count):
    traits = population(np.random.default_rng(0), count, repeats=3)
    subjects = [f"p{i // 3}" for i in range(3 * count)]
    owner = dict(zip(traits.foreground.tolist(), subjects, strict=True))  # shares differ between subjects
    draws = halves_of("A", traits, subjects)
    for pair in draws:
        people = [{owner[share] for share in half.foreground.tolist()} for half in pair]
        assert [len(half.foreground) for half in pair] == [3 * (count // 2)] * 2
        assert [len(half) for half in people] == [count // 2] * 2
        assert not people[0] & people[1]
    assert len({tuple(pair[0].foreground) for pair in draws}) > 1


def ratios(rng, clients, count, repeats=1, by_case=False):
    """Return the ratio of each measure of clients that do not differ but by chance."""
    subjects = np.arange(count * repeats) if by_case else np.repeat(np.arange(count), repeats)
    drawn = {
        f"{rng.integers(10**9)}": (population(rng, count, repeats), subjects.astype(str).tolist())
        for _ in range(clients)
    }
    return [item.ratio for item in heterogeneity(drawn).values()]


@pytest.mark.parametrize(("clients", "count", "trials"), [(2, 10, 60), (6, 8, 12)])
def test_equal_clients_have_a_ratio_of_about_one(clients, count, trials):
    rng = np.random.default_rng(0)
    found = np.array([ratios(rng, clients, count) for _ in range(trials)])
    assert np.median(found, axis=0) == pytest.approx(1, abs=0.2)
    assert (found >= CLEAR).any(axis=1).mean() <= 0.1
    if clients == 6:
        assert found.max() < SLIGHT


def test_a_few_subjects_are_as_fair_as_many():
    """Unequal clients too: the reference weighs the chance of both."""
    rng, found = np.random.default_rng(1), []
    for trial in range(40):
        sizes = {"few": 4, "many": 30}
        drawn = {f"{n}{trial}": (population(rng, k), [str(i) for i in range(k)]) for n, k in sizes.items()}
        found.append([item.ratio for item in heterogeneity(drawn).values()])
    assert np.median(found, axis=0) == pytest.approx(1, abs=0.25)


def test_many_slices_of_few_subjects_are_no_evidence_of_difference():
    rng = np.random.default_rng(2)
    fair = np.median([ratios(rng, 3, 4, repeats=6) for _ in range(15)], axis=0)
    naive = np.median([ratios(rng, 3, 4, repeats=6, by_case=True) for _ in range(15)], axis=0)
    assert (fair < SLIGHT).all()
    assert (naive > SLIGHT).all()


def test_a_real_difference_is_clearly_above_chance():
    rng = np.random.default_rng(3)
    a, b = population(rng, 12), population(rng, 12)
    shifted = Traits(np.roll(b.levels, 40, axis=-1), b.spectra + 0.5, b.foreground + 0.08)
    names = [str(i) for i in range(12)]
    assert all(item.ratio > CLEAR for item in heterogeneity({"a": (a, names), "b": (shifted, names)}).values())


def test_the_ratio_is_halves_by_reference_over_the_pairs():
    rng = np.random.default_rng(4)
    names = [str(i) for i in range(6)]
    for item in heterogeneity({name: (population(rng, 6), names) for name in "abc"}).values():
        within, pairs = np.diagonal(item.halves), list(itertools.combinations(range(3), 2))
        between = sum(item.halves[pair] for pair in pairs)
        chance = sum(np.sqrt((within[a] ** 2 + within[b] ** 2) / 2) for a, b in pairs)
        assert item.ratio == pytest.approx(between / chance)
        assert item.between == pytest.approx(between / 3)


# where there is no chance to compare with


def test_a_client_of_one_subject_is_compared_whole_and_left_out_of_the_ratio():
    rng = np.random.default_rng(5)
    names = [str(i) for i in range(6)]
    clients = {"a": (population(rng, 6), names), "b": (population(rng, 6), names)}
    pair = heterogeneity(clients)
    three = heterogeneity({**clients, "lone": (population(rng, 1, 6), ["p"] * 6)})
    for measure, item in three.items():
        assert np.isnan(item.halves[2, 2])
        assert np.isfinite(item.halves[2, :2]).all()
        assert item.ratio == pair[measure].ratio


@pytest.mark.parametrize(("value", "ratio"), [(100, 1.0), (200, np.inf)])
def test_clients_whose_cases_all_agree(value, ratio):
    flat = {"a": np.full((3, 1, 16, 16), 100, np.uint8), "b": np.full((3, 1, 16, 16), value, np.uint8)}
    found = portray({name: holding(images) for name, images in flat.items()})
    assert found.heterogeneity["intensity"].ratio == ratio
    assert found.heterogeneity["foreground"].ratio == 1.0
    assert "nan" not in found.verdict


# the verdict


def told(subjects=(9, 9), **ratios):
    """Return the verdict for measure -> ratio where two clients lie 3 units apart."""
    apart = np.array([[1.0, 3.0], [3.0, 1.0]])
    found = {measure: Heterogeneity("units", apart, apart, apart, ratio) for measure, ratio in ratios.items()}
    return verdict(found, {f"c{i}": count for i, count in enumerate(subjects)})


def test_says_how_far_and_how_many_times():
    text = told(intensity=4.21, spectra=1.0)
    assert "lie 3.0 units (intensity) and 3.0 units (spectra) apart, 4.2 and 1.0 times as far as" in text
    assert "clearly more than chance (2 times or more) in intensity: personalization can pay." in text


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (CLEAR, "personalization can pay."),
        (CLEAR - 0.01, "may pay a little."),
        (SLIGHT, "may pay a little."),
        (SLIGHT - 0.01, "expect little from personalization."),
        (0.5, "expect little from personalization."),
        (np.inf, "infinitely many times as far"),
    ],
)
def test_the_thresholds_decide_the_words(ratio, words):
    text = told(intensity=ratio)
    assert words in text
    assert "How annotators differ is not measured" in text


def test_says_what_cannot_be_said():
    assert "Nothing can be said about foreground" in told(intensity=3.0, foreground=np.nan)
    assert "pay." not in told(intensity=np.nan).split("How annotators")[0]
    assert "1 client has fewer than 5 subjects" in told(subjects=(9, 4), intensity=3.0)
    assert "fewer" not in told(intensity=3.0)
    assert told(subjects=(9,), intensity=np.nan).startswith("There is one client only")
