"""Where a plugin's dataset comes from, noted on its class: its code decides the pixels, so results are known by it."""

from __future__ import annotations

_NOTE = "_pflbench_origin"  # of a class


def note_origin(cls: type, distribution: str, version: str) -> None:
    """Note on a class which distribution, in which version, provides it."""
    setattr(cls, _NOTE, {"distribution": distribution, "version": version})


def origin_of(cls: type) -> dict[str, str]:
    """Return distribution and version of the plugin that a class comes from; nothing for pflbench's own.

    A class that no plugin provides has those of what it is built on.
    """
    return dict(getattr(cls, _NOTE, {}))
