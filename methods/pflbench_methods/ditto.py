"""Ditto (Li et al., 2021): a personal model that is pulled towards the shared one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import Client, Objective, UNet
from pflbench_methods.companion import WithCompanion
from pflbench_methods.reported import reported_as


@dataclass(frozen=True)
class Ditto(WithCompanion):
    """FedAvg, except that every client also trains a model v of its own, pulled towards the shared one as received.

    On every batch the shared model W takes a step on L(W), which is FedAvg to the last bit, and v one on
    L(v) + lambda/2 ||v - W^t||^2, where W^t is what the client received before the round, not its local copy. v starts
    from the common initial weights, takes as many steps as W and is evaluated.

    * ``proximity`` (lambda): the authors' code defaults to 1. With it the pull is part of the gradient that Adam
      rescales, so what counts is its size beside the gradient of the loss; 0 is training alone. The distance is over
      all parameters, scale and shift of batch norm included.

    The original averages with equal weights and trains with SGD; here as everybody: by training images, with Adam.
    The reported training loss is L(v), the evaluated model's, without the distance.
    Batch-norm statistics: v has its own, which stay at the client and are not pulled; those of W are averaged.
    Li, Hu, Beirami, Smith: Ditto: Fair and Robust Federated Learning Through Personalization. ICML 2021.
    https://arxiv.org/abs/2012.04221
    """

    name: ClassVar[str] = "ditto"
    title: ClassVar[str] = "Ditto"
    citation: ClassVar[str] = (
        "Li et al.: Ditto: Fair and Robust Federated Learning Through Personalization. ICML 2021. "
        "https://arxiv.org/abs/2012.04221"
    )
    year: ClassVar[int | None] = 2021

    proximity: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0  # lambda

    def objective(self, client: Client, companion: UNet) -> Objective:
        """Return L(W) + L(v) + lambda/2 ||v - W^t||^2."""
        received = {name: value.detach().clone() for name, value in client.model.named_parameters()}

        def both(_: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            shared, own = client.loss(client.model(images), masks), client.loss(companion(images), masks)
            distance = sum(F.mse_loss(v, received[name], reduction="sum") for name, v in companion.named_parameters())
            return reported_as(own, shared + own + self.proximity / 2 * distance)

        return both
