"""The picture of a federation: a row of panels per client, and a matrix of distances per measure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pflbench_reports.canvas import INK, PALETTE, PAPER, Picture, figure, picture, style
from pflbench_reports.text import listed, several

WIDTH = 8.6
OUTLINE = "#00f0ff"  # of masks: told from tissue by hue, and by lightness where hues are confused
OTHERS = "#b9bdc1"  # the other clients' lines, behind a client's own
CHANNELS = (("#d55e00", "-"), ("#029e73", "--"), ("#0173b2", ":"))  # red, green, blue
CROWD = 7  # up to so many clients three matrices fit beside each other

Facts = Mapping[str, Any]  # a portrait, or one client of it, as plain values


def draw(portrait: Facts, data: pd.DataFrame) -> Picture:
    """Draw the portrait of a federation; ``data`` goes with the picture."""
    clients, measures = portrait["clients"], portrait["heterogeneity"]
    few = len(clients) <= CROWD
    columns = min(len(measures), 3 if few else 2)
    top = 0.6 + len(clients) * (1.0 if few else 0.85)
    bottom = 0.6 + -(-len(measures) // columns) * (0.8 + (min(2.2, 0.8 + 0.35 * len(clients)) if few else 3.4))
    with style("overview"), mpl.rc_context({"savefig.dpi": 250}):  # of the pictures within the SVG
        drawn = figure(WIDTH, top + bottom + 0.7, portrait["simulated"])
        upper, lower = drawn.subfigures(2, 1, height_ratios=(top, bottom), squeeze=False)[:, 0]
        upper.suptitle(label(portrait["title"], 110), fontsize=10, weight="bold")
        _rows(upper, portrait)
        _matrices(lower, clients, measures, columns)
        lower.supxlabel("\n" + textwrap.fill(portrait["verdict"], 118), fontsize=9)
        drawn.supxlabel(textwrap.fill(_caption(portrait), 165), fontsize=6.5)
        _settle(drawn)
        return picture("overview", drawn, data, _caption(portrait), _alt(portrait))


def _settle(drawn: Figure) -> None:
    """Lay out once for all forms, and round: the solver's last digits, and with them ids, differ between runs."""
    drawn.draw_without_rendering()
    drawn.set_layout_engine("none")
    for part in drawn.subfigs:
        part.bbox_relative.set_points(np.round(part.bbox_relative.get_points(), 4))
    for panel in drawn.axes:
        panel.set_position(np.round(panel.get_position(original=True).bounds, 4).tolist())


def label(name: str, length: int) -> str:
    """Return a name on one line, without what cannot be printed, short enough for its place."""
    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


# a row per client


def _rows(drawn: Any, portrait: Facts) -> None:
    clients = portrait["clients"]
    samples = max(len(client["samples"]) for client in clients)
    axes = drawn.subplots(len(clients), samples + 4, squeeze=False, width_ratios=[1, *[1] * samples, 1.5, 1.5, 1.3])
    for number, (client, row) in enumerate(zip(clients, axes, strict=True), start=1):
        _name(row[0], client, number)
        for place, panel in enumerate(row[1:-3]):
            _sample(panel, client["samples"][place] if place < len(client["samples"]) else None)
        _histogram(row[-3], client, _densest(clients))
        _spectrum(row[-2], client, clients, portrait["low_frequency"])
        _foreground(row[-1], client, clients)
    _headings(axes)


def _headings(axes: Any) -> None:
    """Say once, above and below the columns, what they show."""
    for panel in axes[:-1, -3:].flat:
        panel.tick_params(labelbottom=False)
    axes[0, 1].set_title("Cases, mask outlined", loc="left")
    for panel, title in zip(axes[0, -3:], ("Grey levels", "Amplitude, relative", "Foreground"), strict=True):
        panel.set_title(title)
    words = ("grey level", "cycles per shorter side", "% of the image")
    for panel, word in zip(axes[-1, -3:], words, strict=True):
        panel.set_xlabel(word, fontsize=8)


def _name(panel: Any, client: Facts, number: int) -> None:
    panel.set_axis_off()
    cases, subjects = len(client["cases"]), client["subjects"]
    size = several(cases, "case") + ("" if subjects == cases else f"\nof {several(subjects, 'subject')}")
    words = {"fontsize": 8, "linespacing": 1.1, "transform": panel.transAxes}
    name = "\n".join(textwrap.wrap(f"{number} {label(client['name'], 36)}", 13))
    panel.text(0, 0.52, name, va="bottom", weight="bold", **words)
    panel.text(0, 0.48, size, va="top", **words)


def _sample(panel: Any, sample: Facts | None) -> None:
    panel.set_axis_off()
    if sample is None:
        return
    image, mask = sample["image"], sample["mask"] > 0
    shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(axis=0)
    panel.imshow(shown, cmap="gray", vmin=0, vmax=255)
    if mask.any() and not mask.all():
        panel.contour(mask, levels=[0.5], colors=[OUTLINE], linewidths=0.4)
    panel.set_rasterization_zorder(2.5)  # outlines of vessels are long: as paths they would make the file huge


def _densest(clients: Sequence[Facts]) -> float:
    """Return the top of the scale: the ends may stand out of it, they are background or saturation."""
    every = np.vstack([lines for client in clients for lines in (client["histogram"], client["channel_histograms"])])
    return 1.1 * float(every[:, 1:-1].max() or every.max())


def _histogram(panel: Any, client: Facts, top: float) -> None:
    bins = len(client["histogram"])
    edges = np.linspace(0, 256, bins + 1)
    panel.stairs(client["histogram"], edges, fill=True, color=OTHERS, linewidth=0)
    if len(client["channel_histograms"]) == len(CHANNELS):
        for densities, (colour, line) in zip(client["channel_histograms"], CHANNELS, strict=True):
            panel.stairs(densities, edges, color=colour, linestyle=line, linewidth=1.0)
    panel.set(xlim=(0, 256), ylim=(0, top), xticks=(0, 128, 255), yticks=())
    for end, place, side, words in ((0, 0.1, "left", "at 0–3"), (-1, 0.9, "right", "at 252–255")):
        if client["histogram"][end] > top:
            share = f"{100 * client['histogram'][end] * 256 / bins:.0f} % {words}"
            panel.text(place, 0.96, share, transform=panel.transAxes, fontsize=7, ha=side, va="top", bbox=_CLEAN)


_CLEAN: Mapping[str, Any] = {"facecolor": PAPER, "alpha": 0.8, "linewidth": 0, "pad": 0.5}


def _spectrum(panel: Any, client: Facts, clients: Sequence[Facts], low: int) -> None:
    """Draw amplitudes by ring, divided by their geometric mean over clients; ring 0 is brightness, seen elsewhere."""
    average = np.mean([one["radial"] for one in clients], axis=0)
    rings = np.arange(1, len(average))
    panel.axvspan(1, low + 0.5, color=PALETTE[1], alpha=0.15, linewidth=0)
    for one in clients:
        look = (
            {"color": PALETTE[0], "linewidth": 1.5, "zorder": 3}
            if one is client
            else {"color": OTHERS, "linewidth": 0.7}
        )
        panel.plot(rings, 10 ** (one["radial"] - average)[1:], **look)
    reach = max(0.2, 1.08 * max(float(np.abs(one["radial"] - average)[1:].max()) for one in clients))
    ticks = (
        [0.8, 1, 1.25]
        if reach < 0.35
        else [t for t in (0.01, 0.1, 0.25, 0.5, 1, 2, 4, 10, 100) if abs(math.log10(t)) < reach]
    )
    panel.set(xscale="log", yscale="log", xlim=(1, max(2, rings[-1])), ylim=(10**-reach, 10**reach))
    panel.set_yticks(ticks, [f"×{tick:g}" for tick in ticks])
    panel.set_xticks([t for t in (1, 3, 10, 30, 100) if t <= rings[-1]])
    panel.xaxis.set_major_formatter("{x:g}")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(NullLocator())


def _foreground(panel: Any, client: Facts, clients: Sequence[Facts]) -> None:
    """Draw a dot per case, and the box of the quartiles with a bar at the median."""
    shares, summary = 100 * client["foreground"], client["foreground_summary"]
    low, middle, high = (100 * summary[word] for word in ("q1", "median", "q3"))
    panel.fill_betweenx([-0.62, 0.62], low, high, color=OTHERS, alpha=0.7, linewidth=0)
    panel.plot([middle] * 2, [-0.62, 0.62], color=INK, linewidth=1.4)
    spread = (np.arange(len(shares)) * 0.618034) % 1 - 0.5  # the golden section: neighbours far apart, no chance
    panel.plot(shares, spread, "o", color=PALETTE[0], alpha=0.6, markersize=3.2, markeredgewidth=0)
    every = 100 * np.concatenate([one["foreground"] for one in clients])
    margin = 0.06 * float(np.ptp(every)) or 1.0
    panel.set(xlim=(every.min() - margin, every.max() + margin), ylim=(-0.8, 0.8), yticks=())


# a matrix per measure


def _matrices(drawn: Any, clients: Sequence[Facts], measures: Facts, columns: int) -> None:
    rows = -(-len(measures) // columns)
    axes = drawn.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[len(measures) :]:
        spare.remove()
    names = [f"{number} {label(client['name'], 22)}" for number, client in enumerate(clients, start=1)]
    for place, (panel, (measure, facts)) in enumerate(zip(axes, measures.items(), strict=False)):
        _matrix(panel, facts, names if place % columns == 0 else [str(i + 1) for i in range(len(names))])
        ratio = "–" if math.isnan(facts["ratio"]) else f"{facts['ratio']:.1f}".replace("inf", "∞")
        panel.set_title(f"{measure.capitalize()} ({facts['unit']})\nbetween / within clients: {ratio}")


def _matrix(panel: Any, facts: Facts, names: Sequence[str]) -> None:
    shown = facts["halves"]
    top = float(np.nanmax(shown, initial=0)) or 1.0
    panel.pcolormesh(np.ma.masked_invalid(shown), cmap="cividis", vmin=0, vmax=top, edgecolors="none")
    digits = 0 if top >= 99.5 else 1 if top >= 9.95 else 2
    size = 7.5 if len(names) < 6 else 6.5 if len(names) <= CROWD else 6
    for (row, column), value in np.ndenumerate(shown):
        text = f"{value:.{digits}f}" if math.isfinite(value) else "–"
        colour = "#ffffff" if value <= 0.55 * top else "#000000"
        look = {"style": "italic", "weight": "bold"} if row == column else {}
        panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=colour, **look)
    middles = np.arange(len(names)) + 0.5
    panel.set_xticks(middles, [str(i + 1) for i in range(len(names))])
    panel.set_yticks(middles, names)
    panel.set_xlabel("client", fontsize=8)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    panel.invert_yaxis()
    panel.set_aspect("equal")


def _caption(portrait: Facts) -> str:
    return (
        "Cases: with little, middling and much foreground. Grey levels: density over all pixels, filled for the mean "
        "of the channels, lines for red, green (dashed) and blue (dotted); a percentage is the share in a bin cut off. "
        "Amplitude: geometric mean on rings of frequencies, divided by its mean over clients (grey: the others); "
        f"shaded: the low ones (up to {portrait['low_frequency']}), which are compared. Foreground: a dot per case, "
        "box from first to third quartile, bar at the median. Matrices: mean distance between random halves, of two "
        "clients or (diagonal) of one: Wasserstein-1 distance of grey levels, root mean square difference of log10 "
        "amplitudes, Wasserstein-1 distance of foreground shares. The ratio grows with the number of subjects."
    )


def _alt(portrait: Facts) -> str:
    names = listed([client["name"] for client in portrait["clients"]])
    return f"Sample pictures, histograms, spectra and foreground of {names}. {portrait['verdict']}"
