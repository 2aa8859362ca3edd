"""The figure of a sweep: clients thin, their average thick with its band over seeds, other methods as levels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from pflbench_reports.canvas import INK, WIDTH, Picture, figure, legend, legend_height, look, picture, shortened, style
from pflbench_reports.marks import line
from pflbench_reports.sweeps import Sweep
from pflbench_reports.text import listed, percent

LEVELS = ((0, (5, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))  # dashes of the reference lines


def sweep_figure(name: str, sweep: Sweep, looks: Mapping[str, int]) -> Picture:
    """Draw a sweep; ``looks`` gives the methods' places in the palette where several are swept."""
    frame = sweep.frame
    labels = [_label(row) for row in _lines(frame)]
    values = sorted(set(frame["value"].dropna()))
    with style(name):
        drawn = figure(WIDTH, 2.7 + legend_height(labels), sweep.simulated)
        axes = drawn.subplots()
        scale = scale_of(values)
        handles = [_draw(axes, frame, kind, own, looks, scale, values) for kind, own in _lines(frame)]
        _axis(axes, values, scale)
        axes.set(xlabel=shortened(sweep.setting, 60), ylabel="Test Dice (%)")
        axes.set_title(shortened(sweep.title, 70))
        legend(drawn, handles, labels)
        return picture(name, drawn, frame.assign(setting=sweep.setting), _caption(sweep, scale), _alt(sweep))


def _lines(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return every line's kind and name, the heaviest first."""
    found = list(dict.fromkeys(zip(frame["kind"], frame["line"], strict=True)))
    return sorted(found, key=lambda pair: ("average", "method", "reference", "client").index(pair[0]))


def _label(row: tuple[str, str]) -> str:
    kind, own = row
    return {"average": "Average over clients", "reference": f"{shortened(own, 24)}, average"}.get(
        kind, shortened(own, 24)
    )


def scale_of(values: Sequence[float]) -> str:
    """Return "linear", "log" or, where neither keeps the values apart, "even" (equal distances)."""
    reach = values[-1] - values[0]
    if min(np.diff(values)) >= 0.03 * reach:
        return "linear"
    if values[0] > 0:
        steps = np.diff(np.log(values))
        return "log" if min(steps) >= 0.03 * float(steps.sum()) else "even"
    return "even"


def _draw(
    axes: Any,
    frame: pd.DataFrame,
    kind: str,
    own: str,
    looks: Mapping[str, int],
    scale: str,
    values: Sequence[float],
) -> Any:
    rows = frame[(frame["kind"] == kind) & (frame["line"] == own)]
    if kind == "reference":
        place = list(dict.fromkeys(frame.loc[frame["kind"] == kind, "line"])).index(own)
        return axes.axhline(float(rows["mean"].iloc[0]), color=INK, linewidth=1.1, linestyle=LEVELS[place])
    places = rows.assign(x=[values.index(v) if scale == "even" else v for v in rows["value"]]).sort_values("x")
    if kind == "average":
        return line(axes, places, "x", {"color": INK, "linewidth": 2.6, "marker": "o", "markersize": 6, "zorder": 4})
    if kind == "method":
        return line(axes, places, "x", {**look(looks[own]), "markersize": 5})
    client = list(dict.fromkeys(frame.loc[frame["kind"] == kind, "line"])).index(own)
    return line(axes, places, "x", {**look(client), "linewidth": 0.9, "markersize": 3.5, "alpha": 0.9}, band=0)


def _axis(axes: Any, values: Sequence[float], scale: str) -> None:
    """Put a tick at every value that was tried, as far as their labels stay apart."""
    if scale == "log":
        axes.set_xscale("log")
    place = [math.log(v) for v in values] if scale == "log" else list(values)
    place = [float(i) for i in range(len(values))] if scale == "even" else place
    kept: list[int] = []
    for index in range(len(values)):
        if not kept or place[index] - place[kept[-1]] >= 0.06 * (place[-1] - place[0]):
            kept.append(index)
    where = [float(index) if scale == "even" else values[index] for index in kept]
    axes.set_xticks(where, [f"{values[index]:g}" for index in kept])
    axes.xaxis.set_minor_locator(NullLocator())


def _caption(sweep: Sweep, scale: str) -> str:
    frame = sweep.frame
    swept = frame[frame["kind"].isin(["average", "method"])]
    counts = sorted(set(swept["seeds"].astype(int)))
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    spread = (
        f"Band: ± one population standard deviation over seeds of the average ({seeds} per value)."
        if counts[-1] > 1
        else "One seed per value: there is no spread over seeds, so no band; differences may be chance."
    )
    thick = "thick: unweighted average over clients; thin: each client" if "client" in set(frame["kind"]) else ""
    several_methods = "a line per method: unweighted average over clients"
    words = [f"{sweep.title}: test Dice against {sweep.setting} ({thick or several_methods}). {spread}"]
    references = list(dict.fromkeys(frame.loc[frame["kind"] == "reference", "line"]))
    if references:
        words.append(f"Level lines: the average of {listed(references)}, without this setting.")
    if scale == "even":
        words.append("The values stand at equal distances.")
    if sweep.left_out:
        words.append(f"Not drawn, for lack of room: {listed(sweep.left_out)}.")
    return " ".join(words)


def _alt(sweep: Sweep) -> str:
    swept = sweep.frame[sweep.frame["kind"].isin(["average", "method"])]
    ends = []
    for own in dict.fromkeys(swept["line"]):
        rows = swept[swept["line"] == own]
        best = rows.loc[rows["mean"].idxmax()]
        ends.append(f"{own} is highest, {percent(float(best['mean']))} %, at {best['value']:g}")
    return f"Line chart of test Dice against {sweep.setting} for {sweep.title}: {listed(ends)}."
