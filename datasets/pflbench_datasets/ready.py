"""Ready folders, ``SITE/{train,val,test}/{images,masks}/NAME.SUFFIX``: which sites lie there, and which pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from pflbench.api import DataError
from pflbench_datasets.pictures import SUFFIXES


def site_folders(root: Path | None, splits: Sequence[str]) -> list[Path]:
    """Return the folders in ``root`` that hold a split."""
    if root is None or not root.is_dir():
        return []
    return [folder for folder in sorted(root.iterdir()) if any((folder / split).is_dir() for split in splits)]


def named_sites(root: Path | None, known: Iterable[str], splits: Sequence[str]) -> dict[str, Path]:
    """Return known site -> its folder, in the order of ``known``; case, hyphens and underscores do not count.

    Raises DataError where two folders are one site.
    """
    sites = {folded(site): site for site in known}
    found: dict[str, Path] = {}
    for folder in site_folders(root, splits):
        site = sites.get(folded(folder.name))
        if site is None:
            continue
        if site in found:
            raise DataError(f"{found[site]} and {folder} are both {site}; keep one of the two.")
        found[site] = folder
    return {site: found[site] for site in sites.values() if site in found}


def folded(name: str) -> str:
    """Return a name without what people spell differently: case, hyphens, underscores."""
    return name.lower().replace("-", "").replace("_", "")


def pairs(folder: Path, suffixes: Collection[str] = SUFFIXES) -> dict[str, tuple[Path, Path]]:
    """Return stem -> image and mask, by name; raises DataError where one lacks the other."""
    images, masks = _by_stem(_inner(folder, "images"), suffixes), _by_stem(_inner(folder, "masks"), suffixes)
    for stem, file in sorted(images.items()):
        if stem not in masks:
            raise DataError(f"{file} has no mask; put one of the same name into {_inner(folder, 'masks')}.")
    for stem, file in sorted(masks.items()):
        if stem not in images:
            raise DataError(f"{file} has no image; put it into {_inner(folder, 'images')}, or remove the mask.")
    return {stem: (images[stem], masks[stem]) for stem in sorted(images)}


def _inner(folder: Path, name: str) -> Path:
    """Return the folder of this name in ``folder``, in whatever letter case, or else where it ought to be."""
    if (folder / name).is_dir() or not folder.is_dir():
        return folder / name
    alike = [inner for inner in sorted(folder.iterdir()) if inner.is_dir() and inner.name.lower() == name]
    return alike[0] if alike else folder / name


def _by_stem(folder: Path, suffixes: Collection[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; the folders images and masks must lie side by side, in every split.")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        suffix = suffix_of(file.name, suffixes)
        # operating systems leave files of their own behind: ._a.png, Thumbs.db
        if suffix is None or file.name.startswith(".") or not file.is_file():
            continue
        stem = file.name[: -len(suffix)]
        if stem in files:
            raise DataError(f"{files[stem]} and {file} have one name; keep one of the two.")
        files[stem] = file
    if not files:
        raise DataError(f"{folder} holds no picture; allowed are {', '.join(sorted(suffixes))}.")
    return files


def suffix_of(name: str, suffixes: Collection[str]) -> str | None:
    """Return the suffix of a file name that is among ``suffixes``, as it is written there, else None."""
    fitting = [suffix for suffix in suffixes if name.lower().endswith(suffix) and len(name) > len(suffix)]
    return name[-len(max(fitting, key=len)) :] if fitting else None
