"""Simulated patients: how a site's pictures look, a patient's anatomy, and where gland and rectum lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Spot = tuple[float, float, float, float, float]  # x, y, t, radius (in radii of the gland), brightness


@dataclass(frozen=True)
class Style:
    """How the pictures of one site look. Brightness 1 is that of fat where the coil sees it well."""

    view: float  # side of the picture in mm
    resolution: float  # of the acquisition in mm; the picture is interpolated from it
    edge: float  # width of borders in mm: thick slices blur them
    coil: Literal["none", "surface", "endorectal"]
    reach: float  # how far an endorectal coil lights, in mm; otherwise how uneven the light is, as a share
    white: float  # brightness that becomes white
    noise: tuple[float, float]  # standard deviation, least and most among patients
    peripheral: float  # brightness of the peripheral zone
    transition: float  # brightness of the transition zone
    fat: float
    muscle: float
    gland: float  # half the width of a common gland in mm
    margin: float = 0.0  # mm by which the annotators draw the outline too wide


@dataclass(frozen=True)
class Patient:
    """One patient's anatomy. Lengths in mm, x to the right of the picture, y to the back; t: apex -1, base 1."""

    view: float
    gain: float
    noise: float
    middle: tuple[float, float]  # of the gland, from the middle of the picture
    radii: tuple[float, float]  # half width and half depth of the gland
    square: float  # exponent of the outline: 2 is an ellipse
    waves: tuple[tuple[float, float], ...]  # size and phase of the outline's unevenness, from two bumps on
    dent: float  # how far the rectum presses in
    adenoma: float  # share of the gland that the transition zone takes
    skew: float  # of its two lobes
    nodules: tuple[Spot, ...]
    lesions: tuple[Spot, ...]
    rectum: tuple[float, float, float]  # place along x, radius, brightness of its content
    bladder: float  # how full
    pelvis: float  # how wide, 1 is common
    tilt: tuple[float, float]  # of the light, per picture
    warp: Plane  # 2 x 2 x 7 x 7: how far all is displaced along x and y, in mm; in the middle, and per height


def new_patient(style: Style, rng: np.random.Generator) -> Patient:
    """Draw a patient."""
    large = float(np.exp(rng.normal(0.0, 0.1)))
    inside = style.coil == "endorectal"
    width = style.gland * large * rng.uniform(0.95, 1.05)
    spots = [_spot(rng) for _ in range(3 + rng.integers(0, 9))]
    lesions = [_spot(rng) for _ in range(int(rng.random() < 0.5) + int(rng.random() < 0.2))]
    content = float(rng.choice([0.03, 0.35, 0.55]))
    return Patient(
        view=style.view * rng.uniform(0.94, 1.07),
        gain=float(np.exp(rng.normal(0.0, 0.1))),
        noise=rng.uniform(*style.noise),
        middle=(rng.normal(0.0, 1.5), rng.normal(-2.0 if inside else 1.0, 2.0)),
        radii=(width, width * rng.uniform(0.62, 0.72) * (0.88 if inside else 1.0) * large**0.5),
        square=rng.uniform(2.1, 2.7),
        waves=tuple((rng.normal(0.0, 0.05 / k), rng.uniform(0.0, 2 * np.pi)) for k in (1, 1, 2, 3)),
        dent=rng.uniform(0.22, 0.34) if inside else rng.uniform(0.06, 0.16),
        adenoma=float(np.clip(rng.normal(0.62, 0.08) + 0.15 * (large - 1), 0.45, 0.8)),
        skew=rng.normal(0.0, 0.12),
        nodules=tuple(spots),
        lesions=tuple(lesions),
        rectum=(rng.normal(0.0, 2.0), rng.uniform(16.5, 19.5) if inside else rng.uniform(9.0, 15.0), content),
        bladder=rng.uniform(0.4, 1.0),
        pelvis=rng.uniform(0.94, 1.06),
        tilt=(rng.normal(0.0, 0.06), rng.normal(0.0, 0.06)),
        warp=(rng.uniform(-1.0, 1.0, (2, 2, 7, 7)) * np.array([2.4, 1.2]).reshape(2, 1, 1, 1)).astype(np.float32),
    )


def _spot(rng: np.random.Generator) -> Spot:
    x, y = rng.uniform(-0.8, 0.8, 2)
    return float(x), float(y), rng.uniform(-0.6, 0.9), rng.uniform(0.1, 0.3), rng.uniform(-0.25, 0.3)


def shrunk(t: float) -> float:
    """Return the gland's width at a height, as a share of its largest: it tapers more to the apex."""
    return float((1 - abs(t) ** (2.6 if t > 0 else 2.0)) ** 0.5)


def gland(patient: Patient, t: float, x: Plane, y: Plane) -> Plane:
    """Return the distance to the gland's outline at height ``t`` in mm, negative inside, for places in mm."""
    dx, dy = x - np.float32(patient.middle[0]), y - np.float32(patient.middle[1])
    across, down = dx / np.float32(patient.radii[0]), dy / np.float32(patient.radii[1])
    power = np.float32(patient.square)
    apart = (np.abs(across) ** power + np.abs(down) ** power) ** (1 / power)
    angle = np.arctan2(down, across)
    outline = 1 - np.float32(patient.dent) * np.exp(-(((angle - np.float32(np.pi / 2)) / np.float32(0.55)) ** 2))
    for bumps, (size, phase) in enumerate(patient.waves, start=2):
        outline += np.float32(size) * np.cos(np.float32(bumps) * angle + np.float32(phase + t))
    far: Plane = (apart - outline * np.float32(shrunk(t))) * np.float32(min(patient.radii))
    return far


def rectum(style: Style, patient: Patient, t: float) -> tuple[tuple[float, float], float]:
    """Return the middle and the radius of the rectum, which lies against the gland and narrows to the anus."""
    radius = patient.rectum[1] * (1.0 if style.coil == "endorectal" else 0.82 + 0.25 * t)
    against = patient.middle[1] + patient.radii[1] * (1 - patient.dent) * (0.55 + 0.45 * shrunk(t))
    return (patient.middle[0] + patient.rectum[0], against + radius + 1.5), radius
