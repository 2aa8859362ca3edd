"""The timing harness: ratios measured in one run, side by side, with everything they depend on.

``python benchmarks/speed/measure.py`` prints a Markdown table; ``--repeats`` says how often each pair is
measured (medians are printed), ``--only NAME`` picks a measurement. Not a test: machines are noisy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from bare import BareFedAvg

import pflbench
from pflbench.engines.in_process import InProcess
from pflbench.environment import environment
from pflbench.message import Message
from pflbench.method import Method
from pflbench.numerics import Numerics, choose
from pflbench.opening import in_process
from pflbench.plan import Request, make_plan
from pflbench.plugins import registry
from pflbench.recipe import Recipe
from pflbench.rounds import Federation
from pflbench.sites import Client, Setting
from pflbench.steps import Site
from pflbench.task import Task, open_task
from pflbench.weights import pick
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.resfim import ResFIM

SITES = ("sim-CHASEDB1", "sim-DR-HAGIS", "sim-DRIVE", "sim-HRF", "sim-LES-AV", "sim-ORVS")
SHORT = {"recipe.rounds": 2, "recipe.epochs": 2, "recipe.image_height": 128, "recipe.image_width": 128}


@dataclass
class Row:
    """One line of the table."""

    what: str
    measured: str
    target: str


def plan_of(out: Path, precision: str, seeds: tuple[int, ...] = (0,), **settings: object) -> tuple[Task, Recipe, dict]:
    """Return the task, recipe and specification of a short FedAvg trial on the six simulated sites."""
    request = Request(
        methods=("fedavg",),
        dataset="vessel-simulated",
        seeds=seeds,
        settings={**SHORT, "recipe.precision": precision, **settings},
        device="cpu",
        out=out,
    )
    plan = make_plan(request, registry())
    spec = dict(plan.trials[0].spec)
    recipe = Recipe.of(spec["recipe"])
    return open_task(plan.source, recipe, seeds[0], "cpu"), recipe, spec


def federation(method: Method, task: Task, recipe: Recipe, numerics: Numerics) -> Federation:
    """Return a federation in this process."""
    setting = Setting(recipe, numerics, seed=0)
    labels = {client: data.test_cases for client, data in task.clients.items()}
    return Federation(method, setting, in_process(method, setting, task), task.card.clients, labels)


def play(method: Method, task: Task, recipe: Recipe, numerics: Numerics) -> float:
    """Play a whole trial in this process and return its counted gradients."""
    trial = federation(method, task, recipe, numerics)
    list(trial.play())
    return float(sum(row[3] for row in trial.progress.tables["logs"] if row[2] == "gradients"))


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def paired(one: Callable[[], object], other: Callable[[], object], repeats: int) -> tuple[float, float, list[float]]:
    """Return the median seconds of both and the ratios one/other, measured in turns after a warm-up."""
    ones, others = [], []
    for turn in range(repeats):
        first, second = (one, other) if turn % 2 == 0 else (other, one)
        a, b = seconds(first), seconds(second)
        ones.append(a if turn % 2 == 0 else b)
        others.append(b if turn % 2 == 0 else a)
    ratios = [a / b for a, b in zip(ones, others, strict=True)]
    return statistics.median(ones), statistics.median(others), ratios


def shown(ratios: list[float]) -> str:
    """Return the median ratio and its range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def harness_overhead(repeats: int, scratch: Path) -> Iterator[Row]:
    """Measure a FedAvg trial in this process against a bare loop: same steps, model, data, precision, one thread."""
    for precision in ("float32", "bfloat16"):
        numerics = Numerics("cpu", precision)
        numerics.prepare()
        task, recipe, _ = plan_of(scratch, precision)
        bare = BareFedAvg(task, recipe, precision, channels_last=True)
        bare.run(rounds=1)
        trial = partial(play, FedAvg(), task, recipe, numerics)
        ours, theirs, ratios = paired(trial, partial(bare.run, recipe.rounds), repeats)
        yield Row(
            f"FedAvg trial / bare loop, {precision}, 1 thread",
            f"{shown(ratios)}: {ours:.2f} s / {theirs:.2f} s",
            "<= 1.05",
        )


class WithoutTraining(FedAvg):
    """FedAvg without its training."""

    def client_update(self, client: Client) -> Message:
        """Send the weights as they are."""
        return pick(client.model.state_dict(), self.shared(client.model))


class WithoutEvaluation(Federation):
    """The protocol loop without scores."""

    def _evaluate(self, round: int) -> None:
        self.progress.val_dice = 0.0


def empty_rounds(repeats: int, scratch: Path) -> Iterator[Row]:
    """Measure a round of six clients without a training step or evaluation, in this process."""
    numerics = Numerics("cpu", "float32")
    numerics.prepare()
    for width, target in ((23, "<= 0.01 s"), (91, "<= 0.1 s")):
        task, recipe, _ = plan_of(scratch, "float32", **{"recipe.base_width": width, "recipe.rounds": 40})
        setting = Setting(recipe, numerics, seed=0)
        sites = {c: Site(c, WithoutTraining(), setting, d.training, d.held_out) for c, d in task.clients.items()}
        labels = {client: data.test_cases for client, data in task.clients.items()}
        loop = WithoutEvaluation(WithoutTraining(), setting, InProcess(sites), task.card.clients, labels).play()
        for _ in range(5):
            next(loop)
        times = [seconds(loop.__next__) for _ in range(30)]
        count = sum(p.numel() for p in setting.new_model().parameters()) / 1e6
        yield Row(
            f"Round without training, {count:.1f} M parameters, 6 clients",
            f"{statistics.median(times):.4f} s ({min(times):.4f}-{max(times):.4f})",
            target,
        )


def whole_trial(repeats: int, scratch: Path) -> Iterator[Row]:
    """Measure a whole FedAvg trial as a user runs it, on all cores, against the bare float32 loop on all cores."""
    cores = len(os.sched_getaffinity(0))
    precision = choose("cpu", "auto").precision
    longer = {"recipe.rounds": 15, "recipe.epochs": 4}
    task, recipe, _ = plan_of(scratch, precision, **longer)
    bare = BareFedAvg(task, recipe, "float32", channels_last=False)

    def theirs() -> None:
        torch.set_num_threads(cores)
        bare.run(recipe.rounds)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as out, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pflbench.run("fedavg", "vessel-simulated", 1, settings={**SHORT, **longer}, jobs=cores, out=out)

    bare.run(1)
    a, b, ratios = paired(ours, theirs, max(1, repeats // 4))
    yield Row(
        f"Whole FedAvg trial ({precision}, {cores} processes, start included) / bare float32 loop ({cores} threads)",
        f"{shown(ratios)}: {a:.1f} s / {b:.1f} s",
        "<= 0.4",
    )


def resfim_cost(repeats: int, scratch: Path) -> Iterator[Row]:
    """Measure a ResFIM round against a FedAvg round, by seconds and by counted gradients."""
    for precision in ("float32", "bfloat16"):
        numerics = Numerics("cpu", precision)
        numerics.prepare()
        task, recipe, _ = plan_of(scratch, precision, **{"recipe.rounds": 1, "recipe.epochs": 4})
        fedavg = partial(play, FedAvg(), task, recipe, numerics)
        resfim = partial(play, ResFIM(), task, recipe, numerics)
        counted = resfim() / fedavg()
        a, b, ratios = paired(resfim, fedavg, max(2, repeats // 2))
        bound = 1 + len(task.clients) / recipe.epochs
        yield Row(
            f"ResFIM round / FedAvg round, counted gradients ({precision})",
            f"{counted:.2f}",
            f"<= 1 + C/E = {bound:.2f}",
        )
        yield Row(
            f"ResFIM round / FedAvg round, seconds (training in {precision}, Fisher in float32)",
            f"{shown(ratios)}: {a:.1f} s / {b:.1f} s",
            f"< {bound:.2f} where both are float32",
        )


_START = """
import json, sys, time
started = time.perf_counter()
import torch
imported = time.perf_counter()
import warnings; warnings.simplefilter("ignore")
import pflbench
class Done(Exception): pass
def listen(event):
    if event["event"] == "start":
        print(json.dumps({"torch": imported - started, "rest": time.perf_counter() - imported})); raise Done
try:
    pflbench.run("fedavg", "vessel-simulated", 1, jobs=1, out=sys.argv[1], listen=listen)
except Done: pass
"""


def start(repeats: int, scratch: Path) -> Iterator[Row]:
    """Measure from the start of the process to the first round, beyond importing torch; images in the cache."""
    times = []
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run([sys.executable, "-c", _START, out], capture_output=True, text=True, check=True)
        times.append(json.loads(done.stdout))
    rest = [entry["rest"] for entry in times[1:]]
    imports = statistics.median(entry["torch"] for entry in times[1:])
    yield Row(
        "Start to first round of a warm trial, beyond importing torch",
        f"{statistics.median(rest):.2f} s ({min(rest):.2f}-{max(rest):.2f}); importing torch {imports:.2f} s",
        "< 3 s",
    )


MEASUREMENTS = {
    "overhead": harness_overhead,
    "empty": empty_rounds,
    "trial": whole_trial,
    "resfim": resfim_cost,
    "start": start,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(MEASUREMENTS))
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    here = environment()
    print(f"{here['cpu']}, {here['cores']} cores, torch {here['torch']}, load before: {os.getloadavg()[0]:.1f}\n")
    print("| what | measured | target |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(KeyboardInterrupt):
        for name, measure in MEASUREMENTS.items():
            if chosen.only in (None, name):
                for row in measure(chosen.repeats, Path(scratch)):
                    print(f"| {row.what} | {row.measured} | {row.target} |", flush=True)


if __name__ == "__main__":
    main()
