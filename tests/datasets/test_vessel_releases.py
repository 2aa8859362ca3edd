"""The open part of the real data, where it lies beside the checkout: counts and measured figures."""

from pathlib import Path

import numpy as np
import pytest

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
