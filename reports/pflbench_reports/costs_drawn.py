"""What accuracy costs: test Dice against the bytes that a client moves and against seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pflbench_reports.canvas import INK, WIDTH, Picture, figure, legend, legend_height, look, picture, shortened, style
from pflbench_reports.groups import Group
from pflbench_reports.labels import Point, place_labels
from pflbench_reports.tables import over_seeds, seed_scores
from pflbench_reports.text import listed, percent, several, size

MANY = 16  # methods whose names fit beside their points
_COARSE = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
_FINE = tuple(sorted({10**power * step for power in (0, 1, 2) for step in (1, 1.5, 2, 3, 4, 5, 7)}))
_SIZES = tuple((1024.0**power, unit, 1024.0) for power, unit in enumerate(("B", "KiB", "MiB", "GiB", "TiB")))
_TIMES = ((0.001, "ms", 1000.0), (1.0, "s", 60.0), (60.0, "min", 60.0), (3600.0, "h", 24.0), (86400.0, "d", 1e9))
UNITS = {"bytes": _SIZES, "seconds": _TIMES}  # factor, name, how many make the next
TITLES = {
    "bytes": "Sent and received per client, whole trial",
    "seconds": "Computing, all clients, whole trial",
}


def price(group: Group) -> pd.DataFrame:
    """Return one row per method: what it scored and what it took, mean and population std over its trials (seeds).

    Columns: variant, seeds, and mean and std of dice (percent; unweighted mean over clients), bytes (sent and
    received by a client in the whole trial, setup included; mean over clients) and seconds (whole trial, all stages
    and clients added up). NaN where nothing was recorded, and for the std of one seed.
    """
    scores = seed_scores(group, "best", "dice")
    dice = over_seeds(scores, list(dict.fromkeys(scores["client"])))
    rows = []
    for trial in group.finished:
        cost, variant, seed = group.costs[trial.id], group.variants[trial.id].display, int(trial.spec["seed"])
        rounds = max(trial.round, 1)
        moved = _moved(cost, rounds)
        if math.isnan(moved) and (trial.folder / "ledger.csv").exists():
            moved = 0.0  # an empty ledger: nothing was sent
        seconds = cost["setup_seconds"] + rounds * cost["round_seconds"]
        rows.append({"variant": variant, "dice": dice.loc[variant, seed], "bytes": moved, "seconds": seconds})
    frame = pd.DataFrame(rows, columns=["variant", "dice", "bytes", "seconds"])
    grouped = frame.groupby("variant", sort=False)
    result = grouped.size().rename("seeds").reset_index()
    for name in ("dice", "bytes", "seconds"):
        result[name] = grouped[name].mean().to_numpy()
        deviation = pd.Series(grouped[name].std(ddof=0).to_numpy(dtype=float))
        result[f"{name}_std"] = deviation.where(result["seeds"] > 1)
    return result


def _moved(cost: Mapping[str, float], rounds: int) -> float:
    once = cost["setup_up_bytes"] + cost["setup_down_bytes"]
    return once + rounds * (cost["up_bytes"] + cost["down_bytes"])


def cost_figure(
    name: str, frame: pd.DataFrame, looks: Mapping[str, int], simulated: bool, machines: Sequence[str]
) -> Picture | None:
    """Draw ``price``: Dice against bytes and seconds; ``machines`` as of ``cost.hardware``. None without costs."""
    axes_of = [
        kind for kind in ("bytes", "seconds") if (frame[kind].notna() & frame["dice"].notna() & (frame[kind] > 0)).any()
    ]
    if not axes_of:
        return None
    names = [str(variant) for variant in frame["variant"]]
    many = len(names) > MANY
    labels = [shortened(own) for own in names]
    with style(name):
        drawn = figure(WIDTH, 3.0 + (legend_height(labels) if many else 0), simulated)
        panels = drawn.subplots(1, len(axes_of), sharey=True, squeeze=False)[0]
        for kind, axes in zip(axes_of, panels, strict=True):
            handles = _panel(axes, frame.dropna(subset=[kind, "dice"]), kind, looks)
        panels[0].set_ylabel("Test Dice (%), average over clients")
        if many:
            legend(drawn, handles, labels)
        else:
            for kind, axes in zip(axes_of, panels, strict=True):
                _name_points(drawn, axes, frame.dropna(subset=[kind, "dice"]), kind)
        return picture(name, drawn, frame, _caption(frame, machines, axes_of), _alt(frame))


def _panel(axes: Any, frame: pd.DataFrame, kind: str, looks: Mapping[str, int]) -> list[Any]:
    places = _places(frame, kind)
    handles = []
    for row, x in zip(frame.to_dict("records"), places, strict=True):
        options = look(looks[row["variant"]])
        bars = {"yerr": _bar(row["dice_std"]), "xerr": _bar(row[f"{kind}_std"]) if row[kind] > 0 else None}
        shown = {"fmt": options["marker"], "color": options["color"], "markersize": 6, "elinewidth": 0.9, "capsize": 2}
        handles.append(axes.errorbar(x, row["dice"], **bars, **shown)[0])
    axes.set(xscale="log", xlabel=TITLES[kind])
    axes.margins(y=0.12)
    _ticks(axes, frame, kind)
    return handles


def _bar(deviation: float) -> float | None:
    return float(deviation) if math.isfinite(deviation) else None


def _zero(frame: pd.DataFrame, kind: str) -> float:
    """Return where zero, which a logarithmic axis lacks, is put: well below everything else."""
    positive = frame.loc[frame[kind] > 0, kind]
    least, most = float(positive.min()), float(positive.max())
    return least / max(2.4, math.pow(most / least, 0.35))


def _places(frame: pd.DataFrame, kind: str) -> list[float]:
    zero = _zero(frame, kind)
    return [float(value) if value > 0 else zero for value in frame[kind]]


def _ticks(axes: Any, frame: pd.DataFrame, kind: str) -> None:
    positive = frame[frame[kind] > 0]
    low, high = _reach(positive, kind)
    within: list[tuple[float, str]] = []
    if (frame[kind] <= 0).any():
        zero, least = _zero(frame, kind), float(positive[kind].min())
        low = math.sqrt(zero * least)
        axes.axvline(low, color=INK, linewidth=0.7, linestyle=":")
        within.append((zero, "0"))
    within += ticks_between(low * 1.1, high, kind)
    low = min(low, within[0][0] / 1.6) if (frame[kind] <= 0).any() else low
    axes.set_xlim(low, high)
    axes.set_xticks([value for value, _ in within], [label for _, label in within])
    axes.xaxis.set_minor_locator(NullLocator())


def _reach(positive: pd.DataFrame, kind: str) -> tuple[float, float]:
    """Return limits that hold every point with its bar, and at least a factor of 2.5."""
    spread = positive[f"{kind}_std"].fillna(0.0)
    low = float((positive[kind] - spread).clip(lower=positive[kind] / 4).min()) / 1.25
    high = float((positive[kind] + spread).max()) * 1.25
    room = max(1.0, math.sqrt(2.5 * low / high))
    return low / room, high * room


def ticks_between(low: float, high: float, kind: str) -> list[tuple[float, str]]:
    """Return at most five round values of "bytes" or "seconds" between two limits, each with its words.

    The rounder come first, and none that would stand too near (on a logarithmic axis) to one that is there.
    """
    gap = 0.17 * math.log(high / low)
    high /= math.exp(gap / 3)  # the words of a tick at the very end would leave the axis
    found: dict[float, str] = {}
    for steps in ((1.0,), (10.0, 100.0), _COARSE, _FINE):
        for value, label in ((s * f, f"{s:g} {unit}") for f, unit, end in UNITS[kind] for s in steps if s < end):
            if low <= value <= high and all(abs(math.log(value / other)) >= gap for other in found):
                found[value] = label
    return sorted(found.items())[:5]


def _name_points(drawn: Figure, axes: Any, frame: pd.DataFrame, kind: str) -> None:
    points, least = [], axes.get_xlim()[0]
    for row, x in zip(frame.to_dict("records"), _places(frame, kind), strict=True):
        wide = row[f"{kind}_std"] if math.isfinite(row[f"{kind}_std"]) and row[kind] > 0 else 0.0
        tall = row["dice_std"] if math.isfinite(row["dice_std"]) else 0.0
        points.append(Point(x, row["dice"], max(x - wide, least), x + wide, row["dice"] - tall, row["dice"] + tall))
    place_labels(drawn, axes, points, [shortened(own, 22) for own in frame["variant"]])


def _caption(frame: pd.DataFrame, machines: Sequence[str], kinds: Sequence[str]) -> str:
    low, high = int(frame["seeds"].min()), int(frame["seeds"].max())
    count = several(high, "seed") if low == high else f"{low} to {high} seeds"
    bars = "bars: ± one population standard deviation over seeds" if high > 1 else "no spread over seeds to show"
    words = [f"What accuracy costs: test Dice, unweighted average over clients, mean over {count} ({bars})."]
    if "bytes" in kinds:
        words.append("Bytes: sent and received by one client (mean) in the whole trial, one-time exchange included.")
        if (frame["bytes"] == 0).any():
            words.append("The axis is logarithmic; left of the dotted line: nothing is sent.")
    if "seconds" in kinds:
        words.append("Seconds: computing of all clients and the server added up, not the time a user waits.")
        words.append(_hardware(machines))
    return " ".join(words)


def _hardware(machines: Sequence[str]) -> str:
    if len(machines) > 1:
        return f"WARNING: the trials ran on {len(machines)} different machines, so seconds cannot be compared."
    where = f" ({machines[0]})" if machines else ""
    return f"Seconds hold for the machine they were measured on{where} and for what else it did then."


def _alt(frame: pd.DataFrame) -> str:
    rows = frame.sort_values("dice", ascending=False).to_dict("records")
    points = [f"{row['variant']} {percent(row['dice'])} % for {size(row['bytes'])}" for row in rows]
    return f"Scatter plots of test Dice against bytes per client and against seconds: {listed(points)}."
