"""Data of one's own in both layouts: from the files to the pixels of a task, and what is refused on the way."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pflbench.api import Case, DataError, Recipe, UsageError
from pflbench.task import chosen_sites, locate, open_source, open_task
from pflbench_datasets.folder import Folder
from pflbench_datasets.partitioners import Natural

HERE = Path(__file__).resolve()
OPEN_256 = HERE.parents[2].parent / "shared/data/vessel_open_256"

_spec = importlib.util.spec_from_file_location("folder_make", HERE.parents[1] / "data/folder/make.py")
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)

RECIPE = Recipe(image_height=make.HEIGHT, image_width=make.WIDTH, rounds=1)


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    return make.write_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    return make.write_table(tmp_path_factory.mktemp("table"))


@pytest.fixture
def site(tmp_path) -> Path:
    """Return a site with a picture for training and one for testing."""
    for split, number in (("train", 0), ("test", 1)):
        add(tmp_path / "own" / "A" / split, f"{number}_a", number)
    return tmp_path / "own" / "A"


def add(folder: Path, stem: str, number: int = 0, suffix: str = ".png") -> None:
    shape = make.truth(number)
    make.save(make.colour(shape, number), folder / "images" / f"{stem}{suffix}")
    make.save((shape * 255).astype(np.uint8), folder / "masks" / f"{stem}.png")


def opened(root: Path, **options) -> Folder:
    found = Folder.find(root, **options)
    assert found is not None
    return found


def cases(root: Path, site: str, **options) -> list[Case]:
    return list(opened(root, **options).cases(site))


def number_of(case: Case) -> int:
    return int(re.search(r"[ps](\d)", case.id)[1])


@pytest.mark.parametrize("name", make.TREE)
def test_every_format_in_folders_gives_the_mask_that_was_written(tree, name):
    found = opened(tree)
    for case in found.cases(name):
        image, mask = found.read(case)
        assert (image.shape, image.dtype, mask.dtype) == ((3, make.HEIGHT, make.WIDTH), np.uint8, np.uint8)
        np.testing.assert_array_equal(mask, make.truth(number_of(case)))


@pytest.mark.parametrize("name", ["Coast", "Moor", "Port", "Reef"])
def test_bytes_stored_without_loss_are_read_as_they_are(tree, name):
    found = opened(tree)
    for case in found.cases(name):
        number = number_of(case)
        expected = make.colour(make.truth(number), number).transpose(2, 0, 1)
        np.testing.assert_array_equal(found.read(case)[0], expected)


@pytest.mark.parametrize("name", make.TABLE)
def test_every_format_in_a_table_gives_the_mask_that_was_written(table, name):
    found = opened(table)
    for case in found.cases(name):
        image, mask = found.read(case)
        number, k = number_of(case), int(case.id[-3:]) if case.volume else 0
        assert image.shape == (1, make.HEIGHT, make.WIDTH)
        np.testing.assert_array_equal(mask, make.truth(number + k))


def test_deep_values_run_from_their_minimum_to_their_99th_percentile_over_the_whole_volume(table):
    found = opened(table)
    volume = make.grey(make.truth_volume(1), 1).astype(float)
    low, high = volume.min(), np.percentile(volume, 99)
    expected = np.clip((volume - low) / (high - low), 0, 1) * 255
    for case in (case for case in found.cases("Scan") if case.subject == "s1"):
        plane = found.read(case)[0][0]
        np.testing.assert_allclose(plane, expected[:, :, int(case.id[-3:])].T, atol=0.51)


def test_sites_splits_and_subjects_of_folders(tree):
    found = opened(tree)
    assert list(found.available()) == sorted(make.TREE)
    for name in set(make.TREE) - {make.UNSPLIT}:
        assert [case.split for case in found.cases(name)] == ["train", "train", "val", "test"]
    assert {case.split for case in found.cases(make.UNSPLIT)} == {None}
    assert len({case.subject for case in found.cases("Coast")}) == 4


def test_a_table_keeps_the_order_of_sites_and_carries_subjects_splits_and_traits(table):
    found = opened(table)
    assert list(found.available()) == list(make.TABLE)
    planes = found.cases("Plane")
    assert [(case.subject, case.split) for case in planes] == [
        (f"s{number}", split) for number, split in enumerate(make.TABLE_SPLITS)
    ]
    assert [dict(case.traits) for case in planes] == [{}, {"scanner": "1.5T"}, {}, {"scanner": "1.5T"}]


def test_a_table_is_found_by_its_name_or_as_the_only_one_of_its_folder(table):
    (table.parent / "readme.csv").write_text("weight,height\n1,2\n")
    inner, outer = opened(table), opened(table.parent)
    assert [inner.cases(name) for name in make.TABLE] == [outer.cases(name) for name in make.TABLE]


def test_only_slices_with_foreground_are_cases_unless_all_are_asked_for(table):
    assert [case.id[-3:] for case in cases(table, "Scan")[:3]] == ["001", "002", "003"]
    everything = opened(table, slices="all")
    found = everything.cases("Scan")
    assert len(found) == 4 * make.DEPTH
    assert not everything.read(found[0])[1].any()


def test_slices_of_a_volume_share_its_subject_and_name(table):
    found = cases(table, "Array")
    assert {(case.volume, case.subject) for case in found} == {(f"s{n}/scan", f"s{n}") for n in range(4)}


@pytest.mark.parametrize(("layout", "channels"), [("tree", 3), ("table", 1)])
def test_a_task_is_opened_from_files_to_pixels(layout, channels, request, tmp_path, monkeypatch):
    monkeypatch.setenv("PFLBENCH_CACHE", str(tmp_path))
    dataset = locate(Folder, lambda _: Folder, request.getfixturevalue(layout))
    source = open_source(dataset, chosen_sites(dataset, None), Natural())
    task = open_task(source, RECIPE, 0, "cpu")
    assert task.card.channels == channels
    for client, split in source.splits(RECIPE, 0).items():
        masks = task.clients[client].training.masks.numpy()
        expected = [
            make.truth(number_of(case) + (int(case.id[-3:]) if case.volume else 0))[None] for case in split.train
        ]
        np.testing.assert_array_equal(masks, np.stack(expected))
        assert task.clients[client].training.images.shape[1:] == (channels, make.HEIGHT, make.WIDTH)
        assert len(task.clients[client].held_out["test"].images) == len(split.test) > 0


# layouts


def test_nothing_is_found_where_neither_layout_is(tmp_path):
    (tmp_path / "A" / "pictures").mkdir(parents=True)
    (tmp_path / "patients.csv").write_text("age,weight\n1,2\n")
    (tmp_path / "notes.txt").write_text("site,subject,split,image,mask\n")
    for folder in (None, tmp_path, tmp_path / "missing", tmp_path / "notes.txt"):
        assert Folder.find(folder) is None


def test_folder_names_may_be_capitalised(tmp_path):
    add(tmp_path / "A" / "Train", "1")
    (tmp_path / "A" / "Train" / "images").rename(tmp_path / "A" / "Train" / "Images")
    (tmp_path / "A" / "Train" / "masks").rename(tmp_path / "A" / "Train" / "Masks")
    assert [case.id for case in cases(tmp_path, "A")] == ["A/train/1"]


def test_the_same_number_in_two_splits_is_two_subjects(site):
    add(site / "test", "0_a")
    assert [case.subject for case in cases(site.parent, "A")] == ["train/0_a", "test/0_a", "test/1_a"]


def test_subjects_are_found_in_names_by_an_expression(site):
    add(site / "train", "0_b")
    assert [case.subject for case in cases(site.parent, "A", subject=r"(\d+)_")] == ["0", "0", "1"]


def test_a_subject_in_two_splits_is_named_with_both_files(site):
    add(site / "test", "0_b")
    with pytest.raises(DataError, match=r"subject '0' of A is in train \(.*0_a\.png\) and in test \(.*0_b\.png\)"):
        cases(site.parent, "A", subject=r"(\d+)_")


def test_a_name_that_the_expression_does_not_fit_is_named(site):
    with pytest.raises(DataError, match=r"0_a\.png does not fit folder\.subject"):
        cases(site.parent, "A", subject=r"patient(\d+)")


@pytest.mark.parametrize(
    ("pattern", "sentence"), [("(", "no regular expression"), (r"\d+_", "0 groups"), (r"(\d)(\d)", "2 groups")]
)
def test_an_expression_without_exactly_one_group_is_refused(site, pattern, sentence):
    with pytest.raises(UsageError, match=rf"folder\.subject.*{sentence}"):
        Folder.find(site.parent, subject=pattern)


def test_an_expression_is_not_dropped_where_a_table_names_the_subjects(table):
    with pytest.raises(UsageError, match=r"folder\.subject is for folders; .*own\.csv has a column subject"):
        cases(table, "Scan", subject=r"s(\d)")


def test_a_site_without_masks_is_named(site):
    for file in (site / "train" / "masks").iterdir():
        file.unlink()
    (site / "train" / "masks").rmdir()
    with pytest.raises(DataError, match=r"train.masks is missing"):
        cases(site.parent, "A")


def test_an_empty_folder_of_images_is_named(site):
    (site / "train" / "images" / "0_a.png").unlink()
    with pytest.raises(DataError, match=r"train.images holds no .*allowed are"):
        cases(site.parent, "A")


def test_a_split_of_another_name_is_not_passed_over(site):
    (site / "test").rename(site / "validation")
    with pytest.raises(DataError, match=r"A.validation is no split; call it train, val or test"):
        cases(site.parent, "A")


def test_images_beside_splits_are_not_passed_over(site):
    add(site, "2_a")
    with pytest.raises(DataError, match="has both splits and images beside them"):
        cases(site.parent, "A")


def test_sites_that_differ_in_letter_case_only_are_refused(site):
    add(site.parent / "a" / "train", "1_a")
    with pytest.raises(DataError, match="is of site 'a', but there is a 'A'"):
        opened(site.parent).available()


def test_folders_that_are_no_site_are_remarked_on(site):
    (site.parent / "B" / "pictures").mkdir(parents=True)
    assert "The folder B holds no images and masks and is left out." in opened(site.parent).remarks()


def test_readers_of_results_are_told_what_was_taken_for_what(tree, table):
    def told(root, **options):
        return " ".join(opened(root, **options).remarks())

    assert "Every file counts as a person" in told(tree)
    assert "person" not in told(tree, subject=r"p(\d)") + told(table)
    assert "their slices with foreground are cases" in told(table)
    assert "all their slices are cases" in told(table, slices="all")
    assert "Volumes" not in told(tree)
    assert "Foreground is label 1 " in told(tree, foreground=1)


def test_an_unknown_site_and_a_foreign_case_are_refused(site):
    found = opened(site.parent)
    with pytest.raises(DataError, match=r"has no site 'B'; here are A"):
        found.cases("B")
    for case in (Case("A/train/9", "A", "9"), Case("A/train/0_a/x", "A", "0", volume="train/0_a")):
        with pytest.raises(DataError, match="is no case of"):
            found.read(case)


# colour


def test_grey_is_chosen_where_every_site_starts_grey(site):
    shape = make.truth(0)
    for split, stem in (("train", "0_a"), ("test", "1_a")):
        make.save(make.grey(shape, 0), site / split / "images" / f"{stem}.png")
    assert opened(site.parent).image_channels() == 1
    assert opened(site.parent, colour="rgb").image_channels() == 3
    add(site.parent / "B" / "train", "1_a")
    assert opened(site.parent).image_channels() == 3


def test_a_coloured_picture_among_grey_ones_needs_a_word(site):
    make.save(make.grey(make.truth(0), 0), site / "train" / "images" / "0_a.png")
    found = opened(site.parent)
    assert found.image_channels() == 1
    with pytest.raises(DataError, match=r"1_a\.png is in colour.*folder\.colour=grey or folder\.colour=rgb"):
        found.read(found.cases("A")[1])
    asked = opened(site.parent, colour="grey")
    weights = [0.299, 0.587, 0.114]  # ITU-R 601, of red, green and blue
    expected = make.colour(make.truth(1), 1) @ np.array(weights)
    np.testing.assert_allclose(asked.read(asked.cases("A")[1])[0][0], expected, atol=1)


def test_grey_pictures_fill_three_channels_where_colour_is_asked_for(table):
    found = opened(table, colour="rgb")
    for name in ("Scan", "Film"):
        image, _ = found.read(found.cases(name)[0])
        assert image.shape[0] == 3
        assert (image == image[0]).all()


# digest


@pytest.mark.parametrize("part", ["images", "masks"])
def test_the_digest_follows_both_files_and_nothing_else(site, part):
    found = opened(site.parent)
    case = found.cases("A")[0]
    before = found.digest(case)
    add(site / "train", "5_a")
    assert opened(site.parent).digest(case) == before
    Image.new("RGB", (make.WIDTH, make.HEIGHT), (9, 9, 9)).save(site / "train" / part / "0_a.png")
    assert opened(site.parent).digest(case) != before


def test_the_digest_follows_slice_colour_and_foreground(table):
    first, second = cases(table, "Scan")[:2]
    digests = {opened(table).digest(first), opened(table).digest(second)}
    digests |= {opened(table, colour="rgb").digest(first), opened(table, foreground=1).digest(first)}
    assert len(digests) == 4


def test_the_dataset_can_be_sent_to_another_process(table):
    import pickle

    found = opened(table)
    case = found.cases("Scan")[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).read(case)[1], found.read(case)[1])


@pytest.mark.skipif(not OPEN_256.is_dir(), reason="the open vessel images are not beside this checkout")
def test_real_images_in_folders_are_read_as_they_lie():
    found = opened(OPEN_256, subject=r"^(?:Image_)?(\d+)")
    chase = found.cases("CHASEDB1")
    assert (len(chase), len({case.subject for case in chase})) == (28, 14)
    for case in (chase[0], found.cases("HRF")[-1]):
        _, split, stem = case.id.split("/")
        image, mask = found.read(case)
        folder = OPEN_256 / case.site / split
        np.testing.assert_array_equal(
            image, np.asarray(Image.open(folder / "images" / f"{stem}.png").convert("RGB")).transpose(2, 0, 1)
        )
        np.testing.assert_array_equal(mask, np.asarray(Image.open(folder / "masks" / f"{stem}.png").convert("L")) > 127)
