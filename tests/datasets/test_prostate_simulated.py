"""The simulated prostate sites: the same on every call, as many patients as the real ones, unlike each other."""

import hashlib
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pflbench.api import Case, DataError, UsageError
from pflbench_datasets import prostate_simulated
from pflbench_datasets.pelvis import paint
from pflbench_datasets.pelvis_patient import new_patient
from pflbench_datasets.prostate import Prostate
from pflbench_datasets.prostate_simulated import STYLES, SimulatedProstate

SMALL = SimulatedProstate(size=64, slices=3)
INSIDE = ["sim-BIDMC", "sim-BMC", "sim-HK"]  # with a coil in the rectum


def generator(seed=5):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(scope="module")
def middles():
    """The middle slices of eight patients of every site."""
    dataset = SimulatedProstate(size=128, slices=3)
    return {site: [dataset.read(case) for case in dataset.cases(site)[1:24:3]] for site in dataset.sites}


def test_sites_and_patients_are_those_of_the_real_ones():
    assert [site.removeprefix("sim-") for site in SMALL.available()] == list(Prostate.sites)
    for site in SMALL.sites:
        subjects = {case.subject for case in SMALL.cases(site)}
        assert len(subjects) == SMALL.expected_subjects[site]
        assert len(subjects) == Prostate.expected_subjects[site.removeprefix("sim-")]


def test_ids_are_unique_and_a_volume_s_slices_follow_each_other():
    cases = [case for site in SMALL.sites for case in SMALL.cases(site)]
    assert len({case.id for case in cases}) == len(cases) == 116 * 3
    for first in range(0, len(cases), 3):
        volume = cases[first : first + 3]
        assert len({(case.site, case.volume, case.subject) for case in volume}) == 1
        assert [case.id[-3:] for case in volume] == ["000", "001", "002"]
    assert {case.split for case in cases} == {None}


def test_shape_type_and_values():
    image, mask = SMALL.read(SMALL.cases("sim-UCL")[1])
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((1, 64, 64), np.uint8, (64, 64), np.uint8)
    assert set(np.unique(mask)) == {0, 1}
    assert image.flags.c_contiguous


def test_still_draws_what_this_version_drew():
    """If this fails because the drawing was changed, raise GENERATOR and write the new figures here."""
    image, mask = SimulatedProstate(size=64).read(Case("sim-RUNMC/Case07/004", "sim-RUNMC", "Case07"))
    quarters = image[0].reshape(2, 32, 2, 32).mean(axis=(1, 3))
    assert prostate_simulated.GENERATOR == 1
    assert abs(int(mask.sum()) - 359) <= 3  # rounding may differ between versions of numpy and pillow
    np.testing.assert_allclose(quarters, [[135.72, 129.38], [110.09, 106.89]], atol=0.3)


def test_every_slice_shows_one_gland():
    for site in SMALL.sites:
        for case in SMALL.cases(site)[:12]:
            mask = SMALL.read(case)[1]
            assert ndimage.label(mask)[1] == 1
            assert not mask[[0, -1]].any()
            assert not mask[:, [0, -1]].any()


def test_the_gland_is_widest_in_the_middle():
    dataset = SimulatedProstate(size=64, slices=5)
    for site in dataset.sites:
        cases = dataset.cases(site)[:10]
        area = np.array([dataset.read(case)[1].sum() for case in cases]).reshape(2, 5)
        assert (area[:, 2] > area[:, 0]).all()
        assert (area[:, 2] > area[:, 4]).all()


def test_the_gland_takes_a_plausible_share_of_the_view(middles):
    for site, pairs in middles.items():
        side = STYLES[site].view * np.sqrt([mask.mean() for _, mask in pairs])  # mm of a square of its area
        assert 28 < np.mean(side) < 50


def test_a_gland_without_irregularities_is_an_ellipse():
    style = STYLES["sim-RUNMC"]
    patient = replace(
        new_patient(style, generator()),
        view=100.0,
        middle=(0.0, 0.0),
        radii=(25.0, 16.0),
        square=2.0,
        waves=(),
        dent=0.0,
        warp=np.zeros((2, 2, 7, 7), np.float32),
    )
    mask = paint(style, patient, 0.0, 200, generator())[1]
    assert mask.sum() == pytest.approx(np.pi * 50 * 32, rel=0.01)  # half a millimetre per pixel
    assert mask[100].sum() == 100
    assert mask[:, 100].sum() == 64


def test_an_endorectal_coil_lights_the_back_more_than_the_front(middles):
    """Fat fills the upper quarter of the grey levels before and behind the gland."""
    ratio = {
        site: np.mean([np.percentile(image[0, 64:], 75) / np.percentile(image[0, :64], 75) for image, _ in pairs])
        for site, pairs in middles.items()
    }
    assert min(ratio[site] for site in INSIDE) > 1.3
    assert max(ratio[site] for site in ratio if site not in INSIDE) < 1.15


def test_the_peripheral_zone_is_brighter_than_the_middle_of_the_gland(middles):
    for site, pairs in middles.items():
        ratio = []
        for image, mask in pairs:
            deep = ndimage.distance_transform_edt(mask)
            rows = np.arange(128)[:, None] > ndimage.center_of_mass(mask)[0]
            rim = (deep > 2) & (deep < 6) & rows
            ratio.append(image[0][rim].mean() / image[0][deep > 0.8 * deep.max()].mean())
        assert np.mean(ratio) > 1.15, site


def test_no_two_sites_can_be_taken_for_each_other(middles):
    """Brightness, contrast, grain, evenness or the size of the gland differs by more than chance."""

    def signature(image, mask):
        grey = image[0].astype(float)
        grain = np.abs(grey - ndimage.uniform_filter(grey, 3)).mean()
        white, even = (grey > 250).mean(), grey[64:].mean() / grey[:64].mean()
        gland = grey[mask == 1]
        return [grey.mean(), grey.std(), grain, white, even, mask.mean(), gland.mean(), gland.std()]

    rows = {site: np.array([signature(*pair) for pair in pairs]) for site, pairs in middles.items()}
    for one in rows:
        for other in rows:
            spread = (rows[one].std(axis=0) + rows[other].std(axis=0)) / np.sqrt(8) + 1e-9
            gap = np.abs(rows[one].mean(axis=0) - rows[other].mean(axis=0)) / spread
            assert one == other or gap.max() > 3


def test_a_slice_is_the_same_whatever_was_read_before_and_whatever_global_generators_hold():
    cases = SMALL.cases("sim-HK")
    first = SMALL.read(cases[4])
    np.random.seed(7)
    random.seed(7)
    SMALL.read(cases[0])
    again = SimulatedProstate(size=64, slices=3).read(Case("sim-HK/Case01/001", "sim-HK", "Case01"))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_slice_and_seed_is_another_picture():
    datasets = [SMALL, SimulatedProstate(size=64, slices=3, seed=1)]
    cases = [case for site in SMALL.sites for case in SMALL.cases(site)[:6]]
    seen = {hashlib.sha256(dataset.read(case)[0].tobytes()).digest() for dataset in datasets for case in cases}
    assert len(seen) == 2 * len(cases)


def test_another_size_shows_the_same_patient():
    large, small = SimulatedProstate(size=256, slices=3), SimulatedProstate(size=128, slices=3)
    case = small.cases("sim-I2CVB")[4]
    (fine, outline), (coarse, same) = large.read(case), small.read(case)
    shrunk = fine.reshape(1, 128, 2, 128, 2).mean(axis=(2, 4))
    assert np.corrcoef(shrunk.ravel(), coarse.ravel())[0, 1] > 0.97
    assert (outline.reshape(128, 2, 128, 2).mean(axis=(1, 3)).round() != same).mean() < 0.01


def test_more_slices_show_the_same_patient_in_finer_steps():
    three, nine = SMALL, SimulatedProstate(size=64, slices=9)
    middle, same = (
        dataset.read(Case(f"sim-BMC/Case03/{k:03d}", "sim-BMC", "Case03")) for dataset, k in ((three, 1), (nine, 4))
    )
    np.testing.assert_array_equal(middle[1], same[1])


def test_digest_follows_case_settings_style_and_generator(monkeypatch):
    one, two = SMALL.cases("sim-UCL")[:2]
    datasets = (SMALL, SimulatedProstate(), SimulatedProstate(size=64), SimulatedProstate(size=64, slices=3, seed=1))
    digests = {dataset.digest(one) for dataset in datasets}
    digests.add(SMALL.digest(two))
    monkeypatch.setattr(prostate_simulated, "GENERATOR", prostate_simulated.GENERATOR + 1)
    digests.add(SMALL.digest(one))
    assert len(digests) == 6


def test_find_takes_settings_and_needs_no_folder(tmp_path):
    assert SimulatedProstate.find(None, seed=4) == SimulatedProstate.find(tmp_path, seed=4) == SimulatedProstate(seed=4)


@pytest.mark.parametrize("settings", [{"size": 63}, {"size": 1025}, {"seed": -1}, {"slices": 0}, {"slice": 3}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UsageError):
        SimulatedProstate.find(None, **settings)


@pytest.mark.parametrize(
    "name",
    ["HK/Case00/001", "sim-HK/Case12/001", "sim-HK/Case00/003", "sim-HK/Case00/x", "sim-HK/Case00", "sim-HK/x/001"],
)
def test_a_case_of_another_dataset_is_refused(name):
    with pytest.raises(DataError, match="is no case of prostate-simulated"):
        SMALL.read(Case(name, name.split("/")[0], "x"))


def test_it_says_that_it_is_simulated():
    assert SimulatedProstate.simulated
    assert Prostate.stand_in == SimulatedProstate.name
    assert all("simulated" in reference for reference in SimulatedProstate.citation.values())


def test_a_patient_s_pictures_have_one_extent_near_that_of_the_site():
    dataset = SimulatedProstate(slices=2)
    for site in dataset.sites:
        one, other, another = dataset.cases(site)[:3]
        assert one.volume == other.volume != another.volume
        assert dataset.extent(one) == dataset.extent(other) != dataset.extent(another)
        height, width = dataset.extent(one)
        assert height == width
        assert 0.9 * STYLES[site].view < height < 1.1 * STYLES[site].view
