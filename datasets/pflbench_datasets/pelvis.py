"""Paints axial T2-weighted slices of a simulated male pelvis, and the gland's mask, from a style and a patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pflbench_datasets.pelvis_patient import Patient, Plane, Spot, Style, gland, rectum, shrunk

Bytes = NDArray[np.uint8]
_CORTEX = 0.05  # brightness of bone, air and the coil's balloon
_URINE = 1.35


def paint(style: Style, patient: Patient, t: float, size: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Return a slice at height ``t`` (1 x size x size, 0-255) and the gland's mask (size x size, 0 or 1)."""
    x, y = _grid(patient, t, round(patient.view / style.resolution))
    slice_ = _Slice(style, patient, t, x, y, gland(patient, t, x, y), rng, np.empty_like(x), np.empty_like(x))
    slice_.grain[:] = 1 + np.float32(0.3) * slice_.clouds(3)
    _add_fat(slice_)
    for side in (-1, 1):
        _add_side(slice_, side)
    _add_front(slice_)
    _add_sling(slice_)
    _add_rectum(slice_)
    _add_gland(slice_)
    lit = slice_.tissue * _light(slice_) * np.float32(patient.gain)
    real, imaginary = rng.standard_normal((2, *lit.shape), dtype=np.float32) * np.float32(patient.noise)
    measured = np.sqrt((lit + real) ** 2 + imaginary * imaginary)  # a magnitude: its noise is Rician
    grey = _resized(measured * np.float32(255 / style.white), size)
    mask = gland(patient, t, *_grid(patient, t, size)) < style.margin
    return np.clip(grey + 0.5, 0, 255).astype(np.uint8)[None], mask.astype(np.uint8)


def _grid(patient: Patient, t: float, size: int) -> tuple[Plane, Plane]:
    """Return each pixel's place in the patient, in mm from the middle of the picture (x, y)."""
    along = (((np.arange(size) + 0.5) / size - 0.5) * patient.view).astype(np.float32)
    y, x = np.meshgrid(along, along, indexing="ij")
    across, down = patient.warp[0] + np.float32(t) * patient.warp[1]
    return x + _resized(across, size), y + _resized(down, size)


def _resized(plane: Plane, size: int) -> Plane:
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC), np.float32)


@dataclass(frozen=True)
class _Slice:
    """A slice while it is painted: one thing is laid over another."""

    style: Style
    patient: Patient
    t: float
    x: Plane
    y: Plane
    gland: Plane  # distance to the gland's outline, in mm
    rng: np.random.Generator
    grain: Plane  # of muscle and marrow, around 1
    tissue: Plane

    def clouds(self, width: float) -> Plane:
        """Return smooth random unevenness between about -1 and 1, in bumps of a width in mm."""
        cells = max(2, round(self.patient.view / width))
        coarse = self.rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
        return _resized(coarse, len(self.x))

    def oval(self, at: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Plane:
        """Return the distance to an oval's outline in mm, negative inside; exact for circles only."""
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        dx, dy = self.x - np.float32(at[0]), self.y - np.float32(at[1])
        across, down = (cos * dx + sin * dy) / np.float32(radii[0]), (cos * dy - sin * dx) / np.float32(radii[1])
        far: Plane = (np.sqrt(across * across + down * down) - 1) * np.float32(min(radii))
        return far

    def lay(self, distance: Plane, brightness: Plane | float, blur: float = 1.0) -> None:
        """Lay something over all places at a negative distance; borders are blurred as by a thick slice."""
        cover = np.clip(np.float32(0.5) - distance / np.float32(self.style.edge * blur), 0, 1)
        np.add(self.tissue, cover * (np.asarray(brightness, np.float32) - self.tissue), out=self.tissue)


# what surrounds the gland


def _add_fat(slice_: _Slice) -> None:
    strands = np.exp(-((slice_.clouds(9) / np.float32(0.06)) ** 2)) * np.maximum(slice_.clouds(14), 0)
    uneven = 1 + np.float32(0.12) * slice_.clouds(12) + np.float32(0.1) * slice_.clouds(3)
    slice_.tissue[:] = np.float32(slice_.style.fat) * (uneven - np.float32(0.4) * strands)


def _add_side(slice_: _Slice, side: int) -> None:
    """Add hip bone, internal obturator and gluteal muscle of one side."""
    t, style, wide = slice_.t, slice_.style, slice_.patient.pelvis * side
    bone = slice_.oval((68 * wide, -10 + 3 * t), (17, 32), 0.12 * side)
    slice_.lay(bone, _CORTEX)
    slice_.lay(bone + 2.2, np.float32(0.62 * style.fat) * slice_.grain)
    obturator = slice_.oval((47 * wide, -4 + 2 * t), (7.5 - 1.5 * t, 31), 0.1 * side)
    slice_.lay(obturator, np.float32(style.muscle) * slice_.grain)
    slice_.lay(slice_.oval((48 * wide, 66), (38, 19), 0.5 * side), np.float32(1.15 * style.muscle) * slice_.grain)


def _add_front(slice_: _Slice) -> None:
    """Add pubic bones below, the bladder above, and the veins in front of the gland."""
    t, style, patient = slice_.t, slice_.style, slice_.patient
    if t < 0.35:
        for side in (-1, 1):
            pubis = slice_.oval((25 * side * patient.pelvis, -47 - 6 * t), (24, 9.5), -0.42 * side)
            slice_.lay(pubis, _CORTEX)
            slice_.lay(pubis + 2, np.float32(0.65 * style.fat) * slice_.grain)
        slice_.lay(slice_.oval((0, -45 - 6 * t), (3.5, 9)), 0.3)  # symphysis
    full = patient.bladder * (t + 0.1)
    if full > 0.15:
        front = patient.middle[1] - 0.8 * patient.radii[1] * shrunk(t)
        bladder = slice_.oval((patient.middle[0], front - 22 * full), (38 * full, 21 * full))
        slice_.lay(bladder - 2.5, style.muscle)
        slice_.lay(bladder, _URINE)
    veins = np.maximum(np.abs(slice_.gland - 3.5) - 2.5, slice_.y - np.float32(patient.middle[1]))
    slice_.lay(veins, np.float32(0.45) + np.float32(0.7) * np.abs(slice_.clouds(3)), blur=4)


def _add_sling(slice_: _Slice) -> None:
    """Add the levator ani, which closes around the gland towards the apex."""
    t, middle = slice_.t, slice_.patient.middle
    wide = slice_.patient.radii[0] * (0.86 + 0.28 * t) + 8
    outline = slice_.oval((middle[0], middle[1] + 12), (wide, 30 + 6 * t))
    band = np.maximum(np.abs(outline) - np.float32(2.2 - 0.7 * t), np.float32(middle[1] - 14) - slice_.y)
    slice_.lay(band, np.float32(slice_.style.muscle) * slice_.grain)


def _add_rectum(slice_: _Slice) -> None:
    """Add the rectum with what it holds: a coil in its balloon, stool or air."""
    at, radius = rectum(slice_.style, slice_.patient, slice_.t)
    if slice_.style.coil == "endorectal":
        balloon = slice_.oval(at, (radius * 1.08, radius))
        slice_.lay(balloon - 2.5, 0.75)
        slice_.lay(balloon, _CORTEX)
        slice_.lay(np.abs(slice_.oval((at[0], at[1] - 0.45 * radius), (4, 4))) - np.float32(0.6), 0.35)
        return
    wall = slice_.oval(at, (radius * 1.15, radius))
    slice_.lay(wall - 3, 1.25 * slice_.style.muscle)
    slice_.lay(wall - np.float32(0.8), 0.75)  # mucosa
    slice_.lay(wall + np.float32(0.8), np.float32(slice_.patient.rectum[2]) * (1 + np.float32(0.5) * slice_.clouds(5)))


# the gland


def _add_gland(slice_: _Slice) -> None:
    t, style, patient, outline = slice_.t, slice_.style, slice_.patient, slice_.gland
    scale = shrunk(t)
    wide, deep = patient.radii[0] * scale, patient.radii[1] * scale
    coarse = slice_.clouds(6)
    slice_.lay(outline - np.float32(1.2), 0.8 * style.muscle)  # capsule
    uneven = 1 + np.float32(0.12) * slice_.clouds(2.2) + np.float32(0.14) * coarse
    slice_.lay(outline, np.float32(style.peripheral) * uneven)
    for spot in patient.lesions:
        _add_spot(slice_, spot, (wide, 0.9 * deep), outline + 1, 0.55 * style.transition)
    share = patient.adenoma * (0.62 + 0.38 * min(max(t + 0.9, 0), 1.3))
    inner = np.maximum(_adenoma(slice_, share * wide, share * deep, deep), outline + np.float32(1.5))
    slice_.lay(inner - np.float32(0.9), 0.75 * style.transition)  # surgical capsule
    slice_.lay(inner, np.float32(style.transition) * (1 + np.float32(0.3) * coarse))
    for spot in patient.nodules:
        level = style.transition * (1.1 + 1.6 * spot[4])
        _add_spot(slice_, spot, (share * wide, share * deep), inner + np.float32(0.5), level)
    front = slice_.oval((patient.middle[0], patient.middle[1] - 0.85 * deep), (0.42 * wide, 0.3 * deep))
    slice_.lay(np.maximum(front, outline + np.float32(0.5)), 0.9 * style.muscle, blur=2)  # fibromuscular stroma
    if -0.6 < t < 0.5:
        urethra = slice_.oval((patient.middle[0], patient.middle[1] + 0.12 * deep), (2.4, 1.7))
        slice_.lay(np.maximum(urethra, outline + 2), 1.05 * style.peripheral)


def _adenoma(slice_: _Slice, wide: float, deep: float, gland_deep: float) -> Plane:
    """Return the distance to the outline of the transition zone's two lobes."""
    patient = slice_.patient
    lobes = [
        slice_.oval(
            (patient.middle[0] + side * 0.42 * wide, patient.middle[1] - 0.2 * gland_deep),
            (0.66 * wide * (1 + side * patient.skew), 0.95 * deep * (1 + side * patient.skew)),
        )
        for side in (-1, 1)
    ]
    return np.minimum(*lobes)


def _add_spot(slice_: _Slice, spot: Spot, radii: tuple[float, float], inside: Plane, level: float) -> None:
    """Add a nodule or lesion: a ball cut at the slice's height, of which only what is inside shows."""
    middle, across = slice_.patient.middle, slice_.patient.radii[0]
    cut = (spot[3] * across) ** 2 - ((slice_.t - spot[2]) * across) ** 2
    if cut <= 1:
        return
    at = (middle[0] + spot[0] * radii[0], middle[1] + (spot[1] - 0.2) * radii[1])
    ball = np.maximum(slice_.oval(at, (cut**0.5, cut**0.5)), inside)
    if spot[4] > 0:  # bright nodules have a dark rim
        slice_.lay(ball - np.float32(0.8), 0.7 * level)
    slice_.lay(ball, level)


# the scanner


def _light(slice_: _Slice) -> Plane:
    """Return what the coils see of each place: about 1 in the middle, more beside an endorectal coil."""
    style, patient = slice_.style, slice_.patient
    far = np.float32(patient.view / 2)
    light: Plane = 1 + np.float32(patient.tilt[0]) * slice_.x / far + np.float32(patient.tilt[1]) * slice_.y / far
    if style.coil == "endorectal":
        at, radius = rectum(style, patient, slice_.t)
        away = np.maximum(slice_.oval(at, (radius, radius)), 0)
        return light * (np.float32(0.22) + np.float32(1.25) * np.exp(-away / np.float32(style.reach)))
    return light * (1 + np.float32(style.reach) * ((slice_.y / far) ** 2 - np.float32(0.3)))
