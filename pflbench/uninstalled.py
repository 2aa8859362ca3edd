"""A package that lies in a folder and is not installed: the sentence that says what to type."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pflbench.errors import UsageError
from pflbench.faults import described


def normal(distribution: str) -> str:
    """Return a distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def project(folder: Path) -> str | None:
    """Return the name that a folder's pyproject.toml gives, or None where there is none. Raises UsageError."""
    file = folder / "pyproject.toml"
    if not os.path.isfile(file):  # unlike Path.is_file, of any text that a name may be
        return None
    try:
        return str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file} cannot be read, or names no project: {described(error)}") from error


def not_installed(distribution: str, folder: Path) -> UsageError:
    """Return the error for a package that lies in a folder and is not installed."""
    command = f"pip install --editable {shlex.quote(str(folder))}"
    return UsageError(f"the package {distribution} is not installed here: {command}")


def lying_here(name: str, installed: Iterable[str]) -> UsageError | None:
    """Return the error for a name whose package, as ``pflbench new`` writes it, lies here and is not ``installed``."""
    distribution = normal(f"pflbench-{name}")
    if distribution in map(normal, installed):
        return None
    for folder in (Path(distribution), Path()):
        with suppress(UsageError):
            if normal(project(folder) or "") == distribution:
                return not_installed(distribution, folder)
    return None
