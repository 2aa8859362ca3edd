"""FedAvg whose shared model is adapted to each client before it is evaluated: what such methods have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import nn

from pflbench.api import Client, Message, UNet
from pflbench_methods.fedavg import FedAvg

_KEPT = "adapted"  # in client.state


@dataclass(frozen=True)
class AdaptedCopy(FedAvg):
    """FedAvg, except that a copy of the shared model is adapted to its client, and evaluated instead of it.

    The copy starts anew from what was received, and nothing of it goes back. It is made in those rounds only that may
    be selected (the second half), to save its cost in the others: there the shared model is validated, so the
    validation curve is the shared model's in the first half and the copies' from then on, and may jump between them.
    """

    @abstractmethod
    def adapt(self, client: Client, copy: UNet) -> None:
        """Adapt a copy of the shared model to its client."""

    def client_receive(self, client: Client, message: Message) -> None:
        """Take in the mean; adapt a copy of it where this round may be selected."""
        super().client_receive(client, message)
        if not client.recipe.selects_from(client.round):
            return
        copy = client.new_model(client.model.state_dict())
        self.adapt(client, copy)
        client.state[_KEPT] = dict(copy.state_dict())

    def personal_model(self, client: Client) -> nn.Module:
        """Return the adapted copy, or the shared model where there is none yet."""
        adapted = client.state.get(_KEPT)
        return client.new_model(adapted) if adapted else client.model
