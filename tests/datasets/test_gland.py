"""MGD-1K as its repository holds it, with its quirks; LFSC beside it; what does not fit is named."""

import importlib.util
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pflbench.api import Case, DataError, UsageError
from pflbench.importing import import_release
from pflbench.partition import divide
from pflbench.recipe import Recipe
from pflbench.unpack import open_files
from pflbench_datasets.gland import Gland

_SPEC = importlib.util.spec_from_file_location("make_gland", Path(__file__).parents[1] / "data/gland/make.py")
release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(release)

PATIENTS = 8
IMAGES, LABELS, EYELIDS = (f"{release.EXPLORE}/{name}" for name in ("Original Images", release.GLANDS, release.LIDS))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PFLBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clone(tmp_path):
    return release.write(tmp_path / "given", PATIENTS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The one site of a release with all of its 1,000 pictures."""
    return recognised(release.write(tmp_path_factory.mktemp("whole")))["MGD-1K"]


def recognised(source):
    return {found.site: found for found in Gland.recognise(open_files(source, source.parent / "unpacked"))}


def imported(source, into, **options):
    import_release(Gland, [source], into)
    return Gland.find(into, **options)


def label(clone, stem, folder=LABELS):
    return clone / folder / f"{stem}.png"


def picture(clone, stem):
    (file,) = (file for file in (clone / IMAGES).iterdir() if file.stem == stem)
    return file


# what is recognised


def test_the_whole_release_has_the_counts_of_the_real_one(whole):
    kinds = Counter((item.traits["eye"], item.traits["lid"]) for item in whole.items)
    assert kinds == {("OD", "lower"): 276, ("OD", "upper"): 258, ("OS", "lower"): 257, ("OS", "upper"): 209}
    pictures = Counter(item.subject for item in whole.items)
    assert len(pictures) == Gland.expected_subjects["MGD-1K"] == 338
    assert Counter(pictures.values()) == {1: 34, 2: 74, 3: 102, 4: 128}
    assert whole.remarks == ()


def test_suffixes_in_small_and_capital_letters_are_pictures(clone):
    suffixes = Counter(item.files["image"].suffix for item in recognised(clone)["MGD-1K"].items)
    assert suffixes == {".JPG": len(release.stems(PATIENTS)) - 1, ".jpg": 1}


def test_a_lid_that_was_taken_twice_is_two_cases_of_one_patient(clone):
    items = {item.id: item for item in recognised(clone)["MGD-1K"].items}
    first, second = items[release.TWICE], items[f"{release.TWICE}_001"]
    assert first.subject == second.subject == "14933989"
    assert first.files["mask"] != second.files["mask"]


def test_every_picture_goes_with_the_labels_of_its_own_name(clone):
    for item in recognised(clone)["MGD-1K"].items:
        assert {role: file.stem for role, file in item.files.items()} == dict.fromkeys(
            ("image", "mask", "eyelid"), item.id
        )
        assert f"{item.traits['eye']}_{item.traits['lid'].upper()}" in item.id
        assert re.search(rf"_{item.subject}(_001)?$", item.id)
        assert item.split is None


def test_nothing_of_it_in_other_folders(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "a/Image_01L.jpg")
    assert recognised(tmp_path / "a") == {}


def test_what_lacks_its_partner_is_named_and_left_out(clone):
    bare, orphan, *_ = release.stems(PATIENTS)[2:]
    label(clone, bare).unlink()
    picture(clone, orphan).unlink()
    found = recognised(clone)["MGD-1K"]
    assert {bare, orphan}.isdisjoint(item.id for item in found.items)
    assert len(found.items) == len(release.stems(PATIENTS)) - 2
    text = " ".join(found.remarks)
    assert f"1 pictures without a gland label ({bare})" in text
    assert f"1 gland labels without a picture ({orphan})" in text


def test_a_long_list_of_names_is_cut_short(clone):
    for stem in release.stems(PATIENTS)[:7]:
        label(clone, stem).unlink()
    (remark,) = recognised(clone)["MGD-1K"].remarks
    assert len(re.findall("DMI_", remark)) == 5
    assert "and 2 more" in remark


def test_a_picture_whose_name_tells_no_patient_is_named_and_left_out(clone):
    stem = release.stems(PATIENTS)[4]
    odd = stem.replace("_OD_", "_XX_").replace("_OS_", "_XX_")
    picture(clone, stem).rename(clone / IMAGES / f"{odd}.JPG")
    label(clone, stem).rename(label(clone, odd))
    found = recognised(clone)["MGD-1K"]
    assert len(found.items) == len(release.stems(PATIENTS)) - 1
    assert f"1 pictures whose names do not tell eye, lid and patient ({odd})" in " ".join(found.remarks)


def test_without_the_folder_of_labels_the_zip_that_holds_them_is_named(clone):
    shutil.rmtree(clone / LABELS)
    with pytest.raises(DataError, match=r"no gland label.*Download Dataset by Category/Meibomian Gland Labels\.zip"):
        recognised(clone)
    shutil.rmtree(clone / release.BY_CATEGORY)
    with pytest.raises(DataError, match="no gland label of any of them; put them into the folder 'Meibomian Gland"):
        recognised(clone)


def test_labels_that_were_unpacked_into_a_folder_of_the_same_name_are_found(clone):
    for folder in (LABELS, EYELIDS):
        (clone / folder).rename(clone / "moved")
        (clone / folder).mkdir()
        (clone / "moved").rename(clone / folder / Path(folder).name)
    found = recognised(clone)["MGD-1K"]
    assert len(found.items) == len(release.stems(PATIENTS))
    assert all("eyelid" in item.files for item in found.items)


def test_of_two_labels_of_one_name_the_one_beside_the_pictures_counts(clone):
    shutil.copytree(clone / LABELS, clone / release.BY_CATEGORY / release.GLANDS)
    for item in recognised(clone)["MGD-1K"].items:
        assert item.files["mask"].parent == clone / LABELS


# LFSC


@pytest.mark.parametrize("folder", ["LFSC", "private/lfsc/2021", "a/LFSC"])
def test_the_same_layout_below_a_folder_of_that_name_is_lfsc(tmp_path, folder):
    release.write(tmp_path / "given" / folder, 3)
    assert list(recognised(tmp_path / "given")) == ["LFSC"]


def test_the_folder_or_archive_itself_may_be_called_lfsc(tmp_path):
    clone = release.write(tmp_path, 3)
    assert list(recognised(clone.rename(tmp_path / "LFSC"))) == ["LFSC"]
    shutil.make_archive(str(tmp_path / "zipped/LFSC"), "zip", tmp_path / "LFSC")
    assert list(recognised(tmp_path / "zipped/LFSC.zip")) == ["LFSC"]


def test_a_folder_that_only_contains_the_name_is_not_lfsc(tmp_path):
    release.write(tmp_path / "given/without-LFSC", 3)
    assert list(recognised(tmp_path / "given")) == ["MGD-1K"]


def test_both_sites_side_by_side_keep_files_and_patients_apart(tmp_path):
    release.write(tmp_path / "given", 4)
    release.write(tmp_path / "given/LFSC", 3, seed=1)
    dataset = imported(tmp_path / "given", tmp_path / "store")
    assert dataset.available() == ("LFSC", "MGD-1K")
    sizes = {site: len(dataset.cases(site)) for site in dataset.sites}
    assert sizes == {"LFSC": len(release.stems(3)), "MGD-1K": len(release.stems(4))}
    one, other = (Case(f"{site}/{release.TWICE}", site, "14933989") for site in dataset.sites)
    assert not np.array_equal(dataset.read(one)[0], dataset.read(other)[0])


def test_lfsc_need_not_be_there(clone, tmp_path):
    dataset = imported(clone, tmp_path / "store")
    assert dataset.available() == ("MGD-1K",)
    assert set(dataset.sites) - set(dataset.optional_sites) == {"MGD-1K"}
    assert "LFSC is private" in " ".join(dataset.remarks())


# what is read


def test_a_picture_is_grey_with_one_channel(clone, tmp_path):
    dataset = imported(clone, tmp_path / "store")
    case = dataset.cases("MGD-1K")[3]
    image, mask = dataset.read(case)
    stored = np.asarray(Image.open(picture(clone, case.id.split("/")[1])))
    assert stored.shape == (32, 64, 3)
    np.testing.assert_array_equal(image[0], stored[..., 1])
    assert (image.shape, mask.shape, image.dtype, mask.dtype) == ((1, 32, 64), (32, 64), np.uint8, np.uint8)


def test_grey_edges_of_labels_are_cut_in_the_middle(clone, tmp_path):
    greys = np.zeros((32, 64), np.uint8)
    greys[5, :5] = [1, 127, 128, 252, 255]
    stem = release.stems(PATIENTS)[0]
    Image.fromarray(greys).save(label(clone, stem))
    dataset = imported(clone, tmp_path / "store")
    _, mask = dataset.read(Case(f"MGD-1K/{stem}", "MGD-1K", "14933989"))
    assert mask[5, :5].tolist() == [0, 0, 1, 1, 1]
    assert mask.sum() == 3


def test_labels_whose_white_is_252_and_labels_without_greys_are_read(clone, tmp_path):
    """The made release holds what the real one does; each label is wholly read, whatever its white."""
    dataset = imported(clone, tmp_path / "store")
    whites = Counter()
    for case in dataset.cases("MGD-1K"):
        values = np.asarray(Image.open(label(clone, case.id.split("/")[1])))
        whites[int(values.max())] += 1
        assert dataset.read(case)[1].sum() == (values > 127).sum() > 50
    assert whites[252] == 3


def test_the_eyelid_can_be_the_target(clone, tmp_path):
    glands = imported(clone, tmp_path / "store")
    eyelid = Gland.find(tmp_path / "store", target="eyelid")
    for case in eyelid.cases("MGD-1K"):
        _, mask = eyelid.read(case)
        expected = np.asarray(Image.open(label(clone, case.id.split("/")[1], EYELIDS))) > 127
        np.testing.assert_array_equal(mask, expected)
        assert glands.digest(case) != eyelid.digest(case)
    assert "of the eyelid" in " ".join(eyelid.remarks())
    assert "of the eyelid" not in " ".join(glands.remarks())


def test_pictures_without_an_eyelid_label_are_cases_of_the_glands_only(clone, tmp_path):
    stem = release.stems(PATIENTS)[6]
    label(clone, stem, EYELIDS).unlink()
    dataset = imported(clone, tmp_path / "store")
    ids = {case.id for case in dataset.cases("MGD-1K")}
    without = {case.id for case in Gland.find(tmp_path / "store", target="eyelid").cases("MGD-1K")}
    assert ids - without == {f"MGD-1K/{stem}"}
    assert stem in " ".join(dataset.store.sites["MGD-1K"].remarks)


def test_the_eyelid_is_refused_where_no_label_of_it_was_imported(clone, tmp_path):
    shutil.rmtree(clone / EYELIDS)
    imported(clone, tmp_path / "store")
    with pytest.raises(DataError, match="no label of the eyelid for MGD-1K"):
        Gland.find(tmp_path / "store", target="eyelid").cases("MGD-1K")


def test_digest_follows_image_and_label(clone, tmp_path):
    dataset = imported(clone, tmp_path / "store")
    before = {case.id: dataset.digest(case) for case in dataset.cases("MGD-1K")}
    assert len(set(before.values())) == len(before)
    changed = release.stems(PATIENTS)[0], release.stems(PATIENTS)[1]
    Image.open(label(clone, changed[0])).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(label(clone, changed[0]))
    Image.new("RGB", release.SIZE, (9, 9, 9)).save(picture(clone, changed[1]), format="JPEG")
    again = imported(clone, tmp_path / "store")
    after = {case.id: again.digest(case) for case in again.cases("MGD-1K")}
    assert {case for case in before if before[case] != after[case]} == {f"MGD-1K/{stem}" for stem in changed}


def test_a_label_of_another_size_is_refused_and_nothing_is_stored(clone, tmp_path):
    stem = release.stems(PATIENTS)[2]
    Image.new("L", (32, 32), 255).save(label(clone, stem))
    with pytest.raises(DataError, match=rf"64x32.*{stem}.*32x32"):
        imported(clone, tmp_path / "store")
    assert Gland.find(tmp_path / "store") is None


def test_a_truncated_picture_is_named(clone, tmp_path):
    file = picture(clone, release.stems(PATIENTS)[2])
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=f"{file.stem}.*is no readable picture"):
        imported(clone, tmp_path / "store")


def test_a_label_that_is_a_git_lfs_pointer_is_named(clone, tmp_path):
    file = label(clone, release.stems(PATIENTS)[2])
    file.write_text(release.POINTER.format(1))
    with pytest.raises(DataError, match=f"{file.stem}.*git-lfs pointer"):
        imported(clone, tmp_path / "store")


# who is used for what


def test_the_paper_preset_divides_six_to_two_to_two_by_patient(whole):
    cases = [Case(item.id, "MGD-1K", item.subject, traits=item.traits) for item in whole.items]
    recipe = Recipe.of(Gland.presets["paper"])
    split = divide(cases, recipe.validation, recipe.test, np.random.default_rng(0))
    patients = [{case.subject for case in part} for part in (split.train, split.val, split.test)]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 338
    np.testing.assert_allclose([len(part) for part in patients], [202.8, 67.6, 67.6], atol=1)


def test_presets_keep_the_pictures_twice_as_wide_as_high():
    for preset in Gland.presets.values():
        recipe = Recipe.of(preset)
        assert recipe.image_width == 2 * recipe.image_height
        assert recipe.augment == "flips"  # right-angle turns need a square


# what is refused


def test_nothing_is_found_where_nothing_was_imported(tmp_path):
    assert Gland.find(tmp_path) is None
    assert Gland.find(None) is None


def test_unknown_targets_are_refused(clone, tmp_path):
    imported(clone, tmp_path / "store")
    with pytest.raises(UsageError, match=r"gland\.target"):
        Gland.find(tmp_path / "store", target="iris")


def test_a_site_that_was_not_imported_is_named(clone, tmp_path):
    with pytest.raises(DataError, match="does not hold LFSC"):
        imported(clone, tmp_path / "store").cases("LFSC")


@pytest.mark.parametrize("name", ["MGD-1K/DMI_OD_LOWER_REFLECTED_IR_1", f"LFSC/{release.TWICE}", "x"])
def test_a_case_of_another_dataset_is_refused(clone, tmp_path, name):
    dataset = imported(clone, tmp_path / "store")
    with pytest.raises(DataError, match="is no case of"):
        dataset.read(Case(name, name.split("/")[0], "1"))
