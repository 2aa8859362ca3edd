"""A worker process: runs whole trials, or the steps of some clients, for the process that started it."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pflbench.errors import TrialFailed, UsageError
from pflbench.message import moved
from pflbench.method import Method
from pflbench.numerics import Numerics
from pflbench.opening import in_process, open_spec, sites_of
from pflbench.plugin_files import PluginFile
from pflbench.recipe import Recipe
from pflbench.sites import Setting
from pflbench.steps import Site
from pflbench.task import Task
from pflbench.trial import run_trial
from pflbench.wire import Channel


def main() -> None:
    """Serve commands until the channel closes."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    channel = Channel(Connection(int(sys.argv[1])))
    serving = Serving(channel)
    while True:
        try:
            command = channel.receive()
        except EOFError:
            return
        serving.obey(command)


def _end_with_starter() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


class Serving:
    """The commands a worker understands."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._sites: dict[str, Site] = {}
        self._device = "cpu"

    def obey(self, command: Mapping[str, Any]) -> None:
        """Carry out one command; errors go back as plain values."""
        try:
            {
                "trial": self._trial,
                "open": self._open,
                "run": self._run,
                "kept": self._kept,
                "restore": self._restore,
            }[command["do"]](command)
        except (TrialFailed, UsageError) as error:
            cause = error.__cause__ or error
            trace = "".join(traceback.format_exception(cause))
            self._channel.send({"error": str(error), "traceback": trace})

    def _trial(self, command: Mapping[str, Any]) -> None:
        spec = command["spec"]
        Numerics(**spec["numerics"]).prepare()
        method, task = _opened(command)
        folder = Path(command["folder"])
        send, pictures = self._channel.send, command["pictures"]
        trial = run_trial(folder, spec, command["about"], method, task, in_process, send, pictures)
        self._channel.send({"event": "end", "trial": trial.id, "state": trial.state, "error": trial.error})

    def _open(self, command: Mapping[str, Any]) -> None:
        spec = command["spec"]
        numerics = Numerics(**spec["numerics"])
        numerics.prepare()
        method, task = _opened(command)
        self._device = numerics.device
        setting = Setting(Recipe.of(spec["recipe"]), numerics, spec["seed"], task.card.channels)
        self._sites = sites_of(method, setting, task, command["clients"])
        self._channel.send({"event": "open"})

    def _run(self, command: Mapping[str, Any]) -> None:
        received = {client: self._channel.receive_message() for client in command["clients"]}
        messages = {client: moved(message, self._device) for client, message in received.items()}
        for client, message in messages.items():
            reply = self._sites[client].run(command["stage"], command["round"], message)
            tensors = {"message": reply.message, "found": reply.found}
            plain = {key: value for key, value in vars(reply).items() if key not in tensors}
            self._channel.send({"event": "reply", **plain, "log": dict(reply.log)})
            self._channel.send_message(tensors)

    def _kept(self, command: Mapping[str, Any]) -> None:
        for client, site in self._sites.items():
            self._channel.send({"event": "kept", "client": client})
            self._channel.send_message(site.kept())

    def _restore(self, command: Mapping[str, Any]) -> None:
        for client in command["clients"]:
            self._sites[client].restore(self._channel.receive_message())
        self._channel.send({"event": "restored"})


def _opened(command: Mapping[str, Any]) -> tuple[Method, Task]:
    root, split = (Path(command[name]) if command[name] else None for name in ("root", "split"))
    return open_spec(command["spec"], root, split, [PluginFile.of(file) for file in command["plugins"]])


if __name__ == "__main__":
    main()
