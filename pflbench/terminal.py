"""What the command line prints when it is not progress: plans, summaries, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pflbench.estimate import estimated_seconds
from pflbench.plan import Plan, PlannedTrial
from pflbench.progress import duration
from pflbench.results import Trial, scores


def print_plan(plan: Plan, todo: Sequence[PlannedTrial], jobs: int, console: Console) -> None:
    """Print every trial of a plan, and how long those that are left will take."""
    table = Table("trial", "method", "settings", "seed", "state")
    for trial in plan.trials:
        spec, state = trial.spec, "to run" if trial in todo else "finished"
        table.add_row(trial.name, spec["method"]["title"], spec["method"]["label"], str(spec["seed"]), state)
    console.print(table)
    seconds = duration(estimated_seconds(todo, jobs)) if todo else "no time"
    console.print(
        f"{len(todo)} of {len(plan.trials)} trials to run, about {seconds} in {jobs} processes.", markup=False
    )


def print_summary(trials: Sequence[Trial], console: Console) -> None:
    """Print the mean Dice over seeds of every method; trials that may not be compared stand in tables apart."""
    frame = scores(trials)
    frame = frame[frame.metric == "dice"]
    for number, (_, group) in enumerate(frame[frame.chosen == "best"].groupby("group", sort=False), 1):
        clients = list(dict.fromkeys(group.client))
        note = f", recipe {number} of the sweep" if frame.group.nunique() > 1 else ""
        # few lines: six clients and the method's name fit into 80 columns
        table = Table(
            title=f"Dice in %, mean over seeds{note}", box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold"
        )
        for heading in ("method", *clients, "average"):
            table.add_column(heading, overflow="fold")  # on a narrow terminal, folded but whole
        for (title, settings), rows in group.groupby(["title", "settings"], sort=False):
            means = 100 * rows.groupby("client").value.mean()
            cells = [f"{means[client]:.2f}" if client in means else "-" for client in clients]
            table.add_row(f"{title} {settings}".strip(), *cells, f"{means.mean():.2f}")
        console.print(table)


def print_rows(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print each row as a paragraph under its first value."""
    for row in rows:
        name, *others = row.items()
        console.print(f"[bold]{_cell(name[1])}[/bold]", highlight=False)
        for key, value in others:
            if value not in ("", [], {}):
                console.print(f"  [dim]{key}:[/dim] {_cell(value)}", highlight=False)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{key}={shown}" for key, shown in value.items()))
    return escape(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
