"""What the command line prints of a comparison of two sets of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Facts = Mapping[str, Any]
MISSING = "–"
_CHOICES = {"best": "at each client's best validation round", "last": "after the last round"}


def print_comparison(found: Facts, console: Console) -> None:
    """Print what ``pflbench_reports.compare.compare`` found: data, protocol, scores."""
    for name, side in found["sides"].items():
        _say(console, f"{name.upper()}: {side['path']}")
        for problem in side["problems"]:
            _say(console, f"   left out: {problem}", "yellow")
        if side["unfinished"]:
            _say(console, f"   without a result: {', '.join(side['unfinished'])}", "yellow")
    for name, headings in found["alone"].items():
        for heading in headings:
            _say(console, f"Only in {name.upper()}: {heading}", "yellow")
    if not found["pairs"]:
        _say(console, "Not comparable because: the two have no dataset in common.", "bold red")
    for pair in found["pairs"]:
        _print_pair(pair, console)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(_text(text), style=style, soft_wrap=True)


def _text(words: str) -> Text:
    """Return user text as it is read: no markup, and no characters that steer a terminal or turn the direction."""
    return Text("".join(c if c.isprintable() or c == "\n" else f"[U+{ord(c):04X}]" for c in words))


def _print_pair(pair: Facts, console: Console) -> None:
    both = pair["a"] if pair["a"] == pair["b"] else f"{pair['a']} (A) and {pair['b']} (B)"
    _say(console, f"\n{both}", "bold")
    if pair["simulated"]:
        _say(console, "SIMULATED DATA: these numbers say nothing about patients", "bold white on red")
    _say(console, *_verdict(pair))
    _print_fields("They differ in", pair["reasons"], console)
    _print_fields("Same protocol, but another version or machine", pair["circumstances"], console)
    _print_only(pair["only"], console)
    for method in pair["methods"]:
        _print_fields(f"{method['a']} differs in", method["differences"], console)
    _print_scores(pair, console)
    for sentence in pair["sentences"]:
        _say(console, sentence)


def _verdict(pair: Facts) -> tuple[str, str]:
    if pair["comparable"] is None:
        return "Whether they are comparable is unknown.", "bold yellow"
    if pair["comparable"]:
        but = " Seeds whose splits differ are left out." if pair["reasons"] else ""
        return f"Comparable: data, partition and recipe are the same.{but}", "bold green"
    fields = ", ".join(reason["field"] for reason in pair["reasons"])
    return f"Not comparable because: {fields or 'nothing was run on both sides'}.", "bold red"


def _print_fields(title: str, rows: Sequence[Facts], console: Console) -> None:
    if not rows:
        return
    _say(console, f"{title}:")
    table = _table(console)
    for heading in ("field", "A", "B"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_text(row[key]) for key in ("field", "a", "b")))
    console.print(table)


def _table(console: Console) -> Table:
    """Return an empty table; without lines where they would only end up in a file."""
    return Table(box=box.HEAVY_HEAD if console.is_terminal else None)


def _print_only(only: Facts, console: Console) -> None:
    for kind in ("methods", "clients"):
        for name, words in only[kind].items():
            if words:
                _say(console, f"{kind.capitalize()} only in {name.upper()}: {', '.join(words)}", "yellow")
    for method, seeds in only["seeds"].items():
        sides = [f"only in {name.upper()}: {', '.join(map(str, own))}" for name, own in seeds.items() if own]
        _say(console, f"Seeds of {method} {'; '.join(sides)}", "yellow")


def _print_scores(pair: Facts, console: Console) -> None:
    """Print a table per metric and choice of model: B minus A, per method and client."""
    same = [method["a"] for method in pair["methods"] if method["identical"]]
    if same:
        _say(console, f"Same to the last digit: {', '.join(same)}", "green")
    unlike = [method for method in pair["methods"] if method["scores"] and not method["identical"]]
    kinds = dict.fromkeys((s["chosen"], s["metric"]) for method in unlike for s in method["scores"])
    for chosen, metric in kinds:
        _print_table(unlike, chosen, metric, pair["comparable"] is False, console)


def _print_table(methods: Sequence[Facts], chosen: str, metric: str, unfair: bool, console: Console) -> None:
    wanted = (chosen, metric)
    rows = {m["a"]: {s["client"]: s for s in m["scores"] if (s["chosen"], s["metric"]) == wanted} for m in methods}
    first = next(score for scores in rows.values() for score in scores.values())
    clients = list(dict.fromkeys(client for scores in rows.values() for client in scores if client is not None))
    note = "; read it as the effect of what differs above" if unfair else ""
    unit = f"in {first['unit']}, ± population std of the difference over seeds{note}"
    _say(console, f"{first['title']} {_CHOICES[chosen]}: B minus A, {unit}")
    table = _table(console)
    for heading in ("method", "seeds", *clients, "average over clients"):
        table.add_column(_text(heading), overflow="fold")
    for method in methods:
        scores = rows[method["a"]]
        name = method["a"] if method["a"] == method["b"] else f"{method['a']} -> {method['b']}"
        seeds = ", ".join(map(str, method["seeds"]))
        table.add_row(_text(name), seeds, *(_cell(scores.get(client)) for client in [*clients, None]))
    console.print(table)


def _cell(score: Facts | None) -> str:
    if score is None or score["difference"] is None:
        return MISSING
    if score["same"]:
        return "same"
    spread = f" ± {score['over_seeds']:.2f}" if score["over_seeds"] is not None else ""
    return f"{score['difference']:+.2f}{spread}"
