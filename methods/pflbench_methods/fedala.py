"""FedALA (Zhang et al., 2023): each client learns, element by element, how much of the shared head it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from pflbench.api import (
    Client,
    Family,
    Message,
    TaskCard,
    UNet,
    Weights,
    head_keys,
    load,
    module_keys,
    parameter_keys,
)
from pflbench_methods.fedavg import FedAvg

_KEPT = "aggregation_weights"  # in client.state


@dataclass(frozen=True)
class FedALA(FedAvg):
    """FedAvg, except that on receipt a client's last layers move only part of the way from its own to the mean.

    w = w_own + (w_mean - w_own) A, with one weight in [0, 1] for each element, which starts at 1 and is kept. On a
    random share of its images, with all else frozen, the client repeats A <- clip(A - eta g (w_mean - w_own), 0, 1),
    where g is the gradient of the training loss at w. With weights of 1 it is FedAvg, with weights of 0 the layers
    never leave their client. Choices:

    * ``adaptive``: the original's p = 2 uppermost tensors are exactly the head (64 weights and a bias), the default;
      ``last_decoder`` adds the last decoder stage, ``all`` is the original's p = 0: every parameter.
    * ``first_passes``: the first time the original learns until its last ten losses deviate by less than 0.1, without
      a bound, which no loss can pass before eleven passes; the loss used here lies between 0 and about 1 and passes it
      at once, so eleven is the bound too. Later times take ``passes``.
    * ``step`` times a gradient of a mean over pixels times a difference of two Adam steps' size moves a weight little.
      The original's value is kept; the log has the mean weight of each layer, so that it can be judged.
    * The original skips its first receipt, of the initial model, which no client needs to be sent here.
    * Images are not augmented; the original takes a contiguous stretch of shuffled data, here images are drawn.

    Batch-norm statistics: averaged and overwritten; the weights are learnt with them, in evaluation mode.
    Zhang, Hua, Wang, Song, Xue, Ma, Guan: FedALA: Adaptive Local Aggregation for Personalized Federated Learning.
    AAAI 2023. https://arxiv.org/abs/2212.01197
    """

    name: ClassVar[str] = "fedala"
    title: ClassVar[str] = "FedALA"
    citation: ClassVar[str] = (
        "Zhang et al.: FedALA: Adaptive Local Aggregation for Personalized Federated Learning. AAAI 2023. "
        "https://arxiv.org/abs/2212.01197"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2023

    adaptive: Literal["head", "last_decoder", "all"] = "head"  # p
    step: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0  # eta
    share: Annotated[float, Field(gt=0, le=1)] = 0.8  # s: of the images, to learn the weights from
    first_passes: Annotated[int, Field(ge=0)] = 11  # over these images, at the first receipt
    passes: Annotated[int, Field(ge=0)] = 1  # at every later one

    def adapted(self, model: nn.Module) -> frozenset[str]:
        """Return the names of the parameters that have weights."""
        if self.adaptive == "all":
            return parameter_keys(model)
        chosen = head_keys(model)
        if self.adaptive == "last_decoder" and isinstance(model, UNet):
            chosen |= module_keys(model, model.dec2)
        return chosen & parameter_keys(model)

    def client_receive(self, client: Client, message: Message) -> None:
        """Overwrite all entries, and move the adaptive ones from the client's own as far as its weights say."""
        names = self.adapted(client.model)
        own = {name: p.detach().clone() for name, p in client.model.named_parameters() if name in names}
        shared = {name: message[name] for name in own}
        weights: Weights = client.state.get(_KEPT) or {name: torch.ones_like(value) for name, value in own.items()}
        load(client.model, message)
        weights = self._learnt(client, own, shared, weights)
        load(client.model, between(own, shared, weights))
        client.state[_KEPT] = weights
        client.log |= {f"aggregation_weight/{name}": float(value.mean()) for name, value in weights.items()}

    def _learnt(self, client: Client, own: Weights, shared: Weights, weights: Weights) -> Weights:
        """Return the weights after some passes over a random share of the images."""
        model = client.new_model(client.model.state_dict()).eval().requires_grad_(False)
        moved = [model.get_parameter(name).requires_grad_() for name in own]
        images, masks = client.images, client.masks
        drawn = torch.randperm(client.samples, generator=client.rng)[: self._images(client.samples)].to(client.device)
        passes = self.passes if _KEPT in client.state else self.first_passes
        for chosen in torch.split(drawn, client.recipe.batch) * passes:
            load(model, between(own, shared, weights))
            with client.autocast():
                loss = client.loss(model(images[chosen]), masks[chosen])
            gradients = dict(zip(own, torch.autograd.grad(loss, moved), strict=True))
            weights = stepped(own, shared, weights, gradients, self.step)
            client.gradients += len(chosen)
        return weights

    def _images(self, samples: int) -> int:
        return max(1, round(self.share * samples))

    def policies(self) -> dict[str, str]:
        """Say what else than the mean the adaptive layers are."""
        partly = "" if self.adaptive == "head" else ", of the adaptive layers partly"
        return {**super().policies(), "batch_norm": f"parameters averaged{partly}, statistics averaged"}

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients that the weights take, the first receipt's spread over the rounds."""
        passes = self.first_passes + self.passes * (task.rounds - 1)
        return {client: -(-self._images(count) * passes // task.rounds) for client, count in task.clients.items()}


def between(own: Weights, shared: Weights, weights: Weights) -> Weights:
    """Return own + (shared - own) A; ``lerp`` is exact at both ends, the formula as written is not at 1."""
    return {name: torch.lerp(value, shared[name], weights[name]) for name, value in own.items()}


def stepped(own: Weights, shared: Weights, weights: Weights, gradients: Weights, step: float) -> Weights:
    """Return clip(A - eta g (shared - own), 0, 1): dL/dA = g (shared - own) by the chain rule."""
    slopes = {name: gradients[name] * (shared[name] - value) for name, value in own.items()}
    return {name: (weight - step * slopes[name]).clamp(0, 1) for name, weight in weights.items()}
