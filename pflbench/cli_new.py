"""The command ``pflbench new``: a package of one's own to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DONE = 0


def new_command(
    kind: Annotated[str, typer.Argument(help="method, dataset or partitioner.")],
    name: Annotated[str, typer.Argument(help="Its name on the command line, in lower case: fedfoo.")],
    into: Annotated[Path, typer.Option(help="Folder in which the new folder pflbench-NAME is made.")] = Path("."),
) -> int:
    """Write an installable package of a new method, dataset or partitioner: nothing else to touch."""
    from pflbench.plugins import registry
    from pflbench.scaffold import Package, commands, files, scaffold

    folder = scaffold(kind, name, into, registry())
    package = Package(kind, name)
    typer.echo(f"{folder} is written:")
    for path in files(package):
        typer.echo(f"  {folder / path}")
    typer.echo(f'The line to change is marked "<- change this line" in {folder / package.module}.py. Type next:')
    for command in commands(package, folder):
        typer.echo(f"  {command}")
    return DONE
