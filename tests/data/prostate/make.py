"""Writes a copy of the SAML / FedDG prostate release: real names, types and quirks, drawn volumes.

python tests/data/prostate/make.py FOLDER
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

PATIENTS = {"BIDMC": 12, "BMC": 30, "HK": 12, "I2CVB": 19, "RUNMC": 30, "UCL": 13}


@dataclass(frozen=True)
class Site:
    """What is particular about the files of one site."""

    white: float  # the intensities of the six sites differ by orders of magnitude
    image: str  # type of the stored intensities
    label: str  # type of the stored labels
    ending: str = "_segmentation"
    zones: bool = False  # labels 1 and 2
    first: int = 0  # number of the first patient
    gap: int | None = None  # a number that no patient has


SITES = {
    "BIDMC": Site(1500, "int16", "uint8"),
    "BMC": Site(900, "int16", "int16", ending="_Segmentation", zones=True),
    "HK": Site(400, "uint16", "uint8", gap=2),
    "I2CVB": Site(0.8, "float32", "float32", first=1),
    "RUNMC": Site(600, "int16", "uint8", zones=True, gap=4),
    "UCL": Site(3000, "float64", "float64", first=3),
}


def numbers(site: str, count: int) -> list[int]:
    """Return the patients' numbers: they need not start at 0, nor be dense."""
    style = SITES[site]
    return [n for n in range(style.first, style.first + count + 1) if n != style.gap][:count]


def draw(site: str, number: int, shape: tuple[int, int, int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return intensities and labels (x, y, z); the first and the last slice show no gland."""
    style = SITES[site]
    rng = np.random.default_rng([list(SITES).index(site), number])
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    middle, radii = rng.uniform(-0.08, 0.08, 2), rng.uniform(0.25, 0.36, 2)
    gland = ((x - middle[0]) / radii[0]) ** 2 + ((y - middle[1]) / radii[1]) ** 2 + (z / 0.95) ** 2 < 1
    inner = ((x - middle[0]) / radii[0]) ** 2 + ((y - middle[1] + 0.08) / radii[1]) ** 2 < 0.4
    light = 0.35 + 0.1 * x - 0.15 * y + 0.3 * gland - 0.12 * (gland & inner) + rng.normal(0, 0.03, shape)
    light[rng.random(shape) < 0.004] = 3.0  # a few glaring voxels, which clipping takes away
    labels = np.where(gland & inner & style.zones, 2, gland.astype(int))
    labels[:, :, [0, -1]] = 0
    return (np.abs(light) * style.white).astype(style.image), labels.astype(style.label)


def make(
    folder: Path,
    patients: Mapping[str, int] = PATIENTS,
    shape: tuple[int, int, int] = (48, 48, 8),
    quirks: bool = True,
) -> Path:
    """Write ``Processed_data_nii`` into a folder and return its path.

    With ``quirks`` there are also what macOS leaves behind, a volume without a label (RUNMC) and an image under the
    name of a label (the first patient of BIDMC), which the label beside it makes superfluous.
    """
    root = folder / "Processed_data_nii"
    for site, count in patients.items():
        (root / site).mkdir(parents=True, exist_ok=True)
        for number in numbers(site, count):
            image, labels = draw(site, number, shape)
            save(root / site / f"Case{number:02d}.nii.gz", image)
            save(root / site / f"Case{number:02d}{SITES[site].ending}.nii.gz", labels)
        if quirks:
            (root / site / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    if quirks and "RUNMC" in patients:
        save(root / "RUNMC" / "Case90.nii.gz", draw("RUNMC", 90, shape)[0])
    if quirks and "BIDMC" in patients:
        save(root / "BIDMC" / "Case00_segmentation.nii", draw("BIDMC", 0, shape)[0])
    return root


def save(file: Path, volume: NDArray[Any]) -> Path:
    """Write a volume as NIfTI, its axes running to the left, to the back and up as those of the release."""
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-0.5, -0.5, 3.0, 1.0])), file)
    return file


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
