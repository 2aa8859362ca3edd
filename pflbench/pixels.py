"""The cache of decoded pixels: memory-mapped uint8 arrays, keyed by content and the plugin that reads it."""

from __future__ import annotations

import contextlib
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
from pflbench.origin import origin_of
from pflbench.results import hash_of, write_json

_VERSION = 3  # of resizing and layout: another version is another key


@dataclass(frozen=True)
class Decoded:
    """Cases of one size: ``images`` N x C x H x W, ``masks`` and ``fields`` N x 1 x H x W, uint8.

    ``fields`` is 1 where the camera saw anything, and 0 everywhere for a case whose field of view is not known;
    None where no case has one.
    """

    images: Pixels
    masks: Pixels
    fields: Pixels | None


@dataclass(frozen=True)
class Cache:
    """The decoded cases of some sites, memory-mapped from disk."""

    sites: Mapping[str, tuple[Decoded, Mapping[str, int]]]  # site -> its cases, and case id -> row

    def take(self, cases: Sequence[Case]) -> Decoded:
        """Return some cases, in their order, in memory. There must be one at least."""
        found = [(self.sites[case.site][0], self.sites[case.site][1][case.id]) for case in cases]
        images = np.stack([decoded.images[row] for decoded, row in found])
        masks = np.stack([decoded.masks[row] for decoded, row in found])
        if all(decoded.fields is None for decoded, _ in found):
            return Decoded(images, masks, None)
        unknown = np.zeros_like(masks[0])
        fields = np.stack([unknown if d.fields is None else d.fields[row] for d, row in found])
        return Decoded(images, masks, fields)


def cache_folder() -> Path:
    """Return where decoded pixels are kept: PFLBENCH_CACHE, or the user's cache folder."""
    given = os.environ.get("PFLBENCH_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("pflbench", appauthor=False))


def digests(dataset: Dataset, cases: Sequence[Case]) -> dict[str, str]:
    """Return case id -> hash of its content."""
    with ThreadPoolExecutor() as pool:
        return dict(zip((case.id for case in cases), pool.map(dataset.digest, cases), strict=True))


def foreground(dataset: Dataset, cases: Sequence[Case], content: Mapping[str, str]) -> dict[str, float]:
    """Return case id -> share of its mask that is foreground, in original size; kept in the cache."""
    wanted, origin = {case.id: content[case.id] for case in cases}, origin_of(type(dataset))
    key = hash_of([wanted, origin] if origin else wanted, 24)
    file = cache_folder() / f"{dataset.name}-foreground-{key}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            write_json(file, _foreground(dataset, cases))
        return dict(json.loads(file.read_text()))


def _foreground(dataset: Dataset, cases: Sequence[Case]) -> dict[str, float]:
    def share(rows: Sequence[int]) -> list[tuple[str, float]]:
        return [(cases[row].id, float(dataset.read(cases[row])[1].mean())) for row in rows]

    with ThreadPoolExecutor(_threads()) as pool:
        return dict(pair for unit in pool.map(share, _units(cases)) for pair in unit)


def open_cache(
    dataset: Dataset,
    index: Mapping[str, Sequence[Case]],
    content: Mapping[str, str],
    height: int,
    width: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    root: Path | None = None,
) -> Cache:
    """Return all cases of some sites (site -> its cases), decoding those first that are not in the cache.

    The cache is in ``root``, by default in the user's cache folder. Every site is cached by itself, so that
    federations and partitions of the same sites share it. ``report(done, total)`` is called while decoding.
    Raises DataError naming the file that cannot be read.
    """
    root = cache_folder() if root is None else root
    folders = {site: root / _key(dataset, cases, content, height, width) for site, cases in index.items()}
    missing = {site: folder for site, folder in folders.items() if not folder.exists()}
    total, done = sum(len(index[site]) for site in missing), 0
    if missing:
        report(0, total)
    for site, folder in missing.items():

        def count(here: int, before: int = done) -> None:
            report(before + here, total)

        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if folder.exists():  # another process was quicker
                count(len(index[site]))
            else:
                _fill(folder, dataset, index[site], height, width, count)
        done += len(index[site])
    return Cache({site: _open(folder) for site, folder in folders.items()})


def _key(dataset: Dataset, cases: Sequence[Case], content: Mapping[str, str], height: int, width: int) -> str:
    wanted, origin = {case.id: content[case.id] for case in cases}, origin_of(type(dataset))
    decided = [_VERSION, dataset.image_channels(), dataset.mask_area, height, width, wanted]
    key = hash_of([*decided, origin] if origin else decided, 24)
    return f"{dataset.name}-{height}x{width}-{key}"


def is_cached(
    dataset: Dataset, index: Mapping[str, Sequence[Case]], content: Mapping[str, str], height: int, width: int
) -> bool:
    """Say whether all cases of some sites lie in the cache."""
    keys = (_key(dataset, cases, content, height, width) for cases in index.values())
    return all((cache_folder() / key).exists() for key in keys)


def check(dataset: Dataset, case: Case) -> None:
    """Read a case in full. Raises DataError naming the file that cannot be read."""
    _read(dataset, case, 8, 8)


def adopt(root: Path) -> None:
    """Move what was decoded in ``root`` into the user's cache folder; what is there already stays."""
    target = cache_folder()
    target.mkdir(parents=True, exist_ok=True)
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not folder.is_dir() or folder.name.startswith(".") or (target / folder.name).exists():
            continue
        arriving = target / f".{folder.name}.{uuid.uuid4().hex[:8]}"
        shutil.move(folder, arriving)  # perhaps from another file system: not in one move
        with contextlib.suppress(OSError):  # another process was quicker
            os.replace(arriving, target / folder.name)
        shutil.rmtree(arriving, ignore_errors=True)


def _open(folder: Path) -> tuple[Decoded, Mapping[str, int]]:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "masks")}
    fields = folder / "fields.npy"
    # the order is that of whoever filled the cache, not of whoever asks: the key does not depend on it
    stored = json.loads((folder / "cases.json").read_text())
    rows = {case: row for row, case in enumerate(stored)}
    return Decoded(**arrays, fields=np.load(fields, mmap_mode="r") if fields.exists() else None), rows


def _fill(
    folder: Path,
    dataset: Dataset,
    cases: Sequence[Case],
    height: int,
    width: int,
    count: Callable[[int], None],
) -> None:
    """Decode into a temporary folder and rename it: an interrupted decode leaves no cache entry."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    temporary.mkdir()
    try:
        _decode(temporary, dataset, cases, height, width, count)
        write_json(temporary / "cases.json", [case.id for case in cases])
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _decode(
    folder: Path, dataset: Dataset, cases: Sequence[Case], height: int, width: int, count: Callable[[int], None]
) -> None:
    """Write every case into its row; a volume's slices are read one after another, so that it is read once."""
    number = len(cases)
    shape = (number, dataset.image_channels(), height, width)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shape)
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, (number, 1, height, width))
    fields = np.zeros((number, 1, height, width), np.uint8)

    def read(rows: Sequence[int]) -> int:
        for row in rows:
            images[row], masks[row, 0], field = _read(dataset, cases[row], height, width)
            if field is not None:
                fields[row, 0] = field
        return len(rows)

    done = 0
    with ThreadPoolExecutor(_threads()) as pool:
        waiting = [pool.submit(read, rows) for rows in _units(cases)]
        try:
            for unit in waiting:  # in their order, so that the first of several broken files is named
                done += unit.result()
                count(done)
        finally:
            pool.shutdown(cancel_futures=True)
    if number and not masks.any():
        raise DataError(
            f"every mask of {', '.join(dict.fromkeys(case.site for case in cases))} is empty; check that these are its "
            "masks, and which value is foreground."
        )
    images.flush()
    masks.flush()
    if fields.any():
        np.save(folder / "fields.npy", fields)


def _threads() -> int:
    """Return how many cases are decoded at a time: each holds a picture of full size in memory."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _units(cases: Sequence[Case]) -> list[list[int]]:
    """Return the rows that must be read one after another: a volume's slices; other cases alone."""
    units: dict[tuple[str, str | None, int], list[int]] = {}
    for row, case in enumerate(cases):
        units.setdefault((case.site, case.volume, row if case.volume is None else -1), []).append(row)
    return list(units.values())


def _read(dataset: Dataset, case: Case, height: int, width: int) -> tuple[Pixels, Pixels, Pixels | None]:
    image, mask = dataset.read(case)
    field = dataset.field_of_view(case)
    expected = dataset.image_channels()
    if image.ndim != 3 or image.shape[0] != expected or mask.shape != image.shape[1:]:
        raise DataError(
            f"case {case.id!r} of {dataset.name} has an image of shape {image.shape} and a mask of shape {mask.shape}; "
            f"expected {expected} x H x W and H x W."
        )
    if field is not None and field.shape != mask.shape:
        raise DataError(
            f"case {case.id!r} of {dataset.name} has a field of view of shape {field.shape}, but its mask is "
            f"{mask.shape}; they must be of one size."
        )
    small = None if field is None else resize_mask(field, height, width, 0.5)
    return resize_image(image, height, width), resize_mask(mask, height, width, dataset.mask_area), small


def resize_image(image: Pixels, height: int, width: int) -> Pixels:
    """Return C x height x width: each new pixel is the mean of the old ones it covers."""
    if image.shape[1:] == (height, width):
        return image
    if len(image) == 3:  # a picture that was read as H x W x 3 is such again without a copy
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        return np.asarray(picture.resize((width, height), Image.Resampling.BOX)).transpose(2, 0, 1)
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BOX) for plane in image]
    return np.stack([np.asarray(plane) for plane in planes])


def resize_mask(mask: Pixels, height: int, width: int, area: float) -> Pixels:
    """Return height x width of 0 and 1: foreground where more than ``area`` of a new pixel was foreground."""
    if mask.shape == (height, width):
        return mask
    picture = Image.fromarray(np.ascontiguousarray(mask)).convert("F")
    shares: NDArray[np.float32] = np.asarray(picture.resize((width, height), Image.Resampling.BOX))
    return (shares > area).astype(np.uint8)
