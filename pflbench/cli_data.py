"""The command line of data: ``pflbench data list | status | download | import | verify | show``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pflbench.cli_parts import PluginFiles, make_console
from pflbench.cli_plugins import open_registry

if TYPE_CHECKING:
    from pflbench.dataset import Dataset

DONE, FAILED = 0, 1

data = typer.Typer(help="Real data: what there is, where to get it, bringing it in, looking at it.")

Name = Annotated[str, typer.Argument(help="Dataset by name; see `pflbench data list`.")]
Sites = Annotated[str | None, typer.Option(help="Only these sites, comma-separated.")]
DataRoot = Annotated[Path | None, typer.Option(help="Data folder. Default: PFLBENCH_DATA, then the user data folder.")]


@data.command(name="list")
def list_() -> int:
    """List datasets with their sites, licences and where to get them."""
    from pflbench.terminal_data import print_dataset

    registry = open_registry()
    for name in registry.names("dataset"):
        print_dataset(registry.dataset(name), make_console())
    return DONE


@data.command()
def status(data_root: DataRoot = None) -> int:
    """Say which data is here, and whether its counts are the paper's."""
    from pflbench.terminal_data import print_status

    registry = open_registry()
    for name in registry.names("dataset"):
        cls = registry.dataset(name)
        if not cls.simulated:
            print_status(cls, data_root, make_console())
    return DONE


@data.command()
def download(
    name: Name,
    sites: Sites = None,
    data_root: DataRoot = None,
    keep_only: Annotated[bool, typer.Option("--no-import", help="Fetch only; import nothing.")] = False,
) -> int:
    """Fetch what its licence lets anyone fetch, import it, and say how to get the rest."""
    from pflbench.fetch import fetch
    from pflbench.pixels import cache_folder
    from pflbench.terminal_data import Bars, print_instructions

    cls, console = _release(name), make_console()
    chosen = _chosen(cls, sites)
    fetched = []
    for site in [site for site in chosen if site in cls.downloads]:
        with Bars(console) as bars:
            path = fetch(cls.downloads[site], cache_folder() / "downloads" / cls.name, bars.bytes(f"fetching {site}"))
        console.print(f"{site}: {path}", markup=False, soft_wrap=True)
        fetched.append(path)
    print_instructions(cls, [site for site in chosen if site not in cls.downloads], console)
    return _import(cls, fetched, chosen, data_root) if fetched and not keep_only else DONE


@data.command(name="import")
def import_(
    name: Name,
    from_: Annotated[
        list[Path], typer.Option("--from", help="A release as downloaded: folder, zip or tar; repeat for more.")
    ],
    sites: Sites = None,
    data_root: DataRoot = None,
) -> int:
    """Bring releases into the data folder, in one move: recognise, check every file, copy."""
    cls = _release(name)
    return _import(cls, from_, _listed(sites), data_root)


@data.command()
def verify(name: Name, data_root: DataRoot = None) -> int:
    """Hash every imported file again (of other data: read every case)."""
    from pflbench.errors import UsageError
    from pflbench.inventory import find_all
    from pflbench.inventory import verify as verified
    from pflbench.terminal_data import Bars

    cls, console = _dataset(name), make_console()
    dataset = find_all(cls, data_root)
    if dataset is None:
        raise UsageError(f"there is no {name} data to verify; see 'pflbench data status'.")
    with Bars(console) as bars:
        found = verified(dataset, bars.count("checking"))
    for problem in found.problems:
        console.print(problem, markup=False, style="red", soft_wrap=True)
    known = f", {found.known} of them byte for byte a published original" if cls.known_hashes() else ""
    console.print(
        f"{found.files} checked in {dataset.root}, {len(found.problems)} wrong{known}.", markup=False, soft_wrap=True
    )
    return FAILED if found.problems else DONE


@data.command()
def show(
    name: Name,
    partitioner: Annotated[str, typer.Option(help="Who holds which case.")] = "natural",
    split: Annotated[Path | None, typer.Option(help="A split file, instead of a partitioner.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="OWNER.NAME=VALUE", help="As for `pflbench run`.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Recipe, which decides the size and the shares.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split into training and validation.")] = 0,
    sites: Sites = None,
    data_root: DataRoot = None,
    plugin: PluginFiles = None,
    out: Annotated[Path | None, typer.Option(help="Folder of picture, tables and split file.")] = None,
) -> int:
    """Print who holds what, draw how clients differ, and write the split to a file that `run --split` takes."""
    from pflbench.asked import parsed_settings
    from pflbench.plan import Request
    from pflbench.survey import survey
    from pflbench.terminal_data import Bars, print_survey

    console = make_console()
    request = Request(
        dataset=name,
        partitioner=partitioner,
        split=split,
        seeds=(seed,),
        preset=preset,
        settings=parsed_settings(set_ or []),
        sites=_listed(sites) or None,
        data_root=data_root,
    )
    found = survey(request, open_registry(plugin))
    print_survey(found, console)
    folder = out or Path(f"data-{found.source.dataset.name}")
    with Bars(console) as bars:
        portrait = found.portrait(bars.count("preparing images"))
    folder.mkdir(parents=True, exist_ok=True)
    found.write_split(folder / "split.json")
    for written in [*_overview()(portrait, folder), folder / "split.json"]:
        console.print(str(written), markup=False, soft_wrap=True)
    console.print(str(portrait["verdict"]), markup=False)
    return DONE


def _overview() -> Callable[[Mapping[str, Any], Path], list[Path]]:
    from importlib.metadata import entry_points

    from pflbench.errors import UsageError

    points = list(entry_points(group="pflbench.report", name="overview"))
    if not points:
        raise UsageError("no overview is installed (entry point group pflbench.report); install pflbench anew.")
    draw: Callable[[Mapping[str, Any], Path], list[Path]] = points[0].load()
    return draw


def _import(cls: type[Dataset], sources: list[Path], sites: tuple[str, ...], data_root: Path | None) -> int:
    from pflbench.importing import import_release
    from pflbench.inventory import owned_root
    from pflbench.terminal_data import Bars, print_imported

    console = make_console()
    with Bars(console) as bars:
        imported = import_release(cls, sources, owned_root(data_root), sites, bars.stages)
    print_imported(cls, imported, console)
    return DONE


def _dataset(name: str) -> type[Dataset]:
    from pflbench.errors import UsageError
    from pflbench.plugins import registry

    cls = registry().dataset(name)
    if cls.simulated:
        raise UsageError(f"{cls.name} is simulated: there is nothing to fetch, import or verify.")
    return cls


def _release(name: str) -> type[Dataset]:
    """Return a dataset that is imported from releases."""
    from pflbench.errors import UsageError

    cls = _dataset(name)
    if not cls.sites:
        raise UsageError(
            f"{cls.name} is data of your own, read where it lies: pflbench run --dataset {cls.name} --data-root FOLDER."
        )
    return cls


def _chosen(cls: type[Dataset], sites: str | None) -> tuple[str, ...]:
    from pflbench.errors import unknown

    folded = {site.lower(): site for site in cls.sites}
    for site in _listed(sites):
        if site.lower() not in folded:
            raise unknown(f"site of {cls.name}", site, cls.sites)
    return tuple(folded[site.lower()] for site in _listed(sites)) or cls.sites


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
