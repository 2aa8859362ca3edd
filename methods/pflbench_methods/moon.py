"""MOON (Li et al., 2021): features stay near the received model's and away from those of the last local model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import Client, Family, Message, UNet, Weights, pick
from pflbench_methods.fedavg import FedAvg

_PREVIOUS = "previous"  # in client.state: the model after the last local training


@dataclass(frozen=True)
class Moon(FedAvg):
    """FedAvg, except that clients minimize L + mu C, where C contrasts the features of three models on every image.

    C = -log(e^(cos(z, z_received) / tau) / (e^(cos(z, z_received) / tau) + e^(cos(z, z_previous) / tau))), a mean
    over the images of a batch: z are the features of the model in training, z_received of the model as received,
    z_previous of the client's model after its last training. Both are fixed, and no gradient runs through them. In the
    first round there is no previous model and C is left out, as in the original's code.

    * ``contrast``: the original tunes mu for each data set, among 0.1, 1, 5 and 10, and its code has 1; the harness of
      arXiv:2603.14848 has 0.01. Here 0.1: over a whole map the contrast slows segmentation down, and at 1 the training
      loss was a third higher than at 0.1 in the end (0.195 and 0.144) and Dice lower (one seed of the simulated
      vessels, 15 rounds of 3 epochs at 64 x 64, width 16).
    * ``temperature``: tau; 0.5 in the original and in the harness.
    * ``features``: the original projects the pooled features of a classifier to 256 numbers; a segmentation network
      has no such vector. z comes from the last decoder map, of 64 channels at full resolution: ``flattened`` takes
      all of it, as the harness does, so that place counts; ``pooled`` its mean over pixels. No projection is
      added: the model is everybody's.
    * Both fixed models are in evaluation mode, as in the original, so their running statistics are used and not
      changed; the model in training normalizes by its batch. z is compared in float32 whatever the precision.
    * The reported training loss is L alone. Clients are weighted by training images, as in the original.

    Batch-norm statistics: averaged.
    Li, He, Song: Model-Contrastive Federated Learning. CVPR 2021. https://arxiv.org/abs/2103.16257
    """

    name: ClassVar[str] = "moon"
    title: ClassVar[str] = "MOON"
    citation: ClassVar[str] = (
        "Li et al.: Model-Contrastive Federated Learning. CVPR 2021. https://arxiv.org/abs/2103.16257"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2021
    newcomers: ClassVar[bool] = True

    contrast: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1  # mu
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5  # tau
    features: Literal["flattened", "pooled"] = "flattened"

    def client_update(self, client: Client) -> Message:
        """Train, from the second round on with the contrast; keep the model and send the shared entries."""
        previous = client.state.get(_PREVIOUS)
        if previous:
            self._fit(client, _fixed(client, client.model.state_dict()), _fixed(client, previous))
        else:
            client.fit()
        client.state[_PREVIOUS] = dict(client.model.state_dict())
        return pick(client.model.state_dict(), self.shared(client.model))

    def _fit(self, client: Client, received: UNet, previous: UNet) -> None:
        found: list[Tensor] = []  # C of the batch: given to fit as a penalty, since a loss is reported without it

        def loss(_: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            maps = client.model.features(images)
            with torch.no_grad():
                fixed = [self._vectors(model.features(images)) for model in (received, previous)]
            found.append(contrast(self._vectors(maps), fixed[0], fixed[1], self.temperature))
            return client.loss(client.model.head(maps), masks)

        client.fit(objective=loss, penalty=lambda _: self.contrast * found.pop())

    def _vectors(self, maps: Tensor) -> Tensor:
        """Return z, one vector per image, from N x C x H x W maps."""
        return maps.float().flatten(1) if self.features == "flattened" else maps.float().mean(dim=(2, 3))


def _fixed(client: Client, weights: Weights) -> UNet:
    return client.new_model(weights).eval().requires_grad_(False)


def contrast(own: Tensor, received: Tensor, previous: Tensor, temperature: float) -> Tensor:
    """Return the mean of log(1 + e^((cos(z, z_previous) - cos(z, z_received)) / tau)) over N x D vectors.

    That is C. Both cosines are near 1, so the unit vectors are subtracted before they are multiplied: where the two
    models agree, no gradient is left at all.
    """
    apart = F.normalize(previous, dim=1) - F.normalize(received, dim=1)
    return F.softplus((F.normalize(own, dim=1) * apart).sum(dim=1) / temperature).mean()
