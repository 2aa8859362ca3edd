"""FedAvg (McMahan et al., 2017): one model, the mean of all clients'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
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
    Weights,
    keys,
    layer,
    load,
    norm_keys,
    parameter_keys,
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
        with torch.device("meta"):  # names alone: no memory, no random numbers
            model = UNet(1, 1)
        shared, statistics = self.shared(model), statistics_keys(model)
        parameters, running = _fate(norm_keys(model) - statistics, shared), _fate(statistics, shared)
        apart = f"parameters {parameters}, statistics {running}"
        return {
            "batch_norm": f"parameters and statistics {running}" if parameters == running else apart,
            "aggregation": "training images",
        }

    def client_receive(self, client: Client, message: Message) -> None:
        """Overwrite the shared entries."""
        load(client.model, message)


def initial_parameters(server: Server) -> Weights:
    """Return the parameters that every client starts from, for a server that keeps what it sent last."""
    model = server.new_model()
    return pick(model.state_dict(), parameter_keys(model))


def _fate(names: frozenset[str], shared: frozenset[str]) -> str:
    """Say what becomes of entries, and of which layers where that differs."""
    kept = sorted({layer(name) for name in names - shared})
    if not kept:
        return "averaged"
    return f"kept at the client in {', '.join(kept)} and averaged elsewhere" if names & shared else "kept at the client"
