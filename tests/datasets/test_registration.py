"""What the package offers to the core, and that each class constant is there."""

import pytest

import pflbench_datasets

DATASETS = pflbench_datasets.pflbench_datasets()
BY_NAME = {cls.name: cls for cls in DATASETS}


def test_offers_the_three_federations_their_stand_ins_and_own_data():
    assert list(BY_NAME) == [
        "vessel", "prostate", "gland", "folder", "vessel-simulated", "prostate-simulated", "gland-simulated",
    ]  # fmt: skip


def test_offers_these_partitioners():
    names = [cls.name for cls in pflbench_datasets.pflbench_partitioners()]
    assert names == ["natural", "iid", "dirichlet", "quantity", "few", "leave-one-site-out", "trait"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_site_has_licence_and_citation(dataset):
    for constant in (dataset.licence, dataset.citation):
        assert list(constant) == [*dataset.sites, *dataset.public_sites]
    assert dataset.default_preset in dataset.presets
    assert {"paper", "quick"} <= set(dataset.presets)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_site_that_can_be_had_has_a_count_to_compare_with(dataset):
    counted = {**dataset.expected, **dataset.expected_subjects}
    assert set(counted) == set(dataset.sites) - set(dataset.optional_sites)


@pytest.mark.parametrize("dataset", [cls for cls in DATASETS if not cls.simulated])
def test_every_real_site_has_an_address_or_instructions(dataset):
    assert set(dataset.sites) == set(dataset.addresses) | set(dataset.instructions)
    assert set(dataset.downloads) <= set(dataset.sites)


@pytest.mark.parametrize("name", ["vessel", "prostate", "gland"])
def test_the_stand_in_is_simulated_and_offered(name):
    assert BY_NAME[BY_NAME[name].stand_in].simulated
    assert len(BY_NAME[BY_NAME[name].stand_in].sites) == len(BY_NAME[name].sites)
