"""Names beside points, none over another: the nearest free place around each point, in a fixed order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from pflbench_reports.canvas import INK, settle


@dataclass(frozen=True)
class Point:
    """A point with the ends of its error bars, in data coordinates."""

    x: float
    y: float
    left: float
    right: float
    low: float
    high: float


_GAP = 7.0  # pixels between the middle of a point and its name
_ANGLES = (0, 180, 90, 270, 30, 330, 150, 210, 60, 300, 120, 240)  # right first, then left


def place_labels(drawn: Figure, axes: Any, points: Sequence[Point], names: Sequence[str]) -> None:
    """Write each name beside its point, with a thin line to it where it does not stand right beside it.

    Names never stand on each other or on a point, and on an error bar only where there is no other place near.
    Ends the layout of the figure: nothing may be added afterwards that changes it.
    """
    settle(drawn)
    area = axes.bbox
    middles = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [_square(x, y) for x, y in middles]
    bars = [bar for point in points for bar in _bars(axes, point)]
    for index in sorted(range(len(names)), key=lambda index: (-middles[index][1], index)):
        text = axes.text(0, 0, names[index], fontsize=7.5, va="center", transform=axes.transAxes)
        extent = text.get_window_extent()
        place = _free(middles[index], (1.06 * extent.width, extent.height), area, taken, bars)
        taken.append(place.box)
        text.set(ha=place.side, position=_within(area, place.anchor))
        if place.ring:
            ends = [_within(area, middles[index]), _within(area, _nearest(place.box, middles[index]))]
            axes.plot(*zip(*ends, strict=True), color=INK, linewidth=0.5, transform=axes.transAxes, zorder=1)


@dataclass(frozen=True)
class _Place:
    """Where a name may stand: its box in pixels, and the side that is held there whatever the width of letters."""

    box: Bbox
    side: str
    ring: int  # 0 beside the point, then farther and farther

    @property
    def anchor(self) -> tuple[float, float]:
        x = {"left": self.box.x0, "right": self.box.x1}.get(self.side, (self.box.x0 + self.box.x1) / 2)
        return x, (self.box.y0 + self.box.y1) / 2


def _square(x: float, y: float) -> Bbox:
    return Bbox.from_extents(x - 5, y - 5, x + 5, y + 5)


def _bars(axes: Any, point: Point) -> list[Bbox]:
    ends = [(point.left, point.y), (point.right, point.y), (point.x, point.low), (point.x, point.high)]
    (left, y), (right, _), (x, low), (_, high) = axes.transData.transform(ends)
    return [Bbox.from_extents(left - 1, y - 2, right + 1, y + 2), Bbox.from_extents(x - 2, low - 1, x + 2, high + 1)]


def _free(middle: Any, size: tuple[float, float], area: Bbox, taken: Sequence[Bbox], bars: Sequence[Bbox]) -> _Place:
    """Return the first place near a point that is free of everything, else the first that is free but for bars."""
    places = [place for place in _around(middle, size) if _inside(place.box, area)]
    clear = [place for place in places if not any(place.box.overlaps(other) for other in taken)]
    best = [place for place in clear if place.ring <= 2 and not any(place.box.overlaps(bar) for bar in bars)]
    return next(iter([*best, *clear, *places]), next(_around(middle, size)))


def _inside(box: Bbox, area: Bbox) -> bool:
    return bool(box.x0 >= area.x0 and box.x1 <= area.x1 and box.y0 >= area.y0 and box.y1 <= area.y1)


def _around(middle: Any, size: tuple[float, float]) -> Iterator[_Place]:
    """Give places around a point, the nearest first."""
    half_width, half_height = size[0] / 2, size[1] / 2
    for ring in range(40):
        for angle in _ANGLES:
            dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            reach = _GAP + 6 * ring
            x, y = middle[0] + dx * (reach + half_width), middle[1] + dy * (reach + half_height)
            box = Bbox.from_extents(x - half_width, y - half_height, x + half_width, y + half_height)
            yield _Place(box, "left" if dx > 0.3 else "right" if dx < -0.3 else "center", ring)


def _nearest(box: Bbox, point: Any) -> tuple[float, float]:
    return float(np.clip(point[0], box.x0, box.x1)), float(np.clip(point[1], box.y0, box.y1))


def _within(area: Bbox, point: Any) -> tuple[float, float]:
    """Return a place as a rounded share of the axes, which no last digit of the layout moves."""
    x, y = (point[0] - area.x0) / area.width, (point[1] - area.y0) / area.height
    return round(float(x), 4), round(float(y), 4)
