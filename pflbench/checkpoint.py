"""Saving a trial between two rounds and finding it again."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pflbench.errors import TrialFailed
from pflbench.message import decode, encode
from pflbench.results import write_atomically

_NAME = re.compile(r"round-(\d+)\.pfl")
_MAGIC = b"pflbench checkpoint 1\n\0\0"  # 24 bytes, so that what follows stays aligned


def save(folder: Path, round: int, kept: Mapping[str, Any]) -> None:
    """Write the checkpoint of a round under a temporary name, rename it, then remove older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"round-{round:05d}.pfl", _MAGIC + encode(kept))
    for old, path in _found(folder):
        if old != round:
            path.unlink(missing_ok=True)


def load(folder: Path) -> dict[str, Any] | None:
    """Return what the newest checkpoint kept, or None. Raises TrialFailed where it is not a checkpoint."""
    found = _found(folder)
    if not found:
        return None
    path = found[-1][1]
    content = bytearray(path.read_bytes())
    if content[: len(_MAGIC)] != _MAGIC:
        raise TrialFailed(f"{path} is not a checkpoint of this version; remove it to begin this trial again.")
    return decode(memoryview(content)[len(_MAGIC) :])


def _found(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = [(_NAME.fullmatch(entry), entry) for entry in os.listdir(folder)]
    return sorted((int(match[1]), folder / entry) for match, entry in matches if match)
