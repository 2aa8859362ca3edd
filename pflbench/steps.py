"""One step at one client: the method's function between what the client keeps and what travels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from pflbench.errors import TrialFailed
from pflbench.evaluation import HeldOut, Score, score, segment
from pflbench.faults import described
from pflbench.message import Message, ReadOnly, check, copied, moved, values
from pflbench.method import Method
from pflbench.returned import Before, checked_message, kind_of, numbers
from pflbench.sites import Client, Memory, Setting, TrainingData
from pflbench.training import adam
from pflbench.weights import entries

_LONG = 0.05  # seconds: a shorter step moves no peak of memory, and asking the system takes a millisecond
Stage = Literal["setup", "brief", "update", "receive", "val", "test"]


@dataclass(frozen=True)
class Reply:
    """What a step gives back: the message for the server, and numbers for the harness."""

    message: Message = field(default_factory=dict)
    log: Mapping[str, float] = field(default_factory=dict)
    loss: float | None = None  # mean training loss of the step
    gradients: int = 0  # per-image gradients taken
    scores: tuple[Score, ...] = ()  # per case, of an evaluation
    found: torch.Tensor | None = None  # what the model found in the test cases, N x H x W, boolean
    used: bool = True  # False where a message was sent here and nothing came of it; found out in round 1
    seconds: float = 0.0
    peak_mib: float = 0.0


class Site:
    """One hospital: its data, what it keeps, and the method's steps there."""

    def __init__(
        self,
        name: str,
        method: Method,
        setting: Setting,
        training: TrainingData,
        held_out: Mapping[str, HeldOut],
    ) -> None:
        self.name, self._method, self._setting = name, method, setting
        self._training, self._held_out = training, held_out
        self._memory = Memory(setting.new_model())
        self._peak = 0.0

    def run(self, stage: Stage, round: int, message: Message) -> Reply:
        """Run one step. Raises TrialFailed that names method, client, round and function."""
        started = time.perf_counter()
        function = {"update": "client_update", "receive": "client_receive", "setup": "client_setup"}.get(
            stage, "personal_model"
        )
        try:
            guard = ReadOnly(message=message, briefing=self._memory.briefing)
            reply = self._step(stage, round, message)
            guard.verify(lambda: entries(self._memory.model).values())
        except Exception as error:
            where = f"{self._method.name}.{function} at client {self.name}, round {round}"
            raise TrialFailed(f"{where}: {described(error, type(self._method))}") from error
        if self._setting.numerics.device == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        if seconds > _LONG:
            self._peak = self._setting.numerics.peak_mib()
        return Reply(**{**vars(reply), "seconds": seconds, "peak_mib": self._peak})

    def _step(self, stage: Stage, round: int, message: Message) -> Reply:
        if stage == "brief":
            self._memory.briefing = message
            return Reply()
        client = Client(self.name, round, stage, self._training, self._memory, self._setting)
        if stage in ("val", "test"):
            return self._evaluated(client, stage)
        sent: Any = None
        used = True
        if stage == "setup":
            sent = self._method.client_setup(client)
        elif stage == "update":
            sent = self._method.client_update(client)
            if sent is None:
                raise TrialFailed("returned None; return what is sent, or {} to send nothing.")
        else:
            used = self._received(client, message)
        self._keep()
        checked = checked_message({} if sent is None else sent, "message")
        loss = sum(client.losses) / len(client.losses) if client.losses else None
        log = numbers(client.log, "client.log")
        return Reply(message=checked, log=log, loss=loss, gradients=client.gradients, used=used)

    def _received(self, client: Client, message: Message) -> bool:
        """Let the client take in its message; say, in round 1, whether anything came of it."""
        watched = client.round == 1 and values(message)
        before = Before(client.model, client.state) if watched else None
        self._method.client_receive(client, message)
        return before is None or bool(client.log) or before.differs_from(client.model, client.state)

    def _evaluated(self, client: Client, split: str) -> Reply:
        cases, model = self._held_out[split], self._method.personal_model(client)
        if not isinstance(model, nn.Module):
            raise TrialFailed(
                f"returned {kind_of(model)}; return a module, as client.model or client.new_model(client.state['own'])."
            )
        found = segment(model, cases, self._setting.recipe, self._setting.numerics)
        scores = tuple(score(found, cases))
        # clone: a tensor made in inference mode cannot be kept
        return Reply(scores=scores, found=found[:, 0].cpu().clone() if split == "test" else None)

    def _keep(self) -> None:
        """Replace the state by a copy: what is kept is what it was when the step ended."""
        check(self._memory.state, "client.state")
        self._memory.state = copied(self._memory.state)

    def kept(self) -> dict[str, Any]:
        """Return all that this client keeps, as a message: model, optimisers' moments, state, briefing."""
        memory = self._memory
        return {
            "model": dict(memory.model.state_dict()),
            "optimizers": {role: _moments(optimizer) for role, optimizer in memory.optimizers.items()},
            "state": memory.state,
            "briefing": memory.briefing,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Take back what ``kept`` returned."""
        device = self._setting.numerics.device
        here = moved(kept, device, copy=True)
        memory = Memory(self._setting.new_model())
        memory.model.load_state_dict(here["model"])
        memory.optimizers = {role: self._adam(moments) for role, moments in here["optimizers"].items()}
        memory.state, memory.briefing = here["state"], here["briefing"]
        self._memory = memory

    def _adam(self, moments: Mapping[str, Any]) -> torch.optim.Adam:
        """Return an optimiser over stand-ins for the parameters; ``Client.optimizer`` moves it to the real ones."""
        stand_ins = [nn.Parameter(torch.empty_like(entry["exp_avg"])) for entry in moments.values()]
        optimizer = adam(stand_ins, self._setting.recipe.lr, self._setting.recipe.weight_decay)
        optimizer.param_groups[0]["names"] = list(moments)
        for parameter, entry in zip(stand_ins, moments.values(), strict=True):
            optimizer.state[parameter] = dict(entry)
        return optimizer


def _moments(optimizer: torch.optim.Adam) -> dict[str, Any]:
    group = optimizer.param_groups[0]
    pairs = zip(group["names"], group["params"], strict=True)
    return {name: dict(optimizer.state[parameter]) for name, parameter in pairs if parameter in optimizer.state}
