"""Paints one simulated infrared picture of a lid and the mask of its glands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pflbench_datasets.eyelid import Lid, Side, Stroke, glands, lashes, lid, patient

Plane = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]

_FINE = 3  # lines are drawn this many times finer than the picture


@dataclass(frozen=True)
class Style:
    """How the pictures of one site look. Light is from 0 to 1, lengths are in heights of the picture."""

    skin: float  # light of the skin
    lid: float  # light of the lid
    contrast: float  # how much brighter a gland is than the lid around it
    calibre: float  # mean width of a gland
    zoom: float  # 1 for a lid that fills two thirds of the picture's width
    vignette: float  # loss of light towards the corners
    texture: float  # how rough skin and lid look
    glare: float  # expected groups of reflections
    blur: float  # standard deviation in pixels of a picture 192 high
    noise: float  # standard deviation in grey levels
    jitter: float  # standard deviation of brightness between pictures, as a share
    writing: Literal["top right", "bottom left"]  # where the device prints date and time


def paint(
    style: Style, height: int, eye: str, side: Side, person: np.random.Generator, shot: np.random.Generator
) -> tuple[Bytes, Bytes]:
    """Return a grey picture (H x 2H, 0-255) and the mask of the glands (H x 2H, 0 or 1).

    ``person`` decides what all pictures of a patient share, ``shot`` the rest. The left eye ("OS") is mirrored.
    """
    owner = patient(style.calibre, person)
    shown = lid(owner, side, style.zoom, shot)
    strokes = glands(owner, shown, style.zoom, shot)
    hairs, noise = lashes(shown, style.zoom, shot), shot.spawn(1)[0]
    x, y = _places(height)
    scene, inside = _scene(style, shown, owner.pallor, x, y, shot)
    scene += style.contrast * _glow(strokes, height) * inside
    _reflect(scene, style, shown, height, shot)
    scene *= 1.0 - 0.8 * _ink(hairs, height)
    mask = _ink([stroke for stroke in strokes if stroke.labelled], height, plain=True) > 0.5
    if eye == "OS":
        scene, mask = scene[:, ::-1], mask[:, ::-1]
    return _expose(scene, style, x, y, shot, noise), np.ascontiguousarray(mask, np.uint8)


def _places(height: int) -> tuple[Plane, Plane]:
    """Return x and y of each pixel (H x 2H)."""
    down = ((np.arange(height) + 0.5) / height - 0.5).astype(np.float32)
    across = ((np.arange(2 * height) + 0.5) / height - 1.0).astype(np.float32)
    y, x = np.meshgrid(down, across, indexing="ij")
    return x, y


# lines


def _ink(strokes: Sequence[Stroke], height: int, plain: bool = False) -> Plane:
    """Return how much of each pixel the lines cover (H x 2H, 0-1), each as bright as it is unless ``plain``."""
    fine = height * _FINE
    canvas = Image.new("L", (2 * fine, fine))
    draw = ImageDraw.Draw(canvas)
    for stroke in strokes:
        places = [((float(x) + 1.0) * fine, (float(y) + 0.5) * fine) for x, y in stroke.points]
        width = max(1, round(stroke.width * fine))
        for (start, end), shade in zip(pairwise(places), stroke.shades[1:], strict=True):
            light = 255 if plain else int(255 * shade)
            draw.line([start, end], fill=light, width=width)
            half = width / 2
            for x, y in (start, end) if width > 3 else ():
                draw.ellipse([x - half, y - half, x + half, y + half], fill=light)
    return np.asarray(canvas.reduce(_FINE), np.float32) / np.float32(255)


def _glow(strokes: Sequence[Stroke], height: int) -> Plane:
    """Return the light of the glands (H x 2H), around 0: they shine with soft edges, and between them it is dark."""
    shine = _blurred(_ink(strokes, height), 0.006 * height)
    return shine - np.float32(0.45) * _blurred(_ink(strokes, height, plain=True), 0.035 * height)


def _blurred(plane: Plane, radius: float) -> Plane:
    """Return a plane of 0 to 1 out of focus."""
    grey = Image.fromarray((255 * plane).astype(np.uint8))
    return np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), np.float32) / np.float32(255)


# scene


def _scene(
    style: Style, shown: Lid, pallor: float, x: Plane, y: Plane, rng: np.random.Generator
) -> tuple[Plane, Plane]:
    """Return the light of the picture without glands and lashes (H x 2H), and where the lid is (0-1)."""
    along = (x - shown.centre[0]) / shown.width
    edges = shown.edge(along, 0.0), shown.edge(along, 1.0)
    above, below = (np.minimum(*edges), np.maximum(*edges))
    inside = _soft(y - above) * _soft(below - y) * _soft(1.0 - np.abs(along), 0.02)
    scene = style.skin * pallor * _skin(style, shown, x, y, rng)
    draw = _upper_surroundings if shown.side == "upper" else _lower_surroundings
    scene = draw(scene, style, shown, along, x, y, rng)
    middle = np.clip((y - above) / np.maximum(below - above, 1e-3), 0.0, 1.0)
    shade = 0.8 + 0.8 * middle * (1.0 - middle) + style.texture * (_clouds(x.shape, (7, 14), rng) * 0.6)
    shade += 0.35 * style.texture * _clouds(x.shape, (60, 120), rng)
    return (scene * (1.0 - inside) + style.lid * shade * inside).astype(np.float32), inside.astype(np.float32)


def _skin(style: Style, shown: Lid, x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """Return skin, around 1: dark in the orbit, bright further off, uneven, with folds and glittering pores."""
    shape = x.shape
    uneven = (
        1.2 * _clouds(shape, (3, 6), rng) + 0.5 * _clouds(shape, (14, 12), rng) + 0.5 * _clouds(shape, (44, 14), rng)
    )
    pores = _clouds(shape, (80, 160), rng) * (0.7 + 0.7 * _clouds(shape, (4, 8), rng))
    far = np.hypot((x - shown.centre[0]) / (1.25 * shown.width), (y - shown.centre[1]) / (0.5 * style.zoom))
    orbit = 0.6 * np.exp(-(far**3))
    return np.asarray((1.2 + style.texture * (uneven + 0.9 * pores)) * (1.0 - orbit), np.float32)


def _upper_surroundings(
    scene: Plane, style: Style, shown: Lid, along: Plane, x: Plane, y: Plane, rng: np.random.Generator
) -> Plane:
    """Add what shows of the eye under an upper lid, the rim of the lid and often the swab that holds it."""
    bow = shown.arch(along)
    gap = style.zoom * rng.choice([0.0, rng.uniform(0.06, 0.22)], p=[0.25, 0.75])
    opening = _soft(y - shown.edge(along, 1.0)) * _soft(shown.edge(along, 1.0) + gap * bow - y) * (bow > 0)
    pupil = (shown.centre[0] + rng.normal(0.05, 0.12), shown.centre[1] + shown.far + 0.6 * gap)
    scene = _mix(scene, _eyeball(style, pupil, x, y, rng), opening)
    scene = _mix(scene, np.float32(0.25), 0.8 * _band(y - shown.edge(along, 1.0), 0.006) * (bow > 0))
    rim = _soft(y - shown.edge(along, 0.0) + 0.05 * style.zoom) * _soft(shown.edge(along, 0.0) - y) * (bow > 0)
    scene = _mix(scene, np.float32(1.05 * style.lid), 0.8 * rim)
    if rng.random() < 0.45:
        slope = rng.uniform(-0.16, -0.06)
        line = y - (shown.centre[1] + shown.margin - 0.06 + slope * (x - shown.centre[0] + 0.1))
        swab = _soft(0.05 - np.abs(line), 0.01) * _soft(shown.centre[0] + rng.uniform(-0.2, 0.2) - x, 0.03)
        scene = _mix(scene, np.float32(0.85), swab)
    return scene


def _lower_surroundings(
    scene: Plane, style: Style, shown: Lid, along: Plane, x: Plane, y: Plane, rng: np.random.Generator
) -> Plane:
    """Add the eye above a lower lid, and the dark tool and the bright glove that pull it down."""
    bow = shown.arch(along)
    opening = style.zoom * rng.uniform(0.2, 0.42)
    top = shown.edge(along, 1.0) - (shown.far + opening) * bow
    open_eye = _soft(y - top) * _soft(shown.edge(along, 1.0) - y) * (bow > 0)
    pupil = (shown.centre[0] + rng.normal(0.0, 0.15), shown.centre[1] - opening - rng.uniform(0.0, 0.1))
    scene = _mix(scene, _eyeball(style, pupil, x, y, rng), open_eye)
    lower = shown.edge(along, 0.0)
    reach = shown.width * rng.uniform(0.8, 1.05)
    ledge = shown.centre[1] + rng.uniform(0.1, 0.2) + rng.normal(0.0, 0.08) * x
    tool = _soft(y - np.maximum(lower, ledge), 0.012)
    tool *= _soft(reach + rng.uniform(-0.1, 0.4) * (y - shown.centre[1]) - np.abs(x - shown.centre[0]), 0.03)
    scene = _mix(scene, 0.16 + 0.05 * _clouds(x.shape, (4, 8), rng), tool)
    thumb = shown.centre[1] + shown.margin + style.zoom * rng.uniform(0.12, 0.26)
    curve = thumb + rng.uniform(-0.15, 0.15) * x + rng.uniform(0.0, 0.2) * (x - rng.uniform(-0.6, 0.6)) ** 2
    return _mix(scene, 0.72 + 0.12 * _clouds(x.shape, (4, 8), rng), _soft(y - curve, 0.02))


def _eyeball(style: Style, pupil: tuple[float, float], x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    """Return white, iris and pupil as if the whole eye showed."""
    far = np.hypot(x - np.float32(pupil[0]), y - np.float32(pupil[1])) / np.float32(style.zoom)
    white = 0.5 - 0.12 * far + 0.1 * _clouds(x.shape, (4, 8), rng) + 0.03 * _clouds(x.shape, (40, 80), rng)
    iris = _mix(white, 0.26 + 0.09 * _clouds(x.shape, (24, 48), rng), _soft(0.26 - far, 0.02))
    iris = _mix(iris, np.float32(0.04), _soft(0.09 - far))
    return _mix(iris, np.float32(1.0), _soft(0.015 - np.abs(far - 0.05), 0.004) * (x > pupil[0]) * (y < pupil[1]))


def _reflect(scene: Plane, style: Style, shown: Lid, height: int, rng: np.random.Generator) -> None:
    """Add white spots: tears along the edges of the lid, and groups of droplets on it."""
    canvas = Image.new("L", (scene.shape[1] * _FINE, scene.shape[0] * _FINE))
    draw = ImageDraw.Draw(canvas)
    spots = [
        (rng.uniform(-0.9, 0.9), rng.choice([0.0, 1.0]) + rng.normal(0.0, 0.02), rng.uniform(0.002, 0.006))
        for _ in range(rng.integers(20, 60))
    ]
    for _ in range(rng.poisson(style.glare)):
        along, depth = rng.uniform(-0.8, 0.8), rng.uniform(0.1, 0.9)
        spread = rng.uniform(0.02, 0.07)
        for _ in range(rng.integers(5, 40)):
            place = along + rng.normal(0.0, spread), depth + rng.normal(0.0, 1.6 * spread)
            spots.append((*place, rng.uniform(0.002, 0.009)))
    for along, depth, radius in spots:
        ((x, y),) = shown.place(np.array([along]), np.array([depth]))
        x, y, radius = (x + 1.0) * height * _FINE, (y + 0.5) * height * _FINE, radius * style.zoom * height * _FINE
        draw.ellipse([x - 1.4 * radius, y - radius, x + 1.4 * radius, y + radius], fill=255)
    white = np.asarray(canvas.reduce(_FINE), np.float32) / np.float32(255)
    scene += white * np.maximum(0.95 - scene, 0.0)


def _soft(inside: Plane, edge: float = 0.006) -> Plane:
    """Return 1 where a distance is positive and 0 where it is negative, with a soft edge."""
    return np.asarray(np.clip(0.5 + np.asarray(inside) / (2 * edge), 0.0, 1.0), np.float32)


def _band(distance: Plane, width: float) -> Plane:
    return _soft(np.float32(width) - np.abs(np.asarray(distance)), width)


def _mix(under: Plane, over: Plane | np.float32, share: Plane) -> Plane:
    return np.asarray(under + (over - under) * share, np.float32)


def _clouds(shape: tuple[int, ...], cells: tuple[int, int], rng: np.random.Generator) -> Plane:
    """Return smooth random unevenness around 0, with this many bumps down and across."""
    coarse = Image.fromarray(rng.uniform(-1.0, 1.0, cells).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), np.float32)


# camera


def _expose(
    scene: Plane, style: Style, x: Plane, y: Plane, rng: np.random.Generator, grain: np.random.Generator
) -> Bytes:
    """Return the picture (H x 2H): brightness, loss of light, sharpness, noise, and what the device prints on it."""
    height = scene.shape[0]
    bright = float(np.clip(rng.normal(1.0, style.jitter), 1 - 2 * style.jitter, 1 + 2 * style.jitter))
    tilt = rng.normal(0.0, 0.06)
    lit = scene * bright * (1.0 + tilt * x - style.vignette * (x * x / 2 + 2 * y * y) / 2)
    sharp = Image.fromarray((255 * np.clip(lit, 0.0, 1.0)).astype(np.uint8))
    soft = np.asarray(sharp.filter(ImageFilter.GaussianBlur(style.blur * height / 192)), np.float32)
    soft = soft + grain.standard_normal(soft.shape, dtype=np.float32) * np.float32(style.noise)
    return np.asarray(np.maximum(np.clip(soft + 0.5, 0, 255).astype(np.uint8), _writing(style, height, rng)))


def _writing(style: Style, height: int, rng: np.random.Generator) -> Bytes:
    """Return two lines of marks that look like writing, and the maker's sign in a corner, on black."""
    canvas = Image.new("L", (2 * 192, 192))
    for line, letters in enumerate((17, 19)):
        marks = Image.fromarray((rng.random((4, 3 * letters)) < 0.55).astype(np.uint8) * 245)
        left = 380 - marks.width if style.writing == "top right" else 4
        canvas.paste(marks, (left, (4 if style.writing == "top right" else 176) + 7 * line))
    if style.writing == "top right":
        sign = Image.fromarray((rng.random((5, 36)) < 0.6).astype(np.uint8) * 245)
        canvas.paste(sign, (342, 174))
    return np.asarray(canvas.resize((2 * height, height), Image.Resampling.BOX), np.uint8)
