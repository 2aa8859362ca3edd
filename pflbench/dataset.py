"""The contract of a dataset: an index of cases, a way to read one, and a way to know it in a release."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pflbench.release import Download, Files, Found
from pflbench.settings import Settings

Pixels = NDArray[np.uint8]  # bytes, as images and masks are stored


@dataclass(frozen=True)
class Case:
    """One image with its mask: an entry of the index, without pixels.

    ``id`` is unique within the dataset, ``subject`` within the site. ``split`` is the release's own
    partition, or None where it has none (then the recipe's shares decide). ``volume`` names the scan that a
    slice is cut from, unique within the site; slices of a volume follow each other. ``traits`` are other
    facts to divide by (``{"lid": "upper"}``).
    """

    id: str
    site: str
    subject: str
    split: Literal["train", "val", "test"] | None = None
    volume: str | None = None
    traits: Mapping[str, str] = field(default_factory=dict, hash=False)
    foreground: float | None = None  # share of the mask; filled in for partitioners that ask for it


@dataclass(frozen=True)
class Dataset(Settings):
    """A dataset: frozen settings, an index of cases, and a reader.

    Subclasses are frozen dataclasses; their fields are options a user may set
    (``--set vessel.chase_labels=union``), ``root`` apart. Every class constant below without a default must be given.
    """

    root: Path | None = field(default=None, compare=False, metadata={"setting": False})

    name: ClassVar[str]  # "vessel" on the command line
    title: ClassVar[str]  # "Retinal vessels" in tables
    sites: ClassVar[tuple[str, ...]]  # every site, in the order of the paper's table; empty: whatever lies there
    optional_sites: ClassVar[tuple[str, ...]] = ()  # not missed where they are absent: nobody can get them
    # no client's, and not listed by available(): the server may use their images, without masks, if a method asks
    public_sites: ClassVar[tuple[str, ...]] = ()
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {}  # site -> images for training, for testing
    expected_subjects: ClassVar[Mapping[str, int]] = {}  # site -> subjects, where no split is published
    channels: ClassVar[int] = 3
    licence: ClassVar[Mapping[str, str]]  # site -> licence
    citation: ClassVar[Mapping[str, str]]  # site -> reference
    addresses: ClassVar[Mapping[str, str]] = {}  # site -> where the release can be had
    downloads: ClassVar[Mapping[str, Download]] = {}  # site -> what anyone may fetch without a login
    instructions: ClassVar[Mapping[str, str]] = {}  # site -> what to do by hand to get the release
    simulated: ClassVar[bool] = False
    stand_in: ClassVar[str | None] = None  # simulated dataset that is used where no real data is found
    mask_area: ClassVar[float] = 0.4  # a pixel of a shrunk mask is foreground above this share of its area
    # presets of the recipe: name -> {field of Recipe: value}; "paper" and "quick" are expected
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "quick": {}}
    default_preset: ClassVar[str] = "paper"

    @classmethod
    @abstractmethod
    def find(cls, folder: Path | None, **options: Any) -> Self | None:
        """Return the dataset as it lies in ``folder``, or None where there is nothing of it.

        A simulated dataset needs no folder and ignores it.
        """

    @abstractmethod
    def available(self) -> Sequence[str]:
        """Return the sites that can be read here, in the order of ``sites``."""

    @abstractmethod
    def cases(self, site: str) -> Sequence[Case]:
        """Return the cases of one site in a fixed order, without reading pixels."""

    @abstractmethod
    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return the image (C x H x W, 0-255) and its mask (H x W, 0 or 1), both uint8, in original size.

        Raises DataError naming the file where it cannot be read or image and mask do not fit.
        """

    @abstractmethod
    def digest(self, case: Case) -> str:
        """Return a hash of all that decides the pixels of a case: file contents, generator settings.

        The code of a plugin need not be in it: its version is in what pixels and trials are known by.
        """

    def field_of_view(self, case: Case) -> Pixels | None:
        """Return where the camera saw anything (H x W, 0 or 1, uint8, of the image's size), or None if not known.

        Where it is known, Dice inside it is reported beside Dice on the whole image.
        """
        return None

    def extent(self, case: Case) -> tuple[float, float] | None:
        """Return height and width in millimetres of the image as ``read`` returns it, or None if not known."""
        return None

    def image_channels(self) -> int:
        """Return the channels C of every image."""
        return type(self).channels

    def remarks(self) -> Sequence[str]:
        """Return sentences a reader of results should know (which labels, what was left out)."""
        return ()

    @classmethod
    def known_hashes(cls) -> Mapping[str, frozenset[str]]:
        """Return site -> the first 16 hexadecimal digits of the SHA-256 of every file of the original release."""
        return {}

    @classmethod
    def recognise(cls, files: Files) -> Sequence[Found]:
        """Return the sites found among the files of a release, with their cases and each case's files.

        What is found is copied into the store and read back through ``find``; nothing is decoded here unless
        the index needs it. Raises DataError for a release that is there but broken. Default: nothing.
        """
        return ()
