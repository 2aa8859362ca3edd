"""The simulated sites: the same on every call, near the measured figures, and unlike each other."""

import hashlib
import random

import numpy as np
import pytest
from scipy import ndimage

from pflbench.api import Case, DataError, UsageError
from pflbench_datasets import simulated
from pflbench_datasets.simulated import SimulatedVessel
from pflbench_datasets.vessel import Vessel

# measured on the real sites at 256 x 256: mean colour inside the field of view, share of vessel pixels
FIGURES = {
    "sim-CHASEDB1": ((167, 61, 10), 0.075),
    "sim-DR-HAGIS": ((134, 73, 59), 0.042),
    "sim-DRIVE": ((184, 96, 57), 0.099),
    "sim-HRF": ((187, 60, 31), 0.081),
    "sim-LES-AV": ((100, 58, 33), 0.074),
    "sim-ORVS": ((98, 56, 19), 0.053),
}
SMALL = SimulatedVessel(size=64)


@pytest.fixture(scope="module")
def pictures():
    dataset = SimulatedVessel()
    return {site: [dataset.read(case) for case in dataset.cases(site)] for site in dataset.sites}


def inside(image):
    """Find the field of view without the generator: the largest bright area, its dark specks filled."""
    areas, _ = ndimage.label(image.max(axis=0) > 12)
    return ndimage.binary_fill_holes(areas == np.bincount(areas.ravel())[1:].argmax() + 1)


@pytest.mark.parametrize("site", FIGURES)
def test_site_has_the_colour_and_vessel_share_measured_on_the_real_one(pictures, site):
    colour = np.mean([image[:, inside(image)].mean(axis=1) for image, _ in pictures[site]], axis=0)
    share = np.mean([mask.mean() for _, mask in pictures[site]])
    np.testing.assert_allclose(colour, FIGURES[site][0], rtol=0.08)
    assert share == pytest.approx(FIGURES[site][1], rel=0.08)


@pytest.mark.parametrize("site", FIGURES)
def test_vessels_are_darker_than_what_surrounds_them(pictures, site):
    for image, mask in pictures[site][:6]:
        view = ndimage.binary_erosion(inside(image), iterations=12)  # the light falls off at the rim
        green, vessel = image[1].astype(float), mask.astype(bool) & view
        around = ndimage.binary_dilation(vessel, iterations=4) & ~ndimage.binary_dilation(vessel) & view
        assert green[vessel].mean() < 0.95 * green[around].mean()


@pytest.mark.parametrize("site", FIGURES)
def test_vessels_lie_in_the_field_of_view_and_hang_together(pictures, site):
    for image, mask in pictures[site][:6]:
        view = ndimage.binary_dilation(inside(image), iterations=3)
        assert not (mask.astype(bool) & ~view).any()
        sizes = np.sort(np.bincount(ndimage.label(mask, structure=np.ones((3, 3)))[0].ravel())[1:])
        assert sizes[-2:].sum() > 0.6 * mask.sum()


def test_no_two_sites_can_be_taken_for_each_other(pictures):
    """Colour, contrast of vessels and fine grain of a site differ from any other's by more than chance."""

    def signature(image, mask):
        view, green = inside(image), image[1].astype(float)
        grain = np.abs(green - ndimage.uniform_filter(green, 3))[view].mean()
        return [
            *image[:, view].mean(axis=1),
            green[view & (mask == 0)].mean() - green[mask == 1].mean(),
            grain,
        ]

    rows = {site: np.array([signature(*pair) for pair in pairs[:12]]) for site, pairs in pictures.items()}
    for one in rows:
        for other in rows:
            spread = (rows[one].std(axis=0) + rows[other].std(axis=0)) / np.sqrt(12)
            gap = np.abs(rows[one].mean(axis=0) - rows[other].mean(axis=0)) / spread
            assert one == other or gap.max() > 3


def test_pictures_within_a_site_differ_in_brightness_and_side(pictures):
    for pairs in pictures.values():
        means = [image[:, inside(image)].mean() for image, _ in pairs]
        assert np.std(means) > 0.02 * np.mean(means)
    sides = [
        image[1, :, :128].astype(int).sum() > image[1, :, 128:].astype(int).sum() for image, _ in pictures["sim-DRIVE"]
    ]
    assert 0 < sum(sides) < len(sides)


def test_sites_and_counts_are_the_real_ones():
    assert [site.removeprefix("sim-") for site in SMALL.available()] == list(Vessel.sites)
    for site in SMALL.sites:
        splits = [case.split for case in SMALL.cases(site)]
        assert (splits.count("train"), splits.count("test")) == Vessel.expected[site.removeprefix("sim-")]


def test_ids_and_subjects_are_unique():
    cases = [case for site in SMALL.sites for case in SMALL.cases(site)]
    assert len({case.id for case in cases}) == len({(case.site, case.subject) for case in cases}) == len(cases) == 224


def test_shape_type_and_values():
    image, mask = SMALL.read(SMALL.cases("sim-ORVS")[0])
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((3, 64, 64), np.uint8, (64, 64), np.uint8)
    assert set(np.unique(mask)) == {0, 1}
    assert image.flags.c_contiguous


def test_a_case_is_the_same_whatever_was_read_before_and_whatever_global_generators_hold():
    cases = SMALL.cases("sim-HRF")
    first = SMALL.read(cases[3])
    np.random.seed(7)
    random.seed(7)
    SMALL.read(cases[0])
    again = SimulatedVessel(size=64).read(Case("sim-HRF/train/04", "sim-HRF", "train-04", "train"))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_case_and_seed_is_another_picture():
    datasets = [SMALL, SimulatedVessel(size=64, seed=1)]
    cases = [case for site in SMALL.sites for case in SMALL.cases(site)[-2:] + SMALL.cases(site)[:2]]
    seen = {hashlib.sha256(dataset.read(case)[1].tobytes()).digest() for dataset in datasets for case in cases}
    assert len(seen) == 2 * len(cases)


def test_another_size_shows_the_same_eye():
    large, small = SimulatedVessel(size=256), SimulatedVessel(size=128)
    case = small.cases("sim-LES-AV")[2]
    (fine, _), (coarse, _) = large.read(case), small.read(case)
    shrunk = fine.reshape(3, 128, 2, 128, 2).mean(axis=(2, 4))
    assert np.corrcoef(shrunk.ravel(), coarse.ravel())[0, 1] > 0.98


def test_digest_follows_case_settings_style_and_generator(monkeypatch):
    one, two = SMALL.cases("sim-ORVS")[:2]
    digests = {dataset.digest(one) for dataset in (SMALL, SimulatedVessel(), SimulatedVessel(size=64, seed=1))}
    digests.add(SMALL.digest(two))
    monkeypatch.setattr(simulated, "GENERATOR", simulated.GENERATOR + 1)
    digests.add(SMALL.digest(one))
    assert len(digests) == 5


def test_find_takes_settings_and_needs_no_folder(tmp_path):
    assert SimulatedVessel.find(None, seed=4) == SimulatedVessel.find(tmp_path, seed=4) == SimulatedVessel(seed=4)


@pytest.mark.parametrize("settings", [{"size": 63}, {"size": 1025}, {"seed": -1}, {"sizes": 64}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        SimulatedVessel.find(None, **settings)


@pytest.mark.parametrize("name", ["DRIVE/train/01", "sim-DRIVE/val/01", "sim-DRIVE/train/x", "sim-DRIVE/test/21"])
def test_a_case_of_another_dataset_is_refused(name):
    with pytest.raises(DataError, match="is no case of vessel-simulated"):
        SMALL.read(Case(name, name.split("/")[0], "x"))
