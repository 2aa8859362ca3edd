"""Writing the report again whenever a run gets on, until all trials are finished or failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pflbench.results import TRIAL, ResultsError, find_trials
from pflbench_reports.text import several

INTERVAL = 5.0  # seconds between two looks
SETTLED = 30.0  # seconds without a change after which finished trials are taken to be all: the next one may be starting
_WATCHED = ("*.json", "*.csv")

Seen = Mapping[Path, tuple[int, int]]  # file -> when it was written (ns), how long it is
Say = Callable[[str], object]
Writer = Callable[[bool], object]  # told whether the page is still being watched


def watch_report(
    paths: Sequence[Path],
    out: Path,
    reference: str | None = None,
    *,
    say: Say = print,
    interval: float = INTERVAL,
    settled: float = SETTLED,
) -> None:
    """Write the report of the paths into ``out``, and again after each change, until every trial is done.

    A trial is done when it has finished or failed; ``settled`` seconds without a change must have passed then.
    While it goes on, the page tells a browser to load it again. ``say`` gets one line per report. Folders may
    appear and vanish. A KeyboardInterrupt is the caller's.
    """
    from pflbench_reports.page import write_report  # figures are loaded when a report is drawn

    def write(watched: bool) -> None:
        write_report(paths, out, reference, watched=watched)

    watch(paths, write, say, interval, settled)


def watch(paths: Sequence[Path], write: Writer, say: Say, interval: float, settled: float) -> None:
    """Call ``write(True)`` at once and after each change below the paths, and ``write(False)`` at the end."""
    reporter = _Reporter(paths, write, say)
    written: Seen | None = None
    changed = time.monotonic()
    while True:
        seen = look(paths)
        if seen != written:
            changed = time.monotonic()
            written = seen if reporter.refresh(True) else None
        elif _over(paths, seen, changed, settled) and reporter.refresh(False):
            return
        time.sleep(interval)


def look(paths: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Return the files that a report is made of, with the time and length that betray a change."""
    seen = {}
    for file in _files(paths):
        try:
            facts = file.stat()
        except OSError:
            continue  # it vanished in between
        seen[file] = (facts.st_mtime_ns, facts.st_size)
    return seen


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
        for folder in _trial_folders(path):
            for pattern in _WATCHED:
                yield from folder.glob(pattern)


def _trial_folders(path: Path) -> list[Path]:
    try:
        return [found.parent for found in path.rglob(TRIAL)]
    except OSError:
        return []  # a folder vanished in between; the next look sees what is left


class _Reporter:
    """Writes the report and says so, one line per report; the same trouble is named once."""

    def __init__(self, paths: Sequence[Path], write: Writer, say: Say) -> None:
        self._paths, self._write, self._say = paths, write, say
        self._trouble = ""

    def refresh(self, watched: bool) -> bool:
        """Write the report and return whether that went well. What is no fault of the files is raised."""
        before = look(self._paths)
        try:
            self._write(watched)
        except (ResultsError, OSError) as error:
            return self._complain(str(error))
        except Exception:  # tables that do not fit together fail in many ways
            if look(self._paths) == before:
                raise
            return self._complain("the results changed while they were read; trying again")
        self._trouble = ""
        self._say(f"{_now()} {_standing(self._paths)}")
        return True

    def _complain(self, trouble: str) -> bool:
        if trouble != self._trouble:
            self._say(f"{_now()} not written: {trouble}")
        self._trouble = trouble
        return False


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")


def _standing(paths: Sequence[Path]) -> str:
    states = _states(paths)
    counts = [f"{states.count(state)} {state}" for state in ("finished", "running", "failed") if state in states]
    return "; ".join([f"report written: {several(len(states), 'trial')}", *counts])


def _states(paths: Sequence[Path]) -> list[str]:
    """Return the state of every trial; where folders vanish meanwhile, that it cannot be known."""
    try:
        return [trial.state for trial in find_trials([path for path in paths if path.is_dir()])[0]]
    except OSError:
        return ["unknown"]


def _over(paths: Sequence[Path], seen: Seen, changed: float, settled: float) -> bool:
    """Say whether all trials are done and have been left alone for long enough."""
    if not seen or not set(_states(paths)) <= {"finished", "failed"}:
        return False
    newest = max(written for written, _ in seen.values()) / 1e9
    return max(time.monotonic() - changed, time.time() - newest) >= settled
