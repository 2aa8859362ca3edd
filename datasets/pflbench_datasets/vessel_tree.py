"""Grows the vessels of a simulated retina: branches that leave the optic disc, curve, taper and divide.

Coordinates are those of the field of view: its centre is (0, 0), its rim the unit circle, y points down.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

STEP = 0.03  # length of one piece of a branch
THINNEST = 0.007  # a branch below this width is not grown
_CELLS = 72  # the occupancy grid has this many cells along the field of view's diameter


@dataclass(frozen=True)
class Anatomy:
    """Where one eye's optic disc and macula lie, and how large things look."""

    disc: tuple[float, float]
    macula: tuple[float, float]
    temporal: int  # +1 where the macula lies to the right of the disc, -1 where to its left
    zoom: float  # 1 for a camera of 45 degrees, 1.5 for one of 30 degrees
    calibre: float  # how wide its trunks are; 1 is common


@dataclass(frozen=True)
class Branch:
    """One vessel from its origin to its end: points (N x 2), a width at each, and which blood it carries."""

    points: Points
    widths: NDArray[np.float64]
    vein: bool

    def area(self) -> float:
        """Return its area, in units of the field of view's squared radius."""
        return float(self.widths[1:].sum() * STEP)


@dataclass(frozen=True)
class _Bud:
    """A branch that has not grown yet."""

    start: tuple[float, float]
    heading: float
    turn: float
    length: float
    width: float
    vein: bool
    trunk: bool = False


def grow(eye: Anatomy, rng: np.random.Generator) -> Iterator[Branch]:
    """Yield the branches of one eye, widest first, until none is left that is wide enough."""
    order = count()
    buds = [(-bud.width, next(order), bud) for bud in _trunks(eye, rng)]
    heapq.heapify(buds)
    taken = np.zeros((_CELLS, _CELLS), dtype=bool)
    while buds:
        bud = heapq.heappop(buds)[2]
        branch = _grow_one(bud, eye, taken, rng)
        if branch is None:
            continue
        yield branch
        for child in _children(branch, eye.zoom, rng):
            heapq.heappush(buds, (-child.width * rng.uniform(0.6, 1.0), next(order), child))


def _trunks(eye: Anatomy, rng: np.random.Generator) -> Iterator[_Bud]:
    """Yield the four vessel pairs of the disc: up and down, around the macula and away from it."""
    for up in (1, -1):
        for nasal in (False, True):
            lean = rng.normal(0.0, 0.12) + (0.75 if nasal else -0.3)
            for vein in (False, True):
                away = np.pi / 2 + lean + (0.16 if vein else -0.16) * rng.uniform(0.4, 1.2)
                turn = rng.normal(0.35, 0.3) if nasal else -rng.normal(1.35, 0.2)
                length = (1.1 if nasal else 1.9) * eye.zoom
                width = (0.022 if nasal else 0.031) * (1.0 if vein else 0.75) * rng.uniform(0.85, 1.15)
                width *= eye.calibre * eye.zoom**0.5
                heading = float(_mirror(away, up, eye.temporal))
                bend = float(turn * -up * eye.temporal)
                yield _Bud(_on_disc(eye, rng), heading, bend, length, width, vein, trunk=True)


def _on_disc(eye: Anatomy, rng: np.random.Generator) -> tuple[float, float]:
    spread = 0.03 * eye.zoom
    return eye.disc[0] + rng.uniform(-spread, spread), eye.disc[1] + rng.uniform(-spread, spread)


def _mirror(angle: float, up: int, temporal: int) -> float:
    """Turn an angle against the temporal direction, y up, into a heading of the picture, y down."""
    return float(np.arctan2(-up * np.sin(angle), temporal * np.cos(angle)))


def _grow_one(bud: _Bud, eye: Anatomy, taken: NDArray[np.bool_], rng: np.random.Generator) -> Branch | None:
    """Grow a bud until its length, the rim, the macula or a vessel ends it; None where it gets nowhere."""
    points = _path(bud, rng)
    share = np.linspace(0.0, 1.0, len(points))
    widths = bud.width * (1.0 - 0.45 * share)
    cells = np.clip(((points + 1.0) * (_CELLS / 2)).astype(int), 0, _CELLS - 1)
    stop = _end(bud, eye, points, taken[cells[:, 1], cells[:, 0]])
    if stop < 4:
        return None
    taken[cells[:stop, 1], cells[:stop, 0]] = True
    return Branch(points[:stop], widths[:stop], bud.vein)


def _path(bud: _Bud, rng: np.random.Generator) -> Points:
    """Return the points of a bud that nothing stops: a steady bend plus two waves."""
    pieces = max(5, round(bud.length / STEP))
    along = np.arange(pieces) * STEP
    first, second = rng.uniform(0.0, 2 * np.pi, 2)
    long, short = rng.uniform(0.5, 0.9), rng.uniform(0.16, 0.3)
    waves = 0.22 * np.sin(2 * np.pi * along / long + first) + 0.14 * np.sin(2 * np.pi * along / short + second)
    heading = bud.heading + bud.turn * along / bud.length + waves
    steps = STEP * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    start = np.array([bud.start])
    return np.concatenate([start, start + np.cumsum(steps, axis=0)])


def _end(bud: _Bud, eye: Anatomy, points: Points, taken: NDArray[np.bool_]) -> int:
    """Return how many points a branch keeps."""
    outside = (points**2).sum(axis=1) > 1.0
    in_macula = ((points - eye.macula) ** 2).sum(axis=1) < (0.12 * eye.zoom) ** 2
    stopped = outside | in_macula
    if not bud.trunk:
        met = taken.copy()
        met[:3] = False  # where it leaves its parent, the parent's own cells are taken
        stopped |= met
    return int(stopped.argmax()) if stopped.any() else len(points)


def _children(parent: Branch, zoom: float, rng: np.random.Generator) -> Iterator[_Bud]:
    """Yield the side branches of a branch, left and right in turn, and the two into which it ends."""
    side = 1 if rng.random() < 0.5 else -1
    at = int(rng.integers(2, 5))
    while at < len(parent.points) - 1:
        yield from _child(parent, at, side * rng.uniform(0.55, 1.15), rng.uniform(0.42, 0.75), zoom, rng)
        side = -side
        at += int(rng.integers(2, 7))
    for sign in (1, -1):
        yield from _child(parent, -1, sign * rng.uniform(0.25, 0.55), rng.uniform(0.7, 0.95), zoom, rng)


def _child(
    parent: Branch, at: int, angle: float, share: float, zoom: float, rng: np.random.Generator
) -> Iterator[_Bud]:
    width = float(parent.widths[at]) * share
    if width >= THINNEST:
        along = parent.points[at] - parent.points[at - 1]
        heading = float(np.arctan2(along[1], along[0])) + angle
        length = (24.0 * width + 0.1 * zoom) * rng.uniform(0.7, 1.4)
        x, y = (float(value) for value in parent.points[at])
        yield _Bud((x, y), heading, -angle * rng.uniform(0.0, 0.9), length, width, parent.vein)
