"""Imported data on disk: a folder per site under one index, which is replaced in one move."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pflbench.errors import DataError
from pflbench.release import Item
from pflbench.results import write_json

INDEX = "index.json"
FORMAT = 1


@dataclass(frozen=True)
class StoredFile:
    """One file of the store with what it was when it was imported."""

    path: Path
    sha256: str
    bytes: int
    modified: int  # nanoseconds; the hash is believed while size and time are unchanged
    name: str = ""  # in the release

    @property
    def unchanged(self) -> bool:
        """Say whether size and time are those of the import."""
        try:
            stat = self.path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.bytes, self.modified)


@dataclass(frozen=True)
class StoredSite:
    """One imported site: its items, whose ``files`` lie in the store, and what is known of each file."""

    site: str
    release: str
    folder: Path
    items: Mapping[str, Item]  # by id, in the order of the import
    files: Mapping[str, Mapping[str, StoredFile]]  # item id -> role -> file
    remarks: tuple[str, ...]

    def digest(self, item: str, role: str) -> str:
        """Return the hash of a file. Raises DataError where it is gone or no longer what was imported."""
        file = self.files[item][role]
        if not file.unchanged:
            raise DataError(
                f"{file.path} is not as it was imported; run 'pflbench data verify' to see what changed, and "
                "'pflbench data import' to mend it."
            )
        return file.sha256

    def at(self, folder: Path) -> StoredSite:
        """Return the same site in another folder."""
        files = {
            item: {
                role: replace(file, path=folder / file.path.relative_to(self.folder)) for role, file in roles.items()
            }
            for item, roles in self.files.items()
        }
        items = {name: replace(item, files=_paths(files[name])) for name, item in self.items.items()}
        return replace(self, folder=folder, items=items, files=files)


def _paths(files: Mapping[str, StoredFile]) -> dict[str, Path]:
    return {role: file.path for role, file in files.items()}


@dataclass(frozen=True)
class Store:
    """The imported sites of one dataset."""

    folder: Path
    dataset: str
    sites: Mapping[str, StoredSite]

    @classmethod
    def open(cls, folder: Path | None, dataset: str) -> Self | None:
        """Return the store in ``folder`` or in ``folder/<dataset>``, or None where there is none.

        Raises DataError where its index cannot be read.
        """
        for root in (folder, folder / dataset) if folder is not None else ():
            if (root / INDEX).is_file():
                found = _read(root)
                if found["dataset"] == dataset:
                    return cls(root, dataset, {site: _site(root, site, row) for site, row in found["sites"].items()})
        return None


def _read(root: Path) -> dict[str, Any]:
    try:
        content = json.loads((root / INDEX).read_text())
        if content["format"] != FORMAT:
            raise DataError(
                f"{root / INDEX} has format {content['format']!r}, this version reads {FORMAT}; import again."
            )
        return {"dataset": str(content["dataset"]), "sites": dict(content["sites"].items())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root / INDEX} cannot be read ({error!r}); import the dataset again.") from error


def _site(root: Path, site: str, row: Mapping[str, Any]) -> StoredSite:
    folder = root / row["folder"]
    items, files = {}, {}
    try:
        for entry in row["items"]:
            files[entry["id"]] = {role: _file(folder, file) for role, file in entry["files"].items()}
            items[entry["id"]] = Item(
                id=entry["id"],
                subject=entry["subject"],
                files=_paths(files[entry["id"]]),
                split=entry["split"],
                traits=entry["traits"],
                facts=entry["facts"],
            )
        return StoredSite(site, row["release"], folder, items, files, tuple(row["remarks"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{root / INDEX} is broken at {site} ({error!r}); import the dataset again.") from error


def _file(folder: Path, row: Mapping[str, Any]) -> StoredFile:
    return StoredFile(folder / row["path"], row["sha256"], row["bytes"], row["modified"], row["name"])


def write_index(root: Path, dataset: str, sites: Mapping[str, StoredSite]) -> None:
    """Replace the index of a store, in one move."""
    rows = {site: _site_row(stored) for site, stored in sites.items()}
    write_json(root / INDEX, {"format": FORMAT, "dataset": dataset, "sites": rows})


def _site_row(site: StoredSite) -> dict[str, Any]:
    return {
        "release": site.release,
        "folder": site.folder.name,
        "remarks": list(site.remarks),
        "items": [_item_row(site, item) for item in site.items.values()],
    }


def _item_row(site: StoredSite, item: Item) -> dict[str, Any]:
    files = {
        role: {
            "path": file.path.relative_to(site.folder).as_posix(),
            "name": file.name,
            "sha256": file.sha256,
            "bytes": file.bytes,
            "modified": file.modified,
        }
        for role, file in site.files[item.id].items()
    }
    plain = {"id": item.id, "subject": item.subject, "split": item.split}
    return {**plain, "traits": dict(item.traits), "facts": dict(item.facts), "files": files}
