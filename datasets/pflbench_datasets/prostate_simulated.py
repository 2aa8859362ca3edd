"""Simulated prostate MRI: six sites drawn from a seed, each in the manner of a real one's scanner."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from pflbench.api import Case, DataError, Dataset, Pixels
from pflbench_datasets.pelvis import paint
from pflbench_datasets.pelvis_patient import Style, new_patient
from pflbench_datasets.prostate import PATIENTS, PRESETS

GENERATOR = 1  # raise it whenever a change of the code changes a pixel: caches and results are keyed by it

# resolution and coil are those of the real sites; field strength and maker are translated by eye into noise,
# contrast and unevenness of light
STYLES: Mapping[str, Style] = {
    "sim-BIDMC": Style(  # 3 T, GE
        view=96, resolution=0.3, edge=1.0, coil="endorectal", reach=17, white=1.15, noise=(0.02, 0.035),
        peripheral=0.95, transition=0.42, fat=0.85, muscle=0.24, gland=24, margin=-0.2,
    ),
    "sim-BMC": Style(  # 1.5 T, Philips
        view=107, resolution=0.4, edge=1.2, coil="endorectal", reach=26, white=1.25, noise=(0.03, 0.05),
        peripheral=0.9, transition=0.5, fat=1.1, muscle=0.3, gland=24, margin=0.3,
    ),
    "sim-HK": Style(  # 1.5 T, Siemens
        view=114, resolution=0.625, edge=1.6, coil="endorectal", reach=22, white=0.95, noise=(0.04, 0.065),
        peripheral=0.8, transition=0.45, fat=0.9, muscle=0.26, gland=23, margin=0.0,
    ),
    "sim-I2CVB": Style(  # 3 T, Siemens, without a coil in the body
        view=158, resolution=0.73, edge=0.9, coil="none", reach=-0.35, white=2.1, noise=(0.05, 0.07),
        peripheral=0.95, transition=0.5, fat=1.0, muscle=0.2, gland=26, margin=0.6,
    ),
    "sim-RUNMC": Style(  # 3 T, Siemens
        view=128, resolution=0.61, edge=1.3, coil="surface", reach=0.35, white=1.3, noise=(0.03, 0.045),
        peripheral=1.05, transition=0.45, fat=0.85, muscle=0.18, gland=26, margin=0.0,
    ),
    "sim-UCL": Style(  # 1.5 and 3 T, Siemens
        view=122, resolution=0.5, edge=1.4, coil="none", reach=0.1, white=1.25, noise=(0.04, 0.1),
        peripheral=0.72, transition=0.46, fat=0.95, muscle=0.3, gland=27, margin=-0.4,
    ),
}  # fmt: skip

# six methods, six sites and three seeds in minutes on two cores: smaller and fewer than for real data
_SMALL = {"rounds": 12, "lr": 3e-3, "image_height": 64, "image_width": 64}


@dataclass(frozen=True)
class SimulatedProstate(Dataset):
    """Slices of pelvic MRI drawn from a seed, for trying a method where no real data lies.

    They are not evidence about patients: number of patients, resolution and coil follow the real sites; anatomy,
    contrast and annotators are invented.
    """

    name: ClassVar[str] = "prostate-simulated"
    title: ClassVar[str] = "Prostate MRI"
    sites: ClassVar[tuple[str, ...]] = tuple(STYLES)
    expected_subjects: ClassVar[Mapping[str, int]] = {f"sim-{site}": n for site, n in PATIENTS.items()}
    channels: ClassVar[int] = 1
    mask_area: ClassVar[float] = 0.5
    licence: ClassVar[Mapping[str, str]] = dict.fromkeys(STYLES, "generated, no restrictions")
    citation: ClassVar[Mapping[str, str]] = {
        site: f"simulated by pflbench, with the resolution and the coil of {site.removeprefix('sim-')}"
        for site in STYLES
    }
    simulated: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {**PRESETS, "quick": {**PRESETS["quick"], **_SMALL}}
    default_preset: ClassVar[str] = "quick"

    seed: Annotated[int, Field(ge=0)] = 0  # another seed gives other patients of the same six sites
    size: Annotated[int, Field(ge=64, le=1024)] = 192  # side of the square slices, in pixels
    slices: Annotated[int, Field(ge=1, le=100)] = 8  # of a patient, all through the gland, from apex to base

    @classmethod
    def find(cls, folder: object, **options: Any) -> Self:
        """Return the dataset with these settings; it needs no folder."""
        return cls.of(options)

    def available(self) -> Sequence[str]:
        """Return all six sites."""
        return self.sites

    def cases(self, site: str) -> Sequence[Case]:
        """Return the slices of one site, patient by patient; it has as many patients as the real one."""
        return [
            Case(f"{site}/{name}/{k:03d}", site, name, volume=name)
            for name in (f"Case{number:02d}" for number in range(self.expected_subjects[site]))
            for k in range(self.slices)
        ]

    def extent(self, case: Case) -> tuple[float, float]:
        """Return the sides of the picture in millimetres: the field of view of the patient's scan."""
        site, number, _ = self._place(case)
        view = new_patient(STYLES[case.site], self._random(site, number)).view
        return view, view

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Draw a slice (1 x size x size) and its mask (size x size)."""
        site, number, k = self._place(case)
        patient = new_patient(STYLES[case.site], self._random(site, number))
        height = 1.88 * (k + 0.5) / self.slices - 0.94  # the tips are thinner than a slice
        return paint(STYLES[case.site], patient, height, self.size, self._random(site, number, k + 1, self.slices))

    def digest(self, case: Case) -> str:
        """Return a hash of the generator, its settings, the site's style and the case."""
        self._place(case)
        text = json.dumps([GENERATOR, self.settings(), repr(STYLES[case.site]), case.id], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([GENERATOR, self.seed, *place])))

    def _place(self, case: Case) -> tuple[int, int, int]:
        """Return a case's numbers of site, patient and slice, from which its random numbers are derived."""
        site, name, k = ([*case.id.split("/"), "", ""])[:3]
        number = name.removeprefix("Case")
        fits = number.isdigit() and int(number) < self.expected_subjects.get(site, 0)
        if not fits or not k.isdigit() or int(k) >= self.slices or site != case.site:
            raise DataError(f"{case.id!r} is no case of {self.name}; take one of those cases() lists.")
        return self.sites.index(site), int(number), int(k)
