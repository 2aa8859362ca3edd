"""Reading pictures and masks from files; every failure is one sentence that names the file."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from pflbench.api import DataError, Pixels

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".webp"})
MOST_PIXELS = 120_000_000  # of a picture, as its header declares them: DR-HAGIS, the largest known, has 15 million
SLACK = 2  # pixels by which a mask may differ from its image: ORVS 2063 is one short
_LFS = b"version https://git-lfs"
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def content(file: Path) -> bytes:
    """Return a file's bytes. Raises DataError where it cannot be read or is a git-lfs pointer."""
    try:
        found = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); check it and its permissions.") from error
    if found.startswith(_LFS):
        raise DataError(f"{file} is a git-lfs pointer, not a picture; run 'git lfs pull' where it was cloned.")
    return found


def read_image(file: Path, channels: int = 3) -> Pixels:
    """Return a picture as channels x H x W (3: red, green, blue; 1: grey), uint8."""
    pixels = np.asarray(_decode(file, "RGB" if channels == 3 else "L"), np.uint8)
    return pixels.transpose(2, 0, 1) if channels == 3 else pixels[None]  # a view: originals are large


def read_mask(file: Path) -> Pixels:
    """Return a mask as H x W of 0 and 1.

    Everything becomes grey first, so that 1-bit, palette, three-channel, jpeg and anti-aliased masks all come
    out right; jpeg and anti-aliased ones hold greys: "> 0" would widen every object.
    """
    return (np.asarray(_decode(file, "L")) > 127).view(np.uint8)


def fitted(mask: Pixels, image: Pixels, mask_file: Path, image_file: Path) -> Pixels:
    """Return the mask (H x W) in the size of its image (C x H x W), from which it may differ by ``SLACK`` pixels.

    Raises DataError where they differ by more.
    """
    height, width = image.shape[1:]
    if mask.shape == (height, width):
        return mask
    if max(abs(mask.shape[0] - height), abs(mask.shape[1] - width)) > SLACK:
        raise DataError(
            f"{image_file} is {width}x{height} pixels but its mask {mask_file} is {mask.shape[1]}x{mask.shape[0]}; "
            f"up to {SLACK} pixels are allowed: resize the mask, or check that it is this image's."
        )
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _decode(file: Path, mode: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content(file))) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise DataError(
                    f"{file} declares {picture.width}x{picture.height} pixels, more than the {MOST_PIXELS:,} that are "
                    "read; scale it down, or remove it."
                )
            return picture.convert(mode)
    except _BROKEN as error:
        raise DataError(f"{file} is no readable picture ({error}); get the file again.") from error
