"""How large a slice is in millimetres: from the header, the crop and the order of axes; unknown stays unknown."""

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pflbench.api import Case, DataError
from pflbench.importing import import_release
from pflbench_datasets.folder import Folder
from pflbench_datasets.gland import Gland
from pflbench_datasets.prostate import Prostate
from pflbench_datasets.vessel import Vessel
from pflbench_datasets.volumes import read_spacing

_SPEC = importlib.util.spec_from_file_location("make_prostate", Path(__file__).parents[1] / "data/prostate/make.py")
release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(release)

SHAPE = (20, 12, 3)  # x, y, z: wider than high
ZOOMS = (0.25, 0.5, 3.0)
KINDS = {"nifti-1": nibabel.Nifti1Image, "nifti-2": nibabel.Nifti2Image}


def save(file, zooms=ZOOMS, unit="mm", kind="nifti-1", values=None):
    """Write a volume whose header has these sizes of voxels, whatever its affine would make of them."""
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) if values is None else values
    image = KINDS[kind](values, None)
    image.header["pixdim"][1:4] = zooms
    image.header.set_xyzt_units(unit)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)
    return file


def label():
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:12, 4:8, :] = 1
    return mask


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PFLBENCH_CACHE", str(tmp_path / "cache"))


def prostate(folder, store="store", **options):
    """Import a release of one patient of UCL whose image has the header that ``save`` was told."""
    root = folder / "Processed_data_nii"
    crop = options.pop("crop", 256)
    save(root / "UCL/Case00.nii.gz", **options)
    save(root / "UCL/Case00_segmentation.nii.gz", values=label(), zooms=(9.0, 9.0, 9.0))
    import_release(Prostate, [folder], folder / store)
    return Prostate.find(folder / store, crop=crop)


# --------------------------------------------------------------------------------------------- the header


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("unit", "zooms", "expected"),
    [
        ("mm", (0.25, 0.5, 3.0), (0.25, 0.5, 3.0)),
        ("meter", (0.001, 0.002, 0.003), (1.0, 2.0, 3.0)),
        ("micron", (250.0, 500.0, 1000.0), (0.25, 0.5, 1.0)),
        ("unknown", (0.25, 0.5, 3.0), (0.25, 0.5, 3.0)),
        ("mm", (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        ("unknown", (1.0, 1.0, 1.0), None),
        ("mm", (0.0, 0.5, 3.0), None),
        ("mm", (np.nan, 0.5, 3.0), None),
        ("mm", (np.inf, 0.5, 3.0), None),
        ("mm", (-0.5, 0.5, 3.0), None),
    ],
)
def test_a_header_says_its_spacing_in_its_own_unit_or_nothing_to_be_believed(tmp_path, kind, unit, zooms, expected):
    found = read_spacing(save(tmp_path / "a.nii", zooms, unit, kind))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_the_unit_of_time_beside_it_does_not_matter(tmp_path):
    file = save(tmp_path / "a.nii")
    image = nibabel.load(file)
    image.header.set_xyzt_units("micron", "sec")
    nibabel.save(image, tmp_path / "b.nii")
    assert read_spacing(tmp_path / "b.nii") == pytest.approx((0.00025, 0.0005, 0.003), rel=1e-6)


def test_a_unit_that_does_not_exist_is_no_spacing_and_no_obstacle(tmp_path):
    file = save(tmp_path / "a.nii")
    content = bytearray(file.read_bytes())
    content[123] = 7  # xyzt_units of NIfTI-1
    file.write_bytes(content)
    assert read_spacing(file) is None


def test_an_array_has_no_spacing_and_what_is_no_volume_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(SHAPE))
    assert read_spacing(tmp_path / "a.npy") is None
    (tmp_path / "b.nii").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"b\.nii is no readable volume"):
        read_spacing(tmp_path / "b.nii")


# -------------------------------------------------------------------------------------------- the release


@pytest.mark.parametrize(
    ("crop", "expected"),
    [(0, (12 * 0.5, 20 * 0.25)), (256, (6.0, 5.0)), (14, (12 * 0.5, 14 * 0.25)), (7, (3.5, 1.75))],
)
def test_a_slice_is_as_large_as_its_kept_pixels(tmp_path, crop, expected):
    dataset = prostate(tmp_path, crop=crop)
    case = dataset.cases("UCL")[0]
    height, width = dataset.read(case)[1].shape
    assert (height * 0.5, width * 0.25) == expected
    assert dataset.extent(case) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("unit", ["unknown", "mm"])
def test_a_release_written_without_a_spacing_has_none(tmp_path, unit):
    dataset = prostate(tmp_path, zooms=(1.0, 1.0, 1.0), unit=unit)
    assert dataset.extent(dataset.cases("UCL")[0]) is None


def test_every_slice_of_the_made_release_has_the_extent_of_its_header(tmp_path):
    release.make(tmp_path, {"HK": 2}, shape=(16, 12, 4))
    import_release(Prostate, [tmp_path], tmp_path / "store")
    dataset = Prostate.find(tmp_path / "store")
    assert {dataset.extent(case) for case in dataset.cases("HK")} == {(6.0, 8.0)}


def test_the_digest_is_of_files_slice_and_settings_and_of_nothing_else(tmp_path):
    dataset = prostate(tmp_path, crop=14)
    files = (
        tmp_path / "Processed_data_nii/UCL/Case00.nii.gz",
        tmp_path / "Processed_data_nii/UCL/Case00_segmentation.nii.gz",
    )
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    expected = hashlib.sha256(json.dumps([1, *hashes, 2, 99.0, 14]).encode()).hexdigest()
    assert dataset.digest(dataset.cases("UCL")[2]) == expected


def test_a_case_that_is_none_has_no_extent(tmp_path):
    dataset = prostate(tmp_path)
    case = dataset.cases("UCL")[0]
    with pytest.raises(DataError, match="is no case of"):
        dataset.extent(replace(case, id="UCL/Case77/001"))


# ---------------------------------------------------------------------------------------------- own data


def own(folder, image_ending, mask_ending, **header):
    """Return a folder dataset of one volume."""
    for role, ending, values in (("images", image_ending, None), ("masks", mask_ending, label())):
        file = folder / "A/test" / role / f"1{ending}"
        file.parent.mkdir(parents=True)
        if ending == ".npy":
            np.save(file, np.zeros(SHAPE) if values is None else values)
        else:
            save(file, values=values, **header)
    dataset = Folder.find(folder)
    return dataset, dataset.cases("A")[0]


@pytest.mark.parametrize("endings", [(".nii", ".nii.gz"), (".nii.gz", ".npy"), (".npy", ".nii")])
def test_a_volume_of_one_s_own_has_the_extent_of_either_header(tmp_path, endings):
    dataset, case = own(tmp_path, *endings)
    assert dataset.read(case)[1].shape == (12, 20)
    assert dataset.extent(case) == pytest.approx((12 * 0.5, 20 * 0.25), rel=1e-6)


def test_arrays_and_headers_without_a_spacing_have_no_extent(tmp_path):
    for name, endings in (("arrays", (".npy", ".npy")), ("unset", (".nii", ".nii"))):
        dataset, case = own(tmp_path / name, *endings, zooms=(1.0, 1.0, 1.0), unit="unknown")
        assert dataset.extent(case) is None


def test_an_isotropic_millimetre_that_is_named_is_believed_of_one_s_own_data(tmp_path):
    dataset, case = own(tmp_path, ".nii", ".nii", zooms=(1.0, 1.0, 1.0))
    assert dataset.extent(case) == (12.0, 20.0)


def test_pictures_have_no_extent(tmp_path):
    spec = importlib.util.spec_from_file_location("folder_make", Path(__file__).parents[1] / "data/folder/make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    dataset = Folder.find(make.write_tree(tmp_path))
    assert {dataset.extent(dataset.cases(site)[0]) for site in dataset.available()} == {None}


@pytest.mark.parametrize("kind", [Vessel, Gland])
def test_photographs_of_eyes_leave_it_unknown(kind):
    assert kind().extent(Case("any/1", "any", "1")) is None
