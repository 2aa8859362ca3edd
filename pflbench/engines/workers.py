"""The engine of worker processes: each client lives in one of them for the whole trial."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing.connection import wait
from typing import Any

from pflbench.errors import TrialFailed
from pflbench.message import Message
from pflbench.steps import Reply, Stage
from pflbench.wire import Worker


class Workers:
    """Runs clients' steps in worker processes, those of different processes at the same time.

    ``opening`` is what a worker needs to open its clients' data (specification and root); ``load`` is each
    client's work, by which clients are shared out.
    """

    def __init__(self, workers: list[Worker], opening: Mapping[str, Any], load: Mapping[str, int]) -> None:
        self._order = list(load)
        self._clients = _shared_out(load, len(workers))
        self._workers = workers[: len(self._clients)]
        try:
            for worker, clients in zip(self._workers, self._clients, strict=True):
                worker.channel.send({"do": "open", **opening, "clients": clients})
            for worker in self._workers:
                self._answer(worker)
        except BaseException:
            self.close()
            raise

    def run(self, stage: Stage, round: int, messages: Mapping[str, Message]) -> dict[str, Reply]:
        """Run one step at every client named."""
        asked = [[client for client in clients if client in messages] for clients in self._clients]
        for worker, clients in zip(self._workers, asked, strict=True):
            if clients:
                worker.channel.send({"do": "run", "stage": stage, "round": round, "clients": clients})
                for client in clients:
                    worker.channel.send_message(messages[client])
        replies = {}
        waiting = {w.channel.connection: (w, list(c)) for w, c in zip(self._workers, asked, strict=True) if c}
        while waiting:
            for connection in wait(list(waiting)):  # whoever is ready: a full pipe would hold the others up
                worker, clients = waiting[connection]  # type: ignore[index]
                replies[clients.pop(0)] = self._reply(worker)
                if not clients:
                    del waiting[connection]  # type: ignore[arg-type]
        return {client: replies[client] for client in messages}

    def _reply(self, worker: Worker) -> Reply:
        plain = self._answer(worker)
        tensors = worker.channel.receive_message()
        fields = {key: value for key, value in plain.items() if key != "event"}
        return Reply(**{**fields, **tensors, "scores": tuple(tuple(score) for score in plain["scores"])})

    def _answer(self, worker: Worker) -> dict[str, Any]:
        """Return a worker's next plain answer. Raises TrialFailed with its error, or where it is gone."""
        try:
            answer = worker.channel.receive()
        except (EOFError, OSError):
            raise worker.died() from None
        if "error" in answer:
            raise TrialFailed(answer["error"]) from RemoteError(answer["traceback"])
        return answer

    def kept(self) -> dict[str, Any]:
        """Return what each client keeps."""
        kept = {}
        for worker, clients in zip(self._workers, self._clients, strict=True):
            worker.channel.send({"do": "kept"})
            for _ in clients:
                client = self._answer(worker)["client"]
                kept[client] = worker.channel.receive_message()
        return {client: kept[client] for client in self._order}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Give each client back what it kept."""
        for worker, clients in zip(self._workers, self._clients, strict=True):
            worker.channel.send({"do": "restore", "clients": clients})
            for client in clients:
                worker.channel.send_message(kept[client])
            self._answer(worker)

    def close(self) -> None:
        """End the workers: after a failure their channels may hold answers that nobody waits for."""
        for worker in self._workers:
            worker.close()


class RemoteError(Exception):
    """The traceback of an error in a worker process."""


def _shared_out(load: Mapping[str, int], count: int) -> list[list[str]]:
    """Give clients to at most ``count`` workers, the heaviest first, each to the worker with the least so far."""
    groups: list[list[str]] = [[] for _ in range(min(count, len(load)))]
    totals = [0] * len(groups)
    for client in sorted(load, key=lambda client: -load[client]):
        lightest = totals.index(min(totals))
        groups[lightest].append(client)
        totals[lightest] += load[client]
    return groups
