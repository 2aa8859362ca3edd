"""FedAS (Yang et al., 2024): the base is aligned with the client's own before use; Fisher traces weight clients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import quote

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from pflbench.api import (
    Client,
    Family,
    Inbox,
    Message,
    Outbox,
    Server,
    TaskCard,
    UNet,
    head_keys,
    keys,
    load,
    weighted_mean,
)
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fisher import evaluating

Batch = tuple[Tensor, Tensor]  # images N x C x H x W, masks N x 1 x H x W


@dataclass(frozen=True)
class FedAS(FedAvg):
    """FedPer, except that a client aligns the base it receives, and that clients are weighted by their Fisher trace.

    The head stays at its client. On receipt the mean feature of each class is found with the client's previous base,
    and the received one is trained for an epoch of SGD towards them. After local training the trace of the Fisher
    information says how much a client still learns, and how much it counts in the mean. For segmentation:

    * A feature is a pixel of the last decoder map, its class foreground or background by the mask. The loss is the
      mean squared distance of a batch's pixels of a class from the class's mean over all un-augmented images, summed
      over the classes that the batch has. ``alignment_rate`` and one epoch are the original's; batches of alignment are
      the recipe's and augmented, as in training.
    * Means and alignment normalize alike, both with the statistics of batches, as training does. In the original code
      both are in evaluation mode (from its second round on); here the model hardly learnt like that. With the
      means alone in evaluation mode, even a client's own base would be far from them.
    * Trace: squared gradients of pixel cross-entropy averaged over a batch, true labels, evaluation mode, un-augmented
      images in random order, summed over batches and all parameters, head included. It grows with the number of
      batches, so a client counts by its images, too.
    * ``temperature``: with batch norm in evaluation mode the traces of two clients, or of two rounds, often differ a
      hundredfold, so that a mean may be of one client alone. 1 is the original; higher ones bring the weights together.
    * In the original code all clients align one and the same model in turn; here each aligns its own copy. There, the
      head is sent, and not used; here it is not sent. There, the model is evaluated after local training; here after
      alignment, as every method is after what it receives.

    Batch-norm statistics: averaged like the weights of the base; alignment runs on batches, and moves its client's. In
    the original code parameters alone travel, and statistics stay.

    Measured on the simulated vessels with their quick recipe (12 rounds of 2 epochs, 48 x 48, width 12), average test
    Dice: 62.5, 57.2 and 62.7 (seeds 0, 1, 2; mean 60.8), FedPer 62.6 (mean). Without alignment 63.3, 60.7 and 67.7
    (mean 63.9): it does not help here, perhaps because it gathers a class's pixels without regard to the head. With
    the means alone in evaluation mode 56.6 (mean). Choices were made on seed 0: both in evaluation mode 26.6 (22.0 with
    statistics that stay), weights that are equal (``temperature`` 1e9) 62.4.

    Yang, Huang, Ye: FedAS: Bridging Inconsistency in Personalized Federated Learning. CVPR 2024.
    https://doi.org/10.1109/CVPR52733.2024.01139
    """

    name: ClassVar[str] = "fedas"
    title: ClassVar[str] = "FedAS"
    citation: ClassVar[str] = (
        "Yang et al.: FedAS: Bridging Inconsistency in Personalized Federated Learning. CVPR 2024. "
        "https://doi.org/10.1109/CVPR52733.2024.01139"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2024
    travels: ClassVar[str] = (
        "all weights and batch-norm statistics but those of the head, and one number (the Fisher trace, derived from "
        "the images and masks), every round"
    )

    alignment_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01  # of SGD
    alignment_epochs: Annotated[int, Field(ge=0)] = 1
    temperature: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0  # of the weights F^(1 / temperature)

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return all entries but those of the head."""
        return keys(model) - head_keys(model)

    def client_update(self, client: Client) -> Message:
        """Train all layers, and send the base with the trace of the Fisher information."""
        base = super().client_update(client)
        trace = fisher_trace(client.model, _in_random_order(client))
        client.gradients += client.samples
        client.log["fisher_trace"] = trace
        return {"base": base, "fisher_trace": trace}

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the mean of the bases: W = sum_c w_c W_c with w_c ~ F_c^(1 / temperature)."""
        softened = {client: message["fisher_trace"] ** (1 / self.temperature) for client, message in inbox.items()}
        total = sum(softened.values())
        server.log |= {f"weight/{quote(client, safe='')}": value / total for client, value in softened.items()}
        mean = weighted_mean({client: message["base"] for client, message in inbox.items()}, softened)
        return dict.fromkeys(inbox, mean)

    def client_receive(self, client: Client, message: Message) -> None:
        """Overwrite the base, then align it with what the client's own knew of the classes."""
        if not self.alignment_epochs:
            return load(client.model, message)
        prototypes = class_means(client.model, _in_random_order(client))
        load(client.model, message)  # also over the statistics that the class means have moved
        self._align(client, prototypes)

    def _align(self, client: Client, prototypes: Tensor) -> None:
        model, shared = client.model.train(), self.shared(client.model)
        base: list[Tensor] = [p for name, p in model.named_parameters() if name in shared]
        for images, masks in client.batches(self.alignment_epochs):
            with client.autocast():
                features = model.features(images)
            gradients = torch.autograd.grad(distance(features.float(), masks, prototypes), base)
            with torch.no_grad():
                torch._foreach_add_(base, gradients, alpha=-self.alignment_rate)
            client.gradients += len(images)

    def policies(self) -> dict[str, str]:
        """Say that batch norm moves on after it was averaged, and by what clients are weighted."""
        return {
            "batch_norm": "parameters and statistics averaged, then aligned at the client",
            "aggregation": "trace of the Fisher information of the trained model",
        }

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients of alignment and of the Fisher information."""
        return {client: count * (self.alignment_epochs + 1) for client, count in task.clients.items()}


def _in_random_order(client: Client) -> Iterator[Batch]:
    """Yield batches of the client's un-augmented images, each image once."""
    order = torch.randperm(client.samples, generator=client.rng).to(client.device)
    images, masks = client.images, client.masks
    return ((images[i], masks[i]) for i in torch.split(order, client.recipe.batch))


def fisher_trace(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Return the sum over batches and parameters of the squared gradient of a batch's mean pixel cross-entropy."""
    parameters = list(model.parameters())
    traces = []
    with evaluating(model):
        for images, masks in batches:
            gradients = torch.autograd.grad(binary_cross_entropy_with_logits(model(images), masks), parameters)
            traces.append(torch.stack(torch._foreach_norm(gradients)).double().square().sum())
    return float(torch.stack(traces).sum())


@torch.no_grad()
def class_means(model: UNet, batches: Iterable[Batch]) -> Tensor:
    """Return the mean last decoder map of background and foreground pixels, 2 x channels, in training mode.

    A class that no mask has is 0; no batch has a pixel of it either. The model's running statistics move.
    """
    sums, counts = [], []
    model.train()
    for images, masks in batches:
        classes = _classes(masks)
        sums.append(torch.einsum("nkhw,nchw->kc", classes, model.features(images)).double())
        counts.append(classes.sum((0, 2, 3)).double())
    return (torch.stack(sums).sum(0) / torch.stack(counts).sum(0).clamp(min=1)[:, None]).float()


def distance(features: Tensor, masks: Tensor, prototypes: Tensor) -> Tensor:
    """Return sum_k mean_{s in class k} ||f_s - p_k||^2 / channels, over the classes k that the batch has."""
    classes = _classes(masks)
    weights = (classes / classes.sum((0, 2, 3), keepdim=True).clamp(min=1)).sum(1)
    towards = torch.einsum("nkhw,kc->nchw", classes, prototypes)
    return ((features - towards).square().mean(1) * weights).sum()


def _classes(masks: Tensor) -> Tensor:
    return torch.cat([1 - masks, masks], dim=1)
