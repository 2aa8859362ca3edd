"""One's own data without writing code: folders of images and masks, or a CSV file that lists them."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from pflbench.api import Case, DataError, Dataset, Pixels, UsageError
from pflbench_datasets import readers, tree
from pflbench_datasets.entries import Entry, by_site
from pflbench_datasets.pictures import fitted
from pflbench_datasets.table import find_table, read_table
from pflbench_datasets.volumes import read_shape, read_spacing, slice_of

_VERSION = 1  # of how pixels are made of files: another version is another digest


@dataclass(frozen=True)
class Folder(Dataset):
    """Any images with binary masks, laid out as docs/own-data.md says.

    ``root`` is ``--data-root``: folders ``SITE/{train,val,test}/{images,masks}``, or a CSV file, or a folder with
    one. Pictures may be of any depth, grey or in colour; volumes are cut into slices along their last axis.
    """

    name: ClassVar[str] = "folder"
    title: ClassVar[str] = "Own data"
    sites: ClassVar[tuple[str, ...]] = ()
    licence: ClassVar[Mapping[str, str]] = {}
    citation: ClassVar[Mapping[str, str]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"rounds": 100, "lr": 1e-3, "lr_decay": 0.99, "base_width": 64},
        "quick": {
            "rounds": 30,
            "lr": 2e-3,
            "lr_decay": 0.97,
            "base_width": 16,
            "image_height": 128,
            "image_width": 128,
        },
    }

    subject: str | None = None  # expression with one group, found in a file's stem: (\d+)_; None: all are others
    colour: Literal["auto", "rgb", "grey"] = "auto"  # auto: grey where every site's first image is
    foreground: int | Literal["any"] | None = None  # value of it in masks of several labels; any: all above 0
    slices: Literal["foreground", "all"] = "foreground"  # which slices of a volume are cases

    def __post_init__(self) -> None:
        """Check the fields, and that ``subject`` is an expression with one group."""
        super().__post_init__()
        try:
            groups = 1 if self.subject is None else re.compile(self.subject).groups
        except re.error as error:
            raise UsageError(
                f"folder.subject = {self.subject!r} is no regular expression ({error}); write one like (\\d+)_."
            ) from None
        if groups != 1:
            raise UsageError(
                f"folder.subject = {self.subject!r} has {groups} groups; put exactly one pair of brackets around "
                "the part of a file's name that is the subject, as in (\\d+)_."
            )

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> Self | None:
        """Return the dataset in ``folder`` (or in that CSV file), or None where neither layout is there."""
        if folder is None or not (tree.sites_in(folder) or find_table(folder, alone=True)):
            return None
        return replace(cls.of(options), root=folder)

    def available(self) -> Sequence[str]:
        """Return the sites, by name, or in the order of the CSV file."""
        return tuple(self._index)

    def cases(self, site: str) -> Sequence[Case]:
        """Return a site's cases; the masks of its volumes are read, once, to find slices with foreground."""
        if site not in self._index:
            raise DataError(f"{self.root} has no site {site!r}; here are {', '.join(self._index)}.")
        found = [case for entry in self._index[site] for case in self._cases(entry)]
        if not found:
            raise DataError(f"no slice of {site} in {self.root} has foreground; check its masks, or folder.foreground.")
        return found

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return the image (1 or 3 x H x W) and its mask (H x W, 0 or 1) in original size."""
        entry, k = self._find(case)
        if k is None:
            image = readers.read_picture(entry.image, self.image_channels(), colour_allowed=self._colour_allowed)
            return image, fitted(readers.read_mask(entry.mask, self.foreground), image, entry.mask, entry.image)
        plane = slice_of(readers.grey_volume(readers.stamp(entry.image)), k)
        mask = slice_of(readers.binary_volume(readers.stamp(entry.mask), self.foreground), k)
        return np.repeat(plane[None], self.image_channels(), axis=0), mask

    def field_of_view(self, case: Case) -> Pixels | None:
        """Return what the CSV's column ``field`` gives for a case (H x W, 0 or 1), or None."""
        entry, k = self._find(case)
        if entry.view is None:
            return None
        if k is not None:
            return slice_of(readers.binary_volume(readers.stamp(entry.view), None), k)
        like = np.broadcast_to(np.uint8(0), (1, *readers.read_size(entry.image)))
        return fitted(readers.read_mask(entry.view, None), like, entry.view, entry.image)

    def extent(self, case: Case) -> tuple[float, float] | None:
        """Return a slice's height and width in millimetres by the header of its image, else of its mask, or None.

        None for pictures: what their files say of resolution is that of a printer or a screen.
        """
        entry, k = self._find(case)
        if k is None:
            return None
        spacing = read_spacing(entry.image) or read_spacing(entry.mask)
        if spacing is None:
            return None
        across, down, _ = read_shape(entry.image)
        return down * spacing[1], across * spacing[0]

    def digest(self, case: Case) -> str:
        """Return a hash of the case's files and of what decides how they become pixels."""
        entry, k = self._find(case)
        files = [readers.sha256(readers.stamp(file)) for file in (entry.image, entry.mask, entry.view) if file]
        made = [_VERSION, files, k, self.image_channels(), self.foreground]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()

    def image_channels(self) -> int:
        """Return 1 for grey and 3 for colour."""
        return 1 if self.colour == "grey" or (self.colour == "auto" and self._starts_grey) else 3

    def remarks(self) -> Sequence[str]:
        """Return which subjects, foreground and slices are meant, and which folders are no site."""
        found = []
        if self._table is None and self.subject is None:
            found.append("Every file counts as a person of its own; folder.subject finds persons in file names.")
        if self.foreground is not None:
            which = "every label" if self.foreground == "any" else f"label {self.foreground}"
            found.append(f"Foreground is {which} of the masks.")
        if any(readers.is_volume(entry.mask) for own in self._index.values() for entry in own):
            which = "their slices with foreground" if self.slices == "foreground" else "all their slices"
            found.append(f"Volumes are cut along their last axis; {which} are cases.")
        if self._table is None and self.root is not None:
            found += [
                f"The folder {folder.name} holds no images and masks and is left out."
                for folder in tree.left_out(self.root)
            ]
        return found

    # cached_property keeps what it found beside the fields: nothing is listed or compared of it

    @functools.cached_property
    def _table(self) -> Path | None:
        return None if self.root is None else find_table(self.root, alone=not tree.sites_in(self.root))

    @functools.cached_property
    def _index(self) -> Mapping[str, Sequence[Entry]]:
        """Return site -> its entries; every rule that needs no pixels is checked here."""
        if self._table is not None:
            if self.subject is not None:
                raise UsageError(f"folder.subject is for folders; {self._table} has a column subject: leave it out.")
            return by_site(read_table(self._table))
        return by_site(tree.read_tree(self.root, self.subject) if self.root is not None else [])

    @functools.cached_property
    def _entries(self) -> Mapping[tuple[str, str], Entry]:
        return {(entry.site, entry.id): entry for own in self._index.values() for entry in own}

    @functools.cached_property
    def _starts_grey(self) -> bool:
        """Say whether every site's first image is grey."""
        firsts = [own[0] for own in self._index.values()]
        return all(readers.is_volume(entry.mask) or readers.is_grey(entry.image) for entry in firsts)

    @property
    def _colour_allowed(self) -> bool:
        return self.colour != "auto" or not self._starts_grey

    def _cases(self, entry: Entry) -> list[Case]:
        name = f"{entry.site}/{entry.id}"
        if not readers.is_volume(entry.mask):
            return [Case(name, entry.site, entry.subject, entry.split, traits=entry.traits)]
        found = readers.facts(readers.stamp(entry.mask), self.foreground)
        _check_axes(entry, found.shape)
        chosen = found.slices if self.slices == "foreground" else range(found.shape[2])
        return [Case(f"{name}/{k:03d}", entry.site, entry.subject, entry.split, entry.id, entry.traits) for k in chosen]

    def _find(self, case: Case) -> tuple[Entry, int | None]:
        """Return a case's entry, and the slice of it where it is a volume's."""
        entry = self._entries.get((case.site, case.volume or case.id.removeprefix(f"{case.site}/")))
        slice_number = case.id.rpartition("/")[2] if case.volume else None
        if entry is None or (slice_number and not slice_number.isdecimal()):
            raise DataError(f"{case.id!r} is no case of {self.root}; take one of those cases() lists.")
        return entry, int(slice_number) if slice_number else None


def _check_axes(entry: Entry, shape: tuple[int, int, int]) -> None:
    """Raise DataError where the files of a volume differ in size; only headers are read."""
    for file in (entry.image, entry.view):
        if file is None:
            continue
        if not readers.is_volume(file):
            raise DataError(f"{file} is no volume, but {entry.mask} is one; give both as pictures or both as volumes.")
        if read_shape(file) != shape:
            here, there = ("x".join(map(str, size)) for size in (read_shape(file), shape))
            raise DataError(
                f"{file} has {here} voxels but the mask {entry.mask} has {there}; check that it is this image's and "
                "that both have the same order of axes."
            )
