"""What of a dataset is here: sites and counts against the paper's, and whether files are what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pflbench import pixels
from pflbench.dataset import Case, Dataset
from pflbench.errors import DataError, UsageError
from pflbench.recipe import Recipe
from pflbench.store import Store, StoredFile
from pflbench.task import data_folders

_PREFIX = 16  # digits by which known files are compared


@dataclass(frozen=True)
class SiteCount:
    """How much of a site is here, and how much the paper had."""

    site: str
    cases: int
    subjects: int
    train: int
    test: int
    unsplit: int  # cases that the recipe's shares divide
    paper: str  # "20/8", "12 subjects", or "" where the paper gives no number
    differs: bool

    @property
    def here(self) -> str:
        """The count in the paper's form."""
        if self.unsplit:
            return f"{self.subjects} subjects" + (f", {self.cases} images" if self.cases != self.subjects else "")
        return f"{self.train}/{self.test}"


def count(dataset: Dataset, site: str) -> SiteCount:
    """Count the cases of one site."""
    cases = dataset.cases(site)
    train = sum(case.split in ("train", "val") for case in cases)
    test = sum(case.split == "test" for case in cases)
    subjects = len({case.subject for case in cases})
    paper, differs = "", False
    if site in dataset.expected:
        paper, differs = "{}/{}".format(*dataset.expected[site]), (train, test) != dataset.expected[site]
    elif site in dataset.expected_subjects:
        paper = f"{dataset.expected_subjects[site]} subjects"
        differs = subjects != dataset.expected_subjects[site]
    return SiteCount(site, len(cases), subjects, train, test, len(cases) - train - test, paper, differs)


def missing_sites(dataset: Dataset) -> list[str]:
    """Return the sites of the paper's federation that are not here."""
    here = dataset.available()
    return [site for site in dataset.sites if site not in here and site not in dataset.optional_sites]


def find_all(cls: type[Dataset], data_root: Path | None) -> Dataset | None:
    """Return the dataset in the first data folder that has it, or None. Simulated datasets are always here."""
    for folder in data_folders(data_root):
        found = cls.find(folder)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class Verification:
    """What was checked, and one sentence for each thing that is not as it should be."""

    files: int
    known: int  # files that are byte for byte those of the release its authors published
    problems: tuple[str, ...]


def verify(dataset: Dataset, report: Callable[[int, int], None] = lambda done, total: None) -> Verification:
    """Hash every file of the store again; of other data, read every case."""
    store = Store.open(dataset.root, dataset.name)
    return _verify_cases(dataset, report) if store is None else _verify_store(store, type(dataset), report)


def _verify_store(store: Store, cls: type[Dataset], report: Callable[[int, int], None]) -> Verification:
    hashes = cls.known_hashes()
    files = [
        (site.site, file) for site in store.sites.values() for roles in site.files.values() for file in roles.values()
    ]
    problems: list[str] = []
    known = 0
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda pair: _problem(pair[1]), files)
        for number, ((site, file), problem) in enumerate(zip(files, found, strict=True), 1):
            problems += [problem] if problem else []
            known += file.sha256[:_PREFIX] in hashes.get(site, ()) and not problem
            report(number, len(files))
    return Verification(len(files), known, tuple(problems))


def _problem(file: StoredFile) -> str | None:
    digest = hashlib.sha256()
    try:
        with open(file.path, "rb") as opened:
            while chunk := opened.read(2**20):
                digest.update(chunk)
    except OSError as error:
        return f"{file.path} cannot be read ({error.strerror or error}); import its site again."
    if digest.hexdigest() != file.sha256:
        return f"{file.path} has changed since its import; import its site again."
    return None


def _verify_cases(dataset: Dataset, report: Callable[[int, int], None]) -> Verification:
    cases = [case for site in dataset.available() for case in dataset.cases(site)]
    problems: list[str] = []
    for number, case in enumerate(cases, 1):
        try:
            pixels.check(dataset, case)
        except DataError as error:
            problems.append(str(error))
        report(number, len(cases))
    return Verification(len(cases), 0, tuple(problems))


def decoded(dataset: Dataset) -> bool:
    """Say whether every case lies decoded in the cache, in the size of the dataset's own recipe."""
    recipe = Recipe.of(dataset.presets[dataset.default_preset])
    index: dict[str, Sequence[Case]] = {site: tuple(dataset.cases(site)) for site in dataset.available()}
    content = pixels.digests(dataset, [case for cases in index.values() for case in cases])
    return pixels.is_cached(dataset, index, content, recipe.image_height, recipe.image_width)


def owned_root(data_root: Path | None) -> Path:
    """Return the folder that imports go to: the given one, else PFLBENCH_DATA, else the user data folder."""
    folder = data_folders(data_root)[0]
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give one with --data-root or PFLBENCH_DATA.")
    return folder
