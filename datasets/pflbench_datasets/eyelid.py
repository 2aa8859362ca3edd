"""One simulated lid, turned inside out: its outline, its glands and its lashes, as lines to be drawn.

Lengths are in heights of the picture; x runs from -1 to 1 and y, downwards, from -0.5 to 0.5. A place in the lid
is (along, depth): -1 to 1 from corner to corner, 0 to 1 from the margin with the lashes to the far edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating[Any]]
Side = Literal["upper", "lower"]

_STEPS = 12  # points of a gland


@dataclass(frozen=True)
class Patient:
    """What both eyes of a person share."""

    glands: float  # how many a lid has where none is lost
    calibre: float  # width of a gland
    tortuosity: float  # how far a gland winds, in its widths
    dropout: float  # share of the glands' length that is lost, from 0 to 1
    width: float  # half of a lid, from corner to corner
    pallor: float  # brightness of the skin, around 1


@dataclass(frozen=True)
class Lid:
    """A lid in the picture."""

    side: Side
    centre: tuple[float, float]
    width: float  # half of it, from corner to corner
    margin: float  # how far below the corners the middle of the margin with the lashes lies
    far: float  # the same of the other edge
    tilt: float  # of the line through the corners, as a slope

    def edge(self, along: Numbers, depth: Numbers | float) -> Numbers:
        """Return y at a depth of the lid; depth 0 is the margin, 1 the far edge."""
        bow = self.margin + (self.far - self.margin) * depth
        return np.asarray(self.centre[1] + self.tilt * self.width * along + bow * self.arch(along))

    def arch(self, along: Numbers) -> Numbers:
        """Return how far the lid bows between its corners: 1 in the middle, 0 at them."""
        return np.asarray(1.0 - np.abs(np.clip(along, -1.0, 1.0)) ** 2.5)

    def place(self, along: Numbers, depth: Numbers) -> Numbers:
        """Return the points (N x 2: x, y) of places in the lid."""
        return np.stack([self.centre[0] + self.width * along, self.edge(along, depth)], axis=1)


@dataclass(frozen=True)
class Stroke:
    """A line with a width; ``shades`` are how bright each point is, from 0 to 1."""

    points: Numbers  # N x 2: x, y
    width: float
    shades: Numbers  # N
    labelled: bool = True


def patient(calibre: float, rng: np.random.Generator) -> Patient:
    """Draw a person; ``calibre`` is the mean width of a gland."""
    many = rng.uniform(19, 27)
    return Patient(
        glands=many,
        calibre=calibre * rng.uniform(0.85, 1.15) * 23 / many,  # where there are more, each is thinner
        tortuosity=rng.uniform(0.15, 0.65),
        dropout=min(0.6, rng.gamma(1.7, 0.13)),
        width=rng.uniform(0.57, 0.68),
        pallor=rng.uniform(0.9, 1.1),
    )


def lid(person: Patient, side: Side, zoom: float, rng: np.random.Generator) -> Lid:
    """Draw a lid as it is held before the camera."""
    centre = (rng.normal(0.0, 0.06), rng.normal(0.02 if side == "upper" else -0.1, 0.04))
    tilt = rng.normal(0.0, 0.05)
    if side == "upper":  # the margin is above, and the far edge hangs over the eye
        return Lid(
            side, centre, person.width * zoom, -zoom * rng.uniform(0.26, 0.36), zoom * rng.uniform(0.1, 0.22), tilt
        )
    near = zoom * rng.uniform(0.06, 0.14)
    return Lid(side, centre, 1.12 * person.width * zoom, near + zoom * rng.uniform(0.26, 0.36), near, tilt)


def glands(person: Patient, of: Lid, zoom: float, rng: np.random.Generator) -> list[Stroke]:
    """Draw the glands side by side; where one is lost, a faint rest of it may still show, without a label."""
    count = round(person.glands * rng.uniform(0.9, 1.1))
    places = np.linspace(-0.74, 0.74, count) + rng.normal(0.0, 0.009, count)
    lost = _lost(person.dropout, places, rng)
    return [
        stroke
        for along, gone in zip(places, lost, strict=True)
        for stroke in _gland(person, of, zoom, along, gone, rng)
    ]


def _gland(
    person: Patient, of: Lid, zoom: float, along: float, lost: float, rng: np.random.Generator
) -> Iterator[Stroke]:
    """Yield what is kept of a gland and what is left of the rest; one that has lost nearly all has no label."""
    upper = of.side == "upper"
    start, end = (0.2, 0.86) if upper else (0.06, 0.74)
    top = start + rng.uniform(0.0, 0.08)
    points = _wind(person, of, along, top, top + (end - top) * rng.uniform(0.8, 1.0), rng)
    width = person.calibre * zoom * rng.uniform(0.8, 1.2) * (1.0 if upper else 1.25)
    shades = np.clip(rng.normal(0.85, 0.15, _STEPS), 0.4, 1.0)  # it is a string of beads
    cut = 0 if lost > 0.85 else round((1.0 - lost) * _STEPS)
    if cut >= 3:
        yield Stroke(points[:cut], width, shades[:cut])
    if _STEPS - cut >= 3:
        yield Stroke(points[cut:], 0.7 * width, 0.25 * shades[cut:], labelled=False)


def _lost(dropout: float, places: Numbers, rng: np.random.Generator) -> Numbers:
    """Return which share of each gland is lost: neighbours fare alike."""
    knots = rng.uniform(-1.0, 1.0, 6)
    waves = np.interp(places, np.linspace(-1.0, 1.0, 6), knots - knots.mean()) + rng.normal(0.0, 0.2, len(places))
    return np.asarray(np.clip(dropout * (1.0 + waves), 0.0, 1.0))


def _wind(person: Patient, of: Lid, along: float, top: float, end: float, rng: np.random.Generator) -> Numbers:
    """Return the points of one gland from the margin inwards: glands fan in and wind a little."""
    depth = np.linspace(top, end, _STEPS)
    fan = along * (1.0 - 0.12 * depth)
    phase, turns = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.5, 2.0)
    bend = rng.normal(0.0, 0.5) * (depth - top) ** 2 + 0.5 * np.sin(phase + turns * 2 * np.pi * depth)
    sway = person.tortuosity * person.calibre / person.width * (bend + rng.normal(0.0, 0.25, _STEPS))
    return of.place(fan + sway, depth)


def lashes(of: Lid, zoom: float, rng: np.random.Generator) -> list[Stroke]:
    """Draw the lashes of the margin, which point away from the lid and to the sides."""
    many = of.side == "upper"
    count = int(rng.integers(45, 75)) if many else int(rng.integers(12, 30))
    up = -1.0 if many else 1.0
    found = []
    for along in rng.uniform(-0.97, 0.97, count):
        length = zoom * rng.uniform(0.08, 0.22) * (1.0 if many else 0.5)
        root = of.place(np.array([along]), np.array([-0.05]))[0]
        lean = 0.9 * along + rng.normal(0.0, 0.25)
        part = np.linspace(0.0, 1.0, 6)
        x = root[0] + length * (lean * part + 0.35 * along * part * part)
        y = root[1] + up * length * (part - 0.25 * part * part)
        found.append(Stroke(np.stack([x, y], axis=1), 0.008 * zoom, 1.0 - 0.5 * part))
    return found
