"""Simulated retinal vessels: six sites drawn from a seed, each in the style measured on a real one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from pflbench.api import Case, DataError, Dataset, Pixels
from pflbench_datasets.fundus import Style, paint
from pflbench_datasets.vessel import COUNTS, PRESETS

GENERATOR = 1  # raise it whenever a change of the code changes a pixel: caches and results are keyed by it

# Mean colour and vessel share are those of the real sites at 256 x 256; the rest is set by eye.
STYLES: Mapping[str, Style] = {
    "sim-CHASEDB1": Style(
        rgb=(167, 61, 10), vessels=0.075, radius=(0.46, 0.478), zoom=1.4, calibre=1.15, disc=(0.05, 0.0),
        contrast=0.36, gradient=1.0, vignette=0.45, texture=0.07, blur=0.8, noise=2.0, jitter=0.16,
        unlabelled=0.25,
    ),
    "sim-DR-HAGIS": Style(
        rgb=(134, 73, 59), vessels=0.042, radius=(0.44, 0.6), zoom=1.0, calibre=0.9, disc=(0.6, 0.0),
        contrast=0.3, gradient=0.35, vignette=0.25, texture=0.1, blur=0.5, noise=5.0, jitter=0.12,
        unlabelled=0.5, bright=1.5, dark=8.0,
    ),
    "sim-DRIVE": Style(
        rgb=(184, 96, 57), vessels=0.099, radius=(0.48, 0.465), zoom=1.0, calibre=1.4, disc=(0.62, 0.0),
        contrast=0.42, gradient=0.2, vignette=0.15, texture=0.06, blur=0.55, noise=6.0, jitter=0.06,
        unlabelled=0.05, dark=1.0,
    ),
    "sim-HRF": Style(
        rgb=(187, 60, 31), vessels=0.081, radius=(0.465, 0.62), zoom=1.0, calibre=1.0, disc=(0.55, 0.0),
        contrast=0.38, gradient=0.25, vignette=0.2, texture=0.09, blur=0.35, noise=1.5, jitter=0.09,
        unlabelled=0.1, bright=0.7, dark=3.0, streaks=0.35,
    ),
    "sim-LES-AV": Style(
        rgb=(100, 58, 33), vessels=0.074, radius=(0.43, 0.485), zoom=1.35, calibre=1.0, disc=(0.0, 0.0),
        contrast=0.5, gradient=0.45, vignette=0.55, texture=0.1, blur=0.7, noise=3.0, jitter=0.15,
        unlabelled=0.15,
    ),
    "sim-ORVS": Style(
        rgb=(98, 56, 19), vessels=0.053, radius=(0.49, 0.49), zoom=1.0, calibre=0.95, disc=(0.5, 0.0),
        contrast=0.34, gradient=0.5, vignette=0.45, texture=0.08, blur=1.1, noise=3.5, jitter=0.14,
        unlabelled=0.35, bright=0.4, dark=2.0, streaks=0.2,
    ),
}  # fmt: skip

# No site of the federation: what a public collection might look like, between the styles of the others.
PUBLIC = "sim-public"
_PUBLIC_IMAGES = 24
_PUBLIC_STYLE = Style(
    rgb=(150, 66, 34), vessels=0.07, radius=(0.47, 0.5), zoom=1.1, calibre=1.05, disc=(0.55, 0.0),
    contrast=0.38, gradient=0.4, vignette=0.3, texture=0.08, blur=0.7, noise=3.5, jitter=0.2,
    unlabelled=0.2, bright=0.4, dark=2.0, streaks=0.1,
)  # fmt: skip

# thirty methods, six sites and three seeds in a quarter of an hour on two cores: smaller and fewer than for real data.
# The rate falls quickly, because running statistics are those of models that are then averaged: the less they move
# apart at the end, the better they fit.
_SMALL = {
    "rounds": 12, "epochs": 2, "lr": 5e-3, "lr_decay": 0.85, "base_width": 12, "image_height": 48, "image_width": 48,
}  # fmt: skip


@dataclass(frozen=True)
class SimulatedVessel(Dataset):
    """Fundus pictures drawn from a seed, for trying a method where no real data lies.

    They are not evidence about patients: colours and vessel shares follow figures measured on the real sites,
    anatomy and annotators are invented.
    """

    name: ClassVar[str] = "vessel-simulated"
    title: ClassVar[str] = "Retinal vessels"
    sites: ClassVar[tuple[str, ...]] = tuple(STYLES)
    public_sites: ClassVar[tuple[str, ...]] = (PUBLIC,)
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {f"sim-{site}": n for site, n in COUNTS.items()}
    licence: ClassVar[Mapping[str, str]] = dict.fromkeys((*STYLES, PUBLIC), "generated, no restrictions")
    citation: ClassVar[Mapping[str, str]] = {
        site: f"simulated by pflbench, in a style after figures measured on {site.removeprefix('sim-')}"
        for site in STYLES
    } | {PUBLIC: "simulated by pflbench, in a style of its own"}
    simulated: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {**PRESETS, "quick": {**PRESETS["quick"], **_SMALL}}
    default_preset: ClassVar[str] = "quick"

    seed: Annotated[int, Field(ge=0)] = 0  # another seed gives other eyes of the same six sites
    size: Annotated[int, Field(ge=64, le=1024)] = 256  # side of the square pictures, in pixels

    @classmethod
    def find(cls, folder: object, **options: Any) -> Self:
        """Return the dataset with these settings; it needs no folder."""
        return cls.of(options)

    def available(self) -> Sequence[str]:
        """Return all six sites."""
        return self.sites

    def cases(self, site: str) -> Sequence[Case]:
        """Return the cases of one site, as many as the real one has; each is another person's."""
        if site == PUBLIC:
            return [Case(f"{site}/public/{i:02d}", site, f"public-{i:02d}") for i in range(1, _PUBLIC_IMAGES + 1)]
        train, test = self.expected[site]
        kinds: tuple[tuple[Literal["train", "test"], int], ...] = (("train", train), ("test", test))
        return [
            Case(f"{site}/{split}/{index:02d}", site, f"{split}-{index:02d}", split)
            for split, number in kinds
            for index in range(1, number + 1)
        ]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Draw the image (3 x size x size) and its mask (size x size) of a case."""
        place = _place(case)
        seeds = np.random.SeedSequence([GENERATOR, self.seed, *place])
        return paint(_style(case.site), self.size, np.random.Generator(np.random.PCG64(seeds)))

    def digest(self, case: Case) -> str:
        """Return a hash of the generator, its settings, the site's style and the case."""
        _place(case)
        text = json.dumps([GENERATOR, self.settings(), repr(_style(case.site)), case.id], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _style(site: str) -> Style:
    return _PUBLIC_STYLE if site == PUBLIC else STYLES[site]


def _place(case: Case) -> tuple[int, int, int]:
    """Return a case's numbers of site, split and picture, from which its random numbers are derived."""
    site, _, rest = case.id.partition("/")
    split, _, index = rest.partition("/")
    numbers = dict(zip(("train", "test"), SimulatedVessel.expected.get(site, ()), strict=False))
    if site == PUBLIC:
        numbers = {"public": _PUBLIC_IMAGES}
    if not index.isdigit() or not 1 <= int(index) <= numbers.get(split, 0):
        raise DataError(f"{case.id!r} is no case of {SimulatedVessel.name}; take one of those cases() lists.")
    return (*SimulatedVessel.sites, PUBLIC).index(site), list(numbers).index(split), int(index)
