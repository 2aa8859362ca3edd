"""What a trial keeps of its test cases: what was found in each, and, beside the trials, the images themselves."""

import shutil

import numpy as np
import pytest

import pflbench
from pflbench.results import ResultsError, find_trials

SETTINGS = {"recipe.rounds": 2, "recipe.epochs": 1, "recipe.base_width": 2}
SETTINGS |= {"recipe.image_height": 32, "recipe.image_width": 32, "recipe.precision": "float32"}
SITES = ("sim-CHASEDB1", "sim-LES-AV")


def run(out, **options):
    with pytest.warns(UserWarning, match="SIMULATED"):
        pflbench.run(
            ["fedavg", "local"], "vessel-simulated", 2, settings=SETTINGS, sites=SITES, jobs=1, out=out, **options
        )
    return find_trials([out])[0]


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return run(tmp_path_factory.mktemp("kept") / "runs")


def dice(found, mask):
    both = np.logical_and(found, mask).sum()
    return 2 * both / (found.sum() + mask.sum()) if found.any() or mask.any() else 1.0


def test_the_scores_follow_from_what_was_kept(trials):
    for trial in trials:
        cases, pictures = trial.table("cases").query("chosen == 'best'"), trial.pictures()
        for client, found in trial.predictions().items():
            rows = cases[cases["client"] == client]
            assert found.shape == (len(rows), 32, 32)
            again = [dice(mask, pictures[case].mask) for mask, case in zip(found, rows["case"], strict=True)]
            assert again == pytest.approx(rows["dice"].to_list(), abs=1e-12)


def test_the_pictures_are_those_of_the_dataset(trials):
    from pflbench.pixels import resize_image
    from pflbench_datasets.simulated import SimulatedVessel

    dataset, pictures = SimulatedVessel(), trials[0].pictures()
    cases = [case for site in SITES for case in dataset.cases(site) if case.split == "test"]
    assert set(pictures) == {case.id for case in cases}
    for case in cases[::4]:
        assert np.array_equal(pictures[case.id].image, resize_image(dataset.read(case)[0], 32, 32))
        assert pictures[case.id].extent is None


def test_trials_with_the_same_test_cases_share_their_pictures(trials):
    folder = trials[0].folder.parent / "pictures"
    assert [path.suffix for path in folder.iterdir() if path.name != ".lock"] == [".npz"]
    assert len(trials) == 4


def test_without_the_pictures_the_predictions_are_still_there(trials, tmp_path):
    shutil.copytree(trials[0].folder, tmp_path / "alone")
    [alone] = find_trials([tmp_path])[0]
    assert alone.pictures() is None
    assert alone.predictions().keys() == trials[0].predictions().keys()


def test_pictures_are_not_kept_where_that_is_asked(tmp_path):
    made = run(tmp_path / "runs", pictures=False)
    assert not (tmp_path / "runs" / "pictures").exists()
    assert made[0].pictures() is None
    assert made[0].predictions()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and then nothing", b"not a zip at all"])
def test_a_broken_file_is_named(trials, tmp_path, content):
    shutil.copytree(trials[0].folder, tmp_path / "broken")
    (tmp_path / "broken" / "predictions.npz").write_bytes(content)
    [broken] = find_trials([tmp_path])[0]
    with pytest.raises(ResultsError, match=r"predictions\.npz cannot be read"):
        broken.predictions()


def test_nothing_is_unpickled(trials, tmp_path):
    shutil.copytree(trials[0].folder, tmp_path / "foreign")
    np.savez(tmp_path / "foreign" / "predictions.npz", clients=np.array([{"a": 1}], dtype=object))
    [foreign] = find_trials([tmp_path])[0]
    with pytest.raises(ResultsError, match=r"predictions\.npz cannot be read"):
        foreign.predictions()
