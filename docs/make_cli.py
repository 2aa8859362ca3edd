"""Write docs/cli.md from the --help texts of every command, in plain text of one width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from from_code import WRITTEN, joined, write

from pflbench.cli import app

NAME = "cli.md"
WIDTH = 90
INTRODUCTION = f"""{WRITTEN}

# The command line

Every command says after `--help` what stands here.

Exit codes: 0 all done, 1 a trial failed (the others finished), 2 bad usage (nothing was trained), 130 interrupted
(the same command goes on).

What can be set with `--set` stands with the [recipe](recipe.md), the [methods](methods.md), the
[datasets](datasets.md) and the [partitioners](partitioners.md).
"""


def page() -> str:
    """Return the page as Markdown."""
    sections = (f"## {name}\n\n```text\n{_help(command, name)}\n```\n" for name, command in commands())
    return joined([INTRODUCTION, *sections])


def commands() -> list[tuple[str, Any]]:
    """Return (``pflbench data show``, its command) of all commands, a group before its own."""
    return list(_walked("pflbench", typer.main.get_command(app)))


def _walked(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for own, inner in getattr(command, "commands", {}).items():
        yield from _walked(f"{name} {own}", inner)


def _help(command: Any, name: str) -> str:
    command.rich_markup_mode = None  # no boxes, whose look depends on the terminal
    context = command.context_class(command, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


if __name__ == "__main__":
    write(NAME, page())
