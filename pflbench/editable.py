"""The version of code that can be edited: of what was installed from a folder, and of a script's or notebook's classes.

A finished trial is never run again; so a changed line must make another trial of it, or old numbers stay.
"""

from __future__ import annotations

import json
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

from pflbench.fingerprint import fingerprint
from pflbench.sources import digest, sources

_OWN = "pflbench"  # its built-in plugins: their commit is recorded beside every trial


def installed_version(point: EntryPoint) -> str:
    """Return the version of an entry point's distribution, with a hash of its code where the number need not change.

    That is where it was installed from a folder or a repository: of an editable one the entry point's package or
    module counts, data files of a package too, and what these import that can be edited; else all that was installed.
    A release from an index, or a wheel, has its number alone.
    """
    if point.dist is None:
        return "?"
    origin = _origin(point.dist)
    if point.dist.name == _OWN or not origin.keys() & {"dir_info", "vcs_info"}:
        return point.dist.version
    editable = origin.get("dir_info", {}).get("editable")
    return f"{point.dist.version}+{digest(sources(point.module) if editable else _recorded(point.dist))}"


def written_version(cls: type) -> str:
    """Return a hash of a class that no plugin provides, with all that its code uses of what is not installed.

    What a script does with it does not count: ``seeds=3`` made ``seeds=5`` keeps the first three.
    """
    return fingerprint(cls)


def _origin(distribution: Distribution) -> dict[str, Any]:
    """Return where a distribution was installed from; an index leaves no word."""
    found: dict[str, Any] = json.loads(distribution.read_text("direct_url.json") or "{}")
    return found


def _recorded(distribution: Distribution) -> dict[str, Path]:
    """Return the files that a distribution installed as modules, without what the installer adds."""
    return {
        file.as_posix(): Path(str(file.locate()))
        for file in distribution.files or []
        if file.suffix != ".pyc" and file.parts[0] != ".." and not file.parts[0].endswith(".dist-info")
    }
