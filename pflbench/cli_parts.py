"""What several commands share: an option, and the console they print to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 200  # columns of a file or a pipe, which have no width of their own

PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="A Python file with methods, datasets or partitioners of your own; may be given again.",
    ),
]


def make_console() -> Console:
    """Return the console of standard output; wide where that is no terminal."""
    from rich.console import Console

    console = Console(stderr=False)
    return console if console.is_terminal else Console(width=_WIDE)
