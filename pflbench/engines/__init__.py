"""How steps are executed: in this process, or in worker processes. Same results, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pflbench.message import Message
from pflbench.steps import Reply, Stage


class Engine(Protocol):
    """Runs steps at clients and keeps what they keep."""

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named in ``messages``; return the replies in the same order."""

    def kept(self) -> dict[str, Any]:
        """Return what each client keeps, as a message."""

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Give each client back what it kept."""

    def close(self) -> None:
        """Release processes and memory."""
