"""Reading ready folders: pairing, masks of every kind, and errors that name the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pflbench.api import Case, DataError
from pflbench_datasets.vessel import Vessel

TRUTH = np.zeros((12, 10), bool)
TRUTH[2:5, 1:8] = True


def picture(height: int = 12, width: int = 10) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask() -> Image.Image:
    return Image.fromarray(np.where(TRUTH, 255, 0).astype(np.uint8))


def add(site: Path, stem: str, split: str = "train", image: str = ".png", label: str = ".png") -> tuple[Path, Path]:
    files = site / split / "images" / f"{stem}{image}", site / split / "masks" / f"{stem}{label}"
    for file, content in zip(files, (picture(), mask()), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        content.save(file)
    return files


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "DRIVE"
    add(folder, "a")
    add(folder, "b", "test")
    return folder


def vessel(site: Path) -> Vessel:
    found = Vessel.find(site.parent)
    assert found is not None
    return found


def first(site: Path) -> tuple[Vessel, Case]:
    return vessel(site), vessel(site).cases("DRIVE")[0]


def test_finds_nothing_in_no_folder_or_an_empty_or_a_missing_one(tmp_path):
    (tmp_path / "elsewhere" / "train").mkdir(parents=True)
    assert Vessel.find(None) is None
    assert Vessel.find(tmp_path) is None
    assert Vessel.find(tmp_path / "missing") is None


def test_finds_the_folder_itself_and_the_one_called_vessel(tmp_path):
    add(tmp_path / "vessel" / "HRF", "01_h")
    outer, inner = Vessel.find(tmp_path), Vessel.find(tmp_path / "vessel")
    assert outer is not None
    assert outer.root == tmp_path / "vessel"
    assert inner == outer
    assert inner is not None
    assert inner.root == outer.root


@pytest.mark.parametrize(
    ("folder", "name"),
    [("chase_db1", "CHASEDB1"), ("DRHAGIS", "DR-HAGIS"), ("les_av", "LES-AV"), ("Orvs", "ORVS")],
)
def test_understands_common_spellings_of_a_site(tmp_path, folder, name):
    add(tmp_path / folder, "1")
    found = Vessel.find(tmp_path)
    assert found is not None
    assert list(found.available()) == [name]


def test_sites_come_in_the_paper_s_order(tmp_path):
    for name in ("ORVS", "HRF", "CHASEDB1"):
        add(tmp_path / name, "1")
    found = Vessel.find(tmp_path)
    assert found is not None
    assert list(found.available()) == ["CHASEDB1", "HRF", "ORVS"]


def test_two_folders_of_one_site_are_refused(tmp_path):
    add(tmp_path / "LESAV", "1")
    add(tmp_path / "les-av", "1")
    with pytest.raises(DataError, match=r"LESAV.*LES-AV"):
        Vessel.find(tmp_path)


def test_cases_carry_site_split_and_stem(site):
    assert vessel(site).cases("DRIVE") == [
        Case("DRIVE/train/a", "DRIVE", "a", "train"),
        Case("DRIVE/test/b", "DRIVE", "b", "test"),
    ]


def test_both_eyes_of_a_child_are_one_subject(tmp_path):
    for split, stem in (
        ("train", "Image_01L"),
        ("train", "Image_01R"),
        ("train", "Image_02L"),
        ("test", "Image_11R"),
    ):
        add(tmp_path / "CHASEDB1", stem, split)
    found = Vessel.find(tmp_path)
    assert found is not None
    assert [case.subject for case in found.cases("CHASEDB1")] == ["01", "01", "02", "11"]


def test_pairs_by_name_whatever_the_suffixes_and_their_case(site):
    for stem, image, label in (("10", ".JPG", ".gif"), ("1", ".ppm", ".TIF"), ("2.x", ".tiff", ".bmp")):
        add(site, stem, image=image, label=label)
    found = vessel(site)
    assert [case.id for case in found.cases("DRIVE")][:4] == [
        "DRIVE/train/1",
        "DRIVE/train/10",
        "DRIVE/train/2.x",
        "DRIVE/train/a",
    ]
    for case in found.cases("DRIVE"):
        np.testing.assert_array_equal(found.read(case)[1], TRUTH)


def test_leftovers_of_operating_systems_are_not_cases(site):
    for folder in ("images", "masks"):
        for name in (".DS_Store", "._a.png", "Thumbs.db"):
            (site / "train" / folder / name).write_bytes(b"x")
        (site / "train" / folder / "__MACOSX").mkdir()
    assert len(vessel(site).cases("DRIVE")) == 2


def test_image_is_colour_first_and_unchanged(site):
    found, case = first(site)
    image, label = found.read(case)
    assert (image.shape, image.dtype, label.shape, label.dtype) == ((3, 12, 10), np.uint8, (12, 10), np.uint8)
    np.testing.assert_array_equal(image[1], np.asarray(picture())[:, :, 1])


def one_bit() -> Image.Image:
    return mask().convert("1", dither=Image.Dither.NONE)


def inverted_palette() -> Image.Image:
    indexed = Image.fromarray(np.where(TRUTH, 0, 1).astype(np.uint8), "P")
    indexed.putpalette([255, 255, 255, 0, 0, 0])
    return indexed


def anti_aliased() -> Image.Image:
    return Image.fromarray(np.where(TRUTH, 200, 90).astype(np.uint8))


@pytest.mark.parametrize("kind", [one_bit, inverted_palette, anti_aliased, lambda: mask().convert("RGB")])
def test_every_kind_of_mask_reads_alike(site, kind):
    kind().save(site / "train" / "masks" / "a.png")
    found, case = first(site)
    np.testing.assert_array_equal(found.read(case)[1], TRUTH)


def test_image_without_mask_is_named(site):
    (site / "train" / "masks" / "a.png").rename(site / "train" / "masks" / "z.png")
    with pytest.raises(DataError, match=r"images.a\.png has no mask; put one"):
        vessel(site).cases("DRIVE")


def test_mask_without_image_is_named(site):
    mask().save(site / "test" / "masks" / "c.png")
    with pytest.raises(DataError, match=r"masks.c\.png has no image"):
        vessel(site).cases("DRIVE")


def test_two_files_of_one_name_are_refused(site):
    picture().save(site / "train" / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg.*a\.png.*keep one"):
        vessel(site).cases("DRIVE")


def test_missing_test_folder_is_named(tmp_path):
    add(tmp_path / "HRF", "01_h")
    found = Vessel.find(tmp_path)
    assert found is not None
    with pytest.raises(DataError, match=r"test.images is missing"):
        found.cases("HRF")


def test_truncated_picture_is_named(site):
    file = site / "train" / "images" / "a.png"
    file.write_bytes(file.read_bytes()[:150])
    found, case = first(site)
    with pytest.raises(DataError, match=r"images.a\.png is no readable picture"):
        found.read(case)


@pytest.mark.parametrize("content", [b"", b"not a picture"])
def test_what_is_no_picture_is_named(site, content):
    (site / "train" / "masks" / "a.png").write_bytes(content)
    found, case = first(site)
    with pytest.raises(DataError, match=r"masks.a\.png is no readable picture"):
        found.read(case)


def test_git_lfs_pointer_is_called_one(site):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4242\n"
    (site / "train" / "images" / "a.png").write_text(pointer)
    found, case = first(site)
    with pytest.raises(DataError, match=r"a\.png is a git-lfs pointer.*git lfs pull"):
        found.read(case)


def test_mask_two_pixels_off_is_fitted_to_its_image(site):
    picture(14, 9).save(site / "train" / "images" / "a.png")
    found, case = first(site)
    image, label = found.read(case)
    assert label.shape == image.shape[1:] == (14, 9)
    assert 0 < label.sum() < label.size


def test_mask_of_another_size_is_refused_with_both_sizes(site):
    picture(12, 13).save(site / "train" / "images" / "a.png")
    found, case = first(site)
    with pytest.raises(DataError, match=r"images.a\.png is 13x12 .*masks.a\.png is 10x12"):
        found.read(case)


def test_a_case_of_another_place_is_refused(site):
    with pytest.raises(DataError, match="'DRIVE/train/q' is no case"):
        vessel(site).read(Case("DRIVE/train/q", "DRIVE", "q", "train"))
    with pytest.raises(DataError, match="has no folder of HRF"):
        vessel(site).cases("HRF")


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_digest_follows_both_files_and_nothing_else(site, folder):
    found, case = first(site)
    before = found.digest(case)
    add(site, "another")
    assert found.digest(case) == before
    Image.new("RGB", (10, 12)).save(site / "train" / folder / "a.png")
    assert found.digest(case) != before


def test_unknown_option_is_refused(site):
    with pytest.raises(Exception, match="no setting of vessel called 'label'"):
        Vessel.find(site.parent, label="union")
