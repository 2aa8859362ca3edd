"""pflbench: personalized federated learning for medical image segmentation, compared honestly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pflbench.version import __version__

if TYPE_CHECKING:
    from pflbench.door import run

__all__ = ["__version__", "run"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that ``pflbench --help`` stays quick."""
    if name == "run":
        from pflbench.door import run

        return run
    raise AttributeError(f"module 'pflbench' has no attribute {name!r}")
