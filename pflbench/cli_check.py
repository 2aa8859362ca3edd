"""The command ``pflbench check``: whether a method, dataset or partitioner keeps what its contract promises."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pflbench.plugins import Registry
    from pflbench.testing import Check
    from pflbench.testing.checks import Outcome

DONE, FAILED = 0, 1
_WIDE = 200  # columns of a file or a pipe, which have no width of their own
_FROM_FILE = "_pflbench_file_"  # how the names of modules begin that are plugin files
_MARKS = {"holds": ("✓", "green"), "fails": ("✗", "bold red"), "not tried": ("-", "yellow")}

Target = tuple[str, Any]  # kind and class


def check_command(
    target: Annotated[str, typer.Argument(help="A name, as fedavg; or module:Class; or my_method.py[:Class].")],
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
    """Check a method, dataset or partitioner: trains on a toy federation, prints a checklist, takes seconds."""
    from pflbench.plan import parsed_settings, settings_by_owner

    options = settings_by_owner(parsed_settings(set_ or []))
    suites = [_suite(kind, cls, options, data_root) for kind, cls in targets(target)]
    _refuse_unused(options)
    console = None if as_json else _console()
    found = [_run(*suite, console) for suite in suites]
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    return DONE if all(one["passed"] for one in found) else FAILED


def targets(text: str) -> list[Target]:
    """Return what a target names: one class, or all of a file. Raises UsageError."""
    path, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if path.endswith(".py"):
        return _of_file(path, name)
    return [_of_module(path, name)] if name else _registered(text)


def _of_file(path: str, name: str) -> list[Target]:
    from pflbench.errors import unknown
    from pflbench.plugins import FILE, from_file

    found = [
        (kind, cls)
        for kind, entries in from_file(path).found.items()
        for cls, plugin in entries.values()
        if plugin.distribution == FILE and (not name or cls.__name__ == name)
    ]
    if not found:
        raise unknown(f"class of {path}", name, [cls.__name__ for _, cls in _of_file(path, "")])
    return found


def _of_module(module: str, name: str) -> Target:
    import importlib
    import inspect
    import sys

    from pflbench.errors import UsageError, unknown
    from pflbench.faults import described
    from pflbench.plugins import KINDS

    sys.path.insert(0, "")  # the working folder, as with python -m
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise UsageError(f"{module} cannot be imported: {described(error)}") from error
    classes = {key: cls for key, cls in vars(found).items() if inspect.isclass(cls) and issubclass(cls, _kinds())}
    if name not in classes:
        raise unknown(f"method, dataset or partitioner in {module}", name, classes)
    return next((kind, classes[name]) for kind, contract in KINDS.items() if issubclass(classes[name], contract))


def _kinds() -> tuple[type, ...]:
    from pflbench.plugins import KINDS

    return tuple(KINDS.values())


def _registered(name: str) -> list[Target]:
    from pflbench.errors import UsageError, unknown
    from pflbench.plugins import KINDS, registry

    installed = registry()
    found = [target for kind in KINDS for target in _named(kind, name, installed)]
    if not found:
        names = [known for kind in KINDS for known in installed.names(kind)]
        what = unknown("method, dataset or partitioner", name, names)
        also = " ".join(installed.problems) or "What is not installed is named module:Class or my_method.py."
        raise UsageError(f"{what} {also}")
    return found


def _named(kind: str, name: str, installed: Registry) -> Iterator[Target]:
    from pflbench.errors import UsageError

    try:
        yield kind, installed.get(kind, name)[0]
    except UsageError:
        return


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
    from pflbench.testing.checks import source_of

    from_file = cls.__module__.startswith(_FROM_FILE)
    return f"{shown_path(source_of(cls)) if from_file else cls.__module__}:{cls.__qualname__}"


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


def _console() -> Console:
    from rich.console import Console

    console = Console(stderr=False)
    return console if console.is_terminal else Console(width=_WIDE)
