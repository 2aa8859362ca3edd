"""From a release to the store: recognise, copy, read every case once, and commit in one move."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from pflbench import pixels
from pflbench.dataset import Dataset
from pflbench.errors import DataError, UsageError, unknown
from pflbench.recipe import Recipe
from pflbench.release import Found, Item
from pflbench.store import Store, StoredFile, StoredSite, write_index
from pflbench.unpack import open_files

Report = Callable[[str, int, int], None]  # what is being done, done, total

_PATIENCE = 2.0  # seconds to wait for another import of the same dataset
_CHUNK = 2**20
_POINTER = b"version https://git-lfs"
_STAGING, _SITE = ".incoming-", "site-"  # how folders in a store begin


@dataclass(frozen=True)
class Imported:
    """What an import did: the sites it brought, and those that were there before and stay."""

    folder: Path
    brought: tuple[str, ...]
    kept: tuple[str, ...]
    beside: tuple[str, ...]  # sentences about what was found and not imported


def import_release(
    cls: type[Dataset],
    sources: Sequence[Path],
    root: Path,
    sites: Sequence[str] | None = None,
    report: Report = lambda what, done, total: None,
) -> Imported:
    """Bring the sites found in ``sources`` (folders or archives) into ``root/<dataset>``.

    A site that is there already is replaced. Whatever goes wrong, at whatever moment, the store is what it was
    before. Raises UsageError or DataError: nothing recognised, a site in two sources, a file that cannot be read.
    """
    folder = root / cls.name
    folder.mkdir(parents=True, exist_ok=True)
    origins: dict[str, str] = {}  # where a file lies for the moment -> where the user knows it
    with _alone(folder), _staging(folder) as staging, _named_as_given(origins):
        origins[f"{staging / 'opened'}{os.sep}"] = ""  # unpacked: the path in the archive is left
        found, beside = _found(cls, sources, staging / "opened", sites, report)
        new = {
            site: _staged(staging / f"site-{number}", one, report) for number, (site, one) in enumerate(found.items())
        }
        origins |= {str(new[site].files[i][r].path): str(f) for site, i, r, f in _files(found)}
        decoded = _read_everything(cls, staging, new, report)
        before = Store.open(folder, cls.name)
        old = {} if before is None else dict(before.sites)
        _commit(cls, folder, old, new)
        pixels.adopt(decoded)
        return Imported(folder, tuple(new), tuple(site for site in old if site not in new), beside)


@contextmanager
def _named_as_given(origins: Mapping[str, str]) -> Iterator[None]:
    """Name files in errors as the user knows them: where they lie for the moment is gone when the error is read."""
    try:
        yield
    except DataError as error:
        sentence = str(error)
        for path in sorted(origins, key=len, reverse=True):
            sentence = sentence.replace(path, origins[path])
        raise DataError(re.sub(r"\bopened-\w+/", "", sentence)) from error


def _files(found: Mapping[str, Found]) -> Iterator[tuple[str, str, str, Path]]:
    """Yield site, item, role and file of everything found."""
    for site, one in found.items():
        for item in one.items:
            for role, file in item.files.items():
                yield site, item.id, role, file


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / ".lock", timeout=_PATIENCE):
            yield
    except Timeout:
        raise UsageError(f"another import into {folder} is going on; wait until it is done.") from None


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Give a folder for everything that is not committed yet; those of killed imports are removed."""
    for left_over in folder.glob(f"{_STAGING}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    staging = folder / f"{_STAGING}{uuid.uuid4().hex[:8]}"
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# what is there


def _found(
    cls: type[Dataset], sources: Sequence[Path], opened: Path, sites: Sequence[str] | None, report: Report
) -> tuple[dict[str, Found], tuple[str, ...]]:
    """Return the sites to import, and sentences about sources in which nothing was recognised."""
    found: dict[str, tuple[Found, Path]] = {}
    empty: list[str] = []
    for number, source in enumerate(sources):
        report("opening", number, len(sources))
        recognised = cls.recognise(open_files(source, opened))
        if not recognised:
            empty.append(f"{source} holds nothing of {cls.name}.")
        for one in _wanted(cls, recognised, sites):
            found[one.site] = _joined(*found[one.site], one, source) if one.site in found else one, source
    report("opening", len(sources), len(sources))
    if not found:
        raise UsageError(_nothing(cls, sources, sites))
    return {site: one for site, (one, _) in found.items()}, tuple(empty)


def _joined(first: Found, where: Path, second: Found, source: Path) -> Found:
    """Return one site out of two parts of one release (a zip for training, one for testing)."""
    common = {item.id for item in first.items} & {item.id for item in second.items}
    if first.release != second.release or common:
        raise UsageError(f"{first.site} is in {where} and in {source}; give one of them, or choose sites with --sites.")
    remarks = dict.fromkeys((*first.remarks, *second.remarks))
    return replace(first, items=(*first.items, *second.items), remarks=tuple(remarks))


def _wanted(cls: type[Dataset], recognised: Sequence[Found], sites: Sequence[str] | None) -> list[Found]:
    if not sites:
        return list(recognised)
    folded = {site.lower(): site for site in cls.sites}
    for site in sites:
        if site.lower() not in folded:
            raise unknown(f"site of {cls.name}", site, cls.sites)
    chosen = {folded[site.lower()] for site in sites}
    return [one for one in recognised if one.site in chosen]


def _nothing(cls: type[Dataset], sources: Sequence[Path], sites: Sequence[str] | None) -> str:
    where = ", ".join(str(source) for source in sources)
    what = f"the sites {', '.join(sites)} of {cls.name}" if sites else cls.name
    return (
        f"nothing of {what} was recognised in {where}; give the release as it was downloaded (archive or folder), "
        f"see 'pflbench data download {cls.name}' for where to get it."
    )


# copying


def _staged(folder: Path, found: Found, report: Report) -> StoredSite:
    """Copy a site's files into a folder and return it as it will be stored."""
    _check(found)
    wanted = [(item.id, role, file) for item in found.items for role, file in item.files.items()]
    for role in {role for _, role, _ in wanted}:
        (folder / role).mkdir(parents=True)
    files: dict[str, dict[str, StoredFile]] = {item.id: {} for item in found.items}

    def copy(one: tuple[str, str, Path]) -> StoredFile:
        item, role, file = one
        return _copied(file, folder / role / f"{item}{_suffix(file.name)}")

    with ThreadPoolExecutor() as pool:
        for number, ((item, role, _), stored) in enumerate(zip(wanted, pool.map(copy, wanted), strict=True), 1):
            files[item][role] = stored
            report(f"copying {found.site}", number, len(wanted))
    items = {
        item.id: replace(item, files={role: file.path for role, file in files[item.id].items()}) for item in found.items
    }
    return StoredSite(found.site, found.release, folder, items, files, found.remarks)


def _copied(source: Path, target: Path) -> StoredFile:
    """Copy a file and return what it is. Raises DataError for a git-lfs pointer, an empty or unreadable file."""
    digest, size = hashlib.sha256(), 0
    try:
        with open(source, "rb") as reading, open(target, "xb") as writing:
            while chunk := reading.read(_CHUNK):
                if not size and chunk.startswith(_POINTER):
                    raise DataError(
                        f"{source} is a git-lfs pointer, not the file itself; run 'git lfs pull' where it was cloned."
                    )
                digest.update(chunk)
                writing.write(chunk)
                size += len(chunk)
    except OSError as error:
        raise DataError(
            f"{source} cannot be copied to {target.parent} ({error.strerror or error}); check permissions and space."
        ) from error
    if not size:
        raise DataError(f"{source} is empty; get the file again.")
    return StoredFile(target, digest.hexdigest(), size, target.stat().st_mtime_ns, source.name)


def _suffix(name: str) -> str:
    """Return a file's suffix in small letters, ``.nii.gz`` as one."""
    found = re.search(r"(\.nii\.gz|\.[^.]+)$", name.lower())
    return found[1] if found else ""


def _check(found: Found) -> None:
    seen: dict[str, Item] = {}
    for item in found.items:
        if not re.fullmatch(r"[\w][\w.() -]*", item.id):
            raise DataError(f"{found.site} has a case called {item.id!r}; letters, digits, . - _ ( ) are allowed.")
        if item.id in seen:
            one, other = (next(iter(i.files.values())) for i in (seen[item.id], item))
            raise DataError(f"{one} and {other} are both case {item.id} of {found.site}; keep one of the two.")
        seen[item.id] = item
    if not found.items:
        raise DataError(f"{found.site} ({found.release}) has no image with a mask: {' '.join(found.remarks)}")


# reading and committing


def _read_everything(cls: type[Dataset], staging: Path, new: Mapping[str, StoredSite], report: Report) -> Path:
    """Read every case as a run will, so that what is broken is named now; return the folder of decoded pixels."""
    write_index(staging, cls.name, new)
    dataset = cls.find(staging)
    if dataset is None:
        raise DataError(f"{cls.name} does not recognise what it has imported; its plugin is broken.")
    index = {site: tuple(dataset.cases(site)) for site in new}
    for site, cases in index.items():
        if not cases:
            raise DataError(f"{site} ({new[site].release}) has no case that can be used.")
    content = pixels.digests(dataset, [case for cases in index.values() for case in cases])
    recipe = Recipe.of(cls.presets[cls.default_preset])
    into = staging / "pixels"
    size = recipe.image_height, recipe.image_width
    pixels.open_cache(dataset, index, content, *size, lambda done, total: report("reading", done, total), into)
    return into


def _commit(cls: type[Dataset], folder: Path, old: Mapping[str, StoredSite], new: Mapping[str, StoredSite]) -> None:
    """Put the new sites beside the old ones and replace the index: the one move that counts."""
    placed = {}
    for site, staged in new.items():
        final = folder / f"{_SITE}{re.sub(r'[^A-Za-z0-9-]', '-', site)}-{uuid.uuid4().hex[:8]}"
        os.replace(staged.folder, final)
        placed[site] = staged.at(final)
    everything = {**old, **placed}
    order = [site for site in cls.sites if site in everything]
    order += [site for site in everything if site not in order]
    write_index(folder, cls.name, {site: everything[site] for site in order})
    used = {stored.folder.name for stored in everything.values()}
    for left_over in folder.glob(f"{_SITE}*"):
        if left_over.name not in used:
            shutil.rmtree(left_over, ignore_errors=True)
