"""The report: sections out of comparison groups, rendered as Markdown and HTML, with tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from pflbench.results import write_atomically
from pflbench_reports import figures
from pflbench_reports.canvas import Picture
from pflbench_reports.cost import cost, hardware
from pflbench_reports.display import Table, cost_table, dice_table, status_table
from pflbench_reports.groups import Group, load
from pflbench_reports.protocol import (
    Facts,
    MethodCard,
    client_table,
    commands,
    environment_facts,
    method_cards,
    protocol_facts,
    sources,
)
from pflbench_reports.tables import local_of, other_metrics, seed_scores, summary
from pflbench_reports.text import fenced, markdown, slug
from pflbench_reports.traces import mask_rates, validation
from pflbench_reports.verdict import verdict


@dataclass(frozen=True)
class Section:
    """One comparison group, ready for the templates."""

    group: Group
    verdict: list[str]
    dice: Table | None  # None: no trial has finished
    others: list[Table]  # Dice per volume, inside the field of view
    last: Table | None
    cost: Table | None
    clients: Table | None
    status: Table | None
    pictures: list[Picture]
    methods: list[MethodCard]
    protocol: Facts
    environment: Facts
    machines: list[str]
    sources: list[tuple[str, str, str]]
    commands: list[str]
    has_local: bool

    @property
    def tables(self) -> list[Table]:
        """Return the tables that exist."""
        return [t for t in (self.dice, *self.others, self.last, self.cost, self.clients, self.status) if t is not None]


def write_report(paths: Sequence[Path], out: Path) -> list[Path]:
    """Write the report of every trial below the paths into ``out``; return the files written.

    ``report.md``, a self-contained ``report.html``, ``tables/*.csv`` and ``figures/*.svg|png`` with the
    ``.csv`` each was drawn from. Raises ResultsError where no trial is found.
    """
    groups, problems = load([Path(path) for path in paths])
    looks = figures.looks_of([v.display for group in groups for v in group.variants.values()])
    sections = [section(group, looks) for group in groups]
    files = {f"report.{kind}": render(kind, sections, problems).encode() for kind in ("md", "html")}
    for part in sections:
        files |= _tables(part) | _figures(part)
    return [_write(Path(out) / name, content) for name, content in files.items()]


def section(group: Group, looks: dict[str, int]) -> Section:
    """Compute everything that the page says about one comparison group."""
    order = _order(group)
    done = bool(order)
    return Section(
        group=group,
        verdict=verdict(group),
        dice=dice_table(group, "best", order, compared=True) if done else None,
        others=[dice_table(group, "best", order, compared=False, metric=metric) for metric in other_metrics(group)],
        last=_last(group, order),
        cost=cost_table(cost(group), order) if done else None,
        clients=client_table(group),
        status=status_table(group),
        pictures=_pictures(group, order, looks) if done else [],
        methods=method_cards(group, order),
        protocol=protocol_facts(group),
        environment=environment_facts(group),
        machines=hardware(group),
        sources=sources(group),
        commands=commands(group),
        has_local=local_of(group) is not None,
    )


def _order(group: Group) -> list[str]:
    frame = seed_scores(group, "best")
    return [] if frame.empty else [str(name) for name in summary(frame, None)["variant"]]


def _last(group: Group, order: Sequence[str]) -> Table | None:
    return None if seed_scores(group, "last").empty else dice_table(group, "last", order, compared=False)


def _pictures(group: Group, order: Sequence[str], looks: dict[str, int]) -> list[Picture]:
    name, simulated = group.slug, group.simulated
    pictures = []
    if not (curve := validation(group)).empty:
        pictures.append(figures.curves(f"{name}-validation", curve, looks, simulated))
    test = seed_scores(group, "best")
    pictures.append(figures.clients(f"{name}-clients", test, order, looks, simulated))
    for index, (method, rates) in enumerate(mask_rates(group).items(), start=1):
        stem = f"{name}-mask-{index}-{slug(method)}"
        pictures.append(figures.mask_lines(f"{stem}-rounds", method, rates, simulated))
        pictures.append(figures.mask_map(f"{stem}-layers", method, rates, simulated))
    return pictures


def _tables(part: Section) -> dict[str, bytes]:
    return {
        f"tables/{part.group.slug}-{name}.csv": _csv(frame)
        for table in part.tables
        for name, frame in table.csv.items()
    }


def _figures(part: Section) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for drawn in part.pictures:
        stem = f"figures/{drawn.name}"
        files |= {f"{stem}.svg": drawn.svg, f"{stem}.png": drawn.png, f"{stem}.csv": _csv(drawn.data)}
    return files


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def render(kind: str, sections: Sequence[Section], problems: Sequence[str]) -> str:
    """Return the page as "md" or "html"; every value is escaped for the format unless it is Markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pflbench_reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_literal if kind == "md" else None,
    )
    environment.filters |= {"fenced": lambda text: Markup(fenced(text)), "inline": lambda p: Markup(p.inline)}
    environment.filters["asset"] = lambda path: Markup(path)
    template = environment.get_template(f"report.{kind}.jinja")
    count = sum(len(part.group.trials) for part in sections)
    warning = _simulated(sections)
    return template.render(sections=sections, problems=problems, count=count, simulated=warning)


def _simulated(sections: Sequence[Section]) -> str:
    """Return the warning that heads the whole report; empty where all data is real."""
    marked = [part for part in sections if part.group.simulated]
    if not marked:
        return ""
    where = "all of it" if len(marked) == len(sections) else f"{len(marked)} of {len(sections)} sections"
    return f"This report holds SIMULATED DATA ({where}): these numbers say nothing about patients."


def _literal(value: object) -> object:
    return value if isinstance(value, Markup) else Markup(markdown(str(value)))
