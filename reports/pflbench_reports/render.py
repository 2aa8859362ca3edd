"""Pages and files out of sections: Jinja templates, escaping for each format, what may run within the page."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any, Literal

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from pflbench_reports.blocks import Block, Drawing, Grid, every
from pflbench_reports.cells import Cell
from pflbench_reports.latex import tabular
from pflbench_reports.text import fenced, markdown, quantity, visible

Kind = Literal["md", "html"]


def page(kind: Kind, values: Mapping[str, Any]) -> str:
    """Return the page; every value is escaped for the format unless it is Markup."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pflbench_reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_markdown if kind == "md" else _html,
    )
    environment.filters |= _FILTERS
    script = (files("pflbench_reports") / "templates" / "script.js").read_text(encoding="utf-8")
    scripting = {"script": Markup(script), "script_hash": _digest(script)}
    return environment.get_template(f"report.{kind}.jinja").render(**values, **scripting)


def _element(text: str) -> Markup:
    """Escape for the inside of an HTML element in Markdown, where a line is enough to end it."""
    return escape(" ".join(visible(text).split()))


def sortable(cell: Cell) -> str | None:
    """Return the number by which a column is sorted: the unrounded value, else what the text says, if a number."""
    value = quantity(cell.text) if cell.value is None else cell.value
    return None if value is None or not math.isfinite(value) else repr(float(value))


_FILTERS: dict[str, Callable[..., Any]] = {
    "fenced": lambda text: Markup(fenced(visible(text))),
    "element": _element,
    "inline": lambda picture: Markup(picture.inline),
    "asset": lambda path: Markup(path),
    "sortable": sortable,
}


def _digest(script: str) -> str:
    """Return what a Content-Security-Policy calls the script by, so that no other one runs."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _markdown(value: object) -> object:
    return value if isinstance(value, Markup) else Markup(markdown(str(value)))


def _html(value: object) -> object:
    return value if isinstance(value, Markup) else visible(str(value))


def assets(blocks: Iterable[Block], slug: str, simulated: bool, protocol: str = "") -> dict[str, bytes]:
    """Return the files beside the page, by their path: tables as CSV and LaTeX, figures with their numbers."""
    found: dict[str, bytes] = {}
    for block in every(list(blocks)):
        if isinstance(block, Grid):
            found |= {f"tables/{slug}-{name}.csv": _csv(frame) for name, frame in block.table.csv.items()}
            label = f"{slug}-{block.name}"
            found[f"tables/{label}.tex"] = tabular(block.table, label, simulated, protocol).encode()
        if isinstance(block, Drawing):
            picture = block.picture
            forms = {"svg": picture.svg, "png": picture.png, "csv": _csv(picture.data)}
            found |= {f"figures/{picture.name}.{form}": content for form, content in forms.items()}
    return found


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()
