"""What a trial ran on: versions, hardware, commit."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pflbench import version
from pflbench.results import write_json

_PACKAGES = ("numpy", "pandas", "pluggy", "pydantic", "pillow", "scipy", "monai")


@functools.cache
def environment() -> dict[str, Any]:
    """Return versions and hardware; no time and no machine name, so that it is the same in every run here."""
    return {
        "pflbench": version.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": _commit(),
    }


def record(folder: Path) -> None:
    """Add this environment to ``environment.json``, unless the last one there is the same."""
    path = folder / "environment.json"
    known = json.loads(path.read_text()) if path.exists() else []
    if not known or known[-1] != environment():
        write_json(path, [*known, environment()])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the checkout pflbench is imported from, with "+changes" where it is modified."""
    here = Path(version.__file__).parents[1]
    if not (here / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}+changes" if changed else commit
