"""The version of an installed plugin: code installed with --editable changes under it, so its content is added."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

_OWN = "pflbench"  # its built-in plugins: their commit is recorded beside every trial
_DIGITS = 8  # of the hash


def installed_version(point: EntryPoint) -> str:
    """Return the version of an entry point's distribution, with a hash of its code where that can be edited.

    A finished trial is never run again; so a changed line must make another trial of it, or old numbers stay.
    """
    if point.dist is None:
        return "?"
    if point.dist.name == _OWN or not _editable(point.dist):
        return point.dist.version
    return f"{point.dist.version}+{_digest(_sources(point.module))}"


def _editable(distribution: Distribution) -> bool:
    text = distribution.read_text("direct_url.json")
    return bool(text and json.loads(text).get("dir_info", {}).get("editable"))


def _sources(module: str) -> list[Path]:
    """Return the files of the package or module that an entry point lies in; nothing is imported."""
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    return sorted(file for folder in folders for file in folder.rglob("*.py")) or [Path(str(spec.origin))]


def _digest(files: list[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"")
    return found.hexdigest()[:_DIGITS]
