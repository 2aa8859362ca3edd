"""Running the trials of a plan: one after another, several at a time, or one with its clients in parallel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pflbench.engines import Engine
from pflbench.engines.workers import Workers
from pflbench.errors import UsageError
from pflbench.faults import blamed
from pflbench.method import Method
from pflbench.numerics import Numerics
from pflbench.opening import in_process
from pflbench.pixels import open_cache
from pflbench.plan import Plan, PlannedTrial
from pflbench.recipe import Recipe
from pflbench.results import Trial, read_trial, write_trial
from pflbench.sites import Setting
from pflbench.splitfile import Prescribed
from pflbench.task import Task, open_task, pooled, pools_data
from pflbench.trial import EngineFactory, Listener, existing, run_trial
from pflbench.wire import Worker


def default_jobs(plan: Plan) -> int:
    """Return how many processes to use: one per core on a CPU, one on a GPU."""
    if any(trial.spec["numerics"]["device"] != "cpu" or not trial.registered for trial in plan.trials):
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pending(plan: Plan) -> list[PlannedTrial]:
    """Return the trials that are not finished yet. Raises UsageError for a folder of something else."""
    states = {trial.name: existing(plan.out / trial.name, trial.spec) for trial in plan.trials}
    return [trial for trial in plan.trials if (known := states[trial.name]) is None or known.state != "finished"]


def run_plan(plan: Plan, jobs: int, listen: Listener) -> list[Trial]:
    """Run every trial that is not finished and return all of them. A trial that fails stops nobody else."""
    todo = pending(plan)
    for trial in plan.trials:
        if trial not in todo:
            listen({"event": "done before", "trial": trial.name})
    if jobs > 1 and not all(trial.registered for trial in todo):
        names = ", ".join(sorted({trial.method.name for trial in todo if not trial.registered}))
        raise UsageError(
            f"other processes cannot find {names}, which no plugin provides; use jobs=1, or give its file in plugins."
        )
    if todo:
        _decode(plan, todo, listen)
        if jobs == 1:
            _one_by_one(plan, todo, listen)
        elif clients_apart(len(todo), len(plan.source.holdings), jobs):
            _clients_in_parallel(plan, todo, jobs, listen)
        else:
            _TrialsInParallel(plan, todo, jobs, listen).run()
    return [read_trial(plan.out / trial.name) for trial in plan.trials]


def clients_apart(trials: int, clients: int, jobs: int) -> bool:
    """Say whether more of the processes are busy with one trial's clients apart than with whole trials.

    Whole trials need not wait for each other, so they are taken where both keep as many processes busy.
    """
    return min(clients, jobs) > min(trials, jobs)


def _decode(plan: Plan, todo: list[PlannedTrial], listen: Listener) -> None:
    """Fill the cache of pixels here, once for each size, so that no two workers do."""

    def report(done: int, total: int) -> None:
        listen({"event": "decode", "done": done, "total": total})

    source = plan.source
    for height, width in {(t.spec["recipe"]["image_height"], t.spec["recipe"]["image_width"]) for t in todo}:
        with blamed(f"the dataset {source.dataset.name}", type(source.dataset)):
            open_cache(source.dataset, source.index, source.content, height, width, report)


def _task(plan: Plan, trial: PlannedTrial) -> Task:
    spec = trial.spec
    task = open_task(plan.source, Recipe.of(spec["recipe"]), spec["seed"], spec["numerics"]["device"])
    return pooled(task) if pools_data(trial.method) else task


def _one_by_one(plan: Plan, todo: list[PlannedTrial], listen: Listener) -> None:
    for trial in todo:
        _run_here(plan, trial, in_process, listen)


def _clients_in_parallel(plan: Plan, todo: list[PlannedTrial], jobs: int, listen: Listener) -> None:
    for trial in todo:

        def engine(method: Method, setting: Setting, task: Task, trial: PlannedTrial = trial) -> Engine:
            samples = {**task.card.clients, **dict.fromkeys(task.card.guests, 0)}
            workers = [Worker() for _ in range(min(jobs, len(samples)))]
            return Workers(workers, _opening(plan, trial), samples)

        _run_here(plan, trial, engine, listen)


def _run_here(plan: Plan, trial: PlannedTrial, engine_of: EngineFactory, listen: Listener) -> None:
    """Run a trial whose protocol loop, at least, is in this process."""
    Numerics(**trial.spec["numerics"]).prepare()
    folder, task = plan.out / trial.name, _task(plan, trial)
    listen(_end(run_trial(folder, trial.spec, trial.about, trial.method, task, engine_of, listen, plan.pictures)))


def _opening(plan: Plan, trial: PlannedTrial) -> dict[str, Any]:
    root, split = plan.source.dataset.root, plan.source.partitioner
    return {
        "spec": dict(trial.spec),
        "root": str(root.resolve()) if root else None,
        "split": str(split.path) if isinstance(split, Prescribed) else None,
        "plugins": [file.plain() for file in plan.plugins],
    }


def _gradients(trial: PlannedTrial) -> int:
    """Return the per-image gradients of a round, which is what its time goes by."""
    extra = trial.method.extra_gradients(trial.card)
    return sum(trial.card.clients.values()) * trial.card.epochs + sum(extra.values())


def _end(trial: Trial) -> dict[str, Any]:
    return {"event": "end", "trial": trial.id, "state": trial.state, "error": trial.error}


class _TrialsInParallel:
    """Whole trials in worker processes, each taking the next one when it is done."""

    def __init__(self, plan: Plan, todo: list[PlannedTrial], jobs: int, listen: Listener) -> None:
        self._plan, self._listen = plan, listen
        # the longest first, so that none is left alone at the end
        self._queue = sorted(todo, key=_gradients, reverse=True)
        self._jobs = jobs
        self._busy: dict[Any, tuple[Worker, PlannedTrial]] = {}

    def run(self) -> None:
        """Run all; on the way out, whatever the reason, end the workers."""
        try:
            for _ in range(min(self._jobs, len(self._queue))):
                self._give(Worker())
            while self._busy:
                for connection in wait(list(self._busy)):
                    self._hear(connection)
        finally:
            for worker, _ in self._busy.values():
                worker.close()

    def _give(self, worker: Worker) -> None:
        """Give a worker the next trial, or end it where none is left."""
        if not self._queue:
            worker.close()
            return
        trial = self._queue.pop(0)
        folder = (self._plan.out / trial.name).resolve()
        opening = _opening(self._plan, trial)
        command = {"do": "trial", "folder": str(folder), "about": dict(trial.about), "pictures": self._plan.pictures}
        worker.channel.send({**command, **opening})
        self._busy[worker.channel.connection] = (worker, trial)

    def _hear(self, connection: Any) -> None:
        worker, trial = self._busy[connection]
        try:
            event = worker.channel.receive()
        except (EOFError, OSError):
            del self._busy[connection]
            self._fail(trial, {"sentence": str(worker.died()), "traceback": ""})
            if self._queue:
                self._give(Worker())
            return
        if "error" in event and "event" not in event:
            self._fail(trial, {"sentence": event["error"], "traceback": event["traceback"]})
        else:
            self._listen(event)
            if event["event"] != "end":
                return
        del self._busy[connection]
        self._give(worker)

    def _fail(self, trial: PlannedTrial, error: Mapping[str, str]) -> None:
        """Record a trial whose worker could not say itself how it ended."""
        folder: Path = self._plan.out / trial.name
        folder.mkdir(parents=True, exist_ok=True)
        known = existing(folder, trial.spec)
        failed = Trial(folder, trial.name, "failed", known.round if known else 0, trial.spec, trial.about, error)
        write_trial(failed)
        self._listen(_end(failed))
