"""What several figures are made of: lines with bands and what is said of them, matrices with their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pflbench_reports.canvas import WIDTH, figure, shortened
from pflbench_reports.text import several

PAGE = 9.2  # inches: the height of a figure that fills a page
CROWD = 12  # panels, or columns of a matrix, that are legible on one page


def line(axes: Any, rows: pd.DataFrame, x: str, options: Mapping[str, Any], band: float = 0.15) -> Any:
    """Draw ``mean`` over ``x`` with the band mean ± std where there is one; return the line."""
    (drawn,) = axes.plot(rows[x], rows["mean"], **{"markeredgewidth": 0, **options})
    if band and rows["std"].notna().any():
        low, high = rows["mean"] - rows["std"], rows["mean"] + rows["std"]
        axes.fill_between(rows[x], low, high, color=options["color"], alpha=band, linewidth=0)
    return drawn


def rounds_axis(axes: Any) -> None:
    """Give the axis of rounds whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def every(count: int) -> int:
    """Return at which distance markers stand on a line of so many points."""
    return max(1, math.ceil(count / 8))


def matrix_figure(rows: Sequence[str], columns: Sequence[str], height: float, simulated: bool) -> tuple[Figure, Any]:
    """Return a figure for ``matrix``, its rows ``height`` inches high, as wide as its columns need."""
    names = 0.075 * max(len(shortened(row, 24)) for row in rows)
    width = min(WIDTH, max(4.6, names + 1.3 + 0.62 * len(columns)))
    slant = 0.7 if _crowded(columns) else 0.0
    drawn = figure(width, max(2.4, 0.9 + height * len(rows)) + slant, simulated)
    return drawn, drawn.subplots()


def matrix(drawn: Figure, axes: Any, values: pd.DataFrame, top: float, label: str) -> None:
    """Draw shares (0..1) as a matrix with its numbers, dark for little; a dash where there is none."""
    shown = values.to_numpy(dtype=float)
    mesh = axes.pcolormesh(np.ma.masked_invalid(shown), cmap="cividis", vmin=0, vmax=top, edgecolors="none")
    columns, rows = [str(c) for c in values.columns], [str(r) for r in values.index]
    slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if _crowded(columns) else {}
    axes.set_xticks(np.arange(len(columns)) + 0.5, [shortened(c, 18) for c in columns], **slant)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [shortened(r, 24) for r in rows])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    _numbers(axes, shown, top)
    drawn.colorbar(mesh, ax=axes, label=label, fraction=0.05, pad=0.02, aspect=30).outline.set_visible(False)


def _crowded(columns: Sequence[str]) -> bool:
    return sum(max(len(shortened(c, 18)), 5) for c in columns) > 50


def _numbers(axes: Any, shown: Any, top: float) -> None:
    size = 7.5 if shown.shape[1] <= 8 else 6.5
    if shown.shape[1] > 2 * CROWD:
        return  # no room for them; the CSV has them
    for (row, column), value in np.ndenumerate(shown):
        colour = "#000000" if not value <= 0.55 * top else "#ffffff"
        text = f"{value:.2f}" if math.isfinite(value) else "–"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour)


def seeds_drawn(frame: pd.DataFrame) -> str:
    """Return what the lines and bands of a frame with ``seeds`` are."""
    low, high = int(frame["seeds"].min()), int(frame["seeds"].max())
    if high < 2:
        return "One seed: there is no spread over seeds to show."
    count = str(high) if low == high else f"{low} to {high}"
    return f"Lines: mean over {count} seeds; bands: ± one population standard deviation over seeds."


def row_height(panels: Sequence[str], order: Sequence[str], wish: float) -> float:
    """Return the inches of one method's row in a grid of panels: as wished, or less to stay on a page."""
    rows = grid_rows(panels)
    return min(wish, max(0.11, (PAGE - 0.8 - 0.5 * rows) / (rows * len(order))))


def method_rows(axes: Any, order: Sequence[str], height: float) -> None:
    """Give every method its row (inches high), the first on top."""
    size = min(8.0, 60 * height)
    axes.set_yticks(range(len(order)), [shortened(method, 24) for method in order], fontsize=size)
    axes.set_ylim(len(order) - 0.5, -0.5)


def grid_rows(panels: Sequence[str]) -> int:
    """Return how many rows of three these panels fill."""
    return -(-len(panels) // 3)


def chosen_clients(frame: pd.DataFrame, wanted: Sequence[str] = ()) -> tuple[list[str], str]:
    """Return the clients to draw, at most ``CROWD``, and a sentence where some are left out."""
    found = [client for client in dict.fromkeys(frame["client"]) if client in wanted or not wanted]
    shown, rest = found[:CROWD], frame["client"].nunique() - len(found[:CROWD])
    return shown, f" {several(rest, 'more client')} not drawn." if rest else ""
