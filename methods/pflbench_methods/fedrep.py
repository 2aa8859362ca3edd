"""FedRep (Collins et al., 2021): the head stays at home, and is trained before the body instead of with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from pflbench.api import Client, Family, Message, TaskCard, keys, pick
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedper import FedPer


@dataclass(frozen=True)
class FedRep(FedAvg):
    """FedPer, except that every round trains the head first, with the body frozen, then the body, with the head frozen.

    * ``personal``: what counts as the head of a segmentation network, as in FedPer; "none" leaves an empty head, whose
      epochs fall to the body: that is FedAvg.
    * ``head_epochs``: of the recipe's epochs, these go to the head and the rest to the body, which gets two at
      least (one of a recipe of one): where too few are left, a round is longer. With one of two epochs the body was
      seen to learn nothing (simulated vessels, 12 rounds at 64 x 64, width 16). The original gives the head 10 of 11
      epochs, or 4 of 5; a 1x1 convolution needs few, and the same recipe would leave the body too little, so 1 is the
      default. 0 never trains the head.

    The optimiser is the recipe's Adam for both parts, not SGD with momentum; frozen entries neither move nor decay. The
    original trains the heads once more after the last round; here every round is evaluated as it is: a head that was
    trained on the body received before. Clients weigh as many as their training images, as in the original.
    Batch-norm statistics: averaged with the body. While the body is frozen, its layers use their running statistics
    and keep them, so the head is trained on just the features that were evaluated; public code lets them drift.
    Collins, Hassani, Mokhtari, Shakkottai: Exploiting Shared Representations for Personalized Federated Learning.
    ICML 2021. https://arxiv.org/abs/2102.07078
    """

    name: ClassVar[str] = "fedrep"
    title: ClassVar[str] = "FedRep"
    citation: ClassVar[str] = (
        "Collins et al.: Exploiting Shared Representations for Personalized Federated Learning. ICML 2021. "
        "https://arxiv.org/abs/2102.07078"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2021
    travels: ClassVar[str] = "all weights and batch-norm statistics but those of the head, every round"

    personal: Literal["head", "last_decoder", "none"] = "head"
    head_epochs: Annotated[int, Field(ge=0)] = 1

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return the entries of the body."""
        return self._alike.shared(model)

    def policies(self) -> dict[str, str]:
        """Say what the method says that shares the same entries."""
        travels = {"travels": FedAvg.travels} if self.personal == "none" else {}
        return {**self._alike.policies(), **travels}

    @property
    def _alike(self) -> FedAvg:
        """The method that shares the same entries."""
        return FedAvg() if self.personal == "none" else FedPer(personal=self.personal)

    def client_update(self, client: Client) -> Message:
        """Train the head, then the body, and send the body."""
        body = self.shared(client.model)
        head = keys(client.model) - body
        for_head, for_body = self._epochs(client.recipe.epochs)
        if for_head:
            client.fit(only=head, epochs=for_head)
        client.fit(only=body, epochs=for_body)
        return pick(client.model.state_dict(), body)

    def _epochs(self, epochs: int) -> tuple[int, int]:
        """Return a round's epochs of the head and of the body."""
        for_head = 0 if self.personal == "none" else self.head_epochs
        return for_head, max(epochs - for_head, min(epochs, 2))

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients of the epochs that a round is longer than the recipe's."""
        longer = sum(self._epochs(task.epochs)) - task.epochs
        return {client: count * longer for client, count in task.clients.items()}
