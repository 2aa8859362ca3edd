"""Simulated meibography: two sites drawn from a seed, for trying a method where no real picture lies."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from pflbench.api import Case, DataError, Dataset, Pixels
from pflbench_datasets.eyelid import Side
from pflbench_datasets.gland import PRESETS
from pflbench_datasets.meibography import Style, paint

GENERATOR = 1  # raise it whenever a change of the code changes a pixel: caches and results are keyed by it

# sim-MGD-1K follows figures measured on MGD-1K: mean grey 115, in the lid 147, glands 31 above what surrounds them,
# 5.4 % of the picture. LFSC is private, no picture of it was seen: its style is invented, to be unlike the other.
STYLES: Mapping[str, Style] = {
    "sim-LFSC": Style(
        skin=0.36, lid=0.44, contrast=0.15, calibre=0.026, zoom=0.97, vignette=0.6, texture=0.16, glare=3.0,
        blur=1.3, noise=7.0, jitter=0.12, writing="bottom left",
    ),
    "sim-MGD-1K": Style(
        skin=0.58, lid=0.56, contrast=0.2, calibre=0.024, zoom=1.0, vignette=0.3, texture=0.3, glare=1.2,
        blur=0.45, noise=2.5, jitter=0.06, writing="top right",
    ),
}  # fmt: skip

PATIENTS: Mapping[str, int] = {"sim-LFSC": 40, "sim-MGD-1K": 80}

_KINDS: tuple[tuple[str, Side], ...] = (("OD", "lower"), ("OD", "upper"), ("OS", "lower"), ("OS", "upper"))
# which of these pictures each of ten patients has: as many, and of each kind as many, as in MGD-1K (a tenth has one,
# a fifth two, three tenths three, four tenths four; fewest of the left upper lid)
_TAKEN = ("0123", "012", "0123", "02", "013", "0123", "1", "012", "0123", "23")

# two sites, six methods and three seeds in a few minutes on two cores: smaller and fewer than for real data
_SMALL = {"rounds": 15, "epochs": 3, "lr": 3e-3, "image_height": 48, "image_width": 96}


@dataclass(frozen=True)
class SimulatedGland(Dataset):
    """Infrared pictures of lids turned inside out, drawn from a seed, with masks of their glands.

    They are not evidence about patients: anatomy, loss of glands and annotators are invented, and LFSC, which
    nobody outside can see, has no more than its name here.
    """

    name: ClassVar[str] = "gland-simulated"
    title: ClassVar[str] = "Meibomian glands"
    sites: ClassVar[tuple[str, ...]] = tuple(STYLES)
    expected_subjects: ClassVar[Mapping[str, int]] = PATIENTS
    licence: ClassVar[Mapping[str, str]] = dict.fromkeys(STYLES, "generated, no restrictions")
    citation: ClassVar[Mapping[str, str]] = {
        "sim-LFSC": "simulated by pflbench, in an invented style: LFSC is private",
        "sim-MGD-1K": "simulated by pflbench, in a style after figures measured on MGD-1K",
    }
    channels: ClassVar[int] = 1
    simulated: ClassVar[bool] = True
    mask_area: ClassVar[float] = 0.5  # as for the real pictures
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {**PRESETS, "quick": {**PRESETS["quick"], **_SMALL}}
    default_preset: ClassVar[str] = "quick"

    seed: Annotated[int, Field(ge=0)] = 0  # another seed gives other patients of the same two sites
    height: Annotated[int, Field(ge=48, le=1024)] = 192  # of the pictures, in pixels; they are twice as wide

    @classmethod
    def find(cls, folder: object, **options: Any) -> Self:
        """Return the dataset with these settings; it needs no folder."""
        return cls.of(options)

    def available(self) -> Sequence[str]:
        """Return both sites."""
        return self.sites

    def cases(self, site: str) -> Sequence[Case]:
        """Return the cases of one site; a patient has one to four, each of another eye or lid."""
        return [
            Case(f"{site}/{eye}-{lid}-{patient:03d}", site, f"{patient:03d}", traits={"lid": lid, "eye": eye})
            for patient in range(1, PATIENTS[site] + 1)
            for eye, lid in (_KINDS[int(kind)] for kind in _TAKEN[(patient - 1) % len(_TAKEN)])
        ]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Draw the image (1 x height x 2 height) and its mask (height x 2 height) of a case."""
        site, kind, patient = _place(case)
        person, shot = (self._generator(site, patient, picture) for picture in (0, 1 + kind))
        grey, mask = paint(STYLES[site], self.height, *_KINDS[kind], person, shot)
        return grey[None], mask

    def _generator(self, site: str, patient: int, picture: int) -> np.random.Generator:
        """Return the random numbers of a picture, or (picture 0) of what all pictures of the patient share."""
        place = [GENERATOR, self.seed, self.sites.index(site), patient, picture]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(place)))

    def digest(self, case: Case) -> str:
        """Return a hash of the generator, its settings, the site's style and the case."""
        site, _, _ = _place(case)
        text = json.dumps([GENERATOR, self.settings(), repr(STYLES[site]), case.id], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _place(case: Case) -> tuple[str, int, int]:
    """Return a case's site, kind of picture and patient, from which its random numbers are derived."""
    named = re.fullmatch(r"([^/]+)/(O[DS])-(upper|lower)-(\d{3})", case.id)
    if named and 1 <= int(named[4]) <= PATIENTS.get(named[1], 0):
        kind = [f"{eye}-{lid}" for eye, lid in _KINDS].index(f"{named[2]}-{named[3]}")
        if str(kind) in _TAKEN[(int(named[4]) - 1) % len(_TAKEN)]:
            return named[1], kind, int(named[4])
    raise DataError(f"{case.id!r} is no case of {SimulatedGland.name}; take one of those cases() lists.")
