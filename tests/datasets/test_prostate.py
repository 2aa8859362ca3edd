"""The SAML / FedDG release: recognised with its quirks, stored, cut into slices; what is no label is named."""

import importlib.util
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pflbench.api import Case, DataError, Files, UsageError
from pflbench.importing import import_release
from pflbench_datasets.prostate import PATIENTS, Prostate

_SPEC = importlib.util.spec_from_file_location("make_prostate", Path(__file__).parents[1] / "data/prostate/make.py")
release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(release)

FEW = {"BIDMC": 2, "BMC": 2, "HK": 4, "RUNMC": 5}


def recognised(root):
    files = {file.relative_to(root.parent).as_posix(): file for file in sorted(root.rglob("*")) if file.is_file()}
    return {found.site: found for found in Prostate.recognise(Files(root.parent, files))}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PFLBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def opened(root, store, **options):
    import_release(Prostate, [root.parent], store)
    dataset = Prostate.find(store, **options)
    assert dataset is not None
    return dataset


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return release.make(tmp_path_factory.mktemp("release"), FEW)


@pytest.fixture(scope="module")
def prostate(few, tmp_path_factory):
    return opened(few, tmp_path_factory.mktemp("store"))


def one(folder, image, label, site="UCL", number=0):
    """A release of one patient."""
    root = folder / "Processed_data_nii"
    (root / site).mkdir(parents=True, exist_ok=True)
    release.save(root / site / f"Case{number:02d}.nii.gz", image)
    release.save(root / site / f"Case{number:02d}_segmentation.nii.gz", label)
    return root


def blank(shape=(12, 10, 4)):
    return np.random.default_rng(0).integers(0, 500, shape).astype(np.int16), np.zeros(shape, np.uint8)


# what is recognised


def test_the_whole_release_has_the_paper_s_sites_and_patients(tmp_path):
    found = recognised(release.make(tmp_path, shape=(16, 16, 4)))
    assert {site: len(entry.items) for site, entry in found.items()} == PATIENTS
    assert list(found) == list(Prostate.sites) == ["BIDMC", "BMC", "HK", "I2CVB", "RUNMC", "UCL"]
    assert sum(PATIENTS.values()) == 116


def test_labels_with_a_capital_s_belong_to_their_volumes(few):
    assert (few / "BMC" / "Case00_Segmentation.nii.gz").exists()
    masks = [item.files["mask"].name for item in recognised(few)["BMC"].items]
    assert masks == ["Case00_Segmentation.nii.gz", "Case01_Segmentation.nii.gz"]


def test_numbers_may_begin_anywhere_and_have_gaps(tmp_path):
    found = recognised(release.make(tmp_path, {"HK": 4, "UCL": 2}, shape=(16, 16, 4)))
    assert [item.id for item in found["HK"].items] == ["Case00", "Case01", "Case03", "Case04"]
    assert [item.subject for item in found["UCL"].items] == ["Case03", "Case04"]


def test_patients_come_in_the_order_of_their_numbers(tmp_path):
    image, label = blank()
    label[5, 5, 1] = 1
    for number in (10, 9, 100):
        root = one(tmp_path, image, label, number=number)
    assert [item.id for item in recognised(root)["UCL"].items] == ["Case09", "Case10", "Case100"]


def test_a_volume_without_a_label_is_left_out_and_named(few):
    assert (few / "RUNMC" / "Case90.nii.gz").exists()
    runmc = recognised(few)["RUNMC"]
    assert "Case90" not in [item.id for item in runmc.items]
    assert runmc.remarks == ("Case90 is left out: it has no label.",)


def test_an_image_beside_a_label_under_the_name_of_one_is_left_out_and_named(few):
    bidmc = recognised(few)["BIDMC"]
    masks = [item.files["mask"].name for item in bidmc.items]
    assert masks == ["Case00_segmentation.nii.gz", "Case01_segmentation.nii.gz"]
    assert len(bidmc.remarks) == 1
    assert "Case00_segmentation.nii " in bidmc.remarks[0]


def test_an_image_in_place_of_the_only_label_is_refused_and_named(tmp_path):
    root = one(tmp_path, blank()[0], blank()[0])
    with pytest.raises(DataError, match=r"Case00_segmentation\.nii\.gz is no label .* more than 3 different values"):
        recognised(root)


@pytest.mark.parametrize("shape", [(12, 10, 3), (10, 12, 4)])
def test_a_label_unlike_its_image_in_shape_is_refused_and_named(tmp_path, shape):
    root = one(tmp_path, blank()[0], np.ones(shape, np.uint8))
    with pytest.raises(DataError, match=rf"Case00_segmentation\.nii\.gz .* {'x'.join(map(str, shape))} voxels"):
        recognised(root)


def test_two_labels_of_one_patient_are_refused(tmp_path):
    image, label = blank()
    label[5, 5, 1] = 1
    root = one(tmp_path, image, label)
    release.save(root / "UCL" / "Case00_segmentation.nii", label)
    with pytest.raises(DataError, match="keep one of the two"):
        recognised(root)


def test_two_images_of_one_patient_are_refused(tmp_path):
    image, label = blank()
    label[5, 5, 1] = 1
    root = one(tmp_path, image, label)
    release.save(root / "UCL" / "Case00.nii", image)
    with pytest.raises(DataError, match="keep one of the two"):
        recognised(root)


def test_a_label_without_its_image_is_refused_and_named(tmp_path):
    image, label = blank()
    label[5, 5, 1] = 1
    root = one(tmp_path, image, label)
    (root / "UCL" / "Case00.nii.gz").unlink()
    with pytest.raises(DataError, match=r"Case00_segmentation\.nii\.gz has no image"):
        recognised(root)


def test_an_empty_label_is_left_out_and_named(tmp_path):
    image, label = blank()
    one(tmp_path, image, label, number=1)
    label[5, 5, 1] = 1
    found = recognised(one(tmp_path, image, label, number=2))["UCL"]
    assert [item.id for item in found.items] == ["Case02"]
    assert found.remarks == ("Case01 is left out: its label Case01_segmentation.nii.gz is empty.",)


def test_a_site_with_empty_labels_only_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no patient of UCL with a label; Case00 .* is empty"):
        recognised(one(tmp_path, *blank()))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[: len(content) // 2], "no readable volume"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["Case00.nii.gz", "Case00_segmentation.nii.gz"])
def test_a_broken_file_is_named_and_nothing_is_imported(tmp_path, name, spoil, words):
    image, label = np.random.default_rng(0).integers(0, 500, (40, 40, 6)).astype(np.int16), np.ones((40, 40, 6), "u1")
    root = one(tmp_path / "release", image, label)
    file = root / "UCL" / name
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match=words) as error:
        import_release(Prostate, [root], tmp_path / "store")
    assert "Case00" in str(error.value)
    assert Prostate.find(tmp_path / "store") is None


def test_a_truncated_label_is_named_while_recognising(tmp_path):
    root = one(tmp_path, *blank())
    file = root / "UCL" / "Case00_segmentation.nii.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"Case00_segmentation\.nii\.gz is no readable volume"):
        recognised(root)


def test_nan_in_a_volume_is_named(tmp_path):
    image, label = blank()
    label[5, 5, 1] = 1
    image = image.astype(np.float32)
    image[0, 0, 3] = np.nan
    root = one(tmp_path / "release", image, label)
    with pytest.raises(DataError, match=r"Case00\.nii\.gz holds NaN"):
        import_release(Prostate, [root], tmp_path / "store")
    assert Prostate.find(tmp_path / "store") is None


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 4, 2)])
def test_an_image_with_other_axes_is_named(tmp_path, shape):
    root = one(tmp_path, np.zeros(shape, np.int16), blank()[1])
    with pytest.raises(DataError, match=r"Case00\.nii\.gz has the shape"):
        recognised(root)


def test_other_folders_are_nothing_of_it(tmp_path):
    image, label = blank()
    (tmp_path / "Philips").mkdir()
    release.save(tmp_path / "Philips" / "Case00.nii.gz", image)
    release.save(tmp_path / "Philips" / "Case00_segmentation.nii.gz", label)
    assert recognised(tmp_path) == {}


# the index


def test_slices_that_show_the_gland_follow_each_other_patient_by_patient(few, prostate):
    cases = prostate.cases("BMC")
    expected = []
    for patient in ("Case00", "Case01"):
        label = np.asanyarray(nibabel.load(few / "BMC" / f"{patient}_Segmentation.nii.gz").dataobj)
        expected += [f"BMC/{patient}/{k:03d}" for k in range(label.shape[2]) if label[:, :, k].any()]
    assert [case.id for case in cases] == expected
    assert all(case.subject == case.volume == case.id.split("/")[1] for case in cases)
    assert {case.split for case in cases} == {None}


def test_all_slices_are_listed_on_request(few, tmp_path):
    dataset = opened(few, tmp_path / "store", slices="all")
    assert [case.id for case in dataset.cases("BMC")] == [f"BMC/Case0{n}/{k:03d}" for n in (0, 1) for k in range(8)]
    first = dataset.read(dataset.cases("BMC")[0])
    assert not first[1].any()


def test_the_index_needs_no_pixels(few, tmp_path):
    dataset = opened(few, tmp_path / "store")
    for file in (tmp_path / "store").rglob("*.nii.gz"):
        file.unlink()
    assert len(dataset.cases("HK")) == 4 * 6


def test_sites_come_in_the_paper_s_order_and_absent_ones_are_named(prostate):
    assert list(prostate.available()) == ["BIDMC", "BMC", "HK", "RUNMC"]
    with pytest.raises(DataError, match="holds no UCL"):
        prostate.cases("UCL")


def test_finds_nothing_where_nothing_was_imported(tmp_path):
    assert Prostate.find(tmp_path) is None
    assert Prostate.find(None) is None
    assert list(Prostate().available()) == []


# pixels


@pytest.mark.parametrize("site", FEW)
def test_image_and_mask_have_the_axes_that_nibabel_gives(few, prostate, site):
    for case in prostate.cases(site)[::5]:
        _, patient, k = case.id.split("/")
        ending = "_Segmentation" if site == "BMC" else "_segmentation"
        volume = nibabel.load(few / site / f"{patient}.nii.gz").get_fdata()
        label = nibabel.load(few / site / f"{patient}{ending}.nii.gz").get_fdata()
        image, mask = prostate.read(case)
        bright = np.clip(volume, volume.min(), np.percentile(volume, 99))
        grey = (bright - bright.min()) / (bright.max() - bright.min()) * 255
        for x in range(volume.shape[0]):
            np.testing.assert_allclose(image[0, :, x], grey[x, :, int(k)], atol=0.501)
            np.testing.assert_array_equal(mask[:, x], label[x, :, int(k)] > 0)


def test_both_zones_are_the_gland(few, prostate):
    label = np.asanyarray(nibabel.load(few / "BMC" / "Case00_Segmentation.nii.gz").dataobj)
    assert set(np.unique(label)) == {0, 1, 2}
    k = 4
    mask = prostate.read(Case(f"BMC/Case00/{k:03d}", "BMC", "Case00"))[1]
    assert mask.sum() == (label[:, :, k] == 1).sum() + (label[:, :, k] == 2).sum()
    assert set(np.unique(mask)) == {0, 1}


def test_shape_and_type(prostate):
    image, mask = prostate.read(prostate.cases("HK")[0])
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == ((1, 48, 48), np.uint8, (48, 48), np.uint8)
    assert image.flags.c_contiguous
    assert mask.flags.c_contiguous


@pytest.mark.parametrize(("size", "crop", "first", "kept"), [(384, 256, 64, 256), (9, 4, 2, 4), (4, 3, 0, 3)])
def test_the_crop_is_the_centre(tmp_path, size, crop, first, kept):
    image = np.zeros((size, size, 1), np.int16)
    image[:, :, 0] = np.arange(size)[:, None] * 3 + np.arange(size)[None] * 2
    label = np.zeros(image.shape, np.uint8)
    label[first, first + kept - 1, 0] = 1  # x, y: its lower left corner
    dataset = opened(one(tmp_path / "release", image, label), tmp_path / "store", crop=crop, clip=100)
    picture, mask = dataset.read(dataset.cases("UCL")[0])
    assert picture.shape == (1, kept, kept)
    assert mask[-1, 0] == 1
    assert mask.sum() == 1
    grey = np.arange(first, first + kept)
    expected = (grey[:, None] * 2 + grey[None] * 3) / (5 * (size - 1)) * 255
    np.testing.assert_allclose(picture[0], expected, atol=0.501)


def test_a_side_that_is_shorter_than_the_crop_is_kept(tmp_path):
    image, label = blank((12, 6, 4))
    label[5, 2, 1] = 1
    dataset = opened(one(tmp_path / "release", image, label), tmp_path / "store", crop=8)
    assert dataset.read(dataset.cases("UCL")[0])[1].shape == (6, 8)


def test_no_crop_keeps_everything(tmp_path):
    image, label = blank((300, 280, 2))
    label[100:160, 100:160, 1] = 1
    dataset = opened(one(tmp_path / "release", image, label), tmp_path / "store", crop=0)
    assert dataset.read(dataset.cases("UCL")[0])[0].shape == (1, 280, 300)


def test_grey_levels_are_of_the_whole_volume_not_of_the_crop_or_the_slice(tmp_path):
    image = np.full((12, 12, 3), 10, np.int16)
    image[0, 0, 2] = 110  # outside the crop, in another slice
    image[6, 6, 0] = 30
    label = np.zeros(image.shape, np.uint8)
    label[6, 6, 0] = 1
    dataset = opened(one(tmp_path / "release", image, label), tmp_path / "store", crop=4, clip=100)
    assert sorted(np.unique(dataset.read(dataset.cases("UCL")[0])[0])) == [0, 51]


@pytest.mark.parametrize(("place", "reaches"), [(2, False), (1, True), (9, False), (10, True)])
def test_what_the_crop_cuts_off_the_gland_is_counted(tmp_path, place, reaches):
    image, label = blank((12, 12, 3))
    label[place, 6, 1] = 1
    dataset = opened(one(tmp_path / "release", image, label), tmp_path / "store", crop=8)
    assert any("cuts into the gland in 1 of 1 volumes" in remark for remark in dataset.remarks()) == reaches


def test_remarks_say_what_was_done_and_what_was_left_out(prostate):
    text = " ".join(prostate.remarks())
    for words in ("percentile 99", "256 pixels", "1 and 2", "RUNMC: Case90", "BIDMC: Case00_segmentation.nii "):
        assert words in text


def test_a_volume_is_decoded_once_for_all_its_slices(few, tmp_path):
    dataset = opened(few, tmp_path / "store")
    slices = [case for case in dataset.cases("HK") if case.subject == "Case03"]
    first = dataset.read(slices[0])
    for file in (tmp_path / "store").rglob("Case03.nii.gz"):
        file.unlink()
    assert len([dataset.read(case) for case in slices]) == 6
    np.testing.assert_array_equal(dataset.read(slices[0])[0], first[0])


# content


def test_the_digest_follows_both_files_the_slice_and_what_is_done_to_it(few, tmp_path):
    dataset = opened(few, tmp_path / "store")
    one, two = dataset.cases("BMC")[:2]
    digests = [dataset.digest(one), dataset.digest(two)]
    digests += [Prostate.find(tmp_path / "store", **{name: 50}).digest(one) for name in ("crop", "clip")]
    for role in ("image", "mask"):
        shutil.copytree(few, tmp_path / role / "Processed_data_nii")
        file = tmp_path / role / "Processed_data_nii/BMC" / f"Case00{'_Segmentation' if role == 'mask' else ''}.nii.gz"
        volume = nibabel.load(file).get_fdata().astype(np.int16)
        volume[24, 24, 3] = 0
        release.save(file, volume)
        digests.append(opened(tmp_path / role / "Processed_data_nii", tmp_path / role / "store").digest(one))
    assert len(set(digests)) == 6
    assert Prostate.find(tmp_path / "store", slices="all").digest(one) == digests[0]


def test_a_file_that_changed_since_the_import_has_no_digest(few, tmp_path):
    dataset = opened(few, tmp_path / "store")
    case = dataset.cases("BMC")[0]
    file = dataset.store.sites["BMC"].files["Case00"]["mask"].path
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DataError, match="not as it was imported"):
        dataset.digest(case)


@pytest.mark.parametrize("name", ["BMC/Case77/001", "BMC/Case00", "UCL/Case00/001", "BMC/Case00/x", "BMC/Case00/999"])
def test_a_case_that_is_none_is_refused(prostate, name):
    with pytest.raises(DataError, match=r"is no case of|holds no"):
        prostate.read(Case(name, name.split("/")[0], "Case00"))


@pytest.mark.parametrize("options", [{"crop": -1}, {"clip": 0}, {"clip": 101}, {"slices": "some"}, {"store": 1}])
def test_settings_out_of_range_are_refused(prostate, options):
    with pytest.raises(UsageError):
        Prostate.find(prostate.root, **options)


def test_every_site_names_licence_citation_address_and_what_to_do():
    for table in (Prostate.licence, Prostate.citation, Prostate.addresses, Prostate.instructions):
        assert list(table) == list(Prostate.sites)
        assert all(table.values())
    assert "1TtrjnlnJ1yqr5m4LUGMelKTQXtvZaru-" in Prostate.instructions["HK"]
    assert "PROMISE12" in Prostate.licence["HK"]
    assert "TCIA" in Prostate.licence["BMC"]
