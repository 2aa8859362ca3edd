"""What the package offers to the core, and that each class constant is there."""

import pytest

import pflbench_datasets

DATASETS = pflbench_datasets.pflbench_datasets()


def test_offers_two_datasets_and_two_partitioners():
    assert [cls.name for cls in DATASETS] == ["vessel", "vessel-simulated"]
    assert [cls.name for cls in pflbench_datasets.pflbench_partitioners()] == ["natural", "dirichlet"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_site_has_licence_citation_and_counts(dataset):
    for constant in (dataset.licence, dataset.citation, dataset.expected):
        assert list(constant) == list(dataset.sites)
    assert dataset.default_preset in dataset.presets
    assert {"paper", "quick"} <= set(dataset.presets)


def test_the_stand_in_is_simulated_and_offered():
    by_name = {cls.name: cls for cls in DATASETS}
    assert by_name[by_name["vessel"].stand_in].simulated
