"""Reading one's own data from a CSV file with the columns site, subject, split, image and mask."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pflbench.api import DataError
from pflbench_datasets.entries import SPLITS, Entry
from pflbench_datasets.readers import SUFFIXES
from pflbench_datasets.ready import suffix_of

COLUMNS = ("site", "subject", "split", "image", "mask")
OPTIONAL = ("id", "field")
_FILES = ("image", "mask", "field")
_SEPARATORS = ",;\t"  # spreadsheets of many countries write semicolons


def find_table(root: Path, alone: bool) -> Path | None:
    """Return the CSV file of a dataset: ``root`` itself, or the only one in it that has the columns.

    Where it stands ``alone``, without folders of sites, one that names only images or masks is returned too, so
    that reading it says what it lacks. Raises DataError where two have the columns.
    """
    if root.is_file():
        return root if root.suffix.lower() == ".csv" else None
    files = sorted(file for file in root.glob("*") if file.suffix.lower() == ".csv" and not file.name.startswith("."))
    columns = {file: _columns(file) for file in files}
    whole = [file for file in files if columns[file] >= set(COLUMNS)]
    if len(whole) > 1:
        raise DataError(f"{whole[0]} and {whole[1]} both list a dataset; give one of them with --data-root.")
    meant = [file for file in files if alone and columns[file] & {"image", "mask"}]
    return next(iter(whole + meant), None)


def read_table(file: Path) -> list[Entry]:
    """Return the entries of a CSV file, in its order; paths in it are relative to its folder, or absolute.

    Raises DataError naming the row: a column or a value is missing, a split is unknown, a file is not there.
    """
    header, *rows = _records(file)
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{file} lacks {_named(missing)}; its first row must name site, subject, split, image and mask."
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{file} has {_named(twice)} twice; keep one of the two.")
    numbered = [(number, row) for number, row in enumerate(rows, start=2) if any(row)]
    if not numbered:
        raise DataError(f"{file} has no row below its first; write one row per image.")
    return [_entry(file, number, header, row) for number, row in numbered]


def _columns(file: Path) -> set[str]:
    """Return the names in the first row of a table that may be of something else, and in any encoding."""
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        first = stream.readline().lower()
    return {name.strip().strip('"') for name in first.split(max(_SEPARATORS, key=first.count))}


def _records(file: Path) -> list[list[str]]:
    """Return the rows without the blanks around values; the first one, of names, in lower case."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
        first = text.split("\n", 1)[0].lower()
        separator = max(_SEPARATORS, key=first.count)
        rows = [
            [value.strip() for value in row]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no readable table ({error}); save it as CSV in UTF-8.") from error
    return [[name.lower() for name in rows[0]], *rows[1:]] if rows else [[]]


def _entry(file: Path, number: int, header: Sequence[str], row: Sequence[str]) -> Entry:
    place = f"row {number} of {file}"
    if len(row) > len(header) and any(row[len(header) :]):
        raise DataError(
            f"{place} has {len(row)} values for {len(header)} columns; put quotes around a value with commas."
        )
    values = {name: value for name, value in zip(header, row, strict=False) if name}
    for name in COLUMNS:
        if name != "split" and not values.get(name):
            raise DataError(f"{place} has no {name}; fill it in.")
    split = values.get("split", "").lower() or None
    if split not in (*SPLITS, None):
        raise DataError(f"{place} has the split {values['split']!r}; allowed are train, val, test and an empty one.")
    files = {name: _file(file, place, name, values[name]) for name in _FILES if values.get(name)}
    if files["image"] == files["mask"]:
        raise DataError(f"{place} has one file as image and mask, {files['mask']}; give the mask's.")
    return Entry(
        site=values["site"],
        id=values.get("id") or _default_id(values["subject"], files["image"]),
        subject=values["subject"],
        split=split,
        image=files["image"],
        mask=files["mask"],
        place=place,
        view=files.get("field"),
        traits=_traits(values),
    )


def _file(table: Path, place: str, column: str, written: str) -> Path:
    file = table.parent / written.replace("\\", "/")  # as a table from Windows has it
    if not file.is_file():
        raise DataError(f"{place} has the {column} {written}, but there is no file {file}; paths start at the table.")
    if suffix_of(file.name, SUFFIXES) is None:
        raise DataError(
            f"{place} has the {column} {written}, of an unknown kind; allowed are {', '.join(sorted(SUFFIXES))}."
        )
    return file


def _default_id(subject: str, image: Path) -> str:
    """Return a name for an image: patients often have files of the same names."""
    stem = image.name[: -len(suffix_of(image.name, SUFFIXES) or "")]
    return stem if stem == subject else f"{subject}/{stem}"


def _traits(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name not in (*COLUMNS, *OPTIONAL) and value}


def _named(columns: Sequence[str]) -> str:
    return f"the column{'s' if len(columns) > 1 else ''} {' and '.join(columns)}"
