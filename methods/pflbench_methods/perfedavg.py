"""Per-FedAvg (Fallah et al., 2020), first order: a shared model that one gradient step makes personal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from pflbench.api import Client, Family, Loss, Message, TaskCard, UNet, load, pick, statistics_keys
from pflbench_methods.adapted import AdaptedCopy
from pflbench_methods.running import estimate_statistics

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PerFedAvg(AdaptedCopy):
    """FedAvg, except that clients minimize the loss after a plain gradient step, and evaluate the model after one.

    Every step of training draws two batches: w' = w - inner_rate x grad loss(w; first), and the gradient of
    loss(w'; second) is used as if it were that of w: first order, the Hessian is left out. The original then takes a
    plain step of .001 (beta); here it is the recipe's Adam, as in every method. The second batches are those of
    FedAvg; the first are the same images in another order, so that an epoch takes two gradients per image.

    What is evaluated is a copy of the shared model after ``adaptation_steps`` steps of ``inner_rate`` along the
    gradient of the loss of all training images, where the original takes one batch: that is less noisy, and its cost
    does not depend on the batch size. It is made in those rounds only that may be selected, see ``AdaptedCopy``;
    before, the shared model is evaluated, and that is not made to be good unadapted.
    Public code (in pFedMe's repository) adapts on a batch of test data; here none is ever seen.

    * ``inner_rate``: .01 as in the original; larger ones learn less (Dice 79 % at .01, 75 at .1: one seed of the
      simulated vessels, 12 rounds of 2 epochs at 64 x 64, width 16).
    * ``statistics`` of the copy: its own, estimated anew from the client's training images after the steps, because
      running statistics still remember the weights of before; or the averaged, so that the steps alone personalize.

    Clients are weighted by training images, where the original takes all alike. The reported training loss is the one
    after the step.
    Batch-norm statistics: in the shared model those of the passes at w' on the second batches are kept and averaged;
    the passes at w leave no trace, so that with an ``inner_rate`` of 0 the shared model is FedAvg's.
    Fallah, Mokhtari, Ozdaglar: Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic
    Meta-Learning Approach. NeurIPS 2020. https://arxiv.org/abs/2002.07948
    """

    name: ClassVar[str] = "perfedavg"
    title: ClassVar[str] = "Per-FedAvg"
    aliases: ClassVar[tuple[str, ...]] = ("per-fedavg",)
    citation: ClassVar[str] = (
        "Fallah et al.: Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic Meta-Learning "
        "Approach. NeurIPS 2020. https://arxiv.org/abs/2002.07948"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2020
    travels: ClassVar[str] = "all weights and batch-norm statistics, every round"

    inner_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.01  # alpha
    adaptation_steps: Annotated[int, Field(ge=0)] = 1
    statistics: Literal["own", "averaged"] = "own"

    def client_update(self, client: Client) -> Message:
        """Train on pairs of batches, and send the shared entries."""
        first = _another_order(client)
        aside = {name: value.clone() for name, value in client.model.named_buffers()}

        def objective(model: nn.Module, images: Tensor, masks: Tensor) -> Tensor:
            return loss_after_a_step(model, aside, client.loss, self.inner_rate, next(first), (images, masks))

        client.fit(objective=objective, passes=2)
        return pick(client.model.state_dict(), self.shared(client.model))

    def adapt(self, client: Client, copy: UNet) -> None:
        """Take plain steps on the client's training images, and give the copy its statistics."""
        for _ in range(self.adaptation_steps):
            _descend(client, copy, self.inner_rate)
        if self.statistics == "own":
            estimate_statistics(client, copy)
        else:
            load(copy, pick(client.model.state_dict(), statistics_keys(copy)))

    def extra_gradients(self, task: TaskCard) -> dict[str, int]:
        """Return the gradients at the shared weights, and those of adapting, on average over the rounds."""
        return {
            client: count * task.epochs + -(-count * self.adaptation_steps * task.selectable_rounds // task.rounds)
            for client, count in task.clients.items()
        }

    def policies(self) -> dict[str, str]:
        """Say whose statistics the evaluated copy has."""
        words = {"own": "then estimated anew at the client", "averaged": "and kept so while parameters adapt"}
        return {**super().policies(), "batch_norm": f"parameters and statistics averaged, {words[self.statistics]}"}


def loss_after_a_step(
    model: nn.Module, aside: Mapping[str, Tensor], loss: Loss, rate: float, first: Batch, second: Batch
) -> Tensor:
    """Return the loss on the second batch at w' = w - rate grad loss(w; first batch).

    The step is a constant, so the gradient with respect to w is that at w' (first order: the Hessian is left out).
    The pass at w updates the buffers ``aside``, the one at w' those of the model.
    """
    weights = dict(model.named_parameters())
    images, masks = first
    value = loss(functional_call(model, dict(aside), (images,)), masks)
    with torch.autocast(value.device.type, enabled=False):  # as the backward pass of training
        gradients = torch.autograd.grad(value, list(weights.values()))
    moved = torch._foreach_add(list(weights.values()), gradients, alpha=-rate)
    images, masks = second
    return loss(functional_call(model, dict(zip(weights, moved, strict=True)), (images,)), masks)


def _another_order(client: Client) -> Iterator[Batch]:
    """Yield the training batches in another order than ``fit``, as asked for after it has drawn its own."""
    yield from client.batches()


def _descend(client: Client, model: nn.Module, rate: float) -> None:
    """Take one step along the gradient of the loss of all training images, each seen once."""
    weights: list[Tensor] = [*model.parameters()]
    total = [torch.zeros_like(value) for value in weights]
    losses = []
    for images, masks in client.batches(1):
        with client.autocast():
            logits = model(images)
        value = client.loss(logits, masks)
        torch._foreach_add_(total, torch.autograd.grad(value, weights), alpha=len(images) / client.samples)
        client.gradients += len(images)
        losses.append(value.detach())
    with torch.no_grad():
        torch._foreach_add_(weights, total, alpha=-rate)
    client.losses.append(float(torch.stack(losses).mean()))
