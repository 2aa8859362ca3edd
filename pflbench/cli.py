"""The command line: it calls, and never computes."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pflbench.cli_check import check_command
from pflbench.cli_data import data
from pflbench.cli_new import new_command
from pflbench.cli_parts import PluginFiles, make_console
from pflbench.cli_plugins import open_registry
from pflbench.cli_report import compare_command, report_command
from pflbench.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from pflbench.plan import Plan, Request
    from pflbench.results import Trial

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="pflbench",
    help="Compare personalized federated learning methods for medical image segmentation, honestly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(call(sys.argv[1:] if arguments is None else list(arguments)))


def call(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code: 0 done, 1 a trial failed, 2 bad usage, 130 interrupted."""
    try:
        code = int(app(list(arguments), standalone_mode=False, prog_name="pflbench") or DONE)
        return _interrupted(arguments) if code == INTERRUPTED else code  # some versions of typer return it
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except Exception as error:
        return _explained(error, arguments)


def _explained(error: Exception, arguments: Sequence[str]) -> int:
    """Print the sentence of an error that a user can mend and return its code; others are raised."""
    from pflbench.errors import UsageError
    from pflbench.results import ResultsError

    # typer may bring its own copy of click: its errors are known by what they can do
    if hasattr(error, "format_message"):
        error.show()  # type: ignore[attr-defined]
        return USAGE
    if type(error).__name__ == "Abort":
        return _interrupted(arguments)
    if isinstance(error, (UsageError, ResultsError)):
        print(f"pflbench: {error}", file=sys.stderr)
        return USAGE
    raise error


def _interrupted(arguments: Sequence[str]) -> int:
    command = shlex.join(["pflbench", *arguments])
    print(f"\nInterrupted. Nothing is lost but the last seconds; go on with:\n  {command}", file=sys.stderr)
    return INTERRUPTED


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pflbench {__version__}")
        raise typer.Exit


app.add_typer(data, name="data")


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compare personalized federated learning methods for medical image segmentation, honestly."""


@app.command()
def run(
    methods: Annotated[str, typer.Option(help="Methods by name, comma-separated; or all, or paper.")] = "all",
    dataset: Annotated[str, typer.Option(help="Dataset by name; see `pflbench list datasets`.")] = "vessel",
    seeds: Annotated[str, typer.Option(help="Number of seeds, as 3, or a list of them, as 0,4,7.")] = "3",
    partitioner: Annotated[str, typer.Option(help="Who holds which case; natural: one client per site.")] = "natural",
    split: Annotated[
        Path | None, typer.Option(help="A split file of `pflbench data show`, instead of a partitioner.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Recipe: paper or quick. Default: paper for real data, quick for simulated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OWNER.NAME=VALUE", help="A setting: recipe.rounds=20, resfim.delta=0.2."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="OWNER.NAME=V1,V2", help="Run once for each value: resfim.delta=0,0.05,0.1."),
    ] = None,
    sites: Annotated[str | None, typer.Option(help="Restrict the federation to these sites, comma-separated.")] = None,
    public: Annotated[
        str | None,
        typer.Option(help="Sites that are no client: the server has their images, without masks (for feddf)."),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the real data. Default: PFLBENCH_DATA, then the user data folder."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes. Default: one per core on a CPU, one on a GPU.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results, one folder in it per trial.")] = Path("runs"),
    metrics: Annotated[
        str,
        typer.Option(help="Besides Dice: iou, sensitivity, precision, hd95, assd, cldice, comma-separated; or all."),
    ] = "dice",
    pictures: Annotated[
        bool, typer.Option(help="Keep test images beside the results (out/pictures), for the report to show.")
    ] = True,
    plugin: PluginFiles = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop where an installed plugin cannot be loaded, instead of warning.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="List the trials and the estimated time; train nothing.")
    ] = False,
) -> int:
    """Run methods x seeds on a dataset. Finished trials are kept, interrupted ones go on."""
    from pflbench.asked import parse_seeds, parsed_settings
    from pflbench.matrix import default_jobs, pending
    from pflbench.plan import Request, make_plan
    from pflbench.scoring import chosen
    from pflbench.terminal import print_plan

    console = make_console()
    registry = open_registry(plugin, strict)
    request = Request(
        methods=tuple(_listed(methods)),
        dataset=dataset,
        seeds=parse_seeds(seeds),
        partitioner=partitioner,
        split=split,
        preset=preset,
        settings=parsed_settings(set_ or []),
        sweep=_sweeps(sweep or []),
        sites=tuple(_listed(sites)) if sites else None,
        public=tuple(_listed(public)) if public else None,
        data_root=data_root,
        device=device,
        out=out,
        pictures=pictures,
    )
    more = chosen(metrics)
    made = make_plan(_with_command(request, preset, plugin or []), registry)
    _announce(made, console)
    todo = pending(made)
    processes = jobs or default_jobs(made)
    if plan:
        print_plan(made, todo, processes, console)
        return DONE
    return _run(made, len(todo), processes, more, console)


def _run(made: Plan, todo: int, jobs: int, metrics: Sequence[str], console: Console) -> int:
    from pflbench.matrix import run_plan
    from pflbench.measuring import measure
    from pflbench.progress import Display
    from pflbench.results import scores
    from pflbench.terminal import print_summary

    console.print(f"{_work(len(made.trials), todo, jobs)}; results in {made.out}/", markup=False)
    with Display(len(made.trials), console) as display:
        trials = run_plan(made, jobs, display)
    failed = [trial for trial in trials if trial.state == "failed"]
    _print_failed(failed, made.out, console)
    for sentence in measure(trials, metrics):
        console.print(sentence, markup=False, style="yellow", soft_wrap=True)
    print_summary(scores(trials), console)
    console.print(f"Report: pflbench report {made.out} --out report", markup=False)
    return FAILED if failed else DONE


def _work(trials: int, todo: int, jobs: int) -> str:
    """Say how much there is to do: 6 trials in 2 processes; 2 of 6 trials, the others being finished, in 1 process."""
    if not todo:
        return f"{_count(trials, 'trial')}, all finished before and kept"
    share = _count(trials, "trial") if todo == trials else f"{todo} of {trials} trials, the others being finished,"
    return f"{share} in {jobs} process{'es' if jobs > 1 else ''}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _print_failed(failed: Sequence[Trial], out: Path, console: Console) -> None:
    """Name what failed; each reason was printed when it happened, and is kept."""
    if failed:
        names = ", ".join(trial.id for trial in failed)
        where = f"The whole traceback is in {out / failed[0].id / 'trial.json'}; the same command tries again."
        sentence = f"{_count(len(failed), 'trial')} FAILED, for the reasons above: {names}. {where}"
        console.print(sentence, markup=False, style="red", soft_wrap=True)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _sweeps(texts: Sequence[str]) -> dict[str, list[Any]]:
    from pflbench.asked import parse_value, setting

    return {key: [parse_value(part) for part in value.split(",") if part.strip()] for key, value in map(setting, texts)}


def _with_command(request: Request, preset: str | None, plugins: Sequence[Path]) -> Request:
    """Add the command that gives these numbers again, without what says where things lie here."""
    import dataclasses

    parts = [
        "pflbench",
        "run",
        "--methods",
        ",".join(str(m) for m in request.methods),
        "--dataset",
        request.dataset,
    ]
    parts += ["--seeds", ",".join(map(str, request.seeds)) + ("," if len(request.seeds) == 1 else "")]
    parts += ["--partitioner", request.partitioner] if request.partitioner != "natural" else []
    parts += ["--split", str(request.split)] if request.split else []
    parts += ["--preset", preset] if preset else []
    parts += ["--device", request.device] if request.device != "auto" else []
    parts += ["--sites", ",".join(request.sites)] if request.sites else []
    parts += ["--public", ",".join(request.public)] if request.public else []
    for path in plugins:
        parts += ["--plugin", str(path)]
    for key, value in request.settings.items():
        parts += ["--set", f"{key}={value}"]
    for key, values in request.sweep.items():
        parts += ["--sweep", f"{key}={','.join(map(str, values))}"]
    return dataclasses.replace(request, command=shlex.join(parts))


def _announce(made: Plan, console: Console) -> None:
    if made.banner:
        console.print(made.banner, style="bold white on red", markup=False)
    dataset = made.source.dataset
    where = f" from {dataset.root}" if dataset.root and not dataset.simulated else ""
    console.print(f"{dataset.title}{where}: {', '.join(made.source.holdings)}", markup=False)
    for sentence in made.skipped:
        console.print(sentence, markup=False, style="yellow")
    if len(made.source.holdings) == 1:
        console.print(
            "One client alone: there is nobody to learn with, and all methods are alike. A partitioner makes several.",
            markup=False,
            style="yellow",
        )


app.command(name="new")(new_command)
app.command(name="check")(check_command)
app.command(name="report")(report_command)
app.command(name="compare")(compare_command)


@app.command(name="list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, datasets, partitioners or plugins.")],
    plugin: PluginFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:
    """List what is installed, and what plugin files provide."""
    from pflbench.listing import listing
    from pflbench.terminal import print_rows

    rows = listing(what, open_registry(plugin))
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return DONE
    print_rows(rows, make_console())
    return DONE
