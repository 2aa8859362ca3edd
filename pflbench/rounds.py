"""The protocol: client updates, one server update, clients receive, evaluation; and the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pflbench.engines import Engine
from pflbench.errors import TrialFailed
from pflbench.evaluation import Score
from pflbench.faults import described
from pflbench.message import Inbox, Message, Outbox, ReadOnly, check, copied, encoded_size, values
from pflbench.method import Method
from pflbench.metrics import dice
from pflbench.results import TABLES
from pflbench.returned import checked_message, kind_of, numbers
from pflbench.sites import Server, Setting
from pflbench.steps import Reply, Stage

_SERVER = ""  # the server's name in the tables


@dataclass(frozen=True)
class CaseLabel:
    """What identifies a test case in the tables."""

    site: str
    subject: str
    volume: str  # the scan it is a slice of, or ""
    id: str


@dataclass
class Progress:
    """All that has happened so far in a trial and is not kept at a client."""

    round: int = 0
    ready: bool = False  # the setup exchange is over
    server: dict[str, Any] = field(default_factory=dict)
    best: dict[str, dict[str, float]] = field(default_factory=dict)  # client -> dice, round of best validation
    found: dict[str, Tensor] = field(default_factory=dict)  # client -> N x H x W: what was found in that round
    tables: dict[str, list[list[Any]]] = field(
        default_factory=lambda: {name: [] for name in TABLES if name != "metrics"}
    )
    val_dice: float = float("nan")  # mean over clients, of the last round


class Federation:
    """One trial in progress: a method, its clients behind an engine, and the server.

    ``samples`` are the training images of each client that trains; clients that only have ``test_cases`` are
    guests: they never send anything, and are scored with what ``Method.newcomer`` sends them. ``validated`` are
    the clients with validation cases, if they are not those that train; ``public`` the server's images.
    """

    def __init__(
        self,
        method: Method,
        setting: Setting,
        engine: Engine,
        samples: Mapping[str, int],
        test_cases: Mapping[str, Sequence[CaseLabel]],
        validated: Sequence[str] | None = None,
        public: Tensor | None = None,
    ) -> None:
        self._method, self._setting, self._engine = method, setting, engine
        self._test_cases = test_cases
        self._shares = {client: count / sum(samples.values()) for client, count in samples.items()}
        self._clients = list(samples)  # who trains
        self._validated = list(samples if validated is None else validated)
        # and guests, who are only tested, in the order of the federation; pooled data is nobody's to test
        self._tested = [client for client, cases in test_cases.items() if cases or client not in samples]
        self._public = public
        self.progress = Progress()

    def play(self) -> Iterator[int]:
        """Play the rounds that are left, yielding the number of each when it is over."""
        if not self.progress.ready:
            self._set_up()
        for round in range(self.progress.round + 1, self._setting.recipe.rounds + 1):
            self._play_round(round)
            self.progress.round = round
            yield round

    def _set_up(self) -> None:
        replies = self._run("setup", 0, {client: {} for client in self._clients})
        inbox = {client: reply.message for client, reply in replies.items() if reply.message}
        briefings = self._server("setup", 0, inbox)
        self._deliver("brief", 0, {client: message for client, message in briefings.items() if message})
        self.progress.ready = True

    def _play_round(self, round: int) -> None:
        replies = self._run("update", round, {client: {} for client in self._clients})
        for client, reply in replies.items():
            self._row("rounds", round, client, "train", None, reply.loss)
        inbox = {client: reply.message for client, reply in replies.items() if reply.message}
        outbox = self._server("update", round, inbox)
        messages = {client: outbox.get(client, {}) for client in self._clients}
        guests = [client for client in self._tested if client not in messages]
        if guests:
            messages |= dict.fromkeys(guests, self._for_newcomers(round, outbox))
        replies = self._deliver("receive", round, messages)
        if round == 1:
            self._refuse_unused(messages, replies)
        self._evaluate(round)

    def _refuse_unused(self, messages: Mapping[str, Message], replies: Mapping[str, Reply]) -> None:
        """Raise TrialFailed where everybody who was sent tensors threw them away: the ledger would not be true."""
        sent = [client for client in self._clients if values(messages[client])]
        alone = len(self._clients) == 1  # what comes back is what it has: nothing can change
        if sent and not alone and not any(replies[client].used for client in sent):
            raise TrialFailed(
                f"{self._method.name}.client_receive, round 1: the server's message changed neither client.model nor "
                "client.state at any client; take it in with load(client.model, message), or return {} from "
                "server_update where nothing is to be sent."
            )

    def _for_newcomers(self, round: int, outbox: Outbox) -> Message:
        """Return what guests are sent. Raises TrialFailed that names method and round."""
        try:
            return _ordinary(checked_message(self._method.newcomer(outbox), "message"))
        except Exception as error:
            what = described(error, type(self._method))
            raise TrialFailed(f"{self._method.name}.newcomer, round {round}: {what}") from error

    def _run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        replies = self._engine.run(stage, round, messages)
        for client, reply in replies.items():
            self._row("timing", round, client, stage, reply.seconds, reply.peak_mib)
            if reply.message:
                self._row("ledger", round, client, "up", encoded_size(reply.message))
            logged = {**reply.log, "gradients": reply.gradients} if reply.gradients else reply.log
            for key, value in logged.items():
                self._row("logs", round, client, key, value)
        return replies

    def _server(self, stage: Stage, round: int, inbox: Inbox) -> Outbox:
        """Run the server's half of a stage and return what each client is sent."""
        started = time.perf_counter()
        server = Server(round, stage, self._shares, self.progress.server, self._setting, self._public)
        half = self._method.server_setup if stage == "setup" else self._method.server_update
        guard = ReadOnly(inbox=inbox)
        try:
            outbox = _checked(half(server, inbox), self._clients)
            guard.verify()
            check(server.state, "server.state")
            logged = numbers(server.log, "server.log")
        except Exception as error:
            what = described(error, type(self._method))
            raise TrialFailed(f"{self._method.name}.server_{stage}, round {round}: {what}") from error
        self.progress.server = copied(server.state)
        if server.gradients:
            logged["gradients"] = float(server.gradients)
        for key, value in logged.items():
            self._row("logs", round, _SERVER, key, value)
        seconds = time.perf_counter() - started
        self._row("timing", round, _SERVER, "server", seconds, None)
        return outbox

    def _deliver(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        sizes: dict[int, int] = {}  # the same message to many is measured once
        for client, message in messages.items():
            if message:
                size = sizes.setdefault(id(message), encoded_size(message))
                self._row("ledger", round, client, "down", size)
        return self._run(stage, round, messages)

    def _evaluate(self, round: int) -> None:
        """Score every client's validation cases; where they are its best so far, its test cases too."""
        recipe, best = self._setting.recipe, self.progress.best
        means = {}
        for client, reply in self._run("val", round, {client: {} for client in self._validated}).items():
            means[client] = _mean_dice(reply.scores)
            self._row("rounds", round, client, "val", means[client], None)
        self.progress.val_dice = sum(means.values()) / len(means)
        # a guest has no validation cases: its round is the one that is best for those who train, on average
        means = {client: means.get(client, self.progress.val_dice) for client in self._tested}
        improved = [
            client
            for client in self._tested
            if recipe.selects_from(round) and (client not in best or means[client] > best[client]["dice"])
        ]
        last = self._tested if round == recipe.rounds else []
        tested = [client for client in self._tested if client in improved or client in last]
        for client, reply in self._run("test", round, {client: {} for client in tested}).items():
            self._row("rounds", round, client, "test", _mean_dice(reply.scores), None)
            if client in improved:
                best[client] = {"dice": means[client], "round": round}
                if reply.found is not None:
                    self.progress.found[client] = reply.found
                self._record_cases("best", round, client, reply.scores)
            if client in last:
                self._record_cases("last", round, client, reply.scores)

    def _record_cases(self, chosen: str, round: int, client: str, scores: Sequence[Score]) -> None:
        table = self.progress.tables["cases"]
        table[:] = [row for row in table if not (row[0] == chosen and row[2] == client)]
        for case, score in zip(self._test_cases[client], scores, strict=True):
            names = (case.site, case.subject, case.volume, case.id)
            inside = dice(*score[3:]) if len(score) > 3 else None
            self._row("cases", chosen, round, client, *names, dice(*score[:3]), inside, *score[:3])
        table.sort(key=lambda row: (row[0], self._tested.index(row[2])))  # whichever client improved first

    def _row(self, table: str, *values: Any) -> None:
        self.progress.tables[table].append(list(values))

    def found(self) -> dict[str, Tensor]:
        """Return what was found in each client's test cases at its chosen round: N x H x W, boolean."""
        return {client: self.progress.found[client] for client in self._tested if client in self.progress.found}

    def kept(self) -> dict[str, Any]:
        """Return all that is needed to go on after this round, as a message."""
        progress = self.progress
        return {
            "round": progress.round,
            "clients": self._engine.kept(),
            "server": progress.server,
            "best": progress.best,
            "found": progress.found,
            "val_dice": progress.val_dice,
            "tables": json.dumps(progress.tables),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what ``kept`` returned."""
        self._engine.restore(kept["clients"])
        self.progress = Progress(
            round=kept["round"],
            ready=True,
            server=copied(kept["server"]),
            best={client: dict(entry) for client, entry in kept["best"].items()},
            found=copied(kept["found"]),
            tables=json.loads(kept["tables"]),
            val_dice=kept["val_dice"],
        )


def _mean_dice(scores: Sequence[Score]) -> float:
    return sum(dice(*score[:3]) for score in scores) / len(scores)


_ADDRESSED = "return client -> message, as dict.fromkeys(inbox, message), or {} to send nothing."


def _checked(outbox: Any, clients: Sequence[str]) -> dict[str, Message]:
    """Return the outbox with inference tensors replaced by ordinary ones, which count their changes.

    Raises TrialFailed for what is no outbox.
    """
    if not isinstance(outbox, Mapping):
        raise TrialFailed(f"returned {kind_of(outbox)}, not a mapping from client to message; {_ADDRESSED}")
    for client in outbox:
        if client not in clients:
            known = ", ".join(clients)
            raise TrialFailed(f"a message is addressed to {client!r}; the clients are {known}: {_ADDRESSED}")
    distinct = {id(message): (client, message) for client, message in outbox.items()}  # often one for everybody
    ordinary = {
        key: _ordinary(checked_message(message, f"outbox[{client!r}]")) for key, (client, message) in distinct.items()
    }
    return {client: ordinary[id(message)] for client, message in outbox.items()}


def _ordinary(message: Message) -> Message:
    def clean(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().clone() if value.is_inference() else value.detach()
        return _ordinary(value) if isinstance(value, Mapping) else value

    return {key: clean(value) for key, value in message.items()}
