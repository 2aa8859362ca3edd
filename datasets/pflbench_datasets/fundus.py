"""Paints one simulated fundus photograph and its vessel mask from a style and a random generator."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pflbench_datasets.vessel_tree import Anatomy, Branch, grow

Plane = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_FINE = 3  # vessels are drawn this many times finer than the picture
_MASK_AREA = 0.4  # a pixel belongs to a vessel above this share of its area, as for the real sites
_OVERLAP = 1.025  # branches cover each other where they cross; measured over all sites
_ABSORPTION = np.array([0.45, 1.0, 0.75], np.float32)  # of blood, in red, green and blue


@dataclass(frozen=True)
class Style:
    """How the pictures of one site look. Lengths are shares of the picture's side unless said otherwise."""

    rgb: tuple[float, float, float]  # mean inside the field of view, measured on the real site
    vessels: float  # share of the picture that is vessel, measured on the real site
    radius: tuple[float, float]  # of the field of view; above 0.5 the frame cuts it, unequal where aspect is lost
    zoom: float  # 1 for a camera of 45 degrees, 1.5 for one of 30 degrees
    calibre: float  # how wide the trunks of the vessels are; 1 is common
    disc: tuple[float, float]  # optic disc of a right eye, in radii from the centre
    contrast: float  # how much of the green light a wide vein takes
    gradient: float  # illumination: difference from one rim to the other
    vignette: float  # illumination: loss from the centre to the rim
    texture: float  # unevenness of the background
    blur: float  # standard deviation in pixels of a picture of 256
    noise: float  # standard deviation in grey levels
    jitter: float  # standard deviation of brightness between pictures, as a share
    unlabelled: float  # vessels that show but that the annotators left out, as a share of those in the mask
    bright: float = 0.0  # expected groups of exudates
    dark: float = 0.0  # expected haemorrhages
    streaks: float = 0.0  # share of eyes whose choroid shows through


def paint(style: Style, size: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Return an image (3 x size x size, 0-255) and its mask (size x size, 0 or 1)."""
    eye = _anatomy(style, rng)
    ink, mask = _draw(style, eye, size, rng.spawn(1)[0])  # its own: it takes more numbers the more it draws
    x, y, inside = _field(style, size)
    scene = _retina(style, eye, x, y, rng)
    scene *= 1.0 - style.contrast * ink[..., None] * _ABSORPTION
    _add_lesions(scene, style, size, rng)
    image = _expose(scene, style, x, y, inside, rng)
    return np.ascontiguousarray(image.transpose(2, 0, 1)), (mask & inside).astype(np.uint8)


def _anatomy(style: Style, rng: np.random.Generator) -> Anatomy:
    temporal = -1 if rng.random() < 0.5 else 1
    disc_x = -temporal * (style.disc[0] + rng.normal(0.0, 0.04))
    disc_y = style.disc[1] + rng.normal(0.0, 0.05)
    macula = (disc_x + temporal * 0.69 * style.zoom, disc_y + 0.08 * style.zoom)
    return Anatomy((disc_x, disc_y), macula, temporal, style.zoom, style.calibre)


def _field(style: Style, size: int) -> tuple[Plane, Plane, NDArray[np.bool_]]:
    """Return each pixel's place in the field of view (S x S: x, y) and whether it lies inside."""
    along = ((np.arange(size, dtype=np.float32) + 0.5) / size - 0.5).astype(np.float32)
    y, x = np.meshgrid(along / np.float32(style.radius[1]), along / np.float32(style.radius[0]), indexing="ij")
    return x, y, x * x + y * y < 1.0


# vessels


def _draw(style: Style, eye: Anatomy, size: int, rng: np.random.Generator) -> tuple[Plane, NDArray[np.bool_]]:
    """Return how much blood the light of each pixel crosses (0-1) and the mask of the labelled vessels."""
    fine = size * _FINE
    seen, labelled = Image.new("L", (fine, fine)), Image.new("L", (fine, fine))
    blood, label = ImageDraw.Draw(seen), ImageDraw.Draw(labelled)
    budget = _OVERLAP * style.vessels * float(np.clip(rng.normal(1.0, 0.1), 0.75, 1.25))
    drawn = 0.0
    for branch in grow(eye, rng):
        drawn += branch.area() * style.radius[0] * style.radius[1] * _visible(branch, style)
        if drawn < budget:
            _stroke(label, branch, style, fine, 255)
            _stroke(blood, branch, style, fine, _depth(branch))
        elif drawn < budget * (1.0 + style.unlabelled):
            _stroke(blood, branch, style, fine, _depth(branch) * 2 // 3)
        else:
            break
    ink = np.asarray(seen.reduce(_FINE), np.float32) / np.float32(255)
    return ink, np.asarray(labelled.reduce(_FINE)) > 255 * _MASK_AREA


def _visible(branch: Branch, style: Style) -> float:
    """Return the share of a branch that the frame of the picture does not cut off."""
    return float((np.abs(branch.points * style.radius) < 0.5).all(axis=1).mean())


def _depth(branch: Branch) -> int:
    """Return how dark a branch is drawn (0-255): arteries lighter than veins, thin ones than wide ones."""
    wide = min(1.0, float(branch.widths[0]) / 0.024)
    return int((0.5 + 0.5 * wide) * (255 if branch.vein else 195))


def _stroke(draw: ImageDraw.ImageDraw, branch: Branch, style: Style, fine: int, shade: int) -> None:
    places = (branch.points * style.radius + 0.5) * fine
    scale = fine * (style.radius[0] * style.radius[1]) ** 0.5
    flat = [(float(x), float(y)) for x, y in places]
    widths = [max(1, round(float(width) * scale)) for width in branch.widths]
    for (start, end), width in zip(pairwise(flat), widths[1:], strict=True):
        draw.line([start, end], fill=shade, width=width)
        if width > 3:  # round the joint
            half = (width - 1) / 2
            draw.ellipse([end[0] - half, end[1] - half, end[0] + half, end[1] + half], fill=shade)


# background


def _retina(style: Style, eye: Anatomy, x: Plane, y: Plane, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the light of an eye without vessels (S x S x 3), around 1 in every channel."""
    plain = 1.0 + style.texture * (_clouds(x.shape, (6, 6), rng) + 0.6 * _clouds(x.shape, (24, 24), rng))
    if rng.random() < style.streaks:
        plain += style.texture * _clouds(x.shape, (12, 56), rng)
    scene = np.repeat(plain[..., None], 3, axis=2).astype(np.float32)
    dim = _spot(x, y, eye.macula, 0.26 * style.zoom, 2) * np.float32(rng.uniform(0.3, 0.55))
    scene *= 1.0 - dim[..., None] * np.array([0.7, 1.0, 1.0], np.float32)
    rim = 0.125 * style.zoom * rng.uniform(0.9, 1.15)
    disc = _spot(x, y, eye.disc, rim, 6)
    cup = _spot(x, y, eye.disc, rim * rng.uniform(0.4, 0.65), 4)
    scene += disc[..., None] * np.array([0.25, 0.7, 0.6], np.float32) * np.float32(rng.uniform(0.6, 1.0))
    scene += cup[..., None] * np.array([0.15, 0.8, 0.7], np.float32) * np.float32(rng.uniform(0.5, 1.0))
    return scene


def _spot(x: Plane, y: Plane, at: tuple[float, float], radius: float, edge: int) -> Plane:
    """Return a round spot, 1 at its centre and 1/2 at its radius; a larger ``edge`` makes it sharper."""
    distance = ((x - np.float32(at[0])) ** 2 + (y - np.float32(at[1])) ** 2) / np.float32(radius**2)
    falling = distance.copy()
    for _ in range(edge - 1):
        falling *= distance
    return (1.0 / (1.0 + falling)).astype(np.float32)


def _clouds(shape: tuple[int, ...], cells: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return smooth random unevenness around 0, with this many bumps down and across."""
    coarse = Image.fromarray(rng.uniform(-1.0, 1.0, cells).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), np.float32)


def _add_lesions(scene: NDArray[np.float32], style: Style, size: int, rng: np.random.Generator) -> None:
    bright, dark = Image.new("L", (size, size)), Image.new("L", (size, size))
    for _ in range(rng.poisson(style.bright)):
        centre = rng.normal(0.0, 0.35, 2)
        for _ in range(rng.integers(4, 14)):
            _blob(bright, centre + rng.normal(0.0, 0.08, 2), rng.uniform(0.006, 0.022), style, size)
    for _ in range(rng.poisson(style.dark)):
        _blob(dark, rng.normal(0.0, 0.4, 2), rng.uniform(0.008, 0.03), style, size)
    soft = ImageFilter.GaussianBlur(0.003 * size)
    pale = np.asarray(bright.filter(soft), np.float32)[..., None] / np.float32(255)
    blood = np.asarray(dark.filter(soft), np.float32)[..., None] / np.float32(255)
    scene += pale * np.array([0.25, 0.6, 0.4], np.float32)
    scene *= 1.0 - blood * np.float32(0.4) * _ABSORPTION


def _blob(canvas: Image.Image, at: NDArray[np.float64], radius: float, style: Style, size: int) -> None:
    x, y = (at * style.radius + 0.5) * size
    across = max(0.5, radius * style.radius[0] * size)
    down = max(0.5, radius * style.radius[1] * size)
    ImageDraw.Draw(canvas).ellipse([x - across, y - down, x + across, y + down], fill=255)


# camera


def _expose(
    scene: NDArray[np.float32],
    style: Style,
    x: Plane,
    y: Plane,
    inside: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Bytes:
    """Return the photograph (S x S x 3): illumination, the site's colour, sharpness and noise."""
    lit = scene * _light(style, x, y, rng)[..., None] * inside[..., None]
    brightness = np.clip(rng.normal(1.0, style.jitter), 1 - 2.5 * style.jitter, 1 + 2.5 * style.jitter)
    tint = 1.0 + rng.uniform(-0.5, 0.5, 3) * style.jitter
    target = np.asarray(style.rgb) * brightness * tint
    lit *= (target * inside.sum() / lit.sum(axis=(0, 1))).astype(np.float32)
    sharp = Image.fromarray(np.clip(lit + 0.5, 0, 255).astype(np.uint8))
    size = inside.shape[0]
    soft = np.asarray(sharp.filter(ImageFilter.GaussianBlur(style.blur * size / 256)), np.float32)
    grain = rng.standard_normal((size, size, 3), dtype=np.float32) * np.float32(style.noise)
    grain *= np.where(inside, np.float32(1.0), np.float32(0.25))[..., None]
    return np.clip(soft + grain + 0.5, 0, 255).astype(np.uint8)


def _light(style: Style, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    angle = rng.uniform(0.0, 2 * np.pi)
    slope = style.gradient * rng.uniform(0.5, 1.2) / 2
    tilt = np.float32(slope * np.cos(angle)) * x + np.float32(slope * np.sin(angle)) * y
    far = x * x + y * y
    return np.maximum(1.0 + tilt - np.float32(style.vignette) * far * far, np.float32(0.12)).astype(np.float32)
