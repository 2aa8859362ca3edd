"""FedRoD (Chen and Chao, 2022): a second head stays at home and corrects the shared one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pflbench.api import Client, Family, Message, UNet, load, pick
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.reported import reported_as

_KEPT = "personal head"  # in client.state


class BothHeads(nn.Module):
    """The shared UNet with a second, personal head on its last decoder map; its output is the sum of both logits."""

    def __init__(self, shared: UNet, personal: nn.Module) -> None:
        super().__init__()
        self.shared, self.personal = shared, personal

    def logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return N x 1 x H x W logits of the generic head and of both; those of both move the personal head alone."""
        features = self.shared.features(images)
        generic = self.shared.head(features).float()  # a sum in bfloat16 would drop what the personal head adds
        return generic, generic.detach() + self.personal(features.detach()).float()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of both heads together."""
        return self.logits(images)[1]


@dataclass(frozen=True)
class FedRoD(FedAvg):
    """FedAvg, except that every client keeps a second head, whose logits are added to those of the shared, generic one.

    Both heads learn in one pass over the recipe's epochs: the generic head with the body from the loss of its own
    logits, the personal head from the loss of the sum, with body and generic logits detached. So what is shared is
    FedAvg's model to the last bit, and the personal head is what makes the difference; the sum is evaluated.

    The personal head is the linear one of the paper, for segmentation a second 1x1 convolution (the paper also makes it
    by a hypernetwork); it starts at zero, so that before training both models are one (public code starts from a copy
    of the generic head, which would double the logits). The paper's balanced softmax for the generic head is left out:
    it makes up for clients that hold different classes. For foreground against background it would shift the logit by
    their log-odds, which has no meaning for the Dice loss. The recipe's Adam trains both heads.
    Batch-norm statistics: averaged; the personal head has none.
    Chen, Chao: On Bridging Generic and Personalized Federated Learning for Image Classification. ICLR 2022.
    https://arxiv.org/abs/2107.00778
    """

    name: ClassVar[str] = "fedrod"
    title: ClassVar[str] = "FedRoD"
    citation: ClassVar[str] = (
        "Chen and Chao: On Bridging Generic and Personalized Federated Learning for Image Classification. ICLR 2022. "
        "https://arxiv.org/abs/2107.00778"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2022
    travels: ClassVar[str] = "all weights and batch-norm statistics but the personal head, every round"

    def client_update(self, client: Client) -> Message:
        """Train shared model and personal head on the same batches, keep the head, and send the shared model."""
        heads = _both_heads(client)

        def loss(_: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            generic, both = (client.loss(logits, masks) for logits in heads.logits(images))
            return reported_as(both, generic + both)

        client.fit(heads, objective=loss, role="both heads")
        client.state[_KEPT] = dict(heads.personal.state_dict())
        return pick(client.model.state_dict(), self.shared(client.model))

    def personal_model(self, client: Client) -> nn.Module:
        """Return the shared model with both heads."""
        return _both_heads(client)


def _both_heads(client: Client) -> BothHeads:
    """Return the client's model with its personal head, which is zero at first."""
    head = copy.deepcopy(client.model.head)
    kept = client.state.get(_KEPT)
    load(head, kept or {name: torch.zeros_like(value) for name, value in head.state_dict().items()})
    return BothHeads(client.model, head)
