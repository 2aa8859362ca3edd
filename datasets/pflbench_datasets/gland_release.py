"""Knows MGD-1K by the names in its repository, and LFSC by the same names below a folder of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pflbench.api import DataError, Files, Found, Item

MGD1K = "MGD-1K"
LFSC = "LFSC"

# role -> folder, in the release's own spelling
FOLDERS: Mapping[str, str] = {
    "image": "Original Images",
    "mask": "Meibomian Gland Labels",
    "eyelid": "Eyelid Lebels",
}

_STEM = re.compile(
    r"DMI_(?:OD|OS)_(?:UPPER|LOWER)_REFLECTED_IR_\d+(?:_\d+)?",  # one is a second picture: ..._14933989_001
    re.IGNORECASE,
)
_SUFFIX: Mapping[str, str] = {"image": "jpe?g", "mask": "png", "eyelid": "png"}
_LISTED = 5  # file names that a remark gives


class _Picture(NamedTuple):
    path: str  # within the release
    stem: str
    file: Path


Labels = Mapping[str, Sequence[_Picture]]  # stem in lower case -> the files of that name


def found_sites(files: Files) -> list[Found]:
    """Return the sites whose pictures lie there. Raises DataError where pictures of a site have no gland label."""
    return [found for site in (LFSC, MGD1K) if (found := _found(site, files)) is not None]


def _found(site: str, files: Files) -> Found | None:
    pictures = list(_pictures(files, site, "image"))
    images = sorted(picture for picture in pictures if _STEM.fullmatch(picture.stem))
    if not images:
        return None
    glands, eyelids = (_by_stem(_pictures(files, site, role)) for role in ("mask", "eyelid"))
    items = [_item(image, glands, eyelids) for image in images if image.stem.lower() in glands]
    if not items:
        raise DataError(_without_labels(site, files))
    release = "MGD-1K (github.com/MGD1K/MGD1k)" if site == MGD1K else "LFSC, laid out as MGD-1K"
    return Found(site, release, tuple(items), tuple(_remarks(pictures, glands, eyelids)))


def _pictures(files: Files, site: str, role: str) -> Iterable[_Picture]:
    """Yield the files in every folder of this role that belongs to the site."""
    folder = FOLDERS[role].replace("Lebels", "L[ae]bels")  # whoever lays out a folder may spell it right
    for match, file in files.match(rf"{folder}/([^/]+)\.{_SUFFIX[role]}"):
        if _site_of(match[0]) == site:
            yield _Picture(match[0], match[1], file)


def _site_of(path: str) -> str:
    """Return whose a file is: LFSC's where a folder around it, or the archive it came in, is called so."""
    return LFSC if LFSC.lower() in path.lower().split("/")[:-1] else MGD1K


def _by_stem(pictures: Iterable[_Picture]) -> Labels:
    found: dict[str, list[_Picture]] = {}
    for picture in pictures:
        found.setdefault(picture.stem.lower(), []).append(picture)
    return found


def _item(image: _Picture, glands: Labels, eyelids: Labels) -> Item:
    stem = image.stem.lower()
    files = {"image": image.file, "mask": _nearest(image, glands[stem])}
    if stem in eyelids:
        files["eyelid"] = _nearest(image, eyelids[stem])
    _, eye, lid, _, _, patient, *_ = image.stem.split("_")
    return Item(image.stem, patient, files, traits={"lid": lid.lower(), "eye": eye.upper()})


def _nearest(image: _Picture, labels: Sequence[_Picture]) -> Path:
    """Return the label that lies closest to its image: some unpack the zips of labels beside the same folders."""

    def distance(label: _Picture) -> tuple[int, int, str]:
        return -len(os.path.commonpath([image.path, label.path])), len(label.path), label.path

    return min(labels, key=distance).file


def _without_labels(site: str, files: Files) -> str:
    """Return why a release without gland labels is refused, and what to do."""
    folder = FOLDERS["mask"]
    packed = [match[0] for match, _ in files.match(rf"[^/]*{folder}[^/]*\.zip")]
    todo = (
        f"unpack {packed[0]!r} there (where it is a few bytes long, run 'git lfs pull' first)"
        if packed
        else f"put them into the folder {folder!r} beside {FOLDERS['image']!r}"
    )
    return f"{files.origin} has pictures of {site} but no gland label of any of them; {todo}, and import again."


def _remarks(pictures: Sequence[_Picture], glands: Labels, eyelids: Labels) -> Iterable[str]:
    """Yield what is left out, by name."""
    images = {picture.stem.lower(): picture.stem for picture in pictures}
    known = {stem: name for stem, name in images.items() if _STEM.fullmatch(name)}
    left_out = {
        "without a gland label": [name for stem, name in known.items() if stem not in glands],
        "whose names do not tell eye, lid and patient": sorted(images[stem] for stem in images.keys() - known.keys()),
    }
    for why, names in left_out.items():
        if names:
            yield f"left out: {len(names)} pictures {why} ({_listing(names)})."
    orphans = [found[0].stem for stem, found in glands.items() if stem not in images]
    if orphans:
        yield f"left out: {len(orphans)} gland labels without a picture ({_listing(orphans)})."
    plain = [name for stem, name in known.items() if stem in glands and stem not in eyelids]
    if plain:
        yield f"{len(plain)} pictures have no eyelid label and are no cases of target=eyelid ({_listing(plain)})."


def _listing(names: Sequence[str]) -> str:
    shown = sorted(names)[:_LISTED]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
