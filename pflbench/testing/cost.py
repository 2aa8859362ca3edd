"""What a round of a method costs: gradients, entries and bytes sent, memory kept; counted, never timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pflbench.engines.in_process import InProcess
from pflbench.message import Message, encoded_size, values
from pflbench.method import Method
from pflbench.sites import TrainingData
from pflbench.steps import Reply, Site, Stage
from pflbench.testing.toy import ToyFederation, toy_federation, toy_images

_ROUNDS = 10  # so that what happens every other round, or in the second half, is seen
_EPOCHS = 4  # the paper's
_SIDE = 256  # pixels of the images whose setup messages are counted


@dataclass(frozen=True)
class Sent:
    """What one client and the server sent each other in one round: entries by kind, and bytes as they travel."""

    numbers: int = 0
    bits: int = 0
    size: int = 0

    @classmethod
    def of(cls, message: Message) -> Sent:
        """Count a message."""
        found = values(message)
        bits = sum(value.numel() for value in found if value.dtype is torch.bool)
        return cls(sum(value.numel() for value in found) - bits, bits, encoded_size(message))


@dataclass(frozen=True)
class Cost:
    """The cost of a method on the paper's UNet (width 64, three channels) for one client.

    ``gradients`` and ``server_gradients``: per-image gradients of a round at all clients, and at the server, as
    multiples of those that FedAvg takes (epochs x training images; paper's four epochs, four images each, and eight
    public ones). ``once``: bytes a client sends before round 1 for each of its training images, of 256 x 256.
    ``kept`` and ``server_kept``: bytes that survive from round to round, optimisers' moments and all.
    """

    gradients: float
    server_gradients: float
    up: Sent
    down: Sent
    once: float
    kept: int
    server_kept: int


def cost_of(method: Method) -> Cost:
    """Return what a method costs, from small federations that are played for it."""
    toy, traffic = _watched(method)
    client = next(iter(toy.card.clients))
    federation = toy.federation.kept()
    clients, server = _gradients(method)
    return Cost(
        gradients=clients,
        server_gradients=server,
        up=traffic.up[client],
        down=traffic.down[client],
        once=_once(method),
        kept=_bytes(federation["clients"][client]),
        server_kept=_bytes(federation["server"]),
    )


@dataclass
class _Traffic:
    """The last round's messages by client."""

    up: dict[str, Sent] = field(default_factory=dict)
    down: dict[str, Sent] = field(default_factory=dict)


class _Watching(InProcess):
    """Counts what is sent."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        super().__init__(sites)
        self.traffic = _Traffic()

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        replies = super().run(stage, round, messages)
        if stage == "update":
            self.traffic.up = {client: Sent.of(reply.message) for client, reply in replies.items()}
        if stage == "receive":
            self.traffic.down = {client: Sent.of(message) for client, message in messages.items()}
        return replies


def _watched(method: Method) -> tuple[ToyFederation, _Traffic]:
    """Play the paper's network on one tiny image per client: what is sent and kept does not depend on more."""
    engines: list[_Watching] = []

    def engine(sites: Mapping[str, Site]) -> _Watching:
        engines.append(_Watching(sites))
        return engines[-1]

    def one_image(client: str, split: str) -> TrainingData:
        found = toy_images(client, split)
        return TrainingData(found.images[:1], found.masks[:1])

    toy = toy_federation(method, rounds=2, width=64, data=one_image, engine=engine).play()
    return toy, engines[0].traffic


def _gradients(method: Method) -> tuple[float, float]:
    """Return the per-image gradients of a round at the clients and at the server, as multiples of FedAvg's."""
    toy = toy_federation(method, rounds=_ROUNDS, epochs=_EPOCHS).play()
    logged = [row for row in toy.federation.progress.tables["logs"] if row[2] == "gradients" and row[0] > 0]
    training = _ROUNDS * _EPOCHS * sum(toy.card.clients.values())
    at_server = sum(row[3] for row in logged if row[1] == "")
    return (sum(row[3] for row in logged) - at_server) / training, at_server / training


def _once(method: Method) -> float:
    """Return the bytes of a setup message per training image."""

    def large(client: str, split: str) -> TrainingData:
        found = toy_images(client, split)
        images, masks = (value.repeat_interleave(_SIDE // 16, 2).repeat_interleave(_SIDE // 16, 3)
                         for value in (found.images, found.masks))  # fmt: skip
        return TrainingData(images, masks)

    toy = toy_federation(method, data=large)
    client, samples = next(iter(toy.card.clients.items()))
    return encoded_size(toy.sites[client].run("setup", 0, {}).message) / samples


def _bytes(tree: Mapping[str, Any]) -> int:
    total = 0
    for value in tree.values():
        if isinstance(value, Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            total += _bytes(value)
    return total
