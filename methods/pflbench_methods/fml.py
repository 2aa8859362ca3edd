"""FML (Shen et al., 2020): a private model and a shared one that teach each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import Client, Objective, UNet
from pflbench_methods.companion import WithCompanion
from pflbench_methods.reported import reported_as

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class FML(WithCompanion):
    """FedAvg, except that the shared model and a private one of each client also learn from each other's predictions.

    On every batch, with y the masks, p the private model's and q the shared one's (the "meme") predictions:
    private: alpha L(p, y) + (1 - alpha) KL(q || p); meme: beta L(q, y) + (1 - beta) KL(p || q). The teacher of each
    divergence is a constant, and both models take their step at once. Only the meme travels; the private model, which
    starts from the common initial weights, is evaluated.

    * ``private_weight`` (alpha) and ``meme_weight`` (beta): 0.5 as in the authors' code; with 1 a model learns from
      the masks alone (the private one as in training alone, the meme as in FedAvg).
    * The divergence of segmentations: that of two Bernoulli distributions at each pixel, a mean over pixels and images
      (the original sums over classes and averages over images), so that it has the scale of cross-entropy.

    The original averages with equal weights, trains with SGD and renews the meme's optimiser each round; here as
    everybody: by training images, Adam, its state as the recipe says. The reported training loss is L(p, y) alone.
    Batch-norm statistics: those of the meme are averaged, the private model's stay at its client.
    Shen, Zhang, Jia, Zhang, Huang, Zhou, Kuang, Wu, Wu: Federated Mutual Learning. 2020.
    https://arxiv.org/abs/2006.16765
    """

    name: ClassVar[str] = "fml"
    title: ClassVar[str] = "FML"
    citation: ClassVar[str] = "Shen et al.: Federated Mutual Learning. 2020. https://arxiv.org/abs/2006.16765"
    year: ClassVar[int | None] = 2020

    private_weight: Share = 0.5  # alpha
    meme_weight: Share = 0.5  # beta

    def objective(self, client: Client, companion: UNet) -> Objective:
        """Return the two losses, each with the divergence from the other's predictions."""

        def taught(weight: float, loss: Tensor, logits: Tensor, teacher: Tensor) -> Tensor:
            return weight * loss + (1 - weight) * divergence(teacher.detach(), logits)

        def both(_: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            meme, private = client.model(images).float(), companion(images).float()
            shared, own = client.loss(meme, masks), client.loss(private, masks)
            minimized = taught(self.meme_weight, shared, meme, private)
            minimized = minimized + taught(self.private_weight, own, private, meme)
            return reported_as(own, minimized)

        return both


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return KL(q || p), a mean over pixels, of the Bernoulli distributions q = sigmoid(teacher), p = sigmoid(student).

    From logits, in logarithms: sigmoid rounds to 0 or 1 where a model is sure, and its logarithm to minus infinity.
    """
    q = teacher.sigmoid()
    inside = q * (F.logsigmoid(teacher) - F.logsigmoid(student))
    outside = (1 - q) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return (inside + outside).mean()
