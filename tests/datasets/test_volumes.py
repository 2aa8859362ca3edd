"""Reading volumes: axes as stored, scale factors, grey levels, and every broken file named in one sentence."""

import gzip
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pflbench.api import DataError
from pflbench_datasets import volumes
from pflbench_datasets.volumes import read_shape, read_volume, slice_of, to_grey

COUNTING = np.arange(7 * 5 * 4, dtype=np.int16).reshape(7, 5, 4)  # no two voxels alike: any swap of axes shows


def nifti(file, volume, kind=nibabel.Nifti1Image):
    nibabel.save(kind(volume, np.diag([-0.5, -0.5, 3.0, 1.0])), file)
    return file


def header(file, shape, kind=np.int16, **fields):
    """Write a header that promises a shape, and little more."""
    head = nibabel.Nifti1Header()
    head.set_data_dtype(kind)
    head.set_data_shape(shape)
    for name, value in {"magic": b"n+1", "vox_offset": 352, **fields}.items():
        head[name] = value
    file.write_bytes(head.binaryblock + bytes(200))
    return file


def refusal(file):
    with pytest.raises(DataError) as error:
        read_volume(file)
    text = str(error.value)
    assert str(file) in text
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_volume_has_the_axes_that_nibabel_gives(tmp_path, name, kind):
    file = nifti(tmp_path / name, COUNTING, kind)
    volume = read_volume(file)
    np.testing.assert_array_equal(volume, np.asanyarray(nibabel.load(file).dataobj))
    assert volume[6, 0, 0] == COUNTING[6, 0, 0]
    assert volume.dtype == np.int16


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2", ">f4"])
def test_every_type_of_number_comes_out_in_native_order(tmp_path, kind):
    endianness = ">" if kind[0] == ">" else "<"
    image = nibabel.Nifti1Image(COUNTING.astype(kind), np.eye(4), nibabel.Nifti1Header(endianness=endianness))
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume, COUNTING)
    assert volume.dtype.isnative


def test_scale_factors_are_applied(tmp_path):
    image = nibabel.Nifti1Image(COUNTING, np.eye(4))
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "a.nii")
    stored = np.frombuffer((tmp_path / "a.nii").read_bytes()[352:], np.int16).reshape(COUNTING.shape, order="F")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii"), stored * 0.5 - 3.0)


def test_gzip_is_told_from_the_bytes_not_from_the_name(tmp_path):
    packed = nifti(tmp_path / "a.nii.gz", COUNTING)
    np.testing.assert_array_equal(read_volume(packed.rename(tmp_path / "a.nii")), COUNTING)


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_volumes_are_read_as_stored(tmp_path, order):
    np.save(tmp_path / "a.npy", np.asarray(COUNTING, order=order))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npy"), COUNTING)


def test_a_boolean_numpy_mask_becomes_0_and_1(tmp_path):
    np.save(tmp_path / "a.npy", COUNTING > 70)
    volume = read_volume(tmp_path / "a.npy")
    assert volume.dtype == np.uint8
    assert volume.sum() == 69


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy"])
def test_axes_of_size_1_after_the_third_are_dropped(tmp_path, name):
    file = tmp_path / name
    if name.endswith("npy"):
        np.save(file, COUNTING[..., None])
    else:
        nifti(file, COUNTING[..., None])
    assert read_volume(file).shape == read_shape(file) == (7, 5, 4)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 4, 2), (7, 5, 1, 4)])
@pytest.mark.parametrize("name", ["a.nii", "a.npy"])
def test_other_than_three_axes_are_refused_by_their_shape(tmp_path, shape, name):
    file = tmp_path / name
    if name.endswith("npy"):
        np.save(file, np.zeros(shape, np.int16))
    else:
        nifti(file, np.zeros(shape, np.int16))
    assert "x".join(map(str, shape)) in refusal(file)
    with pytest.raises(DataError, match="three axes"):
        read_shape(file)


def test_the_shape_is_read_from_the_header_of_a_file_without_voxels(tmp_path):
    assert read_shape(header(tmp_path / "a.nii", (384, 300, 24))) == (384, 300, 24)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_a_gzipped_volume_that_is_cut_off_is_named(tmp_path, share):
    file = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 900, (20, 20, 6)).astype(np.int16))
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    assert "no readable volume" in refusal(file)


def test_a_gzipped_volume_without_its_checksum_is_named(tmp_path):
    file = nifti(tmp_path / "a.nii.gz", COUNTING)
    file.write_bytes(file.read_bytes()[:-8])
    assert "no readable volume" in refusal(file)


def test_a_gzipped_volume_whose_voxels_changed_is_named(tmp_path):
    plain = bytearray(nifti(tmp_path / "a.nii", COUNTING).read_bytes())
    packed = bytearray(gzip.compress(bytes(plain), compresslevel=0))  # stored: a changed voxel stays decodable
    packed[-20] ^= 1
    (tmp_path / "a.nii.gz").write_bytes(packed)
    assert "CRC" in refusal(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.nii", "a.npy"])
@pytest.mark.parametrize("missing", [1, 200])
def test_a_plain_volume_that_is_cut_off_is_named(tmp_path, name, missing):
    file = tmp_path / name
    if name.endswith("npy"):
        np.save(file, COUNTING)
    else:
        nifti(file, COUNTING)
    file.write_bytes(file.read_bytes()[:-missing])
    refusal(file)


@pytest.mark.parametrize("content", [b"", b"no volume", b"\x1f\x8b", b"\x93NUMPY\x01\x00", bytes(1000)])
def test_something_else_under_the_name_of_a_volume_is_named(tmp_path, content):
    (tmp_path / "a.nii.gz").write_bytes(content)
    refusal(tmp_path / "a.nii.gz")


def test_a_missing_file_is_named(tmp_path):
    refusal(tmp_path / "a.nii")


def test_a_git_lfs_pointer_is_called_one(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "git lfs pull" in refusal(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.npy"])
def test_nan_and_infinite_values_are_refused(tmp_path, value, name):
    volume = COUNTING.astype(np.float32)
    volume[3, 2, 1] = value
    if name.endswith("npy"):
        np.save(tmp_path / name, volume)
    else:
        nifti(tmp_path / name, volume)
    assert "NaN or infinite" in refusal(tmp_path / name)


def test_a_header_that_declares_too_much_is_refused_before_anything_is_read(tmp_path):
    file = header(tmp_path / "a.nii", (20000, 20000, 20000), np.float64)
    assert "GiB" in refusal(file)
    with pytest.raises(DataError, match="GiB"):
        read_shape(file)


def test_a_small_file_that_unpacks_into_more_than_is_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes, "MOST_BYTES", 100_000)
    file = nifti(tmp_path / "a.nii.gz", np.zeros((100, 100, 100), np.int16))
    assert file.stat().st_size < 10_000
    assert "100x100x100" in refusal(file)


def test_a_numpy_header_that_declares_too_much_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((10, 10, 10), np.int16))
    monkeypatch.setattr(volumes, "MOST_BYTES", 1999)
    assert "10x10x10" in refusal(tmp_path / "a.npy")


def test_voxels_in_another_file_or_far_behind_the_header_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(COUNTING, np.eye(4)), tmp_path / "pair.hdr")
    refusal(tmp_path / "pair.hdr")
    refusal(header(tmp_path / "far.nii", (3, 3, 3), vox_offset=1e12))


def test_an_unknown_type_of_number_is_refused_in_one_sentence_only(tmp_path, capfd):
    refusal(header(tmp_path / "a.nii", (2, 2, 2), datatype=999))
    assert capfd.readouterr() == ("", "")


def test_complex_numbers_colours_and_objects_are_refused(tmp_path):
    assert "complex64" in refusal(header(tmp_path / "a.nii", (2, 2, 2), np.complex64))
    refusal(header(tmp_path / "b.nii", (2, 2, 2), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])))
    np.save(tmp_path / "c.npy", np.full((2, 2, 2), {}, object), allow_pickle=True)
    refusal(tmp_path / "c.npy")


@given(st.lists(st.tuples(st.integers(0, 360), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 632))
@example([(115, 0x7F), (114, 0x80)], 632)  # an infinite slope
@example([(111, 0x7F), (110, 0xC0)], 632)  # an offset that is no number
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_bytes_change_there_is_a_volume_or_a_sentence(tmp_path, changes, length):
    content = bytearray(nifti(tmp_path / "a.nii", COUNTING).read_bytes())
    for place, value in changes:
        content[place] = value
    (tmp_path / "b.nii").write_bytes(content[:length])
    try:
        shape = read_volume(tmp_path / "b.nii").shape
    except DataError:
        refusal(tmp_path / "b.nii")
    else:
        assert shape == read_shape(tmp_path / "b.nii")


def clipped(volume, percentile):
    """Grey levels written down plainly, in float64."""
    values = volume.astype(np.float64)
    high = np.percentile(values, percentile)
    low = values.min()
    return np.round((np.clip(values, low, high) - low) / (high - low) * 255)


@pytest.mark.parametrize("kind", ["int16", "float32", "float64"])
@pytest.mark.parametrize("percentile", [50, 90, 99, 100])
def test_grey_levels_are_those_of_numpy_in_float64(kind, percentile):
    rng = np.random.default_rng(4)
    volume = np.asarray((rng.gamma(2.0, 150.0, (19, 17, 6)) - 40).astype(kind), order="F")
    grey = to_grey(volume, percentile)
    expected = clipped(volume, percentile)
    assert grey.dtype == np.uint8
    assert np.abs(grey - expected).max() <= 1
    assert (grey != expected).mean() < 0.001  # a value on the edge between two levels may fall on either side
    assert grey.min() == 0
    assert grey.max() == 255


def test_clipping_by_hand():
    volume = np.array([0, 10, 20, 30, 40, 50, 60, 70, 80, 10_000], np.int16).reshape(5, 2, 1)
    # the 8/9 quantile of ten values is the ninth of them
    np.testing.assert_array_equal(
        to_grey(volume, 100 * 8 / 9).ravel(), np.round(np.minimum(volume.ravel(), 80) / 80 * 255)
    )


def test_a_glaring_voxel_darkens_the_rest_unless_it_is_clipped():
    volume = np.random.default_rng(1).integers(0, 100, (20, 20, 5)).astype(np.int16)
    volume[0, 0, 0] = 30_000
    assert to_grey(volume, 100).mean() < 1
    assert to_grey(volume, 99).mean() > 100


def test_a_volume_of_one_value_is_black():
    assert not to_grey(np.full((3, 3, 3), 7, np.int16), 99).any()


def test_a_slice_has_y_down_and_x_to_the_right():
    picture = slice_of(COUNTING, 2)
    assert picture.shape == (5, 7)
    assert picture.flags.c_contiguous
    for x, y in [(0, 0), (6, 0), (0, 4), (3, 2)]:
        assert picture[y, x] == COUNTING[x, y, 2]


READ_BY_THREADS = """
import sys, threading, time
from pathlib import Path
from pflbench_datasets import volumes

class Slow:
    # every module of nibabel takes a moment, so that threads meet in the middle of it
    def find_spec(self, name, path=None, target=None):
        time.sleep(0.01 if name.startswith("nibabel") else 0)

sys.meta_path.insert(0, Slow())
failed = []

def read(call, start):
    start.wait()
    try:
        call(Path(sys.argv[1]))
    except BaseException as error:
        failed.append(repr(error))

calls = [volumes.read_shape, volumes.read_volume] * 4
start = threading.Barrier(len(calls))
threads = [threading.Thread(target=read, args=(call, start)) for call in calls]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(" ".join(failed) or 0)
"""


def test_the_first_volumes_may_be_read_by_many_threads_at_once(tmp_path):
    file = nifti(tmp_path / "a.nii.gz", COUNTING)
    ran = subprocess.run(
        [sys.executable, "-c", READ_BY_THREADS, str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
