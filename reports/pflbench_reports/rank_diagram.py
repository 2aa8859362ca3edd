"""The critical-difference diagram: mean ranks on an axis, and bars over methods that are not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pflbench.metrics import METRICS
from pflbench_reports.canvas import INK, PALETTE, WIDTH, Picture, figure, picture, shortened, style
from pflbench_reports.groups import Group
from pflbench_reports.ranks import LEVEL, ROUGH, Ranking, ranking, why_none
from pflbench_reports.significance import complete_methods
from pflbench_reports.tables import guests, main_metric, not_federated, seed_scores
from pflbench_reports.text import listed, several

# lengths are in inches, as are the units of the axes
ROW, BAR, AXIS = 0.2, 0.1, 0.55
LETTERS, LETTER = 24, 0.074  # of a method's name: how many, and the width of one
CROWD = 12  # up to so many ranks every tick has its number


@dataclass(frozen=True)
class Scale:
    """Where the ranks stand; names stand outside."""

    left: float
    right: float
    methods: int

    def at(self, rank: float) -> float:
        """Return the place of a mean rank in inches from the left edge."""
        return self.left + (rank - 1) / (self.methods - 1) * (self.right - self.left)


def rank_diagram(groups: Group | Sequence[Group], name: str = "", chosen: str = "best") -> Picture | None:
    """Draw the diagram of one group or of several together; None where ``no_diagram`` has a reason.

    ``name``: of the files; left out it is the first group's slug with "-ranks".
    """
    several_groups = [groups] if isinstance(groups, Group) else list(groups)
    frame = rank_scores(several_groups, chosen)
    if why_none(frame):
        return None
    simulated = any(group.simulated for group in several_groups)
    return draw(name or f"{several_groups[0].slug}-ranks", ranking(frame), simulated)


def no_diagram(groups: Group | Sequence[Group], chosen: str = "best") -> str:
    """Return a sentence that says why there is no diagram; empty where there is one."""
    return why_none(rank_scores([groups] if isinstance(groups, Group) else list(groups), chosen))


def rank_scores(groups: Sequence[Group], chosen: str = "best") -> pd.DataFrame:
    """Return dataset, client, variant, value of the methods that are complete in every group.

    value is the main metric, higher is better: distances get a minus. The dataset is the group's id. Clients
    that never trained take no part.
    """
    frames = []
    for group in groups:
        scores = seed_scores(group, chosen)
        sign = 1 if METRICS[main_metric(group)].higher_is_better else -1
        scores = scores[~scores["client"].isin(guests(group)) & ~scores["variant"].isin(not_federated(group))]
        trained = scores.assign(dataset=group.id, value=sign * scores["dice"])
        frames.append(trained[trained["variant"].isin(complete_methods(trained))])
    columns = ["dataset", "client", "variant", "value"]
    together = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    everywhere = together.groupby("variant")["dataset"].nunique() == len(groups)
    return together[together["variant"].map(everywhere).astype(bool)].reset_index(drop=True)


def draw(name: str, found: Ranking, simulated: bool) -> Picture:
    """Draw a ranking from the best at the left to the worst at the right."""
    names, ranks = [str(method) for method in found.frame["variant"]], found.frame["mean_rank"].to_list()
    half = -(-len(ranks) // 2)
    names_from = AXIS + 0.2 + BAR * len(found.alike)
    height = names_from + ROW * (half + 0.3)
    margin = 0.6 + LETTER * max(len(shortened(method, LETTERS)) for method in names)
    scale = Scale(margin, WIDTH - margin, len(ranks))
    with style(name):
        drawn = figure(WIDTH, height + (0.3 if simulated else 0.0), simulated)
        axes = drawn.subplots()
        axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        axes.set_axis_off()
        _axis(axes, scale)
        _ruler(axes, scale, found.critical)
        for place, (method, rank) in enumerate(zip(names, ranks, strict=True)):
            row = min(place, len(ranks) - 1 - place)
            _method(axes, scale, method, rank, names_from + ROW * (row + 0.5), left=place < half)
        for row, (first, last) in enumerate(found.alike):
            _bar(axes, scale.at(ranks[first]), scale.at(ranks[last]), AXIS + 0.14 + BAR * row)
        return picture(name, drawn, _data(found), _caption(found), _alt(found))


def _axis(axes: Any, scale: Scale) -> None:
    axes.plot([scale.left, scale.right], [AXIS] * 2, color=INK, linewidth=0.9)
    step = 1 if scale.methods <= CROWD else 2
    for rank in range(1, scale.methods + 1):
        place = scale.at(rank)
        axes.plot([place] * 2, [AXIS - 0.06, AXIS], color=INK, linewidth=0.7)
        if (rank - 1) % step == 0:
            axes.text(place, AXIS - 0.09, str(rank), ha="center", va="bottom", fontsize=8)
    axes.text(scale.left - 0.14, AXIS - 0.09, "best", ha="right", va="bottom", fontsize=8)
    axes.text(scale.right + 0.14, AXIS - 0.09, "worst", ha="left", va="bottom", fontsize=8)


def _ruler(axes: Any, scale: Scale, critical: float) -> None:
    """Draw the length of the critical difference above the axis, or say that it is longer than the axis."""
    words, end = f"critical difference {critical:.2f}", scale.at(1 + critical)
    if critical >= scale.methods - 1:
        axes.text(scale.left, 0.16, f"{words}: longer than the axis", ha="left", va="center", fontsize=8)
        return
    axes.plot([scale.left, end], [0.16] * 2, color=INK, linewidth=1.2)
    for place in (scale.left, end):
        axes.plot([place] * 2, [0.11, 0.21], color=INK, linewidth=1.2)
    axes.text(end + 0.08, 0.16, words, ha="left", va="center", fontsize=8)


def _method(axes: Any, scale: Scale, method: str, rank: float, row: float, left: bool) -> None:
    place, side, away = scale.at(rank), "right" if left else "left", -1 if left else 1
    end = (scale.left if left else scale.right) + 0.1 * away
    axes.plot([place, place, end], [AXIS, row, row], color=INK, linewidth=0.8)
    axes.plot([place], [AXIS], "o", color=INK, markersize=3.5, zorder=4)
    axes.text(end + 0.05 * away, row, f"{rank:.2f}", ha=side, va="center", fontsize=8)
    # apart from the number: a name that is written from right to left would change places with it
    axes.text(end + 0.45 * away, row, shortened(method, LETTERS), ha=side, va="center", fontsize=8.5)


def _bar(axes: Any, first: float, last: float, height: float) -> None:
    ends = [first - 0.02, last + 0.02]
    axes.plot(ends, [height] * 2, color=PALETTE[0], linewidth=3.2, solid_capstyle="butt", zorder=3)


def _data(found: Ranking) -> pd.DataFrame:
    """Return the ranks with the tests, and per method the numbers of the bars above it."""
    bars = [
        " ".join(str(bar) for bar, (first, last) in enumerate(found.alike, start=1) if first <= place <= last)
        for place in range(len(found.frame))
    ]
    return found.frame.assign(bars=bars, critical_difference=found.critical, friedman_p=found.p)


def _caption(found: Ranking) -> str:
    rough = f" Fewer than {ROUGH} clients: both tests are rough." if found.blocks < ROUGH else ""
    return (
        f"Mean rank of each method over {several(found.blocks, 'client')} (1 is best; scores averaged over seeds). "
        f"Friedman's test: p {_p(found.p)}{_told(found)} Clients of one federation train together and are not "
        f"quite independent.{rough}"
    )


def _told(found: Ranking) -> str:
    if found.p >= LEVEL:
        return ", so no method can be told from another."
    if found.alike == ((0, len(found.frame) - 1),):
        return "; Nemenyi's test (0.05) tells no two methods apart."
    return ". Bars join methods that Nemenyi's test (0.05) cannot tell apart."


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _alt(found: Ranking) -> str:
    pairs = zip(found.frame["variant"], found.frame["mean_rank"], strict=True)
    return f"Critical-difference diagram. Mean ranks: {listed([f'{m} {r:.2f}' for m, r in pairs])}."
