"""The engine of one process: clients take their steps one after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pflbench.message import Message, copied
from pflbench.steps import Reply, Site, Stage


class InProcess:
    """Runs every client's step in this process.

    Messages are not encoded here, but never aliased: what a client sends is copied (into memory that is
    used again every round), what it is sent is read-only.
    """

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self._sites = dict(sites)
        self._sent: dict[tuple[str, str], Message] = {}

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named."""
        replies = {}
        for client, message in messages.items():
            reply = self._sites[client].run(stage, round, message)
            if reply.message:
                sent = copied(reply.message, into=self._sent.get((stage, client)))
                self._sent[stage, client] = sent
                reply = Reply(**{**vars(reply), "message": sent})
            replies[client] = reply
        return replies

    def kept(self) -> dict[str, Any]:
        """Return what each client keeps."""
        return {client: site.kept() for client, site in self._sites.items()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Give each client back what it kept."""
        for client, site in self._sites.items():
            site.restore(kept[client])

    def close(self) -> None:
        """Nothing to release."""
