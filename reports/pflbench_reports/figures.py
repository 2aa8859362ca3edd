"""The figures that every group has: validation curves, and test scores per client."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pflbench.metrics import METRICS, Metric
from pflbench_reports.canvas import (
    WIDTH,
    Picture,
    bottom,
    figure,
    grid,
    legend,
    legend_height,
    look,
    picture,
    shortened,
    style,
)
from pflbench_reports.marks import (
    chosen_clients,
    every,
    grid_rows,
    line,
    method_rows,
    rounds_axis,
    row_height,
    seeds_drawn,
)
from pflbench_reports.text import listed, percent, several


def curves(name: str, frame: pd.DataFrame, looks: Mapping[str, int], simulated: bool) -> Picture:
    """Draw validation Dice over rounds, one line per method; the band is one deviation over seeds."""
    methods = _present(frame, looks)
    labels = [shortened(method) for method in methods]
    with style(name):
        drawn = figure(WIDTH, 2.7 + legend_height(labels), simulated)
        panels = {"All rounds": 0, "Second half, where models are selected": _second_half(frame)}
        for (title, start), axes in zip(panels.items(), drawn.subplots(1, 2), strict=True):
            handles = _method_lines(axes, frame[frame["round"] >= start], methods, looks)
            axes.set(title=title, xlabel="Round", ylabel="Validation Dice (%)" if start == 0 else "")
        legend(drawn, handles, labels)
        return picture(name, drawn, frame, _curve_caption(frame), _curve_alt(frame, methods))


def _present(frame: pd.DataFrame, looks: Mapping[str, int]) -> list[str]:
    return [method for method in looks if method in set(frame["variant"])]


def _second_half(frame: pd.DataFrame) -> float:
    return float(frame["round"].max()) / 2 + 0.5


def _method_lines(axes: Any, frame: pd.DataFrame, methods: Sequence[str], looks: Mapping[str, int]) -> list[Any]:
    handles = []
    for method in methods:
        rows = frame[frame["variant"] == method]
        options = {**look(looks[method]), "markersize": 3.5, "markevery": every(len(rows)), "linewidth": 1.3}
        handles.append(line(axes, rows, "round", options, band=0.12))
    rounds_axis(axes)
    return handles


def _curve_caption(frame: pd.DataFrame) -> str:
    return f"Validation Dice per round, averaged over clients without weights. {seeds_drawn(frame)}"


def _curve_alt(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    last = frame[frame["round"] == frame["round"].max()].sort_values("mean", ascending=False)
    ends = listed([f"{m} {percent(v)} %" for m, v in zip(last["variant"], last["mean"], strict=True)])
    count = several(len(methods), "method")
    return f"Line chart of validation Dice over rounds for {count}. Last round: {ends}."


def client_curves(name: str, frame: pd.DataFrame, looks: Mapping[str, int], simulated: bool) -> Picture:
    """Draw validation Dice over rounds, one panel per client, one line per method; the band is over seeds."""
    methods, (panels, note) = _present(frame, looks), chosen_clients(frame)
    labels = [shortened(method) for method in methods]
    data = frame[frame["client"].isin(panels)]
    with style(name):
        height = 0.3 + 1.75 * grid_rows(panels) + legend_height(labels)
        drawn = figure(WIDTH, height, simulated)
        places = grid(drawn, len(panels), 3)
        for client, axes in zip(panels, places, strict=True):
            rows = data[data["client"] == client]
            handles = _method_lines(axes, rows, methods, looks)
            axes.set(title=shortened(client, 26), ylim=_late(rows))
        for axes in bottom(places):
            axes.set_xlabel("Round")
        drawn.supylabel("Validation Dice (%)", fontsize=9)
        legend(drawn, handles, labels)
        caption = f"Validation Dice per round at each client. {seeds_drawn(data)} {_OWN_AXES}{note}"
        return picture(name, drawn, data, caption, _client_curve_alt(data, panels))


_OWN_AXES = "Every panel has its own axis, for the second half of the rounds: early lines may enter from below."


def _late(rows: pd.DataFrame) -> tuple[float, float]:
    """Return limits that the second half fills half: at first Dice is near zero, which would squeeze the rest."""
    late = rows.loc[rows["round"] >= _second_half(rows), "mean"]
    low, high = float(late.min()), float(rows["mean"].max())
    if not math.isfinite(low + high):
        return 0.0, 100.0
    room = max(high - low, 1.0)
    return max(low - 0.8 * room, -1.0), high + 0.2 * room


def _client_curve_alt(frame: pd.DataFrame, panels: Sequence[str]) -> str:
    last = frame[frame["round"] == frame["round"].max()].dropna(subset=["mean"])
    best = []
    for client in panels:
        rows = last[last["client"] == client].sort_values("mean", ascending=False)
        best += [f"{client}: {row.variant} ({percent(row.mean)} %)" for row in rows.head(1).itertuples(index=False)]
    return f"Line charts of validation Dice over rounds, one per client. Highest in the last round: {listed(best)}."


def clients(
    name: str,
    frame: pd.DataFrame,
    order: Sequence[str],
    looks: Mapping[str, int],
    simulated: bool,
    metric: Metric = METRICS["dice"],
) -> Picture:
    """Draw test scores, one panel per client, one row per method; a dot per seed, a bar at their mean.

    The column of scores is "dice" whatever ``metric`` they are of, as in ``tables.seed_scores``.
    """
    panels = list(dict.fromkeys(frame["client"]))
    with style(name):
        height = row_height(panels, order, 0.21)
        drawn = figure(WIDTH, 0.8 + grid_rows(panels) * (0.5 + height * len(order)), simulated)
        span = _span(frame)
        for client, axes in zip(panels, grid(drawn, len(panels), 3, sharey=True), strict=True):
            _dots(axes, frame[frame["client"] == client], order, looks)
            middle = _middle(frame[frame["client"] == client])
            axes.set(title=shortened(client, 19), xlim=(middle - span / 2, middle + span / 2))
            axes.grid(visible=False, axis="y")
        method_rows(axes, order, height)
        axis = f"Test {metric.title} ({metric.unit}); the axes start at different values but have one scale"
        drawn.supxlabel(axis, fontsize=9)
        return picture(name, drawn, frame, _client_caption(metric), _client_alt(frame, panels, order, metric))


def _span(frame: pd.DataFrame) -> float:
    ranges = frame.groupby("client")["dice"].agg(lambda values: values.max() - values.min())
    return float(max(1.2 * ranges.max(), 1.0))


def _middle(frame: pd.DataFrame) -> float:
    return float(frame["dice"].min() + frame["dice"].max()) / 2


def _dots(axes: Any, frame: pd.DataFrame, order: Sequence[str], looks: Mapping[str, int]) -> None:
    for place, method in enumerate(order):
        values = frame.loc[frame["variant"] == method, "dice"]
        colour = look(looks[method])["color"]
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.65, markersize=5, markeredgewidth=0)
        axes.plot([values.mean()] * 2, [place - 0.32, place + 0.32], color=colour, linewidth=2.2)


def _client_caption(metric: Metric) -> str:
    where = "at the client's best validation round"
    better = "" if metric.higher_is_better else " Lower is better."
    return (
        f"Test {metric.title} per client and method {where}: a dot per seed (the mean over the client's cases), "
        f"a bar at the mean over seeds.{better}"
    )


def _client_alt(frame: pd.DataFrame, panels: Sequence[str], order: Sequence[str], metric: Metric) -> str:
    means = frame.groupby(["client", "variant"])["dice"].mean()
    ranked = means if metric.higher_is_better else -means
    best = [(client, ranked[client].idxmax()) for client in panels]
    words = [f"{client}: {method} ({percent(float(means[client, method]))} {metric.unit})" for client, method in best]
    return (
        f"Dot plot of test {metric.title} for {several(len(order), 'method')}. Best mean per client: {listed(words)}."
    )


def looks_of(displays: Sequence[str]) -> dict[str, int]:
    """Give every method of a report its place in the palette, the same in all sections."""
    return {display: index for index, display in enumerate(sorted(set(displays)))}
