"""What commands say of plugins: those that cannot be loaded are named, or refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pflbench.plugins import Registry


def open_registry(files: list[Path] | None = None, strict: bool = False) -> Registry:
    """Return what is installed and what the files provide; name what could not be loaded, or refuse it."""
    from pflbench.errors import UsageError
    from pflbench.plugins import with_files

    found = with_files(files or [])
    if strict and found.problems:
        raise UsageError(f"{' '.join(found.problems)} Mend it or uninstall it, or leave out --strict.")
    for problem in found.problems:
        print(f"Warning: {problem}", file=sys.stderr)
    return found
