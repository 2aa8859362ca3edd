"""Files of one's own data that are deep, broken, of another kind or another's: read right, or named."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from pflbench.api import DataError
from pflbench_datasets import pictures, readers
from pflbench_datasets.folder import Folder

DISC = np.zeros((16, 16), np.uint8)
DISC[4:10, 5:12] = 1
BALL = np.repeat(DISC[:, :, None], 4, axis=2)
RAMP = np.arange(256, dtype=np.float64).reshape(16, 16)


def save(file: Path, values: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, values)
    elif file.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), file)
    else:
        Image.fromarray(values).save(file)


def folder(root: Path, image: np.ndarray, mask: np.ndarray, kinds=(".nii", ".nii"), **options) -> Folder:
    save(root / "A" / "images" / f"1{kinds[0]}", image)
    save(root / "A" / "masks" / f"1{kinds[1]}", mask)
    found = Folder.find(root, **options)
    assert found is not None
    return found


def first(found: Folder) -> tuple[np.ndarray, np.ndarray]:
    return found.read(found.cases("A")[0])


def percentile_scaled(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), np.percentile(values, 99)
    return 255 * (np.clip(values, low, high) - low) / (high - low)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", np.uint16),
        (".tif", np.uint16),
        (".tif", np.int32),
        (".tif", np.float32),
        (".pgm", np.uint16),
        (".npy", np.float64),
        (".npy", np.int16),
        (".npy", ">u2"),
    ],
)
def test_what_is_no_byte_is_scaled_from_its_minimum_to_its_99th_percentile(tmp_path, suffix, dtype):
    values = (RAMP * 37 + 1000).astype(dtype)
    image, mask = first(folder(tmp_path, values, DISC, (suffix, ".png")))
    np.testing.assert_allclose(image[0], percentile_scaled(values.astype(float)), atol=0.51)
    np.testing.assert_array_equal(mask, DISC)


def test_colours_of_an_array_are_scaled_together(tmp_path):
    values = np.stack([RAMP, RAMP / 2, RAMP / 4], axis=2) / 255
    image, _ = first(folder(tmp_path, values, DISC, (".npy", ".npy")))
    np.testing.assert_allclose(image, percentile_scaled(values).transpose(2, 0, 1), atol=0.51)


@pytest.mark.parametrize("suffix", [".nii", ".npy"])
def test_volumes_of_bytes_are_taken_as_they_are(tmp_path, suffix):
    values = np.random.default_rng(0).integers(3, 99, BALL.shape, dtype=np.uint8)
    image, _ = first(folder(tmp_path, values, BALL, (suffix, suffix)))
    np.testing.assert_array_equal(image[0], values[:, :, 0].T)


def test_an_array_of_three_planes_is_colour_or_a_volume_as_its_mask_says(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    flat = folder(tmp_path / "flat", values, DISC, (".npy", ".npy"))
    deep = folder(tmp_path / "deep", values, BALL[:, :, :3], (".npy", ".npy"))
    assert (flat.image_channels(), len(flat.cases("A"))) == (3, 1)
    assert (deep.image_channels(), len(deep.cases("A"))) == (1, 3)


def test_a_mask_of_another_volume_is_refused_with_both_sizes(tmp_path):
    with pytest.raises(DataError, match=r"images.1\.nii has 16x16x4 voxels but the mask .*1\.nii has 16x16x3"):
        first(folder(tmp_path, BALL, BALL[:, :, :3]))


def test_wrong_axes_are_refused_before_anything_is_scaled(tmp_path):
    with pytest.raises(DataError, match=r"4x16x16.*16x16x4.*order of axes"):
        first(folder(tmp_path, BALL.transpose(2, 0, 1), BALL))


@pytest.mark.parametrize(("image", "mask"), [((16, 16), (16, 19)), ((16, 16), (12, 16))])
def test_a_mask_of_another_picture_is_refused_with_both_sizes(tmp_path, image, mask):
    with pytest.raises(DataError, match=r"images.1\.png is 16x16 .*masks.1\.png"):
        first(folder(tmp_path, np.zeros(image, np.uint8), np.zeros(mask, np.uint8), (".png", ".png")))


def test_a_mask_two_pixels_off_is_fitted(tmp_path):
    image, mask = first(folder(tmp_path, np.zeros((17, 18), np.uint8), DISC, (".png", ".png")))
    assert image.shape[1:] == mask.shape == (17, 18)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("suffix", "shape"), [(".nii", BALL.shape), (".npy", BALL.shape), (".npy", DISC.shape), (".tif", DISC.shape)]
)
def test_values_that_are_no_numbers_are_named(tmp_path, value, suffix, shape):
    values = np.ones(shape, np.float32)
    values[3, 4] = value
    mask = BALL if len(shape) == 3 else DISC
    with pytest.raises(DataError, match=rf"images.1\{suffix} holds NaN or infinite values"):
        first(folder(tmp_path, values, mask, (suffix, ".npy")))


def test_a_picture_for_a_volume_and_a_volume_for_a_picture_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"1\.png is no volume, but .*1\.nii is one"):
        first(folder(tmp_path / "a", DISC, BALL, (".png", ".nii")))
    with pytest.raises(DataError, match=r"1\.nii is no picture, but its mask is one"):
        first(folder(tmp_path / "b", BALL, DISC, (".nii", ".png"), colour="rgb"))


def test_masks_without_any_foreground_are_refused_for_volumes(tmp_path):
    with pytest.raises(DataError, match=r"no slice of A in .* has foreground"):
        first(folder(tmp_path, BALL, BALL * 0))


def test_labels_are_looked_for_in_the_whole_volume_and_can_be_chosen(tmp_path):
    mask = BALL.copy()
    mask[:, :, 3] *= 2
    with pytest.raises(DataError, match="no binary mask"):
        first(folder(tmp_path, BALL, mask))
    assert [case.id for case in folder(tmp_path, BALL, mask, foreground=2).cases("A")] == ["A/1/003"]
    assert len(folder(tmp_path, BALL, mask, foreground="any").cases("A")) == 4


def test_a_stack_of_pages_is_not_read_as_its_first(tmp_path):
    found = folder(tmp_path, DISC, DISC, (".tif", ".png"))
    pages = [Image.fromarray(DISC * shade) for shade in (50, 100, 150)]
    pages[0].save(tmp_path / "A" / "images" / "1.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"1\.tif has 3 pages"):
        first(found)


@pytest.mark.parametrize("suffix", [".png", ".npy", ".nii"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"]
)
def test_what_is_no_picture_array_or_volume_is_named(tmp_path, suffix, content):
    flat = suffix == ".png"
    found = folder(tmp_path, DISC if flat else BALL, DISC if flat else BALL, (suffix, ".png" if flat else ".nii"))
    (tmp_path / "A" / "images" / f"1{suffix}").write_bytes(content)
    sentence = "git-lfs pointer" if b"git-lfs" in content else "no readable"
    with pytest.raises(DataError, match=rf"images.1\{suffix} is .*{sentence}"):
        first(found)


@pytest.mark.parametrize("content", [b"nonsense", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"])
def test_a_mask_that_is_no_array_is_named(tmp_path, content):
    found = folder(tmp_path, DISC, DISC, (".npy", ".npy"))
    (tmp_path / "A" / "masks" / "1.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"masks.1\.npy is "):
        first(found)


def test_arrays_that_would_run_code_are_refused(tmp_path):
    found = folder(tmp_path, DISC, DISC, (".npy", ".png"))
    np.save(tmp_path / "A" / "images" / "1.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"1\.npy is no readable array"):
        first(found)


@pytest.mark.parametrize("shape", [(5,), (16, 16, 2), (16, 16, 3, 2)])
def test_an_array_of_another_shape_is_refused_with_the_rule(tmp_path, shape):
    with pytest.raises(DataError, match=r"has the shape .*H x W or H x W x 3"):
        first(folder(tmp_path, np.zeros(shape, np.uint8), DISC, (".npy", ".png"), colour="rgb"))


def test_a_picture_that_declares_too_much_is_refused_unread(tmp_path, monkeypatch):
    found = folder(tmp_path, DISC, DISC, (".png", ".png"))
    monkeypatch.setattr(pictures, "MOST_PIXELS", 255)
    with pytest.raises(DataError, match="declares 16x16 pixels, more than the 255"):
        first(found)


def test_a_truncated_picture_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)
    found = folder(tmp_path, noise, DISC, (".png", ".png"))
    file = tmp_path / "A" / "images" / "1.png"
    file.write_bytes(file.read_bytes()[:150])
    with pytest.raises(DataError, match=r"images.1\.png is no readable picture"):
        first(found)


def test_a_volume_is_decoded_once_for_all_its_slices_and_again_when_it_changes(tmp_path):
    found = folder(tmp_path, BALL * 9, BALL)
    readers.grey_volume.cache_clear()
    for case in found.cases("A"):
        image, _ = found.read(case)
        assert image.max() == 9
    assert readers.grey_volume.cache_info().misses == 1
    save(tmp_path / "A" / "images" / "1.nii", BALL * 7)
    assert first(found)[0].max() == 7


def test_what_is_handed_out_cannot_change_what_is_kept(tmp_path):
    found = folder(tmp_path, BALL * 9, BALL)
    image, mask = first(found)
    for array in (image, mask):
        if array.flags.writeable:
            array[:] = 5
    image, mask = first(found)
    assert (image.max(), mask.max()) == (9, 1)
