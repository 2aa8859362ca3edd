"""Talking to worker processes: JSON commands and encoded messages through a pipe; nothing is pickled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from typing import Any

from pflbench.errors import TrialFailed
from pflbench.message import Message, decode, encode

WORKER = "pflbench.worker"


class Channel:
    """One end of a pipe that carries plain values and messages."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, value: Mapping[str, Any]) -> None:
        """Send plain values."""
        self.connection.send_bytes(json.dumps(value).encode())

    def receive(self) -> dict[str, Any]:
        """Return the plain values that come next; waits. Raises EOFError where the other end is gone."""
        return dict(json.loads(self.connection.recv_bytes()))

    def send_message(self, message: Message) -> None:
        """Send a message."""
        self.connection.send_bytes(encode(message))

    def receive_message(self) -> dict[str, Any]:
        """Return the message that comes next."""
        return decode(bytearray(self.connection.recv_bytes()))


class Worker:
    """A worker process and the channel to it. It ends when this process does, however that happens."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        # workers are single-threaded: waiting threads that spin would steal the other worker's core
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(theirs.fileno())],
            stdin=subprocess.PIPE,  # the worker watches it: it closes when this process is gone
            pass_fds=[theirs.fileno()],
            env=environment,
            process_group=0,  # Ctrl-C on the terminal is the starter's to handle, also while a worker still imports
        )
        theirs.close()
        self.channel = Channel(ours)

    def close(self) -> None:
        """End the process."""
        self.channel.connection.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def died(self) -> TrialFailed:
        """Return the error for a worker that is gone."""
        code = self.process.wait()
        hint = " (killed; out of memory?)" if code == -9 else ""
        return TrialFailed(f"the worker process ended with exit code {code}{hint}.")
