"""pFedLA (Ma et al., 2022): every client is sent its own mixture of all models, with learnt weights for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar
from urllib.parse import quote

import torch
from pydantic import Field
from torch import Tensor, nn

from pflbench.api import Family, Inbox, Outbox, Server, Weights, layer, parameter_keys, pick
from pflbench_methods.fedavg import FedAvg

_HIDDEN = ("hidden1", "hidden2", "hidden3")


@dataclass(frozen=True)
class PFedLA(FedAvg):
    """FedAvg, except that the server sends every client its own mean of all models, with learnt weights for each layer.

    theta-bar_c[l] = sum_j alpha_c[l, j] theta_j[l]. The row alpha_c[l] is what a small network at the server gives for
    client c and layer l: an embedding, three linear layers with ReLU, and for each layer of the UNet a linear one to
    as many numbers as there are clients, ReLU, divided by their sum. The client trains from theta-bar_c; what it
    reached is theta_c of the next mixture, and the network takes one step of plain SGD towards it, along the gradient
    of 1/2 |theta-bar_c - theta_c|^2. Unofficial code that is public steps the other way, away from what was trained.

    A layer is a module that has parameters: 15 of them in the UNet, convolutions and normalizations apart. The last
    linear layers start with weights from U(0, 1) and no bias, so that no row is zero and all are near 1 / C; a row that
    becomes zero falls back to the client's own model. In round 1 everybody was sent the same weights, whatever the
    rows, so that the network cannot learn from it. Alone, a client trains locally. The clients' weights in a mixture
    are learnt, never the numbers of training images. The paper's variant HeurpFedLA, which saves bytes by keeping at
    home the layers whose own weight is largest, is left out.

    Batch-norm statistics: they never leave the client. The original speaks of no such layers.

    Ma, Zhang, Guo, Xu: Layer-wised Model Aggregation for Personalized Federated Learning. CVPR 2022.
    https://arxiv.org/abs/2205.03993
    """

    name: ClassVar[str] = "pfedla"
    title: ClassVar[str] = "pFedLA"
    citation: ClassVar[str] = (
        "Ma et al.: Layer-wised Model Aggregation for Personalized Federated Learning. CVPR 2022. "
        "https://arxiv.org/abs/2205.03993"
    )
    family: ClassVar[Family] = "personalized"
    year: ClassVar[int | None] = 2022
    travels: ClassVar[str] = "all weights but no batch-norm statistics, every round"

    learning_rate: Annotated[float, Field(ge=0)] = 5e-3  # of the networks at the server
    hidden: Annotated[int, Field(ge=1)] = 100  # width of their embedding and of their hidden layers

    def shared(self, model: nn.Module) -> frozenset[str]:
        """Return all parameters: running statistics stay."""
        return parameter_keys(model)

    def server_setup(self, server: Server, inbox: Inbox) -> Outbox:
        """Draw every client's network."""
        model = server.new_model()
        count = len(layers(pick(model.state_dict(), self.shared(model))))
        server.state["networks"] = {client: self._network(server, count) for client in server.shares}
        return {}

    def _network(self, server: Server, count: int) -> Weights:
        """Return a network that gives ``count`` rows, as torch initialises an embedding and linear layers."""

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(shape).uniform_(low, high, generator=server.rng).to(server.device)

        bound, clients = self.hidden**-0.5, len(server.shares)
        network = {"embedding": torch.randn(self.hidden, generator=server.rng).to(server.device)}
        for name in _HIDDEN:
            network[f"{name}.weight"] = uniform(-bound, bound, self.hidden, self.hidden)
            network[f"{name}.bias"] = uniform(-bound, bound, self.hidden)
        network["rows.weight"] = uniform(0, 1, count, clients, self.hidden)
        network["rows.bias"] = torch.zeros(count, clients, device=server.device)
        return network

    def server_update(self, server: Server, inbox: Inbox) -> Outbox:
        """Train the networks on what the clients reached, then send each its new mixture."""
        clients = list(server.shares)
        reached = {client: dict(inbox[client]) for client in clients}
        networks, before = server.state["networks"], server.state.get("models")
        if before:
            slopes = row_gradients(before, reached, all_rows(networks))
            networks = {c: stepped(networks[c], i, slopes[i], self.learning_rate) for i, c in enumerate(clients)}
        server.state.update(networks=networks, models=reached)
        rows = all_rows(networks)
        for i, own in enumerate(rows.diagonal(dim1=0, dim2=2).mean(0).tolist()):
            server.log[f"own_weight/{quote(clients[i], safe='')}"] = own
        return mixtures(reached, rows)

    def policies(self) -> dict[str, str]:
        """Say that every client has a mixture of its own."""
        return {
            "batch_norm": "parameters mixed for each client, statistics kept at the client",
            "aggregation": "learnt at the server for each client and layer",
        }


def layers(names: Iterable[str]) -> dict[str, int]:
    """Return the modules that entries belong to, numbered in their order."""
    return {name: i for i, name in enumerate(dict.fromkeys(map(layer, names)))}


def layer_rows(network: Weights, own: int) -> Tensor:
    """Return one client's weights of all clients for each layer, L x C; ``own`` is its number among them."""
    signal = network["embedding"]
    for name in _HIDDEN:
        signal = torch.relu(network[f"{name}.weight"] @ signal + network[f"{name}.bias"])
    raw = torch.relu(network["rows.weight"] @ signal + network["rows.bias"])
    total = raw.sum(1, keepdim=True)
    alone = torch.eye(raw.shape[1], device=raw.device)[own]
    # the inner choice keeps 0 / 0 out of the gradient
    return torch.where(total > 0, raw / torch.where(total > 0, total, 1), alone)


@torch.no_grad()
def all_rows(networks: Mapping[str, Weights]) -> Tensor:
    """Return the rows of all clients, C x L x C."""
    return torch.stack([layer_rows(network, own) for own, network in enumerate(networks.values())])


@torch.no_grad()
def mixtures(models: Mapping[str, Weights], rows: Tensor) -> dict[str, Weights]:
    """Return every client's mixture, theta-bar_c[l] = sum_j alpha_c[l, j] theta_j[l], from the rows C x L x C."""
    first = next(iter(models.values()))
    number = layers(first)
    mixed: dict[str, Weights] = {client: {} for client in models}
    for name, value in first.items():
        for client, flat in zip(models, rows[:, number[layer(name)]] @ _stacked(models, name), strict=True):
            mixed[client][name] = flat.view(value.shape)
    return mixed


@torch.no_grad()
def row_gradients(before: Mapping[str, Weights], reached: Mapping[str, Weights], rows: Tensor) -> Tensor:
    """Return the gradient of 1/2 |theta-bar_c - theta_c|^2 by the rows that mixed ``before``, C x L x C.

    It is <theta_j[l], theta-bar_c[l] - theta_c[l]>: inner products, and no graph through the weights.
    """
    gradients = torch.zeros_like(rows)
    names = list(next(iter(before.values())))
    number = layers(names)
    for name in names:
        i, parts = number[layer(name)], _stacked(before, name)
        gradients[:, i] += (rows[:, i] @ parts - _stacked(reached, name)) @ parts.T
    return gradients


def _stacked(models: Mapping[str, Weights], name: str) -> Tensor:
    """Return one entry of all models, C x its size."""
    return torch.stack([weights[name].flatten() for weights in models.values()])


def stepped(network: Weights, own: int, slopes: Tensor, learning_rate: float) -> Weights:
    """Return a network after a step of SGD on what has the gradient ``slopes``, L x C, by its rows."""
    leaves = {name: value.detach().requires_grad_() for name, value in network.items()}
    gradients = torch.autograd.grad(layer_rows(leaves, own), list(leaves.values()), slopes)
    return {
        name: value - learning_rate * gradient
        for (name, value), gradient in zip(network.items(), gradients, strict=True)
    }
