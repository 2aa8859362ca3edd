"""Knowing the vessel releases by their paths: sites, official ids, splits, and what is left out and said."""

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pflbench.api import DataError, Files, Found
from pflbench.unpack import open_files
from pflbench_datasets.vessel import Vessel

_SPEC = importlib.util.spec_from_file_location("make_vessel", Path(__file__).parents[1] / "data/vessel/make.py")
make = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make)

ORIGINALS = {
    "CHASEDB1": make.chase,
    "DR-HAGIS": make.dr_hagis,
    "DRIVE": make.drive,
    "HRF": make.hrf,
    "LES-AV": make.les_av,
}
IMAGES = {"CHASEDB1": 28, "DR-HAGIS": 40, "DRIVE": 40, "HRF": 45, "LES-AV": 22, "ORVS": 49}


def recognised(folder: Path) -> dict[str, Found]:
    found = Vessel.recognise(open_files(folder, folder / ".opened"))
    assert len({site.site for site in found}) == len(found)
    return {site.site: site for site in found}


def counts(found: Found) -> tuple[int, int]:
    splits = [item.split for item in found.items]
    return splits.count("train"), splits.count("test")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> dict[str, Found]:
    return recognised(make.icpr(tmp_path_factory.mktemp("clone")))


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Found]:
    return {site: recognised(release(tmp_path_factory.mktemp("original")))[site] for site, release in ORIGINALS.items()}


def test_a_clone_of_icprvessels_has_five_sites_with_the_paper_s_counts(clone):
    assert {site: len(found.items) for site, found in clone.items()} == {
        site: count for site, count in IMAGES.items() if site != "LES-AV"
    }
    for site in ("CHASEDB1", "DR-HAGIS", "DRIVE", "ORVS"):
        assert counts(clone[site]) == Vessel.expected[site]
    assert {found.release for found in clone.values()} == {"ICPRVessels"}


@pytest.mark.parametrize("site", ORIGINALS)
def test_every_original_release_is_known_by_itself(originals, site):
    assert len(originals[site].items) == IMAGES[site]
    assert not originals[site].remarks


@pytest.mark.parametrize("site", ["CHASEDB1", "DR-HAGIS", "DRIVE", "HRF"])
def test_ids_subjects_and_splits_are_the_same_whatever_the_source(clone, originals, site):
    one, other = ([(item.id, item.subject, item.split) for item in found[site].items] for found in (clone, originals))
    assert one == other


def test_ids_are_paired_by_number_and_not_by_sort_order(originals):
    for site in originals:
        for item in originals[site].items:
            for file in item.files.values():
                assert file.name.startswith(item.id)
                assert not file.name.removeprefix(item.id)[0].isdigit()


def test_icprvessels_numbers_become_the_names_of_the_pictures_they_are(clone):
    """Pictures of the fake are those of make.picture(site, official name): a wrong name shows in the bytes."""
    for site in ("CHASEDB1", "HRF", "DR-HAGIS"):
        for item in clone[site].items:
            wanted = item.files["image"].with_name("wanted.jpg")
            make.save(make.picture(site, item.id), wanted)
            assert item.files["image"].read_bytes() == wanted.read_bytes(), (site, item.id)
            wanted.unlink()


def test_known_places_in_the_numbering_of_icprvessels(clone):
    """Compared with the real clone by hash: 1 of Test is child 11, 61 is 01_g, 105 is 15_dr."""
    names = {
        (site, item.files["image"].parents[2].name, item.files["image"].stem): item.id
        for site in ("CHASEDB1", "HRF")
        for item in clone[site].items
    }
    assert names["CHASEDB1", "Train", "1"] == "Image_01L"
    assert names["CHASEDB1", "Train", "20"] == "Image_10R"
    assert names["CHASEDB1", "Test", "1"] == "Image_11L"
    assert names["CHASEDB1", "Test", "8"] == "Image_14R"
    assert names["HRF", "Test", "61"] == "01_g"
    assert names["HRF", "Train", "82"] == "11_h"
    assert names["HRF", "Train", "90"] == "15_h"
    assert names["HRF", "Test", "91"] == "01_dr"
    assert names["HRF", "Train", "105"] == "15_dr"


def test_icprvessels_has_only_the_union_of_the_observers_and_no_field_of_view(clone):
    assert {frozenset(item.files) for item in clone["CHASEDB1"].items} == {frozenset({"image", "mask-union"})}
    assert {frozenset(item.files) for item in clone["DRIVE"].items} == {frozenset({"image", "mask"})}


def test_the_original_of_chase_has_both_observers_and_its_labels_are_no_pictures(originals):
    roles = {"image": ".jpg", "mask-first": "_1stHO.png", "mask-second": "_2ndHO.png"}
    for item in originals["CHASEDB1"].items:
        assert {role: file.name.removeprefix(item.id) for role, file in item.files.items()} == roles


@pytest.mark.parametrize("site", ["DR-HAGIS", "DRIVE", "HRF", "LES-AV"])
def test_fields_of_view_are_taken_where_a_release_has_them(originals, site):
    assert {frozenset(item.files) for item in originals[site].items} == {frozenset({"image", "mask", "field"})}


def test_the_second_manual_of_drive_is_not_taken(originals):
    files = {file.parent.name for item in originals["DRIVE"].items for file in item.files.values()}
    assert files == {"images", "1st_manual", "mask"}


def test_upper_case_suffixes_are_the_pictures_of_the_dr_group(originals):
    upper = {item.id for item in originals["HRF"].items if item.files["image"].suffix == ".JPG"}
    assert upper == {f"{number:02d}_dr" for number in range(1, 16)}


def test_both_eyes_of_a_child_and_both_copies_of_a_picture_are_one_subject(clone):
    children = {item.id: item.subject for item in clone["CHASEDB1"].items}
    assert children["Image_07L"] == children["Image_07R"] == "07"
    assert len(set(children.values())) == 14
    people = {item.id: item.subject for item in clone["DR-HAGIS"].items}
    assert people["32"] == people["24"]
    assert len(set(people.values())) == 39


def test_the_six_testing_pictures_of_dr_hagis(originals):
    tested = {item.id for item in originals["DR-HAGIS"].items if item.split == "test"}
    assert tested == {"33", "34", "35", "37", "39", "40"}


def test_hrf_and_les_av_get_no_split_on_import(clone, originals):
    assert {item.split for found in (clone["HRF"], originals["LES-AV"]) for item in found.items} == {None}


def test_sites_that_are_not_of_the_paper_are_named_once(clone):
    said = [remark for found in clone.values() for remark in found.remarks if "IOSTAR" in remark]
    assert len(said) == 1
    assert "STARE" in said[0]


@pytest.mark.parametrize("part", ["Vessels-Datasets", "Vessels-Datasets/ORVS"])
def test_a_part_of_the_clone_is_known_as_well(tmp_path, part):
    found = recognised(make.icpr(tmp_path) / part)
    assert counts(found["ORVS"]) == (41, 8)


def test_a_release_is_known_at_any_depth_and_beside_others(tmp_path):
    make.hrf(tmp_path / "a/b/c")
    make.les_av(tmp_path / "d")
    make.drive(tmp_path)
    assert {site: len(found.items) for site, found in recognised(tmp_path).items()} == {
        "DRIVE": 40,
        "HRF": 45,
        "LES-AV": 22,
    }


def test_drive_without_test_labels_says_so_plainly(tmp_path):
    found = recognised(make.drive(tmp_path, test_labels=False))["DRIVE"]
    assert counts(found) == (20, 0)
    [remark] = found.remarks
    assert remark.startswith("the 20 test images have no labels")
    assert "nothing to test on" in remark


def test_images_without_a_label_are_left_out_and_named_as_in_the_real_copy_of_icprvessels(tmp_path):
    make.icpr(tmp_path)
    for number in (82, 84, 86):
        (tmp_path / f"Vessels-Datasets/HRF/Train/Original/Labels/{number}.tif").unlink()
    found = recognised(tmp_path)["HRF"]
    assert len(found.items) == 42
    assert "3 images without a label are left out: 82.jpg (11_h), 84.jpg (12_h), 86.jpg (13_h)." in found.remarks


def test_a_label_without_an_image_and_one_observer_too_few_are_named(tmp_path):
    make.chase(tmp_path)
    (tmp_path / "Image_03R.jpg").unlink()
    (tmp_path / "Image_09L_2ndHO.png").unlink()
    found = recognised(tmp_path)["CHASEDB1"]
    assert len(found.items) == 26
    assert set(found.remarks) == {
        "1 image without a label of each observer is left out: Image_09L.jpg.",
        "1 label without an image is left out: Image_03R_1stHO.png.",
    }


def test_of_many_that_are_left_out_only_some_are_named(tmp_path):
    shutil.rmtree(make.hrf(tmp_path) / "mask")
    for name in make.GROUPS[:12]:
        (tmp_path / f"manual1/{name}.tif").unlink()
    [remark] = recognised(tmp_path)["HRF"].remarks
    assert remark.startswith("12 images without a label are left out: 01_dr.JPG, 01_g.jpg, ")
    assert remark.endswith(", 03_g.jpg and 4 more.")


def test_a_field_of_view_that_only_some_lack_is_said(tmp_path):
    make.dr_hagis(tmp_path)
    (tmp_path / "DRHAGIS/Mask_images/7_mask_orig.png").unlink()
    found = recognised(tmp_path)["DR-HAGIS"]
    assert len(found.items) == 40
    assert found.remarks == ("1 of 40 images have no field-of-view mask: 7.",)


def test_numbers_that_icprvessels_does_not_have_are_left_out(tmp_path):
    make.icpr(tmp_path)
    folder = tmp_path / "Vessels-Datasets/ChaseDB/Test/Original"
    for part in ("Images", "Labels"):
        shutil.copy(folder / part / "8.jpg", folder / part / "9.jpg")
    found = recognised(tmp_path)["CHASEDB1"]
    assert len(found.items) == 28
    assert any("2 files with a number that the release does not have are left out" in said for said in found.remarks)


def test_a_release_without_any_label_has_no_items_and_says_what_is_expected(tmp_path):
    make.chase(tmp_path)
    for file in tmp_path.glob("*.png"):
        file.unlink()
    found = recognised(tmp_path)["CHASEDB1"]
    assert not found.items
    assert any("Image_01L.jpg with Image_01L_1stHO.png" in remark for remark in found.remarks)


def test_two_copies_of_a_release_are_refused_with_both_names(tmp_path):
    make.les_av(tmp_path / "one")
    make.les_av(tmp_path / "two")
    with pytest.raises(
        DataError, match=r"one/LES-AV/images/(\d+)\.png and .*two/LES-AV/images/\1\.png .* both the image"
    ):
        recognised(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        "images/12.png",  # anybody's pictures: no vessel-segmentations lie beside them
        "CHASEDB1/train/images/Image_01L.png",  # a ready folder
        "images/01_dr_old.jpg",
        "Image_01L_3rdHO.png",
        "x1st_manual/21_manual1.gif",
        "DRIVE/training/1st_manual/21manual1.gif",  # of an augmented set that calls itself DRIVE
    ],
)
def test_what_only_resembles_a_release_is_not_taken(tmp_path, path):
    assert not Vessel.recognise(Files(tmp_path, {path: tmp_path / path}))


def test_the_common_names_of_les_av_count_only_beside_its_labels(tmp_path):
    make.les_av(tmp_path)
    make.save(make.picture("LES-AV", "12"), tmp_path / "elsewhere/images/12.png")
    assert len(recognised(tmp_path)["LES-AV"].items) == 22


def listing(folder: Path) -> dict[str, Path]:
    return dict(open_files(folder, folder / ".opened").paths)


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> list[dict[str, Path]]:
    """Return the paths of the clone, and those of every original together."""
    originals: dict[str, Path] = {}
    for release in ORIGINALS.values():
        originals |= listing(release(tmp_path_factory.mktemp("release")))
    return [listing(make.icpr(tmp_path_factory.mktemp("clone"))), originals]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(chosen=st.data())
def test_whatever_is_missing_each_image_is_an_item_or_left_out_with_a_count(everything, chosen):
    paths = chosen.draw(st.sampled_from(everything))
    kept = np.random.default_rng(chosen.draw(st.integers(0, 2**32))).random(len(paths)) < chosen.draw(
        st.sampled_from([0.0, 0.03, 0.5, 0.97])
    )
    files = Files(Path("release"), {path: file for (path, file), here in zip(paths.items(), kept, strict=True) if here})
    taken: set[Path] = set()
    left_out = 0
    for found in Vessel.recognise(files):
        assert len({item.id for item in found.items}) == len(found.items)
        for item in found.items:
            assert "image" in item.files
            assert any(role.startswith("mask") for role in item.files)
            assert taken.isdisjoint(item.files.values())
            taken |= set(item.files.values())
        for remark in found.remarks:
            number = re.match(r"(?:the )?(\d+) (?:test )?images? (?:without|have no labels)", remark)
            left_out += int(number[1]) if number else 0
    assert taken <= set(files.paths.values())
    labelled = any("/vessel-segmentations/" in path for path in files.paths)  # else LES-AV is not known as such
    images = {file for path, file in files.paths.items() if is_image(path) and (labelled or "/LES-AV/" not in path)}
    assert len(images) == len(images & taken) + left_out


def is_image(path: str) -> bool:
    """Say whether a path of the fakes is a picture of the six sites, by other rules than the loader's."""
    folder, _, name = path.rpartition("/")
    if re.search(r"/(ARIA|IOSTAR|Mask_images)/", path):
        return False
    return folder.lower().endswith("images") or re.fullmatch(r"Image_\d\d[LR]\.jpg", name) is not None
