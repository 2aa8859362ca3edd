"""The figure of a client's worst, median and best case: image, mask, and each method's outcome in colour."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from pflbench_reports.canvas import INK, WIDTH, Picture, figure, legend, picture, shortened, style
from pflbench_reports.overlays import Row, Sheet, frame_of, numbers, outcome, story
from pflbench_reports.text import listed, percent

# of Okabe and Ito's colours, three that differ in lightness too (70, 54 and 89 of 100), so that grey print tells them
COLOURS = {"true positive": "#56b4e9", "false positive": "#d55e00", "false negative": "#f0e442"}
SHADE = 0.75  # of the grey image below the colours, so that these are the brightest
PIXELS = 250  # per inch, of the images within the SVG
Window = tuple[int, int, int, int]


def overlay_figure(name: str, sheet: Sheet) -> Picture:
    """Draw the sheet of one client: a row per case; columns image, mask and each method."""
    columns = 2 + len(sheet.methods)
    cell = min(1.35, (WIDTH - 0.3) / columns)
    with style(name), mpl.rc_context({"savefig.dpi": PIXELS}):
        shape = _tall(sheet.rows[0])
        titles = _titles(sheet.methods, cell)
        lines = 0.12 * max(title.count("\n") for title in titles)
        height = 0.6 + lines + len(sheet.rows) * (cell * shape + 0.17) + (0.2 if sheet.simulated else 0)
        drawn = figure(max(4.6, 0.3 + cell * columns), height, sheet.simulated)
        drawn.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)  # type: ignore[union-attr, call-arg]
        axes = drawn.subplots(len(sheet.rows), columns, squeeze=False)
        for row, panels in zip(sheet.rows, axes, strict=True):
            _draw(row, panels, sheet)
        for panel, title in zip(axes[0], titles, strict=True):
            panel.set_title(title, fontsize=7)
        patches = [Patch(facecolor=colour, edgecolor=INK, linewidth=0.4) for colour in COLOURS.values()]
        legend(drawn, patches, [word.capitalize() for word in COLOURS])
        return picture(name, drawn, numbers(sheet), _caption(sheet), _alt(sheet))


def _titles(methods: Sequence[str], cell: float) -> list[str]:
    """Return the headings of the columns, in up to three lines: settings stand at the end of a name."""
    room = max(6, int(cell * 15))
    names = [shortened(name, 90) for name in ("Image", "Truth", *methods)]
    return ["\n".join(textwrap.wrap(name, room, max_lines=3, placeholder="…")) for name in names]


def _tall(row: Row) -> float:
    """Return height over width of a cell."""
    height, width = row.picture.mask.shape
    return min(2.0, float(_pixel_shape(row) * height / width))


def _pixel_shape(row: Row) -> float:
    """Return how tall a pixel is for its width; 1 where the sides in mm are unknown."""
    if row.picture.extent is None:
        return 1.0
    (tall, wide), (height, width) = row.picture.extent, row.picture.mask.shape
    return float((tall / height) / (wide / width))


def _draw(row: Row, panels: Any, sheet: Sheet) -> None:
    window, aspect = frame_of(row), _pixel_shape(row)
    image = row.picture.image
    colour = image.transpose(1, 2, 0) if len(image) == 3 else np.repeat(_grey(image)[..., None], 3, axis=2)
    _show(panels[0], colour, aspect)
    if window != (0, image.shape[1], 0, image.shape[2]):
        _outline(panels[0], window)
    truth = {"true positive": row.picture.mask}
    _show(panels[1], _cut(painted(_grey(image), truth), window), aspect)
    panels[0].set_ylabel(row.rank.capitalize(), fontsize=8, weight="bold")
    for panel, method in zip(panels[2:], sheet.methods, strict=True):
        marks = outcome(row.found[method], row.picture.mask)
        _show(panel, _cut(painted(_grey(image), marks), window), aspect)
        panel.set_xlabel(percent(row.dice[method]), fontsize=7.5, labelpad=1.5)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return C x H x W as H x W."""
    grey: NDArray[np.uint8] = image.mean(axis=0).astype(np.uint8)
    return grey


def painted(grey: NDArray[np.uint8], marks: dict[str, NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """Return the darkened grey image (H x W) in colour (H x W x 3), with each outcome's pixels in its colour."""
    result = np.repeat((SHADE * grey).astype(np.uint8)[..., None], 3, axis=2)
    for word, where in marks.items():
        result[where] = [int(COLOURS[word][i : i + 2], 16) for i in (1, 3, 5)]
    return result


def _cut(image: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    top, bottom, left, right = window
    return image[top:bottom, left:right]


def _show(panel: Any, image: NDArray[np.uint8], aspect: float) -> None:
    panel.imshow(image, aspect=aspect)
    panel.set(xticks=(), yticks=())
    panel.spines[:].set_visible(False)
    panel.grid(visible=False)


def _outline(panel: Any, window: Window) -> None:
    top, bottom, left, right = window
    options: dict[str, Any] = {"fill": False, "edgecolor": "#ffffff", "linewidth": 0.8, "linestyle": "--"}
    panel.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **options))


def _caption(sheet: Sheet) -> str:
    whole = all(frame_of(row)[1::2] == row.picture.mask.shape and frame_of(row)[::2] == (0, 0) for row in sheet.rows)
    part = "" if whole else " A dashed frame in the image: the part shown in the other columns."
    return f"{story(sheet)}{part}"


def _alt(sheet: Sheet) -> str:
    parts = []
    for row in sheet.rows:
        best = max(sheet.methods, key=lambda method: row.dice[method])
        worst = min(sheet.methods, key=lambda method: row.dice[method])
        span = f"Dice from {percent(row.dice[worst])} % ({worst}) to {percent(row.dice[best])} % ({best})"
        parts.append(f"{row.rank} {row.case}: {span}")
    return f"Test cases of {sheet.client} with image, truth and each method's outcome in colour; {listed(parts)}."
