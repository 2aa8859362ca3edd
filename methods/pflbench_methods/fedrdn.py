"""FedRDN (Yan et al., 2025): every training image is normalized with the statistics of a random client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pflbench.api import Client, Family, Inbox, Message, Outbox, Server, pick
from pflbench_methods.fedavg import FedAvg

_GREY_LEVEL = 1 / 255  # least deviation: a channel of one colour at one hospital must not blow up all others' images


@dataclass(frozen=True)
class FedRDN(FedAvg):
    """FedAvg, except that images are normalized, in training with the mean and deviation of a random client.

    Before round 1 every client sends two numbers for each channel: the mean over its training images of their means,
    and of their standard deviations (the mean of each image's own, as in the authors' code; not that of all pixels).
    In training each image of each batch is normalized with those of one client drawn uniformly among all, its own
    included; at evaluation with the client's own. The authors' public code draws one client for a whole batch, and
    mean and deviation from different clients; here both are of the same one, drawn for each image.
    Statistics are of un-augmented images (flips and turns change none of them), and a deviation below one grey level
    counts as one. They are normalized behind augmentation and in front of the network, so nothing else changes; there
    is nothing to set. Alone, a client normalizes with its own statistics.

    A hospital that never trains has no training images to take its own statistics from, so it cannot be evaluated.
    Batch-norm statistics: averaged, as all else; those of a client's images under everybody's normalization.
    Yan, Fu, Li, Xie, Ma, Yang, Zhu: A Simple Data Augmentation for Feature Distribution Skewed Federated Learning.
    CVPR 2025. https://arxiv.org/abs/2306.09363
    """

    name: ClassVar[str] = "fedrdn"
    title: ClassVar[str] = "FedRDN"
    citation: ClassVar[str] = (
        "Yan et al.: A Simple Data Augmentation for Feature Distribution Skewed Federated Learning. CVPR 2025. "
        "https://arxiv.org/abs/2306.09363"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2025
    travels: ClassVar[str] = (
        "once: two numbers per colour channel, the mean brightness and contrast of the training images (derived from "
        "the images), to the server and every other client; every round: all weights and batch-norm statistics"
    )

    def client_setup(self, client: Client) -> Message:
        """Send mean and standard deviation of each channel, both means over the training images."""
        pixels = client.images.flatten(2)
        return {"mean": pixels.mean(2).mean(0), "deviation": pixels.std(2, correction=0).mean(0)}

    def server_setup(self, server: Server, inbox: Inbox) -> Outbox:
        """Give every client the statistics of all."""
        return {client: dict(inbox) for client in inbox}

    def client_update(self, client: Client) -> Message:
        """Train on images normalized with the statistics of random clients."""
        means, deviations = (
            torch.stack([statistics[name] for statistics in client.briefing.values()]) for name in ("mean", "deviation")
        )

        def objective(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            drawn = torch.randint(len(means), (len(images),), generator=client.rng).to(client.device)
            return client.loss(model(normalized(images, means[drawn], deviations[drawn])), masks)

        client.fit(objective=objective)
        return pick(client.model.state_dict(), self.shared(client.model))

    def personal_model(self, client: Client) -> nn.Module:
        """Return the model behind the normalization with the client's own statistics."""
        own = client.briefing[client.name]
        return Normalized(client.model, own["mean"], own["deviation"])


def normalized(images: Tensor, means: Tensor, deviations: Tensor) -> Tensor:
    """Return (x - mean) / deviation for N x C x H x W images and N x C (or C) statistics."""
    return (images - means[..., None, None]) / deviations.clamp(min=_GREY_LEVEL)[..., None, None]


class Normalized(nn.Module):
    """A model that is given raw images and sees them normalized with fixed statistics, one of each per channel."""

    def __init__(self, model: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.model, self.mean, self.deviation = model, mean, deviation

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's logits."""
        return self.model(normalized(images, self.mean, self.deviation))  # type: ignore[no-any-return]
