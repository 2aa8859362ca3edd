"""Local training: the control without any exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pflbench.api import Client, Family, Inbox, Message, Method, Outbox, Server


@dataclass(frozen=True)
class Local(Method):
    """Every client trains alone; nothing is sent. What a federated method must beat to be worth joining.

    Batch-norm statistics: the client's own.
    """

    name: ClassVar[str] = "local"
    title: ClassVar[str] = "Local"
    citation: ClassVar[str] = "Control without federation."
    family: ClassVar[Family] = "control"
    travels: ClassVar[str] = "nothing"

    def policies(self) -> dict[str, str]:
        """Say that nothing is shared."""
        return {"batch_norm": "parameters and statistics kept at the client", "aggregation": "none"}

    def client_update(self, client: Client) -> Message:
        """Train; send nothing."""
        client.fit()
        return {}

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send nothing."""
        return {}

    def client_receive(self, client: Client, message: Message) -> None:
        """Keep the model as it is."""
