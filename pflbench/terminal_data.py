"""What ``pflbench data`` prints: datasets, counts against the paper's, instructions, progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from pflbench.dataset import Dataset
from pflbench.errors import DataError
from pflbench.importing import Imported
from pflbench.inventory import count, decoded, find_all, missing_sites
from pflbench.store import Store
from pflbench.survey import Survey


class Bars:
    """A progress bar per thing that is being done; nothing where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def stages(self, what: str, done: int, total: int) -> None:
        """Show how far one of several stages is."""
        self._show(what, done, total, MofNCompleteColumn())

    def count(self, what: str) -> Callable[[int, int], None]:
        """Return a listener for things done out of a total."""
        return lambda done, total: self._show(what, done, total, MofNCompleteColumn())

    def bytes(self, what: str) -> Callable[[int, int | None], None]:
        """Return a listener for bytes done out of a total, which may not be known."""
        return lambda done, total: self._show(what, done, total, DownloadColumn())

    def _show(self, what: str, done: int, total: int | None, column: MofNCompleteColumn | DownloadColumn) -> None:
        if not self._console.is_terminal:
            return
        if self._progress is None:
            self._progress = Progress(TextColumn("{task.description}"), BarColumn(24), column, console=self._console)
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)


def print_dataset(cls: type[Dataset], console: Console) -> None:
    """Print a dataset with what is known of its sites."""
    console.print(f"[bold]{cls.name}[/bold]  {cls.title}" + ("  (simulated)" if cls.simulated else ""), highlight=False)
    if cls.simulated or not cls.sites:
        what = "drawn from a seed, needs no files" if cls.simulated else "your own folders or CSV, read where they lie"
        console.print(f"  {what}", markup=False)
        return
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("site", "paper", "licence", "how to get it"):
        table.add_column(heading, overflow="fold")
    for site in cls.sites:
        expected = "{}/{}".format(*cls.expected[site]) if site in cls.expected else ""
        if site in cls.expected_subjects:
            expected = f"{cls.expected_subjects[site]} subjects"
        how = f"pflbench data download {cls.name}" if site in cls.downloads else cls.addresses.get(site, "by hand")
        table.add_row(site, expected, cls.licence.get(site, "unknown"), how)
    console.print(table)


def print_status(cls: type[Dataset], data_root: Path | None, console: Console) -> None:
    """Print where a dataset lies, its counts against the paper's, and whether it is decoded."""
    console.print(f"[bold]{cls.name}[/bold]", highlight=False)
    try:
        dataset = find_all(cls, data_root)
    except DataError as error:  # the others are still to be told
        console.print(f"  {error}", style="red", markup=False, soft_wrap=True)
        return
    if dataset is None and not cls.sites:
        console.print("  data of your own: give its folder or CSV file with --data-root", markup=False)
        return
    if dataset is None:
        instead = f"; {cls.stand_in} is used instead" if cls.stand_in else ""
        console.print(f"  not here{instead}. See: pflbench data download {cls.name}", markup=False)
        return
    ready = "decoded" if decoded(dataset) else "not decoded yet: the first run does it"
    console.print(f"  in {dataset.root}, {ready}", markup=False, soft_wrap=True)
    print_counts(dataset, dataset.available(), console)


def print_counts(dataset: Dataset, sites: Sequence[str], console: Console) -> None:
    """Print each site's counts (train/test, or subjects) beside the paper's, and which sites are missing."""
    store = Store.open(dataset.root, dataset.name)
    table = Table(box=None, padding=(0, 2, 0, 2))
    for heading in ("site", "here", "paper", "", "read from"):
        table.add_column(heading, overflow="fold")
    for site in sites:
        found = count(dataset, site)
        mark = "[yellow]differs[/yellow]" if found.differs else ("same" if found.paper else "")
        release = store.sites[site].release if store and site in store.sites else "ready folders"
        table.add_row(site, found.here, found.paper, mark, release)
    console.print(table)
    missing = missing_sites(dataset)
    if missing:
        console.print(f"  missing of the paper's sites: {', '.join(missing)}", style="yellow", markup=False)


def print_imported(cls: type[Dataset], imported: Imported, console: Console) -> None:
    """Print what an import brought, with counts, remarks, licences and citations."""
    dataset = cls.find(imported.folder)
    if dataset is None:
        return
    console.print(f"Imported into {imported.folder}: {', '.join(imported.brought)}", markup=False, soft_wrap=True)
    if imported.kept:
        console.print(f"Here before and kept: {', '.join(imported.kept)}", markup=False)
    print_counts(dataset, dataset.available(), console)
    for sentence in (*imported.beside, *dataset.remarks()):
        console.print(f"Note: {sentence}", markup=False, style="yellow", soft_wrap=True)
    for site in imported.brought:
        licence, citation = cls.licence.get(site, "unknown"), cls.citation.get(site, "")
        console.print(f"{site}: licence: {licence}. Cite: {citation}", markup=False, soft_wrap=True)
    print_instructions(cls, missing_sites(dataset), console)


def print_instructions(cls: type[Dataset], sites: Sequence[str], console: Console) -> None:
    """Print what to do by hand for sites that cannot be fetched for the user."""
    for site in sites:
        what = cls.instructions.get(site) or f"get it from {cls.addresses.get(site, 'its authors')}, then import it."
        console.print(f"To get {site}: {what}", markup=False, soft_wrap=True)


def print_survey(found: Survey, console: Console) -> None:
    """Print the client x split table of a federation."""
    source = found.source
    if source.dataset.simulated:
        console.print(f"SIMULATED DATA ({source.dataset.name})", style="bold white on red", markup=False)
    settings = ", ".join(f"{name}={value}" for name, value in source.partitioner.settings().items())
    table = Table(title=f"{source.dataset.title}, {source.partitioner.title}" + (f" ({settings})" if settings else ""))
    for heading in ("client", "sites", "subjects", "train", "val", "test"):
        table.add_column(heading, justify="left" if heading in ("client", "sites") else "right", overflow="fold")
    for client, sites, *numbers in found.rows:
        table.add_row(client, sites, *map(str, numbers))
    console.print(table)
    if found.left_out:
        console.print(f"{found.left_out} cases are with no client.", markup=False)
    for remark in source.dataset.remarks():
        console.print(f"Note: {remark}", markup=False, soft_wrap=True)
