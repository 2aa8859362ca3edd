"""The command ``pflbench check``: whether a method, dataset or partitioner keeps what its contract promises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pflbench.cli_parts import make_console
from pflbench.cli_plugins import open_registry

if TYPE_CHECKING:
    from rich.console import Console

    from pflbench.testing import Check
    from pflbench.testing.checks import Outcome

DONE, FAILED = 0, 1
_MARKS = {"holds": ("✓", "green"), "fails": ("✗", "bold red"), "not tried": ("-", "yellow")}


def check_command(
    target: Annotated[
        str, typer.Argument(help="A name; module:Class; my_method.py[:Class]; or an installed package, or its folder.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OWNER.NAME=VALUE", help="Check it with this setting: trait.by=eye."),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of a real dataset. Default: PFLBENCH_DATA, then the user data folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """Check a method, dataset or partitioner: trains on a toy federation, prints a checklist, takes under a minute."""
    from pflbench.asked import parsed_settings, settings_by_owner
    from pflbench.targets import targets

    options = settings_by_owner(parsed_settings(set_ or []))
    suites = [_suite(kind, cls, options, data_root) for kind, cls in targets(target)]
    open_registry()  # after the target, whose own error names what could not be loaded
    _refuse_unused(options)
    console = None if as_json else make_console()
    found = [_run(*suite, console) for suite in suites]
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    return DONE if all(one["passed"] for one in found) else FAILED


def _suite(
    kind: str, cls: Any, options: dict[str, dict[str, Any]], data_root: Path | None
) -> tuple[str, Any, Sequence[Check]]:
    """Return kind, class and checks; its settings are taken out of ``options``."""
    from pflbench.testing import dataset_checks, method_checks, partitioner_checks

    given = options.pop(cls.label(), {})
    if kind == "dataset":
        return kind, cls, dataset_checks(_dataset(cls, given, data_root), data_root)
    checks: Any = method_checks if kind == "method" else partitioner_checks
    return kind, cls, checks(cls.of(given) if given else cls)


def _dataset(cls: Any, given: dict[str, Any], data_root: Path | None) -> Any:
    """Return a dataset's class, or where settings are given, the dataset with them. Raises UsageError."""
    from pflbench.errors import UsageError
    from pflbench.task import data_folders

    if data_root is not None and not data_root.exists():
        raise UsageError(f"{data_root} does not exist; give the folder of {cls.label()} with --data-root.")
    if not given:
        return cls
    found = (cls.find(folder, **given) for folder in data_folders(data_root))
    dataset = next((one for one in found if one is not None), None)
    if dataset is None:
        raise UsageError(f"no {cls.label()} data is here to try a setting with; give its folder with --data-root.")
    return dataset


def _refuse_unused(options: dict[str, dict[str, Any]]) -> None:
    from pflbench.errors import UsageError

    for owner, values in options.items():
        raise UsageError(f"{owner}.{next(iter(values))} is set, but {owner} is not what is checked.")


def _run(kind: str, cls: Any, checks: Sequence[Check], console: Console | None) -> dict[str, Any]:
    """Run checks, print each as it ends, and return them as plain values."""
    from pflbench.testing import outcomes

    if console is not None:
        console.print(f"[bold]{cls.label()}[/bold], a {kind}: {_place(cls)}", highlight=False, soft_wrap=True)
    found = []
    for outcome in outcomes(checks):
        found.append(outcome)
        if console is not None:
            _print(outcome, console)
    if console is not None:
        _print_sum(found, console)
    rows = [
        {
            "check": str(one.check),
            "sentence": one.check.sentence,
            "state": one.state,
            "text": one.text,
            "seconds": round(one.seconds, 2),
        }
        for one in found
    ]
    return {
        "name": cls.label(),
        "kind": kind,
        "class": _place(cls),
        "passed": all(one.state != "fails" for one in found),
        "checks": rows,
    }


def _place(cls: type) -> str:
    """Return module and class as one types them, or file and class for what was loaded from a file."""
    from pflbench.faults import shown_path
    from pflbench.plugin_files import loaded_from
    from pflbench.testing.checks import source_of

    home = shown_path(source_of(cls)) if loaded_from(cls.__module__) else cls.__module__
    return f"{home}:{cls.__qualname__}"


def _print(outcome: Outcome, console: Console) -> None:
    from rich.padding import Padding
    from rich.text import Text

    mark, style = _MARKS[outcome.state]
    console.print(Text.assemble((mark, style), " ", outcome.check.sentence), soft_wrap=True)
    if outcome.text:
        text = f"not tried: {outcome.text}" if outcome.state == "not tried" else outcome.text
        shown = Text(text, style="red" if outcome.state == "fails" else "dim")
        console.print(Padding(shown, (0, 0, 0, 4), expand=False))


def _print_sum(found: Sequence[Outcome], console: Console) -> None:
    states = [one.state for one in found]
    seconds = sum(one.seconds for one in found)
    parts = [f"{states.count(state)} {word}" for state, word in (("fails", "fail"), ("not tried", "not tried"))
             if state in states]  # fmt: skip
    more = f", {', '.join(parts)}" if parts else ""
    console.print(f"{states.count('holds')} of {len(states)} hold{more} ({seconds:.0f} s).", highlight=False)
