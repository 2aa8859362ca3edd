"""The report: which parts it has, in which order, and the files it is written to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from pflbench.results import write_atomically
from pflbench_reports import figures, parts, protocol, render
from pflbench_reports.bibliography import bibtex, references
from pflbench_reports.blocks import Block, Code, Drawing, Grid, Part, Prose
from pflbench_reports.gallery import sweep_gallery
from pflbench_reports.groups import Group, load
from pflbench_reports.latex import WARNING
from pflbench_reports.leaderboard import leaderboard
from pflbench_reports.protocol import Facts
from pflbench_reports.protocol_card import card_line
from pflbench_reports.tables import main_metric
from pflbench_reports.text import listed, several
from pflbench_reports.verdict import verdict

# what is said of each comparison group, in this order
PARTS: tuple[Callable[[parts.View], Part | None], ...] = (
    parts.results,
    parts.certainty,
    parts.further_metrics,
    parts.figures,
    parts.each_client,
    parts.last_round,
    parts.costs,
    parts.status,
    parts.methods,
    parts.data,
    parts.text,
    parts.rules,
    parts.machines,
    parts.repeat,
)
SPREADS = (
    ("Over seeds", "how far a repetition with another random start moves a number. It belongs to “± over seeds”."),
    ("Over clients", "how unequal the hospitals are. It stands beside “Average” and says nothing about certainty."),
    ("Over cases", "how unequal the test images of one client are. It stands under “Each client” and in the boxes."),
)
MANY = 100  # trials, from which on processes are worth their start
RELOAD = 5  # seconds after which a page that is being watched is loaded again


@dataclass(frozen=True)
class Section:
    """One comparison group, ready for the templates."""

    group: Group
    overview: Facts
    verdict: list[str]
    parts: list[Part]
    done: bool  # whether there is any score

    @property
    def blocks(self) -> list[Block]:
        """Return the blocks of all parts."""
        return [block for part in self.parts for block in part.blocks]


def write_report(
    paths: Sequence[Path], out: Path, reference: str | None = None, *, watched: bool = False
) -> list[Path]:
    """Write the report of everything below the paths into ``out``; return the files written.

    ``report.md``, a self-contained ``report.html``, ``bibliography.bib``, ``tables/*.csv|tex`` and
    ``figures/*.svg|png`` with the ``.csv`` each was drawn from. With ``reference`` "paper" the rows that the paper
    prints stand below one's own; a page that is ``watched`` loads itself again. Raises ResultsError where no score
    or trial is found.
    """
    groups, problems = load([Path(path) for path in paths])
    looks = figures.looks_of([v.display for group in groups for v in group.variants.values()])
    sections = _sections(_Task(tuple(groups), looks, reference))
    bibliography = bibtex(references(groups))
    across = {simulated: _above(groups, looks, simulated) for simulated in (False, True)}
    below = _below(bibliography)
    values = {
        "sections": sections,
        "above": [*across[False], *across[True]],
        "below": below,
        "problems": problems,
        "made_from": _made_from(groups),
        "simulated": _simulated(groups),
        "spreads": SPREADS,
        "reload": RELOAD if watched else None,
    }
    files = {f"report.{kind}": render.page(kind, values).encode() for kind in ("md", "html")}
    files |= {"bibliography.bib": bibliography.encode()} if bibliography else {}
    for simulated, found in across.items():
        files |= render.assets([block for part in found for block in part.blocks], "report", simulated)
    for done in sections:
        protocol_line = card_line(done.group, main_metric(done.group))
        files |= render.assets(done.blocks, done.group.slug, done.group.simulated, protocol_line)
    return [_write(Path(out) / name, content) for name, content in files.items()]


@dataclass(frozen=True)
class _Task:
    """All that the sections are made of."""

    groups: tuple[Group, ...]
    looks: dict[str, int]
    reference: str | None

    def section(self, number: int) -> Section:
        return section(parts.view(self.groups[number], self.looks, self.reference))


def _sections(task: _Task) -> list[Section]:
    """Make all sections; those of many trials in several processes, since drawing takes most of the time."""
    numbers = range(len(task.groups))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    processes = min(len(numbers), cores)
    if processes < 2 or sum(len(group.trials) for group in task.groups) < MANY:
        return [task.section(number) for number in numbers]
    # forked: what was read is there without being sent, and only what was made comes back
    with ProcessPoolExecutor(processes, get_context("fork"), _remember, (task,)) as pool:
        made = list(pool.map(_made, numbers))
    return [replace(one, group=group) for one, group in zip(made, task.groups, strict=True)]


_remembered: list[_Task] = []  # in a process that makes sections for another one


def _remember(task: _Task) -> None:
    _remembered.append(task)


def _made(number: int) -> Section:
    return replace(_remembered[0].section(number), group=None)  # type: ignore[arg-type]  # it need not be sent back


def section(view: parts.View) -> Section:
    """Compute everything that the page says about one comparison group."""
    made = [part for make in PARTS if (part := make(view)) is not None]
    return Section(view.group, protocol.overview(view.group), verdict(view.group), made, bool(view.order))


def _above(groups: Sequence[Group], looks: dict[str, int], simulated: bool) -> list[Part]:
    """Return what runs through several groups, real or simulated ones: mean ranks, settings that differ."""
    own = [group for group in groups if group.simulated == simulated]
    name = f"leaderboard{'-simulated' if simulated else ''}"
    warning = [Prose((WARNING,), "simulated")] if simulated else []
    found = [Part(table.title, (*warning, Grid(table, name))) for table in leaderboard(own)]
    if drawn := sweep_gallery(own, looks):
        title = f"{'SIMULATED DATA: s' if simulated else 'S'}ettings that differ between groups"
        found.append(Part(title, (*warning, *map(Drawing, drawn))))
    return found


def _below(bibliography: str) -> list[Part]:
    """Return what belongs to the whole report and comes last."""
    if not bibliography:
        return []
    says = ("Taken from what methods and datasets cite; look over it before you print it. Also in bibliography.bib.",)
    return [Part("BibTeX of methods and data", (Prose(says, "note"), Code("BibTeX", bibliography.rstrip("\n"))))]


def _made_from(groups: Sequence[Group]) -> str:
    trials, sheets = sum(len(group.trials) for group in groups), len({group.file for group in groups if group.file})
    counts = [several(trials, "trial")] if trials else []
    return listed([*counts, f"{several(sheets, 'file')} of scores"] if sheets else counts)


def _simulated(groups: Sequence[Group]) -> str:
    """Return the warning that heads the whole report; empty where all data is real."""
    marked = [group for group in groups if group.simulated]
    if not marked:
        return ""
    where = "all of it" if len(marked) == len(groups) else f"{len(marked)} of {len(groups)} sections"
    return f"This report holds SIMULATED DATA ({where}): these numbers say nothing about patients."


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path
