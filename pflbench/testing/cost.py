"""What a round of a method costs: gradients, entries and bytes sent, memory; counted, never timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pflbench.engines.in_process import InProcess
from pflbench.listing import gradients
from pflbench.message import Message, encoded_size, values
from pflbench.method import Method
from pflbench.sites import TrainingData
from pflbench.steps import Reply, Site, Stage
from pflbench.testing.memory import memory_of
from pflbench.testing.toy import ToyFederation, toy_federation, toy_images

_SIDE = 256  # pixels of the images whose setup messages are counted


@dataclass(frozen=True)
class Sent:
    """What one client and the server sent each other in one round: numbers, bits, and bytes as they travel."""

    numbers: int = 0
    bits: int = 0
    size: int = 0

    @classmethod
    def of(cls, message: Message) -> Sent:
        """Count a message."""
        found = values(message)
        bits = sum(value.numel() for value in found if value.dtype is torch.bool)
        numbers = sum(value.numel() for value in found) - bits + _plain_numbers(message)
        return cls(numbers, bits, encoded_size(message))


def _plain_numbers(message: Message) -> int:
    """Return how many numbers stand in a message that are no tensors."""
    nested = sum(_plain_numbers(value) for value in message.values() if isinstance(value, Mapping))
    return nested + sum(isinstance(value, int | float) and not isinstance(value, bool) for value in message.values())


@dataclass(frozen=True)
class Cost:
    """The cost of a method on the paper's UNet (width 64, three channels) for one client.

    ``gradients`` and ``server_gradients``: per-image gradients of a round at all clients, and at the server, as
    multiples of those that FedAvg takes (``pflbench.listing.TASK``). ``once``: bytes a client sends before round 1
    for each of its training images, of 256 x 256. ``memory``: the most bytes held for backward passes, as a multiple
    of FedAvg's. ``kept`` and ``server_kept``: bytes that survive from round to round, optimisers' moments and all.
    """

    gradients: float
    server_gradients: float
    up: Sent
    down: Sent
    once: float
    memory: float
    kept: int
    server_kept: int


def cost_of(method: Method) -> Cost:
    """Return what a method costs, from small federations that are played for it."""
    toy, traffic = _watched(method)
    client = next(iter(toy.card.clients))
    federation = toy.federation.kept()
    clients, server = gradients(method)
    return Cost(
        gradients=clients,
        server_gradients=server,
        up=traffic.up[client],
        down=traffic.down[client],
        once=_once(method),
        memory=memory_of(method),
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
