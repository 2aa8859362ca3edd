"""What the command line prints when it is not progress: plans, summaries, lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pflbench.estimate import estimated_seconds
from pflbench.plan import Plan, PlannedTrial
from pflbench.progress import duration

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = 6  # letters of a Dice in %


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


def print_summary(frame: pd.DataFrame, console: Console) -> None:
    """Print the mean Dice over seeds of every method in a frame of ``pflbench.results.scores``.

    Trials that may not be compared stand in tables apart.
    """
    frame = frame[frame.metric == "dice"]
    for number, (_, group) in enumerate(frame[frame.chosen == "best"].groupby("group", sort=False), 1):
        clients = list(dict.fromkeys(group.client))
        note = f", recipe {number} of the sweep" if frame.group.nunique() > 1 else ""
        table = Table(title=f"Dice in %, mean over seeds{note}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        means = {
            f"{title} {settings}".strip(): 100 * rows.groupby("client").value.mean()
            for (title, settings), rows in group.groupby(["title", "settings"], sort=False)
        }
        wanted = max(map(len, means)) + sum(max(len(heading), _NUMBER) + 2 for heading in (*clients, "average"))
        table.add_column("method", overflow="fold")
        for client in clients:
            # where not all fits, the clients are folded and not the methods' names
            width = _NUMBER if wanted > console.width - 3 else None
            table.add_column(client, overflow="fold", justify="right", max_width=width)
        table.add_column("average", justify="right", no_wrap=True)
        for name, mean in means.items():
            cells = [f"{mean[client]:.2f}" if client in mean else "-" for client in clients]
            table.add_row(name, *cells, f"{mean.mean():.2f}")
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
