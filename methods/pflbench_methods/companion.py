"""A second model beside the client's own: trained on the same batches, kept at the client, and evaluated."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from pflbench.api import Client, Family, Message, Objective, TaskCard, UNet, pick
from pflbench_methods.fedavg import FedAvg

_KEPT = "companion"  # in client.state


@dataclass(frozen=True)
class WithCompanion(FedAvg):
    """FedAvg, except that every client also trains a companion of its own, which never leaves and is evaluated.

    Both models see the same batches, in one pass. Adam treats every entry by itself, so one optimiser over both is
    two optimisers: a model whose gradient is that of its own loss alone learns, to the last bit, what it would learn
    without the other. Batch-norm statistics: the shared model's are averaged, the companion's stay at its client.
    The training loss that is reported should be that of the evaluated model alone (``reported_as``).
    """

    family: ClassVar[Family] = "personalized"
    travels: ClassVar[str] = "all weights and batch-norm statistics of the shared model, every round"

    def companion(self, client: Client) -> UNet:
        """Return the client's companion; at first it has the common initial weights."""
        return client.new_model(client.state.get(_KEPT))

    @abstractmethod
    def objective(self, client: Client, companion: UNet) -> Objective:
        """Return what both models minimize together: a function of (the pair, images, masks).

        It is asked for once a round, before training, when ``client.model`` still is what was received.
        """

    def client_update(self, client: Client) -> Message:
        """Train both models, keep the companion, and send the shared entries of the client's own model."""
        companion = self.companion(client)
        pair = nn.ModuleDict({"shared": client.model, "companion": companion})
        client.fit(pair, objective=self.objective(client, companion), passes=2, role="both")
        client.state[_KEPT] = dict(companion.state_dict())
        return pick(client.model.state_dict(), self.shared(client.model))

    def personal_model(self, client: Client) -> nn.Module:
        """Return the companion."""
        return self.companion(client)

    def policies(self) -> dict[str, str]:
        """Say that the evaluated model is the client's in all."""
        kept = "parameters and statistics of the evaluated model kept at the client, those of the shared one averaged"
        return {**super().policies(), "batch_norm": kept}

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients of the companion: as many as the shared model takes."""
        return {client: count * task.epochs for client, count in task.clients.items()}
