"""FedNova (Wang et al., 2020): who takes more local steps does not pull the mean its way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from pflbench.api import Client, Family, Inbox, Message, Outbox, Server, Weights, pick, weighted_mean
from pflbench_methods.fedavg import FedAvg, initial_parameters

_SENT = "sent"  # in server.state: the parameters that everybody was last sent


@dataclass(frozen=True)
class FedNova(FedAvg):
    """FedAvg, except that the server averages the change per local step and goes the mean number of steps with it.

    w <- w + tau_eff sum_i p_i (w_i - w) / tau_i with p_i = N_i / N, tau_i the local steps (batches of all epochs),
    and tau_eff = sum_i p_i tau_i. With equal tau_i that is FedAvg. Here every client does the same epochs, so steps
    are proportional to images but for the last batch: p_i / tau_i is nearly the same for all, and what remains
    is nearly the mean change with equal weights, times C sum_i p_i^2 for C clients, which is above 1.

    * The original derives its normalization, ||a_i||_1, for SGD, also with momentum or a proximal term. Adam has no
      such closed form: its step has about the size of the learning rate whatever the gradient, and its moments live
      on from round to round, so every step counts 1, as for plain SGD.
    * No momentum at the server (the original's default).

    Batch-norm statistics: averaged by training images, as in FedAvg: they follow the batches as moving averages, so
    they do not grow with the number of steps, and going further than the clients did could make a variance negative.
    Scale and shift are parameters like any other.
    Wang, Liu, Liang, Joshi, Poor: Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization. NeurIPS 2020. https://arxiv.org/abs/2007.07481
    """

    name: ClassVar[str] = "fednova"
    title: ClassVar[str] = "FedNova"
    citation: ClassVar[str] = (
        "Wang et al.: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization. "
        "NeurIPS 2020. https://arxiv.org/abs/2007.07481"
    )
    family: ClassVar[Family] = "general"
    year: ClassVar[int | None] = 2020
    travels: ClassVar[str] = "all weights, batch-norm statistics and the number of local steps, every round"
    newcomers: ClassVar[bool] = True

    def client_update(self, client: Client) -> Message:
        """Train, and send the shared entries and the number of steps that led to them."""
        return {"weights": super().client_update(client), "steps": local_steps(client)}

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Send everybody the normalized mean."""
        weights: dict[str, Weights] = {client: message["weights"] for client, message in inbox.items()}
        steps: dict[str, int] = {client: message["steps"] for client, message in inbox.items()}
        sent = server.state.get(_SENT) or initial_parameters(server)
        mean = weighted_mean(weights, server.shares) | normalized_mean(sent, weights, steps, server.shares)
        server.state[_SENT] = pick(mean, sent)
        return dict.fromkeys(inbox, mean)

    def policies(self) -> dict[str, str]:
        """Say that steps count too."""
        return {**super().policies(), "aggregation": "training images, changes of parameters per local step"}


def local_steps(client: Client) -> int:
    """Return tau, the optimiser's steps of a round: the batches of all epochs."""
    return client.recipe.epochs * math.ceil(client.samples / client.recipe.batch)


@torch.no_grad()
def normalized_mean(
    sent: Weights, weights: Mapping[str, Weights], steps: Mapping[str, int], shares: Mapping[str, float]
) -> Weights:
    """Return w + tau_eff sum_i p_i (w_i - w) / tau_i for the entries of ``sent``, the w that all clients started from.

    With s_i = tau_eff / tau_i and S = sum_i p_i s_i that is m + (S - 1) (m - w), where m is the mean of the w_i with
    the weights p_i s_i / S: no rounding enters where all steps are equal, since then s_i = 1 and S - 1 = 0 exactly.
    """
    total = sum(shares[client] for client in weights)
    share = {client: shares[client] / total for client in weights}
    first = next(iter(steps.values()))
    effective = first + sum(share[client] * (count - first) for client, count in steps.items())
    stretch = {client: effective / count for client, count in steps.items()}
    beyond = sum(share[client] * (stretch[client] - 1) for client in weights)  # S - 1, never negative
    chosen = {client: pick(own, sent) for client, own in weights.items()}
    mean = weighted_mean(chosen, {client: shares[client] * stretch[client] for client in weights})
    return {name: value + beyond * (value - sent[name]) for name, value in mean.items()}
