"""Markdown from classes: tables, docstrings, settings and the comments beside them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pflbench.settings import Settings

HERE = Path(__file__).parent
WRITTEN = "<!-- Written by `make docs` from the code; do not edit. -->"  # the first line of every page


def write(name: str, text: str) -> None:
    """Write a page into docs/ and say so."""
    (HERE / name).write_text(text, encoding="utf-8")
    print(f"docs/{name} is written.")


def joined(lines: Iterable[str]) -> str:
    """Return the lines of a page as its text, with one end of line."""
    return "\n".join(lines).rstrip() + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one; nothing where there are no rows."""
    body = [row(cells) for cells in rows]
    if body:
        yield from (row(headings), row(["---"] * len(headings)), *body, "")


def row(cells: Sequence[str]) -> str:
    """Return one line of a table."""
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def prose(documented: object) -> str:
    """Return a docstring as Markdown: blocks after ``::`` fenced, code in single backticks."""
    lines: list[str] = []
    literal = False
    for line in (inspect.getdoc(documented) or "").splitlines():
        if literal and line and not line.startswith(" "):
            while not lines[-1]:
                lines.pop()
            lines += ["```", ""]
            literal = False
        lines.append(line.removeprefix("    ") if literal else line.replace("``", "`"))
        if not literal and line.endswith("::"):
            lines[-1] = lines[-1].removesuffix("::").rstrip(" :") + ":"
            lines += ["", "```text"]
            literal = True
    text = "\n".join([*lines, "```"] if literal else lines)
    return linked(re.sub(r"```text\n\n", "```text\n", text))


def linked(text: str) -> str:
    """Return Markdown in which bare addresses are links, those in code apart."""
    pattern = r"```.*?```|`[^`]*`|https?://[^\s,;)]*[^\s,;).:]"
    return re.sub(pattern, lambda found: found[0] if found[0][0] == "`" else f"<{found[0]}>", text, flags=re.DOTALL)


def settings(cls: type[Settings]) -> Iterator[str]:
    """Yield the table of what can be set about a method, dataset, partitioner or the recipe."""
    yield from table(
        ["setting", "default", "may be", ""],
        (
            [f"`{cls.label()}.{name}`", f"`{typed(getattr(cls, name))}`", cls.allowed(name), comment(cls, name)]
            for name in cls.setting_names()
        ),
    )


def typed(value: Any) -> str:
    """Return a value as one types it after ``--set NAME=``."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return value or '""' if isinstance(value, str) else json.dumps(value)


def comment(cls: type, name: str) -> str:
    """Return the comments above and behind a field, in the class that declares it."""
    owner = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), None)
    if owner is None:
        return ""
    found = re.search(rf"((?:^    # .+\n)*)^    {name}: [^#\n]*(?:# *(.+))?$", inspect.getsource(owner), re.MULTILINE)
    if found is None:
        return ""
    above = " ".join(line.strip(" #") for line in found[1].splitlines())
    return "; ".join(part for part in (above, found[2]) if part)
