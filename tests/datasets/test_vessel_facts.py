"""Facts of the vessel sites: each has all of them, and the list of known originals is what it says."""

import re

import pytest

from pflbench_datasets.vessel import Vessel


@pytest.mark.parametrize("site", Vessel.sites)
def test_every_site_says_whose_it_is_and_how_to_get_it(site):
    assert Vessel.licence[site]
    assert Vessel.citation[site]
    assert Vessel.addresses[site].startswith("https://")
    assert "pflbench data import vessel --from" in Vessel.instructions[site]
    assert "account" in Vessel.instructions[site]


def test_only_what_its_licence_lets_anyone_fetch_is_downloaded():
    assert set(Vessel.downloads) == {"CHASEDB1", "HRF", "LES-AV"}
    for download in Vessel.downloads.values():
        assert download.url.startswith("https://")
        assert re.fullmatch(r"[\w-]+\.zip", download.name)


def test_known_originals_are_counted_by_what_the_releases_hold():
    """Images and labels; fields of view of DRIVE, HRF and LES-AV; DR-HAGIS has two equal pictures.

    ICPRVessels adds what it changed: the 28 labels of CHASE, and DRIVE, 40 images and 40 labels, as JPEG.
    """
    counts = {site: len(hashes) for site, hashes in Vessel.known_hashes().items()}
    assert counts == {
        "CHASEDB1": 28 * 3 + 28,
        "DR-HAGIS": 40 * 2 - 1,
        "DRIVE": 40 * 3 + 40 * 2,
        "HRF": 45 * 3,
        "LES-AV": 22 * 3,
        "ORVS": 49 * 2,
    }


def test_known_hashes_are_sixteen_digits():
    for hashes in Vessel.known_hashes().values():
        assert all(re.fullmatch(r"[0-9a-f]{16}", found) for found in hashes)
