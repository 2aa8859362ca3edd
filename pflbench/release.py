"""What an importer sees of a release, and what it makes of it: files by path, sites, cases with their files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Download:
    """A file that its licence lets anyone fetch without a login."""

    url: str
    name: str  # of the file as it is saved
    sha256: str | None = None  # None: not published; the files inside are compared with known ones on import
    bytes: int | None = None


@dataclass(frozen=True)
class Files:
    """The files of a release, whatever it came in: relative path with slashes -> where it lies.

    What operating systems and git leave behind is not among them. ``origin`` is what the user gave.
    """

    origin: Path
    paths: Mapping[str, Path]

    def match(self, pattern: str) -> Iterator[tuple[re.Match[str], Path]]:
        r"""Yield (match, file) of every path that ends in ``pattern``, a regular expression; letter case is ignored.

        A match begins at a path's start or after a slash: ``images/(\d+)\.png`` finds ``a/images/7.png``.
        """
        compiled = re.compile(rf"(?:^|.*/)(?:{pattern})$", re.IGNORECASE)
        for path, file in self.paths.items():
            found = compiled.match(path)
            if found:
                yield found, file


@dataclass(frozen=True)
class Item:
    """A case to be stored: a picture, or a whole volume that the dataset will cut into slices.

    ``files`` are by role: "image" and "mask", and what else the dataset reads ("field", "mask-second").
    ``facts`` are plain values that the index must know without reading pixels (``{"foreground": [3, 4]}``).
    """

    id: str  # unique within the site; also the stem of the stored files
    subject: str
    files: Mapping[str, Path]
    split: Literal["train", "val", "test"] | None = None
    traits: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """One site in a release."""

    site: str
    release: str  # what it was recognised as: "CHASE_DB1 (Kingston)", "ICPRVessels"
    items: tuple[Item, ...]
    remarks: tuple[str, ...] = ()  # sentences: what is left out and why, what differs from the original
