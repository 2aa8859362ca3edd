"""Real vessel data, where it lies beside the checkout: counts, measured figures, and originals to the pixel."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pflbench.importing import import_release
from pflbench_datasets.vessel import Vessel

FOLDER = Path(__file__).parents[2].parent / "shared/data/vessel_open_256"
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason="the open vessel sites do not lie beside the checkout")

# mean colour inside the field of view and share of vessel pixels, measured once by other code
FIGURES = {"CHASEDB1": ((167, 61, 10), 0.075), "HRF": ((187, 60, 31), 0.081)}


@pytest.fixture(scope="module")
def vessel() -> Vessel:
    found = Vessel.find(FOLDER)
    assert found is not None
    return found


@needs_data
@pytest.mark.parametrize(("site", "counts"), [("CHASEDB1", (20, 8)), ("HRF", (15, 30))])
def test_real_sites_have_the_paper_s_counts(vessel, site, counts):
    splits = [case.split for case in vessel.cases(site)]
    assert (splits.count("train"), splits.count("test")) == counts == vessel.expected[site]


@needs_data
def test_chase_has_fourteen_children_none_in_two_splits(vessel):
    owners = {(case.subject, case.split) for case in vessel.cases("CHASEDB1")}
    assert len(owners) == len({subject for subject, _ in owners}) == 14


@needs_data
@pytest.mark.parametrize("site", FIGURES)
def test_real_sites_look_as_measured(vessel, site):
    read = [vessel.read(case) for case in vessel.cases(site)]
    colour = np.mean([image[:, image.max(axis=0) > 30].mean(axis=1) for image, _ in read], axis=0)
    share = np.mean([mask.mean() for _, mask in read])
    np.testing.assert_allclose(colour, FIGURES[site][0], atol=1.0)
    assert share == pytest.approx(FIGURES[site][1], abs=0.0006)


# untouched originals


ORIGINALS = FOLDER.with_name("vessel_originals_sample")
needs_originals = pytest.mark.skipif(not ORIGINALS.is_dir(), reason="no originals lie beside the checkout")


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Vessel:
    root = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PFLBENCH_CACHE", str(root / "cache"))
        import_release(Vessel, [ORIGINALS / "CHASEDB1", ORIGINALS / "HRF"], root)
    found = Vessel.find(root)
    assert found is not None
    return found


@needs_originals
def test_originals_are_known_with_their_split(originals):
    cases = [case for site in originals.available() for case in originals.cases(site)]
    assert [(case.id, case.subject, case.split) for case in cases] == [
        ("CHASEDB1/Image_01L", "01", "train"),
        ("CHASEDB1/Image_01R", "01", "train"),
        ("CHASEDB1/Image_14L", "14", "test"),
        ("CHASEDB1/Image_14R", "14", "test"),
        ("HRF/11_dr", "11_dr", "train"),
        ("HRF/01_dr", "01_dr", "test"),
        ("HRF/01_g", "01_g", "test"),
    ]


@needs_originals
def test_an_original_without_its_label_is_left_out_and_a_rebuilt_one_not_taken(originals):
    assert "HRF: 1 image without a label is left out: 11_h.jpg." in originals.remarks()


def lit(file: Path) -> np.ndarray:
    """Read an original label another way: from its raw bytes, eight pixels in each where it has one bit per pixel."""
    with Image.open(file) as picture:
        width, height = picture.size
        rows = np.frombuffer(picture.tobytes(), np.uint8).reshape(height, -1)
        assert picture.mode in ("1", "L")
        return (np.unpackbits(rows, axis=1)[:, :width] if picture.mode == "1" else rows) > 0


@needs_originals
@pytest.mark.parametrize(("labels", "observers"), [("first", "1"), ("second", "2"), ("union", "12")])
def test_labels_of_both_observers_of_chase(originals, labels, observers):
    suffixes = {"1": "_1stHO.png", "2": "_2ndHO.png"}
    vessel = replace(originals, chase_labels=labels)
    for case in vessel.cases("CHASEDB1"):
        name = case.id.rpartition("/")[2]
        truth = sum(lit(ORIGINALS / "CHASEDB1" / f"{name}{suffixes[one]}").astype(int) for one in observers) > 0
        image, mask = vessel.read(case)
        assert image.shape == (3, 960, 999)
        np.testing.assert_array_equal(mask, truth)


@needs_originals
def test_labels_of_hrf_are_read_to_the_pixel(originals):
    for case in originals.cases("HRF"):
        image, mask = originals.read(case)
        assert image.shape == (3, 2336, 3504)
        np.testing.assert_array_equal(mask, lit(ORIGINALS / "HRF/manual1" / f"{case.id.rpartition('/')[2]}.tif"))


@needs_originals
def test_every_file_of_the_originals_is_known(originals):
    for site, stored in originals.store.sites.items():
        hashes = {file.sha256[:16] for roles in stored.files.values() for file in roles.values()}
        assert hashes <= Vessel.known_hashes()[site]


@needs_originals
def test_a_changed_original_is_not_known():
    content = (ORIGINALS / "CHASEDB1/Image_01L.jpg").read_bytes()
    found = [hashlib.sha256(one).hexdigest()[:16] for one in (content, content + b"\0")]
    assert [one in Vessel.known_hashes()["CHASEDB1"] for one in found] == [True, False]
