"""Reading volumes from NIfTI and NumPy files, slices and grey values; every failure is a sentence naming the file."""

from __future__ import annotations

import gzip
import math
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pflbench.api import DataError, Pixels

Volume = NDArray[Any]  # x, y, z; integers or floats
Spacing = tuple[float, float, float]  # x, y, z; millimetres

SUFFIXES = frozenset({".nii", ".nii.gz", ".npy"})
MOST_BYTES = 2**31  # of a decoded volume, as its header declares it: a CT of 1000 slices of 512 x 512 in float64
_MOST_OFFSET = 2**24  # bytes between header and voxels; extensions of more than a few kilobytes are not met
_LFS = b"version https://git-lfs"
_GZIP = b"\x1f\x8b"
_NUMPY = b"\x93NUMPY"
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI's code of the unit of length -> its size; 0: unknown
_IMPORTING = threading.Lock()
_BROKEN = (OSError, EOFError, ValueError, TypeError, OverflowError, KeyError, zlib.error)


def read_volume(file: Path) -> Volume:
    """Return a volume (x, y, z) as stored, in the order of its axes in the file, with its scale factors applied.

    What the file is, NIfTI (gzipped or not) or NumPy, is told from its first bytes. Axes of size 1 after the
    third are dropped; booleans become uint8. Raises DataError where the file cannot be read, is cut off, is a
    git-lfs pointer, declares more than ``MOST_BYTES``, is not 3-D, or holds NaN or infinite values.
    """
    with _named(file):
        volume = _read_numpy(file, values=True) if _is_numpy(file) else _read_nifti(file)
    lowest, highest = volume.min(), volume.max()  # NaN is carried through both
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise DataError(f"{file} holds NaN or infinite values; get the file again, or replace them.")
    return volume


def read_shape(file: Path) -> tuple[int, int, int]:
    """Return the size of a volume (x, y, z) from its header alone; refuses what ``read_volume`` refuses of it."""
    with _named(file):
        if _is_numpy(file):
            return _three(file, _read_numpy(file, values=False).shape)
        with _opened(file) as stream:
            return _header(file, stream).shape


def read_spacing(file: Path) -> Spacing | None:
    """Return the distance of voxels along x, y and z in millimetres from a NIfTI header, or None where it says none.

    None too for NumPy arrays, sizes that are not positive and finite, and what a writer that was given no spacing
    leaves behind: 1 x 1 x 1 of unknown unit. Another size of unknown unit is taken as millimetres, as most readers
    do. Raises DataError where the file cannot be read.
    """
    with _named(file):
        if _is_numpy(file):
            return None
        with _opened(file) as stream:
            return _header(file, stream).spacing


def to_grey(volume: Volume, percentile: float) -> Pixels:
    """Return the volume in grey levels: values above a percentile (0-100) are clipped, then min-max to 0..255, uint8.

    The percentile is of the whole volume, interpolated between the two nearest values. A volume of one value is
    black. Memory: one copy of the volume for the percentile, then one slice at a time.
    """
    low, high = float(volume.min()), _percentile(volume, percentile)
    grey = np.zeros(volume.shape, np.uint8, order="F")
    for k in range(volume.shape[2] if high > low else 0):
        above = np.minimum(volume[:, :, k].astype(np.float64), high) - low
        grey[:, :, k] = np.rint(above * 255.0 / (high - low))
    return grey


def slice_of(volume: Volume, k: int) -> Volume:
    """Return slice ``k`` of the last axis as a picture H x W: y runs down and x to the right, for image and label."""
    return np.ascontiguousarray(volume[:, :, k].T)


def _percentile(volume: Volume, percentile: float) -> float:
    place = (volume.size - 1) * percentile / 100
    below, above = math.floor(place), math.ceil(place)
    ordered = np.partition(volume.ravel(order="K"), [below, above])
    low, high = float(ordered[below]), float(ordered[above])
    return low + (high - low) * (place - below)


@contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file into a DataError that names it."""
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{file} is no readable volume ({reason}); get the file again.") from error


def _is_numpy(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(len(_LFS))
    if start == _LFS:
        raise DataError(f"{file} is a git-lfs pointer, not a volume; run 'git lfs pull' where it was cloned.")
    return start.startswith(_NUMPY)


def _read_numpy(file: Path, values: bool) -> Volume:
    mapped = np.load(file, mmap_mode="r", allow_pickle=False)  # notices a file that is too short
    shape = _three(file, mapped.shape)
    _check_type(file, mapped.dtype, shape)
    if not values:
        return np.asarray(mapped).reshape(shape)
    return np.array(mapped, mapped.dtype.newbyteorder("=") if mapped.dtype.kind != "b" else np.uint8).reshape(shape)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, decompressed where its first bytes say that it is gzipped, whatever its name says."""
    with file.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield unpacked  # type: ignore[misc]  # a GzipFile reads like any binary file


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int, int]
    kind: np.dtype[Any]
    offset: int  # of the voxels, in bytes
    scale: tuple[float | None, float | None]  # slope and intercept
    spacing: Spacing | None


def _header(file: Path, stream: IO[bytes]) -> _Header:
    """Return the checked header of a NIfTI file; nothing more is read, whatever it declares."""
    _import_nibabel()
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    kinds: tuple[Any, ...] = (Nifti1Header, Nifti2Header)
    block = stream.read(Nifti2Header.sizeof_hdr)
    for kind in kinds:
        if kind.may_contain_header(block[: kind.sizeof_hdr]):
            try:  # nibabel's own check would also write to the terminal
                return _checked(file, kind(block[: kind.sizeof_hdr], check=False))
            except HeaderDataError as error:
                raise ValueError(error) from error
    raise ValueError("neither NIfTI nor NumPy")


def _import_nibabel() -> None:
    """Import nibabel, late because it is slow, and in one thread: its modules import each other.

    Another thread that comes in by another of them would be given one that is half done (Python breaks the deadlock).
    """
    with _IMPORTING:
        import nibabel  # noqa: F401


def _checked(file: Path, header: Any) -> _Header:
    shape, kind = _three(file, header.get_data_shape()), header.get_data_dtype()
    _check_type(file, kind, shape)
    offset = int(header.get_data_offset())
    if header["magic"] != header.single_magic or not 0 <= offset <= _MOST_OFFSET:
        raise ValueError("its voxels are not in this file")
    return _Header(shape, kind, offset, header.get_slope_inter(), _spacing(header))


def _spacing(header: Any) -> Spacing | None:
    """Never raises: a volume without a usable spacing can be read all the same."""
    code = int(header["xyzt_units"]) & 7  # the bits above are the unit of time
    sizes = [float(size) for size in header["pixdim"][1:4]]
    unset = code == 0 and sizes == [1.0, 1.0, 1.0]
    if unset or code not in _MILLIMETRES or not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    x, y, z = (size * _MILLIMETRES[code] for size in sizes)
    return x, y, z


def _read_nifti(file: Path) -> Volume:
    _import_nibabel()
    from nibabel.volumeutils import apply_read_scaling

    with _opened(file) as stream:
        header = _header(file, stream)
        wanted = math.prod(header.shape) * header.kind.itemsize
        stream.seek(header.offset)
        content = stream.read(wanted)
        stream.read(1)  # at the end of a gzipped file its checksum is compared
    if len(content) < wanted:
        raise ValueError(f"cut off: {len(content):,} of {wanted:,} bytes of voxels")
    volume = np.frombuffer(content, header.kind).reshape(header.shape, order="F")
    scaled = apply_read_scaling(volume, *header.scale)
    return np.asarray(scaled, scaled.dtype.newbyteorder("="))


def _three(file: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return x, y, z of a shape that may have axes of size 1 after them."""
    if len(shape) < 3 or any(size != 1 for size in shape[3:]) or min(shape) < 1:
        raise DataError(
            f"{file} has the shape {'x'.join(map(str, shape)) or 'of a single number'}; a volume has three axes "
            "(x, y, z): store one volume per file."
        )
    return int(shape[0]), int(shape[1]), int(shape[2])


def _check_type(file: Path, kind: np.dtype[Any], shape: tuple[int, int, int]) -> None:
    if kind.kind not in "biuf":
        raise DataError(f"{file} holds values of type {kind}; a volume has one whole or real number per voxel.")
    declared = math.prod(shape) * kind.itemsize
    if declared > MOST_BYTES:
        raise DataError(
            f"{file} declares {'x'.join(map(str, shape))} voxels, {declared / 2**30:,.1f} GiB, more than the "
            f"{MOST_BYTES / 2**30:g} GiB that are read; cut or scale it down, or remove it."
        )
