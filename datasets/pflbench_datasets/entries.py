"""One's own data as a list: what an entry is, and what must hold among the entries of a site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pflbench.api import DataError

Part = Literal["train", "val", "test"]
SPLITS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """A picture or a volume with its mask, before anything of it is read."""

    site: str
    id: str  # unique within the site
    subject: str  # unique within the site
    split: Part | None
    image: Path
    mask: Path
    place: str  # where the user wrote it: "row 7 of own.csv", or the image's path
    view: Path | None = None  # mask of the field of view
    traits: Mapping[str, str] = field(default_factory=dict)


def by_site(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Return site -> its entries, in the order in which they come.

    Raises DataError where a site's name cannot be given on the command line, where an id or an image is there
    twice, where a subject is in two splits, and where only some of a site's entries have a split.
    """
    sites: dict[str, list[Entry]] = {}
    for entry in entries:
        sites.setdefault(entry.site, []).append(entry)
    _check_names(sites)
    for own in sites.values():
        _check_unique(own)
        _check_splits(own)
    return {site: tuple(own) for site, own in sites.items()}


def _check_names(sites: Mapping[str, Sequence[Entry]]) -> None:
    seen: dict[str, str] = {}
    for site, own in sites.items():
        if "," in site or "/" in site:
            raise DataError(f"{own[0].place} is of site {site!r}; name a site without commas and slashes.")
        first = seen.setdefault(site.lower(), site)
        if first != site:
            raise DataError(f"{own[0].place} is of site {site!r}, but there is a {first!r}; spell a site one way.")


def _check_unique(entries: Sequence[Entry]) -> None:
    ids: dict[str, Entry] = {}
    images: dict[Path, Entry] = {}
    for entry in entries:
        first = ids.setdefault(entry.id, entry)
        if first is not entry:
            raise DataError(
                f"{first.place} and {entry.place} are both {entry.id!r} of {entry.site}; "
                "name them apart, in a CSV with a column id."
            )
        first = images.setdefault(entry.image, entry)
        if first is not entry:
            raise DataError(f"{first.place} and {entry.place} have one image, {entry.image}; keep one of the two.")


def _check_splits(entries: Sequence[Entry]) -> None:
    homes: dict[str, Entry] = {}
    for entry in entries:
        if (entry.split is None) != (entries[0].split is None):
            filled, empty = sorted((entries[0], entry), key=lambda one: one.split is None)
            raise DataError(
                f"{filled.place} has a split and {empty.place} has none; give all of {entry.site} a split, or none."
            )
        first = homes.setdefault(entry.subject, entry)
        if first.split != entry.split:
            raise DataError(
                f"subject {entry.subject!r} of {entry.site} is in {first.split} ({first.place}) and in {entry.split} "
                f"({entry.place}); one person's images must stay together."
            )
