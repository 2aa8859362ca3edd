"""All figures of a comparison group, by what they are about, and why one is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pflbench.metrics import METRICS
from pflbench_reports import (
    boxes,
    costs_drawn,
    figures,
    masks_drawn,
    overlaps,
    overlays,
    overlays_drawn,
    sweeps,
    sweeps_drawn,
)
from pflbench_reports.canvas import Picture
from pflbench_reports.cost import hardware
from pflbench_reports.groups import Group
from pflbench_reports.tables import main_metric, seed_scores
from pflbench_reports.text import slug
from pflbench_reports.traces import client_validation, mask_overlaps, mask_rates, validation

MANY_SWEEPS = 6  # figures of sweeps in a section; a grid of settings has a sweep per line of the grid


@dataclass(frozen=True)
class Gallery:
    """Figures by topic ("scores", "cases", "overlays", "validation", "cost", "sweeps", "masks"), and remarks."""

    topics: Mapping[str, list[Picture]]
    remarks: list[str] = field(default_factory=list)  # sentences that say what could not be drawn

    @property
    def pictures(self) -> list[Picture]:
        """Return all of them, topic after topic."""
        return [picture for pictures in self.topics.values() for picture in pictures]


def gallery(group: Group, order: Sequence[str], looks: Mapping[str, int]) -> Gallery:
    """Draw everything that the group has the data for; ``order`` is that of the table, ``looks`` of ``looks_of``."""
    name, simulated = group.slug, group.simulated
    test = seed_scores(group, "best")
    scores = figures.clients(f"{name}-clients", test, order, looks, simulated, METRICS[main_metric(group)])
    shown, remark = _overlays(group, order)
    swept, too_many = _sweeps(group, looks)
    topics = {
        "scores": [scores],
        "cases": _cases(group, order, looks),
        "overlays": shown,
        "validation": _validation(group, looks),
        "cost": _cost(group, looks),
        "sweeps": swept,
        "masks": _masks(group),
    }
    return Gallery(topics, [sentence for sentence in (remark, too_many) if sentence])


def sweep_gallery(groups: Sequence[Group], looks: Mapping[str, int]) -> list[Picture]:
    """Draw the sweeps of the recipe: each runs through several groups, so it belongs to the whole report."""
    found = sweeps.recipe_sweeps(groups)[:MANY_SWEEPS]
    names = [f"{_mark(one.simulated)}sweep-{i}-{slug(one.setting)}" for i, one in enumerate(found, start=1)]
    return [sweeps_drawn.sweep_figure(name, one, looks) for name, one in zip(names, found, strict=True)]


def _mark(simulated: bool) -> str:
    return "simulated-" if simulated else ""


def _cases(group: Group, order: Sequence[str], looks: Mapping[str, int]) -> list[Picture]:
    frame = boxes.case_scores(group)
    if frame.empty:
        return []
    return [boxes.case_boxes(f"{group.slug}-cases", frame, order, looks, group.simulated)]


def _overlays(group: Group, order: Sequence[str]) -> tuple[list[Picture], str]:
    if not group.finished:
        return [], ""
    sheets, why_not = overlays.sheets(group, order)
    names = [f"{group.slug}-overlay-{i}-{slug(sheet.client)}" for i, sheet in enumerate(sheets, start=1)]
    return [overlays_drawn.overlay_figure(name, sheet) for name, sheet in zip(names, sheets, strict=True)], why_not


def _validation(group: Group, looks: Mapping[str, int]) -> list[Picture]:
    if (average := validation(group)).empty:
        return []
    own = client_validation(group)
    drawn = [figures.curves(f"{group.slug}-validation", average, looks, group.simulated)]
    if own["client"].nunique() > 1:
        drawn.append(figures.client_curves(f"{group.slug}-validation-clients", own, looks, group.simulated))
    return drawn


def _cost(group: Group, looks: Mapping[str, int]) -> list[Picture]:
    if not group.finished:
        return []
    prices, machines = costs_drawn.price(group), hardware(group)
    drawn = costs_drawn.cost_figure(f"{group.slug}-cost", prices, looks, group.simulated, machines)
    return [] if drawn is None else [drawn]


def _sweeps(group: Group, looks: Mapping[str, int]) -> tuple[list[Picture], str]:
    found = sweeps.method_sweeps(group)
    rest = len(found) - MANY_SWEEPS
    names = [f"{group.slug}-sweep-{i}-{slug(one.setting)}" for i, one in enumerate(found, start=1)]
    pairs = list(zip(names, found, strict=True))[:MANY_SWEEPS]
    drawn = [sweeps_drawn.sweep_figure(name, one, looks) for name, one in pairs]
    return drawn, f"{rest} more sweeps are in these results than are drawn." if rest > 0 else ""


def _masks(group: Group) -> list[Picture]:
    drawn = []
    for index, (method, rates) in enumerate(mask_rates(group).items(), start=1):
        stem = f"{group.slug}-mask-{index}-{slug(method)}"
        drawn.append(masks_drawn.mask_lines(f"{stem}-rounds", method, rates, group.simulated))
        drawn.append(masks_drawn.mask_map(f"{stem}-layers", method, rates, group.simulated))
    for index, (method, pairs) in enumerate(mask_overlaps(group).items(), start=1):
        stem = f"{group.slug}-mask-overlap-{index}-{slug(method)}"
        drawn.append(overlaps.overlap_map(stem, method, pairs, group.simulated))
    return drawn
