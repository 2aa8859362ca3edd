"""Reading one's own data from folders: ``SITE/{train,val,test}/{images,masks}`` or ``SITE/{images,masks}``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pflbench.api import DataError
from pflbench_datasets.entries import SPLITS, Entry, Part
from pflbench_datasets.readers import SUFFIXES
from pflbench_datasets.ready import pairs

_HALVES = frozenset({"images", "masks"})


def sites_in(root: Path) -> list[Path]:
    """Return the folders in ``root`` that hold images, masks or a split, by name."""
    return [folder for folder in _folders(root) if _HALVES & _names(folder) or _parts(folder)]


def left_out(root: Path) -> list[Path]:
    """Return the folders in ``root`` that are no site."""
    sites = sites_in(root)
    return [folder for folder in _folders(root) if folder not in sites]


def read_tree(root: Path, subject: str | None = None) -> list[Entry]:
    """Return the entries of every site, by site, split and name.

    ``subject`` is a regular expression whose group, found in a file's stem, is the subject; without it every
    file is a subject of its own. Raises DataError where a file has no partner, a folder is not understood, or
    the expression does not fit a name.
    """
    return [entry for site in sites_in(root) for entry in _site(site, subject)]


def _site(site: Path, subject: str | None) -> Iterator[Entry]:
    parts = _parts(site)
    if parts and _HALVES & _names(site):
        raise DataError(f"{site} has both splits and images beside them; move the images into a split, or keep none.")
    for other in _folders(site) if parts else ():
        if other not in parts.values() and _HALVES & _names(other):
            raise DataError(f"{other} is no split; call it train, val or test, or move it elsewhere.")
    for split, folder in parts.items() or [(None, site)]:
        for stem, (image, mask) in pairs(folder, SUFFIXES).items():
            name = f"{split}/{stem}" if split else stem
            # numbers may start again in every split: 1 in train and 1 in test need not be one person
            whose = name if subject is None else _subject(subject, stem, image)
            yield Entry(site.name, name, whose, split, image, mask, str(image))


def _subject(pattern: str, stem: str, file: Path) -> str:
    match = re.search(pattern, stem)
    if match is None or not match[1]:
        raise DataError(
            f"{file} does not fit folder.subject = {pattern!r}; correct the expression, or rename the file."
        )
    return match[1]


def _parts(site: Path) -> Mapping[Part, Path]:
    folders = {folder.name.lower(): folder for folder in _folders(site)}
    return {split: folders[split] for split in SPLITS if split in folders}


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith((".", "__"))]


def _names(folder: Path) -> set[str]:
    return {inner.name.lower() for inner in _folders(folder)}
