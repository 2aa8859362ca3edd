"""What stays personal: masking rates over rounds (Fig. 4), and of every layer and client as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

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
    matrix,
    matrix_figure,
    rounds_axis,
    seeds_drawn,
)
from pflbench_reports.text import listed, percent, several
from pflbench_reports.traces import last_round, shown_layers


def mask_lines(
    name: str,
    method: str,
    rates: pd.DataFrame,
    simulated: bool,
    chosen: Sequence[str] = (),
    layers: Sequence[str] = (),
) -> Picture:
    """Draw the masking rate over rounds as in the paper's Fig. 4: one panel per client, a line per layer.

    ``chosen`` names the clients (the first twelve if none), ``layers`` the layers (the paper's three if none).
    """
    (panels, note), layers = chosen_clients(rates, chosen), layers or shown_layers(list(dict.fromkeys(rates["layer"])))
    data = rates[rates["layer"].isin(layers) & rates["client"].isin(panels)]
    labels = [_role(layer) for layer in layers]
    with style(name):
        drawn = figure(WIDTH, 0.4 + 1.6 * grid_rows(panels) + legend_height(labels), simulated)
        places = grid(drawn, len(panels), 3, sharex=True, sharey=True)
        for client, axes in zip(panels, places, strict=True):
            handles = [_layer_line(axes, data, client, layer, index) for index, layer in enumerate(layers)]
            axes.set_title(shortened(client, 26))
            axes.set_ylim(bottom=0)
            rounds_axis(axes)
        for axes in bottom(places):
            axes.set_xlabel("Round")
        legend(drawn, handles, labels)
        drawn.supylabel("Share kept personal", fontsize=9)
        return picture(name, drawn, data, _mask_caption(method, data) + note, _mask_alt(method, data, layers))


def _layer_line(axes: Any, data: pd.DataFrame, client: str, layer: str, index: int) -> Any:
    rows = data[(data["client"] == client) & (data["layer"] == layer)]
    return line(axes, rows, "round", {**look(index), "markersize": 3.5, "markevery": every(len(rows))})


def _role(layer: str) -> str:
    roles = {"enc1.0": "input layer", "enc4.0": "intermediate layer", "final": "classifier"}
    return f"{roles[layer]} ({layer})" if layer in roles else shortened(layer)


def _mask_caption(method: str, data: pd.DataFrame) -> str:
    return f"{method}: share of a layer's parameters kept personal, per round and client. {seeds_drawn(data)}"


def _mask_alt(method: str, data: pd.DataFrame, layers: Sequence[str]) -> str:
    last = data[data["round"] == data["round"].max()]
    final = {layer: float(last.loc[last["layer"] == layer, "mean"].mean()) for layer in layers}
    ends = listed([f"{_role(layer)} {percent(100 * share)} %" for layer, share in final.items()])
    return f"Masking rates of {method} over rounds. Last round, mean over clients: {ends} kept personal."


def mask_map(name: str, method: str, rates: pd.DataFrame, simulated: bool) -> Picture:
    """Draw the masking rate of every layer and client at the last logged round."""
    rates_then = last_round(rates)
    with style(name):
        drawn, axes = matrix_figure(list(rates_then.index), list(rates_then.columns), 0.24, simulated)
        top = float(np.nanmax(rates_then.to_numpy(dtype=float), initial=0.0)) or 1.0
        matrix(drawn, axes, rates_then, top, "Share kept personal")
        return picture(name, drawn, _tidy(rates_then), _map_caption(method, rates), _map_alt(method, rates_then))


def _tidy(matrix: pd.DataFrame) -> pd.DataFrame:
    return matrix.reset_index().melt(id_vars="layer", var_name="client", value_name="mask_rate")


def _map_caption(method: str, rates: pd.DataFrame) -> str:
    last, seeds = int(rates["round"].max()), several(int(rates["seeds"].max()), "seed")
    return f"{method}: share of every layer's parameters kept personal at round {last} (mean over {seeds})."


def _map_alt(method: str, matrix: pd.DataFrame) -> str:
    layers = matrix.mean(axis=1).dropna()
    if layers.empty:
        return f"Heat map of the masking rates of {method}, layer by client; no layer has a value."
    return (
        f"Heat map of the masking rates of {method}, layer by client. Mean over clients "
        f"from {percent(100 * float(layers.min()))} % in {layers.idxmin()} "
        f"to {percent(100 * float(layers.max()))} % in {layers.idxmax()}."
    )
