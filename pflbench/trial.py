"""One trial in its folder: begin, go on where it stopped, end, or fail with a reason."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pflbench import checkpoint, environment, results
from pflbench.engines import Engine
from pflbench.errors import TrialFailed, UsageError
from pflbench.method import Method
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.results import Trial, discard, read_trial, write_trial
from pflbench.rounds import Federation
from pflbench.sites import Setting
from pflbench.task import Task

_CHECKPOINT_SHARE = 0.03  # of the running time is spent on checkpoints, at most
_LOCK_PATIENCE = 5.0  # seconds: a worker whose starter was killed needs a moment to notice
_CHECKPOINT_PAUSE = 2.0  # seconds between two of them, at least

Event = Mapping[str, Any]
Listener = Callable[[Event], None]
EngineFactory = Callable[[Method, Setting, Task], Engine]


def existing(folder: Path, spec: Mapping[str, Any]) -> Trial | None:
    """Return the trial that lies in a folder, or None.

    Raises UsageError where it is of another version or another specification: it is never silently reused.
    """
    if not (folder / results.TRIAL).exists():
        return None
    try:
        trial = read_trial(folder)
    except results.ResultsError as error:
        raise UsageError(f"{error} Move the folder away, or choose another --out.") from error
    if trial.spec != spec:
        raise UsageError(f"{folder} holds a trial of another specification; move it away, or choose another --out.")
    return trial


def run_trial(
    folder: Path,
    spec: Mapping[str, Any],
    about: Mapping[str, Any],
    method: Method,
    task: Task,
    engine_of: EngineFactory,
    listen: Listener,
    pictures: bool = True,
) -> Trial:
    """Run a trial to its end and return it, finished or failed; a finished one is returned as it is.

    With ``pictures`` its test images are kept beside the trials, once for all that share them. Everything is
    written atomically, so a kill at any moment leaves a folder that can be gone on with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=_LOCK_PATIENCE):
            if pictures:
                _keep_pictures(folder.parent, spec, task)
            return _run_locked(folder, spec, about, method, task, engine_of, listen)
    except Timeout:
        raise UsageError(
            f"{folder} is being worked on by another process; wait for it, or choose another --out."
        ) from None


def _keep_pictures(out: Path, spec: Mapping[str, Any], task: Task) -> None:
    labels = [
        (label.id, client, row) for client, data in task.clients.items() for row, label in enumerate(data.test_cases)
    ]
    path = results.pictures_file(out, spec, (case for case, _, _ in labels))
    path.parent.mkdir(exist_ok=True)
    with FileLock(path.parent / ".lock"):  # another process may be about to write the same
        if not path.exists():
            results.write_pictures(path, _pictures(task, labels))


def _pictures(task: Task, labels: Sequence[tuple[str, str, int]]) -> dict[str, results.Picture]:
    pictures = {}
    for case, client, row in labels:
        data = task.clients[client]
        held_out = data.held_out["test"]
        image, mask = held_out.images[row].cpu().numpy(), held_out.masks[row, 0].cpu().numpy() > 0
        pictures[case] = results.Picture(image, mask, data.extents[row])
    return pictures


def _run_locked(
    folder: Path,
    spec: Mapping[str, Any],
    about: Mapping[str, Any],
    method: Method,
    task: Task,
    engine_of: EngineFactory,
    listen: Listener,
) -> Trial:
    trial = existing(folder, spec)
    if trial is not None and trial.state == "finished":
        discard(folder / "checkpoint")  # left over where the process was killed right after the end
        return trial
    trial = Trial(folder, folder.name, "running", trial.round if trial else 0, spec, about)
    write_trial(trial)
    environment.record(folder)
    setting = Setting(Recipe.of(spec["recipe"]), Numerics(**spec["numerics"]), spec["seed"], task.card.channels)
    try:
        engine = engine_of(method, setting, task)
        try:
            federation = federation_of(method, setting, engine, task)
            trial = _play(trial, federation, listen)
        finally:
            engine.close()
    except TrialFailed as error:
        trial = dataclasses.replace(trial, state="failed", error=_error(error))
        write_trial(trial)
    return trial


def federation_of(method: Method, setting: Setting, engine: Engine, task: Task) -> Federation:
    """Return the federation of a task, ready to play."""
    test_cases = {name: data.test_cases for name, data in task.clients.items()}
    validated = [name for name, data in task.clients.items() if len(data.held_out["val"].images)]
    return Federation(method, setting, engine, task.card.clients, test_cases, validated, task.public)


def _play(trial: Trial, federation: Federation, listen: Listener) -> Trial:
    folder = trial.folder / "checkpoint"
    kept = checkpoint.load(folder)
    if kept is not None:
        federation.restore(kept)
    rounds = trial.spec["recipe"]["rounds"]
    listen({"event": "start", "trial": trial.id, "round": federation.progress.round, "rounds": rounds})
    last, cost = time.monotonic(), 0.0
    for round in federation.play():
        listen(
            {
                "event": "round",
                "trial": trial.id,
                "round": round,
                "rounds": rounds,
                "dice": federation.progress.val_dice,
            }
        )
        now = time.monotonic()
        if round < rounds and now - last > max(_CHECKPOINT_PAUSE, cost / _CHECKPOINT_SHARE):
            trial = _save(trial, federation)
            last, cost = time.monotonic(), time.monotonic() - now
    _write_tables(trial.folder, federation)
    found = {client: masks.numpy() for client, masks in federation.found().items()}
    results.write_predictions(trial.folder, found)
    trial = dataclasses.replace(trial, state="finished", round=rounds, error=None)
    write_trial(trial)
    discard(folder)
    return trial


def _save(trial: Trial, federation: Federation) -> Trial:
    """Write checkpoint, then tables, then the state: a kill between them loses nothing that is not redone."""
    round = federation.progress.round
    checkpoint.save(trial.folder / "checkpoint", round, federation.kept())
    _write_tables(trial.folder, federation)
    trial = dataclasses.replace(trial, round=round)
    write_trial(trial)
    return trial


def _write_tables(folder: Path, federation: Federation) -> None:
    for name, rows in federation.progress.tables.items():
        results.write_table(folder, name, rows)


def _error(error: TrialFailed) -> dict[str, str]:
    cause = error.__cause__ or error
    return {"sentence": str(error), "traceback": "".join(traceback.format_exception(cause))}
