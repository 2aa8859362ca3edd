"""One door to every kind of file of one's own data: pictures of any depth, NIfTI and NumPy."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pflbench.api import DataError, Pixels
from pflbench_datasets import pictures, volumes
from pflbench_datasets.binary import Foreground, binary

SUFFIXES = pictures.SUFFIXES | volumes.SUFFIXES
BRIGHTEST = 99.0  # percentile that becomes white where values are not bytes
_AT_HAND = max(2, os.cpu_count() or 1)  # decoded volumes that are kept: one for each thread that reads slices
_LFS = b"version https://git-lfs"
_DEEP = ("I", "F")  # how the modes of more than 8 bits begin: I;16, I;16B, I, F
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)

Values = NDArray[Any]


class Stamp(NamedTuple):
    """A file as it is now: what was read of it is believed while size and time are unchanged."""

    path: Path
    bytes: int
    modified: int  # nanoseconds


class Facts(NamedTuple):
    """What the index must know of a volume's mask."""

    shape: tuple[int, int, int]  # x, y, z
    slices: tuple[int, ...]  # with foreground


def stamp(file: Path) -> Stamp:
    """Return a file's stamp. Raises DataError where it is not there."""
    try:
        found = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); check it and its permissions.") from error
    return Stamp(file, found.st_size, found.st_mtime_ns)


@functools.cache
def sha256(file: Stamp) -> str:
    """Return the hash of a file's content."""
    with file.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# volumes


def is_volume(mask: Path) -> bool:
    """Say whether a mask, and so its image, is a volume: NIfTI, or a NumPy array of three axes."""
    if mask.name.lower().endswith(".npy"):
        return len(_array(mask).shape) != 2
    return not _is_picture(mask)


@functools.lru_cache(maxsize=_AT_HAND)
def grey_volume(file: Stamp) -> Pixels:
    """Return a volume as x, y, z, uint8: bytes as they are, others from their minimum to their 99th percentile."""
    volume = volumes.read_volume(file.path)
    return _kept(volume if volume.dtype == np.uint8 else volumes.to_grey(volume, BRIGHTEST))


@functools.lru_cache(maxsize=_AT_HAND)
def binary_volume(file: Stamp, wanted: Foreground) -> Pixels:
    """Return the mask of a volume as x, y, z of 0 and 1."""
    return _kept(binary(volumes.read_volume(file.path), wanted, file.path))


@functools.cache
def facts(file: Stamp, wanted: Foreground) -> Facts:
    """Return the size of a volume's mask and the slices of the last axis that hold foreground; reads it once."""
    mask = binary_volume(file, wanted)
    x, y, z = mask.shape
    return Facts((x, y, z), tuple(np.flatnonzero(mask.any(axis=(0, 1))).tolist()))


def _kept(volume: Pixels) -> Pixels:
    """Return the volume guarded against writing: slices of it are handed out."""
    volume.setflags(write=False)
    return volume


# pictures


def is_grey(image: Path) -> bool:
    """Say from its header whether a picture is grey."""
    if image.name.lower().endswith(".npy"):
        return len(_array(image).shape) == 2
    with _opened(image) as picture:
        return _grey(picture)


def read_picture(file: Path, channels: int, colour_allowed: bool = True) -> Pixels:
    """Return a picture as channels x H x W, uint8: bytes as they are, others from minimum to 99th percentile.

    Raises DataError where it cannot be read, has several pages, or is in colour where that is not allowed.
    """
    values = _values(file)
    if values.ndim == 3 and not colour_allowed:
        raise DataError(
            f"{file} is in colour, but the first pictures of every site are grey; "
            "say what is meant with --set folder.colour=grey or folder.colour=rgb."
        )
    if values.dtype != np.uint8:
        values = _bytes(values, file)
    if values.ndim == 3 and channels == 1:
        values = np.asarray(Image.fromarray(values).convert("L"))
    if values.ndim == 3:
        return np.ascontiguousarray(values.transpose(2, 0, 1))
    return np.repeat(values[None], channels, axis=0)


def read_mask(file: Path, wanted: Foreground) -> Pixels:
    """Return the mask of a picture as H x W of 0 and 1; colours and palettes become grey first."""
    values = _values(file)
    if values.ndim == 3:
        values = np.asarray(Image.fromarray(values).convert("L"))
    _check_finite(values, file)
    return binary(values, wanted, file)


def read_size(file: Path) -> tuple[int, int]:
    """Return the height and width of a picture from its header."""
    if file.name.lower().endswith(".npy"):
        height, width = _array(file).shape[:2]
        return height, width
    with _opened(file) as picture:
        return picture.height, picture.width


def _values(file: Path) -> Values:
    """Return a picture as stored: H x W, or H x W x 3 in red, green and blue."""
    if file.name.lower().endswith(".npy"):
        array = _array(file)
        if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
            return np.array(array, np.uint8 if array.dtype.kind == "b" else array.dtype.newbyteorder("="))
        raise DataError(
            f"{file} has the shape {'x'.join(map(str, array.shape))}; the array of a picture is H x W or H x W x 3, "
            "and that of a volume, x, y, z, needs a mask of three axes."
        )
    with _opened(file) as picture:
        if picture.mode.startswith(_DEEP):
            deep = np.asarray(picture)
            return deep.astype(deep.dtype.newbyteorder("="))
        return np.asarray(picture.convert("L" if _grey(picture) else "RGB"))


def _bytes(values: Values, file: Path) -> Pixels:
    _check_finite(values, file)
    planes = values[:, :, None] if values.ndim == 2 else values
    return volumes.to_grey(planes, BRIGHTEST).reshape(values.shape)


def _check_finite(values: Values, file: Path) -> None:
    if not (math.isfinite(values.min()) and math.isfinite(values.max())):
        raise DataError(f"{file} holds NaN or infinite values; get the file again, or replace them.")


def _grey(picture: Image.Image) -> bool:
    return picture.mode in ("1", "L", "LA", "La") or picture.mode.startswith(_DEEP)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in pictures.SUFFIXES


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open a picture whose header is sound; its pixels are decoded when they are asked for."""
    if not _is_picture(file):
        raise DataError(f"{file} is no picture, but its mask is one; give both as pictures or both as volumes.")
    try:
        with Image.open(io.BytesIO(pictures.content(file))) as picture:
            if picture.width * picture.height > pictures.MOST_PIXELS:
                raise DataError(
                    f"{file} declares {picture.width}x{picture.height} pixels, more than the {pictures.MOST_PIXELS:,} "
                    "that are read; scale it down, or remove it."
                )
            pages = getattr(picture, "n_frames", 1)
            if pages > 1:
                raise DataError(
                    f"{file} has {pages} pages; save each as a picture, or the stack as a NIfTI or NumPy volume."
                )
            yield picture
    except _BROKEN as error:
        raise DataError(f"{file} is no readable picture ({error}); get the file again.") from error


def _array(file: Path) -> Values:
    """Return a NumPy array as it lies on disk; nothing is read but its header."""
    try:
        with file.open("rb") as stream:
            if stream.read(len(_LFS)) == _LFS:
                raise DataError(f"{file} is a git-lfs pointer, not an array; run 'git lfs pull' where it was cloned.")
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise DataError(f"{file} is no readable array ({error}); save it again with numpy.save.") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or not array.size:
        raise DataError(f"{file} holds no array of whole or real numbers; save one with numpy.save.")
    return array
