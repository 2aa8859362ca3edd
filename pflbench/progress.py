"""Showing a run as it goes: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_PLAIN_EVERY = 10.0  # seconds between plain lines of one trial's rounds


class Display:
    """Listens to the events of a run and shows trials, rounds, current Dice and the time that is left."""

    def __init__(self, total: int, console: Console) -> None:
        self._total, self._console = total, console
        self._ended = self._skipped = 0
        self._shares: dict[str, float] = {}  # running trial -> share of its rounds that is done
        self._resumed: dict[str, float] = {}  # ... that was done before this run
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._started = time.monotonic()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._all = self._bars.add_task("trials", total=total, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        handler = {
            "start": self._start,
            "round": self._round,
            "end": self._end,
            "done before": self._done_before,
            "decode": self._decode,
        }.get(event["event"])
        if handler:
            handler(event)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _decode(self, event: Mapping[str, Any]) -> None:
        done, total = event["done"], event["total"]
        if self._console.is_terminal:
            task = self._tasks.get("images")
            if task is None:
                task = self._tasks["images"] = self._bars.add_task("preparing images", total=total, note="")
            self._bars.update(task, completed=done)
            if done == total:
                self._bars.remove_task(self._tasks.pop("images"))
        elif done in (0, total):
            self._say(f"preparing images: {done} of {total}")

    def _start(self, event: Mapping[str, Any]) -> None:
        trial, done, rounds = event["trial"], event["round"], event["rounds"]
        self._shares[trial] = self._resumed[trial] = done / rounds
        if self._console.is_terminal:
            self._tasks[trial] = self._bars.add_task(f"  {trial}", total=rounds, completed=done, note="")
        else:
            self._say(f"{trial}: goes on after round {done} of {rounds}" if done else f"{trial}: begins")
        self._told[trial] = time.monotonic()

    def _round(self, event: Mapping[str, Any]) -> None:
        trial, done, rounds = event["trial"], event["round"], event["rounds"]
        self._shares[trial] = done / rounds
        dice = f"validation Dice {100 * event['dice']:.1f} %"
        if trial in self._tasks:
            self._bars.update(self._tasks[trial], completed=done, note=dice)
            self._overall()
        elif time.monotonic() - self._told[trial] > _PLAIN_EVERY:
            self._say(f"{trial}: round {done} of {rounds}, {dice}, {self._left()}")
            self._told[trial] = time.monotonic()

    def _end(self, event: Mapping[str, Any]) -> None:
        trial = event["trial"]
        self._shares.pop(trial, None)
        self._ended += 1
        if trial in self._tasks:
            self._bars.remove_task(self._tasks.pop(trial))
            self._overall()
        count = f"{self._ended + self._skipped} of {self._total}"
        if event["state"] == "failed":
            self._say(f"{trial}: FAILED, {event['error']['sentence']} ({count})")
        else:
            self._say(f"{trial}: finished ({count}, {self._left()})")

    def _done_before(self, event: Mapping[str, Any]) -> None:
        self._skipped += 1
        self._say(f"{event['trial']}: finished before, kept")
        self._overall()

    def _overall(self) -> None:
        self._bars.update(self._all, completed=self._ended + self._skipped, note=self._left())

    def _left(self) -> str:
        """Estimate from what this run itself has done so far."""
        done = self._ended + sum(self._shares[trial] - self._resumed[trial] for trial in self._shares)
        left = self._total - self._skipped - self._ended - sum(self._shares.values())
        if done <= 0:
            return "time left unknown"
        seconds = (time.monotonic() - self._started) * max(0.0, left) / done
        return f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
