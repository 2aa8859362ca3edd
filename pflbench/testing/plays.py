"""Toy federations that are watched while they are played: every message, its bytes, and what is kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pflbench.engines.in_process import InProcess
from pflbench.message import Message, decode, encode
from pflbench.method import Method
from pflbench.sites import TrainingData
from pflbench.steps import Reply, Site, Stage
from pflbench.testing.toy import ToyFederation, toy_federation, toy_images

ROUNDS = 3
_TO_CLIENT = ("brief", "receive")


class Sent(NamedTuple):
    """One message as it travelled."""

    round: int  # 0: before round 1
    client: str
    way: Literal["up", "down"]
    encoded: bytes

    @property
    def message(self) -> dict[str, Any]:
        """What it says."""
        return decode(bytearray(self.encoded))


class Recorder(InProcess):
    """Keeps every message that is sent."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        super().__init__(sites)
        self.sent: list[Sent] = []

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named."""
        if stage in _TO_CLIENT:
            self.sent += [Sent(round, client, "down", encode(message)) for client, message in messages.items()]
        replies = super().run(stage, round, messages)
        if stage in ("setup", "update"):
            self.sent += [Sent(round, client, "up", encode(reply.message)) for client, reply in replies.items()]
        return replies


class Backwards(InProcess):
    """Asks the clients in the opposite order."""

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named, the last one first."""
        replies = super().run(stage, round, dict(reversed(list(messages.items()))))
        return {client: replies[client] for client in messages}


class Encoding(InProcess):
    """Encodes and decodes whatever travels, as between processes."""

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named."""
        arrived = {client: decode(bytearray(encode(message))) for client, message in messages.items()}
        replies = super().run(stage, round, arrived)
        return {
            client: Reply(**{**vars(reply), "message": decode(bytearray(encode(reply.message)))})
            for client, reply in replies.items()
        }


class Replaying(Recorder):
    """Sends clients what they were sent in another play, whatever the server says now."""

    def __init__(self, sites: Mapping[str, Site], played: Played) -> None:
        super().__init__(sites)
        self._before = {(one.round, one.client): one.message for one in played.sent if one.way == "down"}

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named."""
        if stage in _TO_CLIENT:
            messages = {client: self._before.get((round, client), {}) for client in messages}
        return super().run(stage, round, messages)


@dataclass(frozen=True)
class Played:
    """A play that is over: its federation, every message, and all that is kept."""

    toy: ToyFederation
    sent: list[Sent]
    kept: dict[str, Any]

    def rows(self, table: str) -> list[list[Any]]:
        """Return the rows of a table of the results."""
        return self.toy.federation.progress.tables[table]


def played(method: Method, engine: Callable[[Mapping[str, Site]], Recorder] = Recorder, **options: Any) -> Played:
    """Play a method on the toy federation, watched."""
    engines: list[Recorder] = []

    def watched(sites: Mapping[str, Site]) -> Recorder:
        engines.append(engine(sites))
        return engines[-1]

    toy = toy_federation(method, **{"rounds": ROUNDS, "engine": watched, **options}).play()
    return Played(toy, engines[0].sent, toy.kept())


def negative(where: Callable[[str, str], bool]) -> Callable[[str, str], TrainingData]:
    """Return the toy images, as negatives where ``where(client, split)`` says so; the masks stay."""

    def data(client: str, split: str) -> TrainingData:
        found = toy_images(client, split)
        return TrainingData(255 - found.images, found.masks) if where(client, split) else found

    return data


def global_generators() -> dict[str, str]:
    """Return the state of the generators that all of a process shares, by whose they are."""
    return {
        "torch": str(torch.get_rng_state().tolist()),
        "numpy": str(np.random.get_state(legacy=False)),
        "Python": str(random.getstate()),
    }


def leaves(tree: Mapping[str, Any], path: str = "") -> dict[str, Tensor | object]:
    """Return path -> tensor or plain value of a tree."""
    found: dict[str, Tensor | object] = {}
    for key, value in tree.items():
        here = f"{path}/{key}"
        found.update(leaves(value, here) if isinstance(value, Mapping) else {here: value})
    return found
