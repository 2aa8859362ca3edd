"""The simulated lids: the same on every call, near the figures of MGD-1K, two sites unlike, patients recognisable."""

import hashlib
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pflbench.api import Case, DataError, UsageError
from pflbench.recipe import Recipe
from pflbench_datasets import gland_simulated
from pflbench_datasets.gland import Gland
from pflbench_datasets.gland_simulated import GENERATOR, STYLES, SimulatedGland
from pflbench_datasets.meibography import paint

SMALL = SimulatedGland(height=48)

# measured on MGD-1K at 192 x 384: mean grey, and how much brighter glands are than what lies within 5 pixels of them
REAL = {"upper": (128, 26.7), "lower": (104, 36.2)}


@pytest.fixture(scope="module")
def pictures():
    """Every third patient's pictures: site -> (case, grey, mask)."""
    dataset = SimulatedGland()
    return {
        site: [
            (case, *(part.squeeze() for part in dataset.read(case)))
            for case in dataset.cases(site)
            if int(case.subject) % 3 == 0
        ]
        for site in dataset.sites
    }


def step(grey, mask):
    """Return how much brighter glands are than what lies close to them."""
    inside = mask.astype(bool)
    around = ndimage.binary_dilation(inside, iterations=5) & ~inside
    return grey[inside].mean() - grey[around].mean()


def generator(seed):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.parametrize("lid", REAL)
def test_pictures_are_as_bright_as_the_real_ones_and_glands_stand_out_as_much(pictures, lid):
    shown = [(grey, mask) for case, grey, mask in pictures["sim-MGD-1K"] if case.traits["lid"] == lid]
    assert np.mean([grey.mean() for grey, _ in shown]) == pytest.approx(REAL[lid][0], rel=0.08)
    assert np.mean([step(*pair) for pair in shown]) == pytest.approx(REAL[lid][1], rel=0.12)


@pytest.mark.parametrize("site", STYLES)
def test_glands_take_about_the_share_measured_on_mgd_1k(pictures, site):
    shares = [mask.mean() for _, _, mask in pictures[site]]
    assert np.mean(shares) == pytest.approx(0.054, rel=0.15)
    assert min(shares) > 0.014
    assert max(shares) < 0.115


@pytest.mark.parametrize("site", STYLES)
def test_glands_are_many_long_strings_across_the_lid(pictures, site):
    for _, grey, mask in pictures[site]:
        starts = np.diff(np.pad(mask.astype(int), ((0, 0), (1, 1))), axis=1) == 1
        areas, _ = ndimage.label(mask)
        lengths = [rows.stop - rows.start for rows, _ in ndimage.find_objects(areas)]
        assert starts.sum(axis=1).max() >= 5  # strings that one row of pixels crosses
        assert max(lengths) > 2 * mask.sum() / starts.sum()  # twice as long as wide
        assert np.ptp(np.flatnonzero(mask.any(axis=0))) > 0.3 * mask.shape[1]
        assert step(grey, mask) > 5


def test_neighbouring_glands_touch_no_more_than_on_the_real_lids(pictures):
    """MGD-1K has 14 separate areas a picture on average."""
    counts = [ndimage.label(mask)[1] for _, _, mask in pictures["sim-MGD-1K"]]
    assert np.mean(counts) == pytest.approx(14.5, abs=2)


def test_the_two_sites_cannot_be_taken_for_each_other(pictures):
    """Brightness, contrast of glands and fine grain differ by far more than chance."""

    def signature(grey, mask):
        plain = grey.astype(float)
        return plain.mean(), plain.std(), np.abs(plain - ndimage.uniform_filter(plain, 3))[mask == 1].mean()

    one, other = (
        np.array([signature(grey, mask) for _, grey, mask in pictures[site][:30]]) for site in SimulatedGland.sites
    )
    spread = (one.std(axis=0) + other.std(axis=0)) / np.sqrt(30)
    assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) / spread)[:2].min() > 3


def test_both_eyes_of_a_patient_have_lost_alike(pictures):
    """The gland share of a right lid foretells that of the left one of the same patient."""
    shares = {(case.site, case.subject, *case.traits.values()): mask.mean() for site in pictures.values()
              for case, _, mask in site}  # fmt: skip
    pairs = [
        (share, shares[site, subject, lid, "OS"])
        for (site, subject, lid, eye), share in shares.items()
        if eye == "OD" and (site, subject, lid, "OS") in shares
    ]
    assert len(pairs) > 20
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.5


def test_a_patient_has_one_to_four_pictures_each_of_another_lid():
    for site in SMALL.sites:
        cases = SMALL.cases(site)
        patients = {}
        for case in cases:
            patients.setdefault(case.subject, []).append((case.traits["eye"], case.traits["lid"]))
        assert len(patients) == SMALL.expected_subjects[site]
        assert all(len(set(kinds)) == len(kinds) for kinds in patients.values())
        sizes = Counter(map(len, patients.values()))
        # 34, 74, 102 and 128 of 338 patients of MGD-1K have one, two, three and four pictures
        np.testing.assert_allclose([sizes[n] / len(patients) for n in (1, 2, 3, 4)], [0.1, 0.22, 0.3, 0.38], atol=0.03)
        kinds = Counter(kind for own in patients.values() for kind in own)
        real = {("OD", "lower"): 0.276, ("OD", "upper"): 0.258, ("OS", "lower"): 0.257, ("OS", "upper"): 0.209}
        for kind, share in real.items():
            assert kinds[kind] / len(cases) == pytest.approx(share, abs=0.02)


def test_ids_are_unique_and_say_the_traits():
    cases = [case for site in SMALL.sites for case in SMALL.cases(site)]
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert case.id == f"{case.site}/{case.traits['eye']}-{case.traits['lid']}-{case.subject}"
        assert case.split is None


def test_shape_type_and_values():
    image, mask = SMALL.read(SMALL.cases("sim-LFSC")[0])
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((1, 48, 96), np.uint8, (48, 96), np.uint8)
    assert set(np.unique(mask)) == {0, 1}
    assert image.flags.c_contiguous
    assert mask.flags.c_contiguous
    assert SMALL.channels == Gland.channels
    assert [site.removeprefix("sim-") for site in SMALL.available()] == list(Gland.sites)


def test_a_case_is_the_same_whatever_was_read_before_and_whatever_global_generators_hold():
    case = SMALL.cases("sim-MGD-1K")[5]
    first = SMALL.read(case)
    np.random.seed(7)
    random.seed(7)
    SMALL.read(SMALL.cases("sim-LFSC")[0])
    again = SimulatedGland(height=48).read(Case(case.id, case.site, case.subject))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_case_and_seed_is_another_picture():
    datasets = [SMALL, SimulatedGland(height=48, seed=1)]
    cases = [case for site in SMALL.sites for case in SMALL.cases(site)[:20]]
    seen = {hashlib.sha256(part.tobytes()).digest() for dataset in datasets for case in cases
            for part in dataset.read(case)}  # fmt: skip
    assert len(seen) == 2 * 2 * len(cases)


def test_another_size_shows_the_same_lid():
    large, small = SimulatedGland(height=192), SimulatedGland(height=96)
    for case in small.cases("sim-MGD-1K")[:4]:
        (fine, labels), (coarse, mask) = large.read(case), small.read(case)
        shrunk = fine.reshape(96, 2, 192, 2).mean(axis=(1, 3))
        assert np.corrcoef(shrunk.ravel(), coarse.ravel())[0, 1] > 0.95
        shared = (labels.reshape(96, 2, 192, 2).mean(axis=(1, 3)) > 0.5) & (mask == 1)
        assert 2 * shared.sum() > 0.8 * (mask.sum() + labels.sum() / 4)


def test_digest_follows_case_settings_style_and_generator(monkeypatch):
    one, two = SMALL.cases("sim-LFSC")[:2]
    digests = {dataset.digest(one) for dataset in (SMALL, SimulatedGland(), SimulatedGland(height=48, seed=1))}
    digests.add(SMALL.digest(two))
    monkeypatch.setattr(gland_simulated, "GENERATOR", GENERATOR + 1)
    digests.add(SMALL.digest(one))
    assert len(digests) == 5


def test_find_takes_settings_and_needs_no_folder(tmp_path):
    assert SimulatedGland.find(None, seed=4) == SimulatedGland.find(tmp_path, seed=4) == SimulatedGland(seed=4)


@pytest.mark.parametrize("settings", [{"height": 47}, {"height": 1025}, {"seed": -1}, {"size": 64}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        SimulatedGland.find(None, **settings)


@pytest.mark.parametrize(
    "name",
    ["MGD-1K/OD-upper-001", "sim-MGD-1K/OD-upper-081", "sim-LFSC/OD-upper-000", "sim-LFSC/OD-upper-004", "sim-LFSC/x"],
)
def test_a_case_of_another_dataset_is_refused(name):
    """Patient 004 has a right and a left lower lid only."""
    with pytest.raises(DataError, match="is no case of gland-simulated"):
        SMALL.read(Case(name, name.split("/")[0], "x"))


def test_the_stand_in_of_the_real_dataset_is_this_one_and_small_by_default():
    assert Gland.stand_in == SimulatedGland.name
    assert SimulatedGland.simulated
    recipe = Recipe.of(SimulatedGland.presets[SimulatedGland.default_preset])
    assert recipe.image_width == 2 * recipe.image_height < 384
    assert SimulatedGland.presets["paper"] == Gland.presets["paper"]


# the painter itself


def test_the_left_eye_is_the_mirrored_right_eye_and_its_writing_is_not():
    style = replace(STYLES["sim-MGD-1K"], noise=0.0, skin=0.2, glare=0.0)  # dark, so that only the writing is bright
    (right, mask), (left, mirrored) = (
        paint(style, 192, eye, "lower", generator(1), generator(2)) for eye in ("OD", "OS")
    )
    np.testing.assert_array_equal(mask, mirrored[:, ::-1])
    written = [np.flatnonzero((grey[:14] > 200).any(axis=0)) for grey in (right, left)]
    assert min(written[0]) > 300
    np.testing.assert_array_equal(*written)
    assert not np.array_equal(right[80:], left[80:])


def test_a_person_decides_the_lid_and_the_shot_how_it_is_held():
    style = STYLES["sim-MGD-1K"]
    masks = [paint(style, 96, "OD", "lower", generator(a), generator(b))[1] for a, b in ((1, 2), (1, 3), (4, 2))]
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[0], masks[2])


def test_without_contrast_glands_do_not_show():
    flat = replace(STYLES["sim-MGD-1K"], contrast=0.0, noise=0.0, glare=0.0)
    plain = replace(flat, contrast=0.2)
    steps = [step(*paint(style, 192, "OD", "upper", generator(1), generator(2))) for style in (flat, plain)]
    assert abs(steps[0]) < 8 < 20 < steps[1]  # light falls on the lid unevenly


def test_still_draws_what_this_version_drew():
    """If this fails because the drawing was changed, raise GENERATOR and write the new figures here."""
    grey, mask = paint(STYLES["sim-MGD-1K"], 96, "OD", "upper", generator(11), generator(12))
    assert GENERATOR == 1
    assert abs(int(mask.sum()) - 1123) <= 12  # rounding may differ between versions of numpy and pillow
    quarters = grey.reshape(2, 48, 2, 96).mean(axis=(1, 3))
    np.testing.assert_allclose(quarters, [[111.35, 109.96], [122.71, 112.88]], atol=0.4)
