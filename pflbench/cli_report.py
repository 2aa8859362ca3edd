"""The command line of reports: ``pflbench report`` and ``pflbench compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pflbench.cli_parts import make_console

DONE = 0


def report_command(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Results folders, and CSV files of scores (dataset, method, client, seed, metric, value)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report"),
    reference: Annotated[
        str | None, typer.Option(help="Show published rows beside one's own, marked as quoted: paper.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it again whenever a run gets on; ends when all trials are done.")
    ] = False,
) -> int:
    """Write report.md, report.html, tables and figures from results; trains nothing, needs no torch."""
    _must_exist(paths)
    if watch:
        _installed("watch")(paths, out, reference, say=typer.echo)
        return DONE
    _print_written(_installed("report")(paths, out, reference), out)
    return DONE


def _print_written(files: Sequence[Path], out: Path) -> None:
    """Count the files of a report, and name last those that one opens."""
    pages = [path for path in files if path.suffix in (".md", ".html")]
    typer.echo(f"{len(files) - len(pages)} tables, figures and references in {out}/")
    for page in pages:
        typer.echo(str(page))


def compare_command(
    a: Annotated[Path, typer.Argument(help="A results folder, one trial's folder, or a CSV file of scores.")],
    b: Annotated[Path, typer.Argument(help="Another one; differences are this one minus the first.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all digits.")] = False,
) -> int:
    """Say what differs between two sets of results, in specification and in scores; trains nothing."""
    _must_exist([a, b])
    found = _installed("compare")(a, b)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return DONE
    from pflbench.terminal_report import print_comparison

    print_comparison(found, make_console())
    return DONE


def _must_exist(paths: list[Path]) -> None:
    from pflbench.errors import UsageError

    for path in paths:
        if not path.exists():
            raise UsageError(
                f"{path} does not exist; give the folder that `pflbench run --out` wrote to, or a CSV file of scores."
            )


def _installed(name: str) -> Any:
    """Return what an entry point of the group pflbench.report names. Raises UsageError where none does."""
    from importlib.metadata import entry_points

    from pflbench.errors import UsageError

    points = list(entry_points(group="pflbench.report", name=name))
    if not points:
        raise UsageError(f"no {name} is installed (entry point group pflbench.report); install pflbench anew.")
    return points[0].load()
