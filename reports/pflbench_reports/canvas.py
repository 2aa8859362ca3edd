"""One look for every figure, and its three forms: SVG and PNG for a paper, SVG that fits into a page."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

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
    svg, png = io.BytesIO(), io.BytesIO()
    drawn.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    drawn.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = svg.getvalue().decode()
    element = inline(text, name, alt, drawn.get_figwidth())
    return Picture(name, caption, alt, text.encode(), png.getvalue(), element, data)


def inline(svg: str, name: str, alt: str, inches: float) -> str:
    """Return an SVG file as an element of a page: no prologue, ids of its own, the page's colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = body.replace(INK, "currentColor").replace(f"fill: {PAPER}", "fill: none")
    label = html.escape(alt, quote=True)
    # a narrow figure is not blown up to the width of a wide one: 6.5rem per inch makes all letters one size
    size = f"max-width: {6.5 * inches:.1f}rem; min-width: min(36rem, {6.5 * inches:.1f}rem)"
    return body.replace("<svg", f'<svg role="img" aria-label="{label}" style="{size}"', 1).strip()


def look(index: int) -> dict[str, Any]:
    """Return colour, line style and marker of the index-th method."""
    return {
        "color": PALETTE[index % len(PALETTE)],
        "linestyle": LINES[(index // len(PALETTE)) % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def grid(drawn: Figure, panels: int, columns: int, **options: Any) -> list[Any]:
    """Return axes for ``panels`` small multiples in at most ``columns`` columns; spare ones are removed."""
    columns = min(columns, panels)
    axes = drawn.subplots(-(-panels // columns), columns, squeeze=False, **options).ravel().tolist()
    for spare in axes[panels:]:
        spare.remove()
    return list(axes[:panels])
