"""The figures of a comparison group: each a pure function from a frame to a ``Picture``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from pflbench_reports.canvas import Picture, figure, grid, look, picture, style
from pflbench_reports.text import listed, percent, several
from pflbench_reports.traces import last_round, shown_layers


def shortened(name: str, length: int = 34) -> str:
    """Return a name short enough for a legend or an axis."""
    return name if len(name) <= length else f"{name[: length - 1]}…"


def curves(name: str, frame: pd.DataFrame, looks: Mapping[str, int], simulated: bool) -> Picture:
    """Draw validation Dice over rounds, one line per method; the band is one deviation over seeds."""
    methods = [m for m in looks if m in set(frame["variant"])]
    with style(name):
        drawn = figure(8.6, 3.6 + 0.18 * (len(methods) // 4), simulated)
        panels = {"All rounds": 0, "Second half, where models are selected": _second_half(frame)}
        for (title, start), axes in zip(panels.items(), drawn.subplots(1, 2), strict=True):
            for method in methods:
                rows = frame[(frame["variant"] == method) & (frame["round"] >= start)]
                _line(axes, rows, method, {**look(looks[method]), "markersize": 3.5})
            axes.set(title=title, xlabel="Round", ylabel="Validation Dice (%)" if start == 0 else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return picture(name, drawn, frame, _curve_caption(frame), _curve_alt(frame, methods))


def _second_half(frame: pd.DataFrame) -> float:
    return float(frame["round"].max()) / 2 + 0.5


def _line(axes: Any, rows: pd.DataFrame, label: str, options: Mapping[str, Any]) -> None:
    axes.plot(rows["round"], rows["mean"], label=shortened(label), **options)
    low, high = rows["mean"] - rows["std"], rows["mean"] + rows["std"]
    axes.fill_between(rows["round"], low, high, color=options["color"], alpha=0.15, linewidth=0)


def _curve_caption(frame: pd.DataFrame) -> str:
    spread = "Bands: ± one population standard deviation over seeds." if frame["std"].notna().any() else ""
    return f"Validation Dice per round, averaged over clients without weights. {spread}".strip()


def _curve_alt(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    last = frame[frame["round"] == frame["round"].max()].sort_values("mean", ascending=False)
    ends = listed([f"{m} {percent(v)} %" for m, v in zip(last["variant"], last["mean"], strict=True)])
    count = several(len(methods), "method")
    return f"Line chart of validation Dice over rounds for {count}. Last round: {ends}."


def clients(name: str, frame: pd.DataFrame, order: Sequence[str], looks: Mapping[str, int], simulated: bool) -> Picture:
    """Draw test Dice, one panel per client, one row per method; a dot per seed, a bar at their mean."""
    panels = list(dict.fromkeys(frame["client"]))
    rows = -(-len(panels) // 3)
    with style(name):
        drawn = figure(8.6, 0.9 + rows * (0.5 + 0.24 * len(order)), simulated)
        span = _span(frame)
        for client, axes in zip(panels, grid(drawn, len(panels), 3, sharey=True), strict=True):
            _dots(axes, frame[frame["client"] == client], order, looks)
            middle = _middle(frame[frame["client"] == client])
            axes.set(title=shortened(client, 26), xlim=(middle - span / 2, middle + span / 2))
        axes.set_yticks(range(len(order)), [shortened(method, 28) for method in order])
        axes.set_ylim(len(order) - 0.5, -0.5)
        drawn.supxlabel("Test Dice (%); the axes start at different values but have one scale", fontsize=9)
        return picture(name, drawn, frame, _client_caption(), _client_alt(frame, panels, order))


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


def _client_caption() -> str:
    where = "at the client's best validation round"
    return f"Test Dice per client and method {where}: a dot per seed, a bar at the mean."


def _client_alt(frame: pd.DataFrame, panels: Sequence[str], order: Sequence[str]) -> str:
    means = frame.groupby(["client", "variant"])["dice"].mean()
    best = [f"{client}: {means[client].idxmax()} ({percent(float(means[client].max()))} %)" for client in panels]
    return f"Dot plot of test Dice for {several(len(order), 'method')}. Highest mean per client: {listed(best)}."


def mask_lines(name: str, method: str, rates: pd.DataFrame, simulated: bool) -> Picture:
    """Draw the masking rate over rounds as in the paper's Fig. 4: one panel per client, three layers."""
    panels, layers = list(dict.fromkeys(rates["client"])), shown_layers(list(dict.fromkeys(rates["layer"])))
    data = rates[rates["layer"].isin(layers)]
    with style(name):
        drawn = figure(8.6, 0.9 + 1.9 * -(-len(panels) // 3), simulated)
        for client, axes in zip(panels, grid(drawn, len(panels), 3, sharex=True, sharey=True), strict=True):
            for index, layer in enumerate(layers):
                rows = data[(data["client"] == client) & (data["layer"] == layer)]
                _line(axes, rows, _role(layer), {**look(index), "markersize": 3})
            axes.set_title(shortened(client, 26))
            axes.set_xlabel("Round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        drawn.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        drawn.supylabel("Share kept personal", fontsize=9)
        return picture(name, drawn, data, _mask_caption(method), _mask_alt(method, data, layers))


def _role(layer: str) -> str:
    roles = {"enc1.0": "input layer", "enc4.0": "intermediate layer", "final": "classifier"}
    return f"{roles[layer]} ({layer})" if layer in roles else shortened(layer)


def _mask_caption(method: str) -> str:
    return (
        f"{method}: share of a layer's parameters kept personal, per round and client "
        "(mean over seeds, band ± one population standard deviation)."
    )


def _mask_alt(method: str, data: pd.DataFrame, layers: Sequence[str]) -> str:
    final = data[data["round"] == data["round"].max()].groupby("layer")["mean"].mean()
    ends = listed([f"{_role(layer)} {percent(100 * float(final[layer]))} %" for layer in layers])
    return f"Masking rates of {method} over rounds. Last round, mean over clients: {ends} kept personal."


def mask_map(name: str, method: str, rates: pd.DataFrame, simulated: bool) -> Picture:
    """Draw the masking rate of every layer and client at the last logged round."""
    matrix = last_round(rates)
    with style(name):
        width = 2.4 + 0.95 * len(matrix.columns)
        drawn = figure(max(width, 5.0), 1.5 + 0.27 * len(matrix.index), simulated)
        axes = drawn.subplots()
        mesh = axes.pcolormesh(matrix.to_numpy(dtype=float), cmap="cividis", vmin=0, edgecolors="none")
        axes.grid(visible=False)
        axes.set_xticks([i + 0.5 for i in range(len(matrix.columns))], [shortened(c, 14) for c in matrix.columns])
        axes.set_yticks([i + 0.5 for i in range(len(matrix.index))], [shortened(r) for r in matrix.index])
        axes.tick_params(length=0)
        axes.invert_yaxis()
        _cell_values(axes, matrix, float(mesh.get_clim()[1]))
        drawn.colorbar(mesh, ax=axes, label="Share kept personal", fraction=0.05).outline.set_visible(False)
        return picture(name, drawn, _tidy(matrix), _map_caption(method, rates), _map_alt(method, matrix))


def _cell_values(axes: Any, matrix: pd.DataFrame, top: float) -> None:
    for row, values in enumerate(matrix.to_numpy(dtype=float)):
        for column, value in enumerate(values):
            colour = "#000000" if value > 0.55 * top else "#ffffff"
            text = percent(float(value))
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=7.5, color=colour)


def _tidy(matrix: pd.DataFrame) -> pd.DataFrame:
    return matrix.reset_index().melt(id_vars="layer", var_name="client", value_name="mask_rate")


def _map_caption(method: str, rates: pd.DataFrame) -> str:
    last = int(rates["round"].max())
    return f"{method}: share of every layer kept personal at round {last} (mean over seeds)."


def _map_alt(method: str, matrix: pd.DataFrame) -> str:
    layers = matrix.mean(axis=1)
    return (
        f"Heat map of the masking rates of {method}, layer by client. Mean over clients "
        f"from {percent(float(layers.min()))} in {layers.idxmin()} "
        f"to {percent(float(layers.max()))} in {layers.idxmax()}."
    )


def looks_of(displays: Sequence[str]) -> dict[str, int]:
    """Give every method of a report its place in the palette, the same in all sections."""
    return {display: index for index, display in enumerate(sorted(set(displays)))}
