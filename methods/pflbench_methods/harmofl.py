"""HarmoFL (Jiang et al., 2022): images of one style for all clients, and weights in flat surroundings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from pflbench.api import Client, Family, Inbox, Message, Outbox, Server, TaskCard, Weights, load, pick, weighted_mean
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.spectral import low_frequency, spectral_transfer

_TINY = 1e-12  # a gradient of exactly zero has no direction


@dataclass(frozen=True)
class HarmoFL(FedAvg):
    """FedAvg, except that all images get the same low-frequency amplitudes, and steps follow a gradient taken uphill.

    Amplitude normalization: before round 1 every client sends the mean low-frequency amplitudes of its training
    images, and the server their mean, which replaces those of every image in training and at evaluation, in front of
    the network. Weight perturbation: the gradient g of a batch leads to w + alpha g / |g|, the gradient there is the
    one the optimiser steps with from w. Both halves can be turned off, and without either it is FedAvg.

    * ``normalize``: replace the amplitudes.
    * ``beta``: how far the window of replaced frequencies reaches. The paper speaks of amplitudes in general; the
      authors' code replaces the zero frequency alone (beta 0), so each channel gets the same mean brightness.
    * ``perturbation``: the length of the step uphill, alpha.

    The authors' code lets the mean run over the first round's batches; here it is taken once, of all un-augmented
    training images. The result is not clipped to [0, 1]: it is no image to look at, and the original does not clip it
    either. Adam steps with that gradient, as in the original on segmentation. The original weights clients equally;
    here by training images, amplitudes too. The mean amplitudes go along with every round's weights, so that a
    hospital that joins without a setup can use the model. The reported training loss is that at the weights uphill.
    Batch-norm statistics: averaged; those of the first pass alone, at unperturbed weights (the original's
    network keeps none and normalizes test images by their batch).
    Jiang, Wang, Dou: HarmoFL: Harmonizing Local and Global Drifts in Federated Learning on Heterogeneous Medical
    Images. AAAI 2022. https://arxiv.org/abs/2112.10775
    """

    name: ClassVar[str] = "harmofl"
    title: ClassVar[str] = "HarmoFL"
    citation: ClassVar[str] = (
        "Jiang et al.: HarmoFL: Harmonizing Local and Global Drifts in Federated Learning on Heterogeneous Medical "
        "Images. AAAI 2022. https://arxiv.org/abs/2112.10775"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2022
    travels: ClassVar[str] = (
        "once: the mean low-frequency amplitudes of the training images (derived from the images; with beta = 0 one "
        "number per colour channel, the mean brightness) to the server, which passes on the mean of all clients; "
        "every round: all weights and batch-norm statistics"
    )
    newcomers: ClassVar[bool] = True

    normalize: bool = True
    beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.0  # L: half side of the window, as a share of the image's
    perturbation: Annotated[float, Field(ge=0)] = 0.05  # alpha

    def client_setup(self, client: Client) -> Message | None:
        """Send the mean window of amplitudes, C x (2b+1) x (2b+1)."""
        return {"window": low_frequency(client.images, self.beta).mean(0)} if self.normalize else None

    def server_setup(self, server: Server, inbox: Inbox) -> Outbox:
        """Keep the mean over all training images, and send it to everybody."""
        if inbox:
            server.state |= weighted_mean(inbox, server.shares)
        return {client: dict(server.state) for client in inbox}

    def client_update(self, client: Client) -> Message:
        """Train on normalized images with the gradients at perturbed weights."""
        window = client.briefing.get("window")

        def objective(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            images = images if window is None else harmonized(images, window)
            loss = client.loss(model(images), masks)
            if not self.perturbation:
                return loss
            # copies, so that the second pass leaves no trace in the running statistics
            buffers = {name: value.clone() for name, value in model.named_buffers()}
            uphill = perturbed(model, loss, self.perturbation) | buffers
            return client.loss(functional_call(model, uphill, (images,)), masks)

        client.fit(objective=objective, passes=self._passes)
        return pick(client.model.state_dict(), self.shared(client.model))

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the mean of the weights, and again that of the amplitudes."""
        message = {"weights": weighted_mean(inbox, server.shares), **server.state}
        return dict.fromkeys(inbox, message)

    def client_receive(self, client: Client, message: Message) -> None:
        """Overwrite the weights, and keep the amplitudes for evaluation."""
        load(client.model, message["weights"])
        client.state.update({name: value for name, value in message.items() if name == "window"})

    def personal_model(self, client: Client) -> nn.Module:
        """Return the model behind the normalization of amplitudes."""
        window = client.state.get("window")
        return client.model if window is None else Harmonized(client.model, window)

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients that only lead uphill: as many as training takes."""
        return {client: count * task.epochs * (self._passes - 1) for client, count in task.clients.items()}

    def policies(self) -> dict[str, str]:
        """Say that no amplitudes leave where none are replaced."""
        return {**super().policies(), **({} if self.normalize else {"travels": FedAvg.travels})}

    @property
    def _passes(self) -> int:
        return 2 if self.perturbation else 1


def harmonized(images: Tensor, window: Tensor) -> Tensor:
    """Return N x C x H x W images, all with the low-frequency amplitudes of one C x (2b+1) x (2b+1) window."""
    changed = spectral_transfer(images, window.expand(len(images), *window.shape), clip=None)
    return changed.contiguous(memory_format=torch.channels_last)


def perturbed(model: nn.Module, loss: Tensor, length: float) -> Weights:
    """Return w + length g / |g| by name, g the loss's gradient; differentiable in w, with g taken as a constant."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    with torch.autocast(loss.device.type, enabled=False):  # as the backward pass of training
        gradients = torch.autograd.grad(loss, parameters)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    steps = torch._foreach_mul(gradients, length / (norm + _TINY))
    return dict(zip(names, torch._foreach_add(parameters, steps), strict=True))


class Harmonized(nn.Module):
    """A model that is given raw images and sees them with the amplitudes of a window."""

    def __init__(self, model: nn.Module, window: Tensor) -> None:
        super().__init__()
        self.model, self.window = model, window

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's logits."""
        return self.model(harmonized(images, self.window))  # type: ignore[no-any-return]
