"""A second model beside the client's own: trained on the same batches, kept at the client, and evaluated."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from pflbench.api import Client, Message, TaskCard, UNet, Weights, pick
from pflbench_methods.fedavg import FedAvg

_KEPT = "companion"  # in client.state


@dataclass(frozen=True)
class WithCompanion(FedAvg):
    """FedAvg, except that every client also trains a companion of its own, which never leaves and is evaluated.

    Both models see the same batches, in one pass: Adam treats every entry by itself, so one optimiser over both is
    two optimisers, and what the shared model learns is to the last bit what it would learn without a companion, as
    long as ``objective`` gives it no other gradient than its loss.
    """

    def companion(self, client: Client) -> UNet:
        """Return the client's companion; at first it has the common initial weights."""
        return client.new_model(client.state.get(_KEPT))

    @abstractmethod
    def objective(
        self, client: Client, received: Weights, shared: nn.Module, companion: nn.Module, images: Tensor, masks: Tensor
    ) -> Tensor:
        """Return what both models minimize together on a batch; ``received`` are the shared entries before training."""

    def client_update(self, client: Client) -> Message:
        """Train both models, keep the companion, and send the shared entries of the client's own model."""
        companion = self.companion(client)
        received = {name: value.clone() for name, value in client.model.state_dict().items()}

        def both(pair: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            return self.objective(client, received, client.model, companion, images, masks)

        pair = nn.ModuleDict({"shared": client.model, "companion": companion})
        client.fit(pair, objective=both, passes=2, role="both")
        client.state[_KEPT] = dict(companion.state_dict())
        return pick(client.model.state_dict(), self.shared(client.model))

    def personal_model(self, client: Client) -> nn.Module:
        """Return the companion."""
        return self.companion(client)

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients of the companion: as many as the shared model takes."""
        return {client: count * task.epochs for client, count in task.clients.items()}
