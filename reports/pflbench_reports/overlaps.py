"""Whose masks agree: the intersection over union of every two clients' masks, as a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from pflbench_reports.canvas import Picture, picture, style
from pflbench_reports.marks import matrix, matrix_figure
from pflbench_reports.text import percent, several


def overlap_map(name: str, method: str, overlaps: pd.DataFrame, simulated: bool) -> Picture:
    """Draw the overlap of masks of every two clients at the last logged round (of ``traces.mask_overlaps``)."""
    square = overlap_matrix(overlaps)
    names = [str(client) for client in square.index]
    with style(name):
        drawn, axes = matrix_figure(names, names, 0.34, simulated)
        matrix(drawn, axes, square, 1.0, "Intersection over union")
        return picture(name, drawn, _tidy(square), _caption(method, overlaps), _alt(method, square))


def overlap_matrix(overlaps: pd.DataFrame) -> pd.DataFrame:
    """Return the symmetric matrix client x client of the mean over seeds at the last logged round; 1 with oneself."""
    last = overlaps[overlaps["round"] == overlaps["round"].max()]
    names = _in_order(list(zip(last["one"], last["other"], strict=True)))
    square = pd.DataFrame(np.eye(len(names)), index=names, columns=names).replace(0.0, np.nan)
    for row in last.itertuples(index=False):
        square.loc[row.one, row.other] = square.loc[row.other, row.one] = row.mean
    return square


def _in_order(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the clients in the order of the federation: of every pair, the first stands before the other."""
    return list(dict.fromkeys([one for one, _ in pairs] + [other for _, other in pairs]))


def _tidy(square: pd.DataFrame) -> pd.DataFrame:
    return square.rename_axis("client").reset_index().melt(id_vars="client", var_name="other", value_name="mask_iou")


def _caption(method: str, overlaps: pd.DataFrame) -> str:
    last, seeds = int(overlaps["round"].max()), several(int(overlaps["seeds"].max()), "seed")
    return (
        f"{method}: how much the masks of two clients (the parameters each keeps personal) overlap at round {last}: "
        f"parameters in both masks / parameters in either (mean over {seeds}; 1 with itself)."
    )


def _alt(method: str, square: pd.DataFrame) -> str:
    pairs = {(a, b): float(square[b][a]) for a, b in combinations(square.index, 2)}
    known = {pair: value for pair, value in pairs.items() if math.isfinite(value)}
    if not known:
        return f"Matrix of the overlap of the clients' masks of {method}; no pair has a value."
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return (
        f"Matrix of the overlap of the clients' masks of {method}, from {percent(known[least])} "
        f"({least[0]} and {least[1]}) to {percent(known[most])} ({most[0]} and {most[1]})."
    )
