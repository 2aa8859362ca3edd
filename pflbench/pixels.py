"""The cache of decoded pixels: memory-mapped uint8 arrays, keyed by content."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from pflbench.dataset import Case, Dataset, Pixels
from pflbench.errors import DataError
from pflbench.results import hash_of, write_json

_VERSION = 2  # of resizing and layout: another version is another key


@dataclass(frozen=True)
class Cache:
    """Decoded cases of one size: ``images`` N x C x H x W and ``masks`` N x 1 x H x W, uint8, on disk."""

    images: Pixels
    masks: Pixels
    rows: Mapping[str, int]  # case id -> row


def cache_folder() -> Path:
    """Return where decoded pixels are kept: PFLBENCH_CACHE, or the user's cache folder."""
    given = os.environ.get("PFLBENCH_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("pflbench", appauthor=False))


def digests(dataset: Dataset, cases: Sequence[Case]) -> dict[str, str]:
    """Return case id -> hash of its content."""
    with ThreadPoolExecutor() as pool:
        return dict(zip((case.id for case in cases), pool.map(dataset.digest, cases), strict=True))


def open_cache(
    dataset: Dataset,
    cases: Sequence[Case],
    content: Mapping[str, str],
    height: int,
    width: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Cache:
    """Return the decoded cases, decoding them first where this content is not in the cache.

    ``report(done, total)`` is called while decoding. Raises DataError naming the file that cannot be read.
    """
    wanted = {case.id: content[case.id] for case in cases}
    key = hash_of([_VERSION, dataset.channels, dataset.mask_area, height, width, wanted], 24)
    folder = cache_folder() / f"{dataset.name}-{height}x{width}-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _fill(folder, dataset, cases, height, width, report)
    images = np.load(folder / "images.npy", mmap_mode="r")
    masks = np.load(folder / "masks.npy", mmap_mode="r")
    # the order is that of whoever filled the cache, not of whoever asks: the key does not depend on it
    stored = json.loads((folder / "cases.json").read_text())
    return Cache(images, masks, {case: row for row, case in enumerate(stored)})


def _fill(
    folder: Path,
    dataset: Dataset,
    cases: Sequence[Case],
    height: int,
    width: int,
    report: Callable[[int, int], None],
) -> None:
    """Decode into a temporary folder and rename it: an interrupted decode leaves no cache entry."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        shape = (len(cases), dataset.channels, height, width)
        images = np.lib.format.open_memmap(temporary / "images.npy", "w+", np.uint8, shape)
        masks = np.lib.format.open_memmap(temporary / "masks.npy", "w+", np.uint8, (len(cases), 1, height, width))
        report(0, len(cases))
        with ThreadPoolExecutor() as pool:
            resized = pool.map(lambda case: _read(dataset, case, height, width), cases)
            for row, (image, mask) in enumerate(resized):
                images[row], masks[row, 0] = image, mask
                report(row + 1, len(cases))
        images.flush()
        masks.flush()
        write_json(temporary / "cases.json", [case.id for case in cases])
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read(dataset: Dataset, case: Case, height: int, width: int) -> tuple[Pixels, Pixels]:
    image, mask = dataset.read(case)
    if image.ndim != 3 or image.shape[0] != dataset.channels or mask.shape != image.shape[1:]:
        raise DataError(
            f"case {case.id!r} of {dataset.name} has an image of shape {image.shape} and a mask of shape {mask.shape}; "
            f"expected {dataset.channels} x H x W and H x W."
        )
    return resize_image(image, height, width), resize_mask(mask, height, width, dataset.mask_area)


def resize_image(image: Pixels, height: int, width: int) -> Pixels:
    """Return C x height x width: each new pixel is the mean of the old ones it covers."""
    if image.shape[1:] == (height, width):
        return image
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BOX) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def resize_mask(mask: Pixels, height: int, width: int, area: float) -> Pixels:
    """Return height x width of 0 and 1: foreground where more than ``area`` of a new pixel was foreground."""
    if mask.shape == (height, width):
        return mask
    shares: NDArray[np.float32] = np.asarray(
        Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    )
    return (shares > area).astype(np.uint8)
