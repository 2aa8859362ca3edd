"""FedSM's SoftPull (Xu et al., 2022): every client's own model, pulled some way towards the others'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from pflbench.api import Family, Inbox, Outbox, Server, weighted_mean
from pflbench_methods.fedavg import FedAvg


@dataclass(frozen=True)
class FedSMSoftPull(FedAvg):
    """FedAvg, except that the server mixes for every client: most of its own weights, and equal parts of all others'.

    P_c <- own_share P_c + (1 - own_share) / (C - 1) sum_{j != c} P_j. It is the personal half of FedSM: the original
    also trains a global model, and a network that tells which client a test image is from and chooses between the
    global and the personal models. Here a test image's hospital is known, so its personal model is evaluated, and
    neither is needed: half the bytes and gradients of the whole. The others pull equally, not by training images,
    because that is the method. Alone, a client has nobody to be pulled to and trains locally.

    Batch-norm statistics: pulled like every other entry, as the original's code does; with ``own_share`` 1 they are
    the client's own, and all is local training.

    Xu, Li, Guo, Yang, Roth, Hatamizadeh, Zhao, Xu, Huang, Xu: Closing the Generalization Gap of Cross-silo Federated
    Medical Image Segmentation. CVPR 2022. https://arxiv.org/abs/2203.10144
    """

    name: ClassVar[str] = "fedsm-softpull"
    title: ClassVar[str] = "FedSM-SoftPull"
    aliases: ClassVar[tuple[str, ...]] = ("softpull",)
    citation: ClassVar[str] = (
        "Xu et al.: Closing the Generalization Gap of Cross-silo Federated Medical Image Segmentation. CVPR 2022. "
        "https://arxiv.org/abs/2203.10144"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2022

    own_share: Annotated[float, Field(ge=0, le=1)] = 0.7  # lambda

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send each client its own weights, pulled towards all others'."""
        return {client: weighted_mean(inbox, self._pulls(client, inbox)) for client in inbox}

    def _pulls(self, client: str, inbox: Inbox) -> dict[str, float]:
        """Return every sender's part in a client's model."""
        others = len(inbox) - 1
        if not others:
            return {client: 1.0}
        return {sender: self.own_share if sender == client else (1 - self.own_share) / others for sender in inbox}

    def policies(self) -> dict[str, str]:
        """Say that every client has a mixture of its own."""
        return {
            "batch_norm": "parameters and statistics pulled towards the others'",
            "aggregation": f"{self.own_share:g} of the client's own, the rest in equal parts from all others",
        }
