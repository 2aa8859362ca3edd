"""SCAFFOLD (Karimireddy et al., 2020): control variates take the client's drift out of every gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pflbench.api import (
    Client,
    Family,
    Inbox,
    Message,
    Outbox,
    Server,
    TaskCard,
    Weights,
    load,
    pick,
    weighted_mean,
)
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fednova import local_steps

_OWN = "own"  # in client.state between training and the server's reply: c_i
_CORRECTION = "correction"  # in client.state between rounds: c - c_i


@dataclass(frozen=True)
class Scaffold(FedAvg):
    """FedAvg, except that c - c_i is added to every local gradient, so that all clients go in the common direction.

    c_i, the control variate of client i, is its gradient as last seen; c = sum_i (N_i / N) c_i is everybody's. With
    these weights, which are also those of the models (the original's are equal), the corrections sum to zero:
    sum_i (N_i / N) (c - c_i) = 0. Both start at zero, so the first round trains as FedAvg does.

    * ``variate``: the original's second option, c_i - c + (w_received - w) / (K lr), is under SGD the mean of the
      uncorrected gradients of the K local steps; under Adam that quotient is no gradient, the mean still is one.
      ``training`` takes this mean, at no cost. ``received`` is the first option: the gradient at the received model,
      over one augmented pass through the data with the statistics of its batches, as training has them. That ended at
      67 % Dice, the default at 76 and FedAvg at 73 (one seed of the simulated vessels, 15 rounds of 3 epochs at
      64 x 64, width 16).
    * The corrected gradient is what Adam is given, for both of its moments; weight decay, which is the same function
      everywhere, is no part of the variates.
    * All clients take part in every round, so the server can average the variates themselves: the same as adding
      the mean of their changes. The server's step size is 1, as in the original's experiments.

    Batch-norm statistics: averaged; variates are of trainable parameters, scale and shift among them.
    Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning.
    ICML 2020. https://arxiv.org/abs/1910.06378
    """

    name: ClassVar[str] = "scaffold"
    title: ClassVar[str] = "SCAFFOLD"
    citation: ClassVar[str] = (
        "Karimireddy et al.: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning. ICML 2020. "
        "https://arxiv.org/abs/1910.06378"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2020
    travels: ClassVar[str] = "all weights, batch-norm statistics and the mean gradient on the own images, every round"
    newcomers: ClassVar[bool] = True

    variate: Literal["training", "received"] = "training"  # option II or option I

    def client_update(self, client: Client) -> Message:
        """Train with corrected gradients, and send the shared entries and the new variate."""
        received = client.new_model(client.model.state_dict()) if self.variate == "received" else None
        with corrected(client.model, client.state.get(_CORRECTION, {})) as sums:
            client.fit()
        # after training, so that training draws the batches that it draws in FedAvg
        own = gradient_at(received, client) if received else {n: s / local_steps(client) for n, s in sums.items()}
        client.state[_OWN] = own
        return {"weights": pick(client.model.state_dict(), self.shared(client.model)), "variate": own}

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the mean model and the mean variate c."""
        means = {
            part: weighted_mean({client: message[part] for client, message in inbox.items()}, server.shares)
            for part in ("weights", "variate")
        }
        return dict.fromkeys(inbox, means)

    def client_receive(self, client: Client, message: Message) -> None:
        """Take in the model, and keep the correction of the next round."""
        load(client.model, message["weights"])
        if _OWN in client.state:  # a hospital that never trains has none
            own = client.state.pop(_OWN)
            client.state[_CORRECTION] = {name: mean - own[name] for name, mean in message["variate"].items()}

    def newcomer(self, outbox: Outbox) -> Message:
        """Return the model: who does not train needs no variate."""
        return {"weights": next(iter(outbox.values()))["weights"]}

    def extra_gradients(self, task: TaskCard) -> Mapping[str, int]:
        """Return the gradients at the received model: one per image, where they are asked for."""
        return dict(task.clients) if self.variate == "received" else {}


@contextmanager
def corrected(model: nn.Module, correction: Mapping[str, Tensor]) -> Iterator[Weights]:
    """Add a correction to every gradient of the model meanwhile, and yield the sums of the gradients without it."""
    sums = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}

    def at(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            assert parameter.grad is not None
            sums[name] += parameter.grad
            if name in correction:
                parameter.grad += correction[name]

        return hook

    hooks = [
        parameter.register_post_accumulate_grad_hook(at(name))  # type: ignore[no-untyped-call]
        for name, parameter in model.named_parameters()
    ]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def gradient_at(model: nn.Module, client: Client) -> Weights:
    """Return the mean gradient of a client's images at a model in training mode, whose statistics go on with them."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for images, masks in client.batches(epochs=1):
        with client.autocast():
            logits = model(images)
        gradients = torch.autograd.grad(client.loss(logits, masks), list(parameters.values()))
        torch._foreach_add_(list(total.values()), list(gradients), alpha=len(images) / client.samples)
        client.gradients += len(images)
    return total
