"""Reads known_files.tsv: which files of the vessel releases are known to be original, by their hashes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

DIGITS = 16  # of a sha256 that the table keeps: 64 bits, enough to tell some hundred files apart


def known() -> Mapping[str, frozenset[str]]:
    """Return site -> the first ``DIGITS`` hexadecimal digits of the sha256 of its original files.

    Files of the ICPRVessels repository are among them where it changed them; files that two releases share
    are listed once.
    """
    hashes: dict[str, set[str]] = {}
    table = resources.files(__package__).joinpath("known_files.tsv").read_text(encoding="ascii")
    for row in csv.DictReader(table.splitlines(), delimiter="\t"):
        hashes.setdefault(row["site"], set()).add(row["sha256"])
    return MappingProxyType({site: frozenset(found) for site, found in hashes.items()})
