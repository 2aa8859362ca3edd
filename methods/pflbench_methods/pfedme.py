"""pFedMe (Dinh et al., 2020): personal models held near a local copy of the shared one by a Moreau envelope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import (
    Client,
    Family,
    Inbox,
    Message,
    Outbox,
    Server,
    TaskCard,
    UsageError,
    Weights,
    load,
    pick,
    statistics_keys,
    weighted_mean,
)
from pflbench_methods.fedavg import FedAvg, initial_parameters
from pflbench_methods.running import estimate_statistics

_PERSONAL = "theta"  # in client.state
_SHARED = "parameters"  # in server.state


@dataclass(frozen=True)
class PFedMe(FedAvg):
    """FedAvg, except that a personal model is trained near a local copy of the shared one, and the copy follows it.

    Every round the copy w and the personal model theta both start at what was received. On each batch theta takes
    ``inner_steps`` plain gradient steps on its loss + proximity / 2 ||theta - w||^2, going on from where it is, and w
    moves the share ``proximity`` x ``outer_rate`` (lambda eta) of the way to theta. w is sent. theta stays at the
    client and is evaluated as it was trained, whatever comes back, as in the original.

    * The steps are not the recipe's Adam's, which rescales gradients and with them the proximal term's balance. The
      recipe's weight decay is added (the original has .001) and the rate falls by its factor per round (there: none).
    * ``epochs``: the original draws 20 batches (R) a round. Here whole epochs are taken, so that the cost does not
      depend on the batch size: one, of ``inner_steps`` gradients per image. Those of the recipe would cost
      ``inner_steps`` times FedAvg.
    * ``proximity`` 1 (lambda), ``inner_rate`` .3 and ``outer_rate`` .5 (eta) instead of 15, .09 and .005: theta strays
      from w by about gradient / lambda and w moves by about eta x gradient a batch, which is hundreds of rounds away
      from a UNet (the loss falls from .81 to .72, with these from .63 to .16: one seed of the simulated vessels, 15
      rounds at 64 x 64, width 16).
    * ``server_rate`` (beta) moves parameters alone: beyond the mean a variance might become negative.

    Clients are weighted by training images, as in the original. Batch-norm statistics: estimated anew for theta from
    the client's training images after training, because the running ones remember little but the last batch, taken
    ``inner_steps`` times. theta keeps them; they are sent with w, which makes no forward pass of its own, and averaged.
    Dinh, Tran, Nguyen: Personalized Federated Learning with Moreau Envelopes. NeurIPS 2020.
    https://arxiv.org/abs/2006.08848
    """

    name: ClassVar[str] = "pfedme"
    title: ClassVar[str] = "pFedMe"
    citation: ClassVar[str] = (
        "Dinh et al.: Personalized Federated Learning with Moreau Envelopes. NeurIPS 2020. "
        "https://arxiv.org/abs/2006.08848"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2020
    travels: ClassVar[str] = "all weights of the local copy and batch-norm statistics, every round"

    inner_steps: Annotated[int, Field(ge=1)] = 5  # K
    epochs: Annotated[int, Field(ge=1)] = 1  # instead of R
    proximity: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0  # lambda
    inner_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.3  # the learning rate of theta
    outer_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5  # eta
    server_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0  # beta

    def __post_init__(self) -> None:
        """Check the fields, and that the local copy does not jump beyond the personal model."""
        super().__post_init__()
        if self.proximity * self.outer_rate > 1:
            raise UsageError(
                f"pfedme: proximity {self.proximity} x outer_rate {self.outer_rate} is above 1, so the local copy "
                "would jump beyond the personal model; lower one of them."
            )

    def client_update(self, client: Client) -> Message:
        """Train the personal model, let the local copy follow it, and send the copy."""
        personal = client.new_model(client.model.state_dict())
        theta: list[Tensor] = [*personal.parameters()]
        copy: list[Tensor] = [*client.model.parameters()]
        rate = self.inner_rate * client.recipe.lr_decay ** (client.round - 1)
        losses: list[Tensor] = []
        for images, masks in client.batches(self.epochs):
            loss = partial(_loss, client, personal, images, masks)
            losses += descend(theta, copy, loss, self.inner_steps, rate, self.proximity, client.recipe.weight_decay)
            with torch.no_grad():
                # w <- w - lambda eta (w - theta)
                torch._foreach_lerp_(copy, theta, self.proximity * self.outer_rate)
            client.gradients += self.inner_steps * len(images)
        client.losses.append(_finite_mean(losses))
        estimate_statistics(client, personal)
        load(client.model, pick(personal.state_dict(), statistics_keys(personal)))
        client.state[_PERSONAL] = dict(personal.state_dict())
        return pick(client.model.state_dict(), self.shared(client.model))

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody W <- (1 - beta) W + beta sum_c (N_c / N) w_c, and the mean of the statistics."""
        mean = weighted_mean(inbox, server.shares)
        before: Weights = server.state.get(_SHARED) or initial_parameters(server)
        after = {name: torch.lerp(value, mean[name], self.server_rate) for name, value in before.items()}
        server.state[_SHARED] = after
        return dict.fromkeys(inbox, mean | after)

    def personal_model(self, client: Client) -> nn.Module:
        """Return the personal model of the last training."""
        return client.new_model(client.state.get(_PERSONAL, client.model.state_dict()))

    def policies(self) -> dict[str, str]:
        """Say that the evaluated model's statistics are its client's."""
        return {
            **super().policies(),
            "batch_norm": "the personal model's parameters kept at the client, its statistics estimated there",
        }

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the K gradients of every image of the epochs taken here, less those of the recipe's epochs."""
        passes = self.inner_steps * self.epochs - task.epochs
        return {client: count * passes for client, count in task.clients.items()}


def descend(
    theta: list[Tensor],
    centre: list[Tensor],
    loss: Callable[[], Tensor],
    steps: int,
    rate: float,
    proximity: float,
    decay: float = 0.0,
) -> list[Tensor]:
    """Take plain gradient steps on the Moreau envelope of a loss around a centre; return the loss before each step.

    theta <- theta - rate (grad loss(theta) + proximity (theta - centre) + decay theta), in place.
    """
    losses = []
    for _ in range(steps):
        value = loss()
        gradients = torch.autograd.grad(value, theta)
        with torch.no_grad():
            torch._foreach_mul_(theta, 1 - rate * (proximity + decay))
            torch._foreach_add_(theta, centre, alpha=rate * proximity)
            torch._foreach_add_(theta, gradients, alpha=-rate)
        losses.append(value.detach())
    return losses


def _loss(client: Client, model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
    with client.autocast():
        logits = model(images)
    return client.loss(logits, masks)


def _finite_mean(losses: list[Tensor]) -> float:
    """Return the mean; checked once, because looking at every step would stall a GPU."""
    values = torch.stack(losses).double()
    if not bool(values.isfinite().all()):
        step = int((~values.isfinite()).nonzero()[0]) + 1
        raise ValueError(f"the training loss is not finite at step {step} of {len(losses)}; lower pfedme.inner_rate.")
    return float(values.mean())
