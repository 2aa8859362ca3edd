"""Test Dice of every case: a box per client and method, with the cases as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pflbench_reports.canvas import INK, WIDTH, Picture, figure, grid, look, picture, shortened, style
from pflbench_reports.groups import Group
from pflbench_reports.marks import grid_rows, method_rows, row_height
from pflbench_reports.text import listed, percent, several

MANY = 50  # points per box; of more, as many at evenly spaced ranks stand for all


def case_scores(group: Group) -> pd.DataFrame:
    """Return the test Dice (percent) of every case at its client's best validation round, averaged over seeds.

    Columns: variant, client, case, volume ("" where cases are no slices), dice, seeds (those that tested the case).
    """
    frames = []
    for trial in group.finished:
        cases = trial.table("cases")
        best = cases.loc[cases["chosen"] == "best", ["client", "case", "volume", "dice"]]
        frames.append(best.assign(variant=group.variants[trial.id].display, dice=100.0 * best["dice"].astype(float)))
    columns = ["variant", "client", "case", "volume"]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*columns, "dice"])
    return frame.groupby(columns, sort=False)["dice"].agg(dice="mean", seeds="count").reset_index()


def case_boxes(
    name: str, frame: pd.DataFrame, order: Sequence[str], looks: Mapping[str, int], simulated: bool
) -> Picture:
    """Draw ``case_scores``: one panel per client, one row per method (in ``order``)."""
    panels = list(dict.fromkeys(frame["client"]))
    with style(name):
        height = row_height(panels, order, 0.24)
        drawn = figure(WIDTH, 0.6 + grid_rows(panels) * (0.5 + height * len(order)), simulated)
        for client, axes in zip(panels, grid(drawn, len(panels), 3, sharey=True), strict=True):
            _panel(axes, frame[frame["client"] == client], order, looks)
            axes.set_title(_title(frame, client))
        method_rows(axes, order, height)
        drawn.supxlabel("Test Dice of a case (%), each panel on its own axis", fontsize=9)
        return picture(name, drawn, frame, _caption(frame), _alt(frame, panels, order))


def _title(frame: pd.DataFrame, client: str) -> str:
    name, count = shortened(client, 19), frame.loc[frame["client"] == client, "case"].nunique()
    return f"{name}{' ' if len(name) < 13 else chr(10)}(n = {count})"


def _panel(axes: Any, frame: pd.DataFrame, order: Sequence[str], looks: Mapping[str, int]) -> None:
    for place, method in enumerate(order):
        values = frame.loc[frame["variant"] == method, "dice"].dropna().to_numpy(dtype=float)
        if len(values):
            colour = look(looks[method])["color"]
            _box(axes, values, place, colour)
            _points(axes, values, place, colour)
    axes.grid(visible=False, axis="y")


def _box(axes: Any, values: NDArray[np.float64], place: int, colour: str) -> None:
    # seaborn's boxplot would load pyplot (a second) and asks matplotlib for what 3.13 will no longer have
    plain: dict[str, Any] = {"color": INK, "linewidth": 0.8}
    axes.boxplot(
        values,
        positions=[place],
        widths=0.62,
        orientation="horizontal",
        patch_artist=True,
        showfliers=False,
        manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": INK, "linewidth": 0.6},
        medianprops={"color": INK, "linewidth": 1.8},
        whiskerprops=plain,
        capprops=plain,
    )


def _points(axes: Any, values: NDArray[np.float64], place: int, colour: str) -> None:
    shown = thinned(values)
    shift = 0.44 * ((np.arange(len(shown)) * 0.618034) % 1 - 0.5)  # the golden section: neighbours apart, no chance
    axes.plot(shown, place + shift, "o", color=colour, markersize=2.6, alpha=0.9, markeredgewidth=0.3, mec=INK)


def thinned(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return at most ``MANY`` of the values, sorted, at evenly spaced ranks: the ends and the shape stay."""
    ranked: NDArray[np.float64] = np.sort(values)
    if len(ranked) <= MANY:
        return ranked
    kept: NDArray[np.float64] = ranked[np.round(np.linspace(0, len(ranked) - 1, MANY)).astype(int)]
    return kept


def _caption(frame: pd.DataFrame) -> str:
    kind = "slice" if (frame["volume"] != "").any() else "case"
    low, high = int(frame["seeds"].min()), int(frame["seeds"].max())
    seeds = several(high, "seed") if low == high else f"{low} to {high} seeds"
    average = f"each averaged over {seeds}" if high > 1 else "of one seed"
    counts = frame.groupby(["client", "variant"], sort=False).size()
    thin = f" Of more than {MANY} {kind}s, {MANY} at evenly spaced ranks are drawn." if counts.max() > MANY else ""
    return (
        f"Test Dice of every {kind}, {average}, at the client's best validation round (n: {kind}s per client). Box: "
        f"quartiles and median over {kind}s; whiskers: to the farthest {kind} within 1.5 times the box; a point per "
        f"{kind}.{thin} This spread is over {kind}s, not over seeds."
    )


def _alt(frame: pd.DataFrame, panels: Sequence[str], order: Sequence[str]) -> str:
    medians = frame.groupby(["client", "variant"])["dice"].median().dropna()
    best = [
        f"{client}: {medians[client].idxmax()} ({percent(float(medians[client].max()))} %)"
        for client in panels
        if client in medians.index.get_level_values(0)
    ]
    return f"Box plots of test Dice per case for {several(len(order), 'method')}. Highest median: {listed(best)}."
