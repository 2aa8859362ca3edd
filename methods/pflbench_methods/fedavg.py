"""FedAvg (McMahan et al., 2017): one model, the mean of all clients'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pflbench.api import (
    Client,
    Family,
    Inbox,
    Message,
    Method,
    Outbox,
    Server,
    UNet,
    keys,
    load,
    norm_keys,
    pick,
    statistics_keys,
    weighted_mean,
)


@dataclass(frozen=True)
class FedAvg(Method):
    """Every client trains the shared model; the server averages all entries, weighted by training images.

    Batch-norm statistics: averaged, like every other floating-point entry.
    McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
    Decentralized Data. AISTATS 2017. https://arxiv.org/abs/1602.05629
    """

    name: ClassVar[str] = "fedavg"
    title: ClassVar[str] = "FedAvg"
    citation: ClassVar[str] = (
        "McMahan et al.: Communication-Efficient Learning of Deep Networks from Decentralized Data. AISTATS 2017. "
        "https://arxiv.org/abs/1602.05629"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2017
    travels: ClassVar[str] = "all weights and batch-norm statistics, every round"
    newcomers: ClassVar[bool] = True
    in_paper: ClassVar[bool] = True

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return the names of the entries that are averaged; the others never leave the client."""
        return keys(model)

    def client_update(self, client: Client) -> Message:
        """Train, and send the shared entries."""
        client.fit()
        return pick(client.model.state_dict(), self.shared(client.model))

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the mean: W = sum_c (N_c / N) W_c."""
        mean = weighted_mean(inbox, server.shares)
        return dict.fromkeys(inbox, mean)

    def policies(self) -> dict[str, str]:
        """Say which entries of batch norm are averaged, as ``shared`` has it, and with which weights."""
        model = UNet(1, 1)
        shared, statistics = self.shared(model), statistics_keys(model)
        fate = {name: "averaged" if name in shared else "kept at the client" for name in norm_keys(model)}
        parameters = next(fate[name] for name in fate if name not in statistics)
        running = next(fate[name] for name in fate if name in statistics)
        return {
            "batch_norm": f"parameters {parameters}, statistics {running}",
            "aggregation": "training images",
        }

    def client_receive(self, client: Client, message: Message) -> None:
        """Overwrite the shared entries."""
        load(client.model, message)
