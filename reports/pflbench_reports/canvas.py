"""One look for every figure, and its three forms: SVG and PNG for a paper, SVG that fits into a page."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

WIDTH = 7.0  # inches: the text width of a page
INK = "#1b1f23"  # becomes the page's text colour in the inline form
PAPER = "#fefefe"  # becomes transparent in the inline form
WARNING = "#c8102e"
DPI = 200
# Eight hues that stay apart under the common colour blindnesses (seaborn's "colorblind"; its yellow and
# pink, too pale on white, are left out); line styles and markers tell the ninth method from the first.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#949494", "#56b4e9", "#ca9161")
LINES = ("-", "--", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud and edited
    "text.parse_math": False,  # a "$" in a name is a "$"
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


@dataclass(frozen=True)
class Picture:
    """A figure in all its forms, with the words and the numbers that belong to it."""

    name: str
    caption: str
    alt: str
    svg: bytes
    png: bytes
    inline: str  # an <svg> element with role, alternative text and ids of its own
    data: pd.DataFrame


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw within this look, and leave matplotlib as it was; ``name`` makes the ids reproducible."""
    settings: Any = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def figure(width: float, height: float, simulated: bool) -> Figure:
    """Return an empty figure, in inches; simulated data is marked within it, where no crop forgets it."""
    result = Figure(figsize=(width, height), layout="constrained")
    if simulated:
        result.suptitle("SIMULATED DATA: says nothing about patients", color=WARNING, weight="bold", fontsize=9)
    return result


def picture(name: str, drawn: Figure, data: pd.DataFrame, caption: str, alt: str) -> Picture:
    """Render a figure; must run within ``style(name)``."""
    settle(drawn)
    svg, png = io.BytesIO(), io.BytesIO()
    drawn.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    drawn.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = svg.getvalue().decode()
    caption, alt = printable(caption), printable(alt)
    element = inline(text, name, alt, drawn.get_figwidth())
    return Picture(name, caption, alt, text.encode(), png.getvalue(), element, data)


def settle(drawn: Figure) -> None:
    """Lay out once for all forms, and round: the solver's last digits, and with them ids, differ between runs."""
    engine = drawn.get_layout_engine()
    if not isinstance(engine, ConstrainedLayoutEngine):
        return
    engine.execute(drawn)
    drawn.set_layout_engine(None)  # with "none" every saving would draw twice
    for part in drawn.subfigs:
        part.bbox_relative.set_points(np.round(part.bbox_relative.get_points(), 4))
    for panel in drawn.axes:
        panel.set_position(np.round(panel.get_position(original=True).bounds, 4).tolist())


def inline(svg: str, name: str, alt: str, inches: float) -> str:
    """Return an SVG file as an element of a page: no prologue, ids of its own, the page's colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = _TAG.sub(lambda tag: _of_page(tag[0], name), body)
    label = html.escape(alt, quote=True)
    # a narrow figure is not blown up to the width of a wide one: 6.5rem per inch makes all letters one size
    size = f"max-width: {6.5 * inches:.1f}rem; min-width: min(36rem, {6.5 * inches:.1f}rem)"
    return body.replace("<svg", f'<svg role="img" aria-label="{label}" style="{size}"', 1).strip()


_TAG = re.compile(r"<[^<>]+>")  # what stands between tags is a user's text, and stays as it is


def _of_page(tag: str, name: str) -> str:
    tag = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", tag)
    return tag.replace(INK, "currentColor").replace(f"fill: {PAPER}", "fill: none")


def printable(text: str) -> str:
    """Return text on one line without control characters, which no XML may hold and which turn its direction."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shortened(name: str, length: int = 34) -> str:
    """Return a name as ``printable``, short enough for its place."""
    line = printable(name)
    tail = (length - 1) // 3  # names of a kind differ at their ends
    return line if len(line) <= length else f"{line[: length - 1 - tail]}…{line[len(line) - tail :]}"


def look(index: int) -> dict[str, Any]:
    """Return colour, line style and marker of the index-th method."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": LINES[(index // len(PALETTE)) % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many columns of a legend fit below a figure."""
    widest = max((len(label) for label in labels), default=0)
    rows = -(-len(labels) // max(1, int(108 / (widest + 8))))
    return max(1, -(-len(labels) // max(rows, 1)))


def legend_height(labels: Sequence[str]) -> float:
    """Return the inches that a legend below a figure takes."""
    return 0.15 + 0.19 * -(-len(labels) // legend_columns(labels))


def legend(drawn: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Put a legend below a figure."""
    places = [str(index) for index in range(len(labels))]
    columns = legend_columns(labels)
    box = drawn.legend(handles, places, loc="outside lower center", ncols=columns, columnspacing=1.4)
    for text, label in zip(box.get_texts(), labels, strict=True):
        text.set_text(label)  # matplotlib leaves out an entry whose label starts with "_"


def grid(drawn: Figure, panels: int, columns: int, **options: Any) -> list[Any]:
    """Return axes for ``panels`` small multiples in at most ``columns`` columns; spare ones are removed."""
    columns = min(columns, panels)
    axes = drawn.subplots(-(-panels // columns), columns, squeeze=False, **options).ravel().tolist()
    for spare in axes[panels:]:
        spare.remove()
    for panel in bottom(axes[:panels]):
        panel.tick_params(labelbottom=True)  # shared axes are labelled in the last row only, which may have gaps
    return list(axes[:panels])


def bottom(axes: Sequence[Any]) -> Sequence[Any]:
    """Return the panels of a grid that have none below them."""
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    return axes[-columns:]
