"""Results that survive: engines agree byte for byte, kills lose nothing, nothing foreign is reused."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

import pflbench
from pflbench import trial as trial_module
from pflbench.errors import TrialFailed, UsageError
from pflbench.plugins import registry

SMALL = {
    "recipe.rounds": 3, "recipe.epochs": 1, "recipe.base_width": 4, "recipe.image_height": 32, "recipe.image_width": 32,
    "recipe.precision": "float32", "vessel-simulated.size": 64,
}  # fmt: skip
SITES = ["sim-CHASEDB1", "sim-LES-AV"]
MAY_DIFFER = {"timing.csv", ".lock"}


def run(out, methods="all", jobs=1, **options):
    settings = {**SMALL, **options.pop("settings", {})}
    with pytest.warns(UserWarning, match="SIMULATED"):
        return pflbench.run(
            methods, "vessel-simulated", options.pop("seeds", 1), sites=SITES, settings=settings, jobs=jobs, out=out,
            **options,
        )  # fmt: skip


def contents(folder):
    """Every file of the results, but the table of times; and no command, which may be phrased in many ways."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in MAY_DIFFER:
            content = path.read_bytes()
            if path.name == "trial.json":
                plain = json.loads(content)
                plain["about"].pop("command")
                content = plain
            files[str(path.relative_to(folder))] = content
    return files


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    run(out)
    return contents(out)


def test_a_trial_writes_all_its_tables(uninterrupted):
    trials = {name.split("/")[0] for name in uninterrupted} - {"pictures"}
    assert len(trials) == len(registry().names("method"))
    for name in trials:
        assert {f"{name}/{table}.csv" for table in ("rounds", "cases", "logs", "ledger")} <= uninterrupted.keys()
        assert uninterrupted[f"{name}/trial.json"]["state"] == "finished"
        assert f"{name}/checkpoint" not in uninterrupted


@pytest.mark.slow
def test_trials_in_worker_processes_give_the_same_bytes(uninterrupted, tmp_path):
    run(tmp_path, jobs=2)
    assert contents(tmp_path) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("method", ["resfim", "fedavg"])
def test_clients_in_worker_processes_give_the_same_bytes(uninterrupted, tmp_path, method):
    run(tmp_path, methods=method, jobs=2)  # one trial, two processes: the clients are shared out
    name = next(tmp_path.glob("*/trial.json")).parent.name
    assert contents(tmp_path) == {k: v for k, v in uninterrupted.items() if k.startswith((name, "pictures"))}


class Stop(Exception):
    """Stands for a power cut."""


@pytest.mark.slow
@pytest.mark.parametrize("method", registry().names("method"))
@pytest.mark.parametrize("round", [1, 2])
def test_an_interrupted_trial_goes_on_to_the_same_bytes(uninterrupted, tmp_path, monkeypatch, method, round):
    monkeypatch.setattr(trial_module, "_CHECKPOINT_PAUSE", 0.0)
    monkeypatch.setattr(trial_module, "_CHECKPOINT_SHARE", float("inf"))
    rounds = []

    def stop(event):
        if event["event"] == "round" and event["round"] == round + 1:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, methods=method, listen=stop)
    assert next(tmp_path.glob("*/checkpoint/*")).name == f"round-{round:05d}.pfl"
    run(tmp_path, methods=method, listen=lambda e: rounds.append(e["round"]) if e["event"] == "round" else None)
    assert rounds == list(range(round + 1, 4))  # it went on; it did not begin again
    name = next(tmp_path.glob("*/trial.json")).parent.name
    assert contents(tmp_path) == {k: v for k, v in uninterrupted.items() if k.startswith((name, "pictures"))}


GUEST = {"partitioner": "leave-one-site-out", "settings": {"leave-one-site-out.site": "sim-LES-AV"}}


@pytest.fixture(scope="module")
def with_a_guest(tmp_path_factory):
    out = tmp_path_factory.mktemp("guest")
    run(out, methods="fedavg", **GUEST)
    return contents(out)


def test_a_guest_is_tested_and_never_trains(with_a_guest):
    (name,) = {path.split("/")[0] for path in with_a_guest} - {"pictures"}
    tables = {table: with_a_guest[f"{name}/{table}.csv"].decode().splitlines() for table in ("rounds", "cases")}
    assert {line.split(",")[2] for line in tables["rounds"] if ",sim-LES-AV," in line} == {"test"}
    assert {line.split(",")[0] for line in tables["cases"] if ",sim-LES-AV," in line} == {"best", "last"}


@pytest.mark.slow
def test_a_guest_in_another_process_gives_the_same_bytes(with_a_guest, tmp_path):
    run(tmp_path, methods="fedavg", jobs=2, **GUEST)  # one trial, two processes: one of them has the guest alone
    assert contents(tmp_path) == with_a_guest


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_trial_with_a_guest_goes_on_to_the_same_bytes(with_a_guest, tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(trial_module, "_CHECKPOINT_PAUSE", 0.0)
    monkeypatch.setattr(trial_module, "_CHECKPOINT_SHARE", float("inf"))

    def stop(event):
        if event["event"] == "round" and event["round"] == 3:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, methods="fedavg", jobs=1, listen=stop, **GUEST)
    assert next(tmp_path.glob("*/checkpoint/*")).name == "round-00002.pfl"
    run(tmp_path, methods="fedavg", jobs=jobs, **GUEST)
    assert contents(tmp_path) == with_a_guest


EAGER = (
    "import sys, pflbench.trial as t; t._CHECKPOINT_PAUSE = 0; t._CHECKPOINT_SHARE = float('inf');"
    "from pflbench.cli import main; main(sys.argv[1:])"
)


@pytest.mark.slow
@pytest.mark.parametrize(("jobs", "seed"), [(1, 0), (1, 1), (2, 2)])
def test_kills_at_any_moment_lose_nothing(uninterrupted, tmp_path, jobs, seed):
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-c", EAGER, "run", "--methods", "fedbn,resfim", "--dataset", "vessel-simulated"]
    command += ["--seeds", "1", "--sites", ",".join(SITES), "--jobs", str(jobs), "--out", str(tmp_path), *settings]
    moments = random.Random(seed)
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moments.uniform(1.0, 5.0))
        os.kill(process.pid, signal.SIGKILL)  # the starter alone: its workers must end by themselves
        process.wait()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert contents(tmp_path) == {k: v for k, v in uninterrupted.items() if k.split("/")[0] in names}


def test_a_finished_trial_is_not_run_again(tmp_path):
    events = []
    first = run(tmp_path, methods="fedavg")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")}
    again = run(tmp_path, methods="fedavg", listen=events.append)
    assert [event["event"] for event in events] == ["done before"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.csv")} == before
    assert first.equals(again)


def test_a_folder_of_another_specification_is_refused(tmp_path):
    run(tmp_path, methods="local")
    path = next(tmp_path.glob("*/trial.json"))
    changed = json.loads(path.read_text())
    changed["spec"]["recipe"]["lr"] = 0.5
    path.write_text(json.dumps(changed))
    with pytest.raises(UsageError, match="another specification"):
        run(tmp_path, methods="local")


def test_a_folder_of_another_version_is_refused(tmp_path):
    run(tmp_path, methods="local")
    path = next(tmp_path.glob("*/trial.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 0}))
    with pytest.raises(UsageError, match="format 0"):
        run(tmp_path, methods="local")


def test_a_loss_that_is_not_finite_fails_one_trial_and_no_other(tmp_path):
    with pytest.raises(TrialFailed, match=r"fedavg\.client_update at client sim-\S+, round \d: .*not finite at step"):
        run(tmp_path, methods=["fedavg", "local"], sweep={"recipe.lr": [1e30, 1e-3]})
    states = {}
    for path in tmp_path.glob("*/trial.json"):
        trial = json.loads(path.read_text())
        states[trial["spec"]["method"]["name"], trial["spec"]["recipe"]["lr"]] = trial["state"]
    assert states[("fedavg", 1e-3)] == states[("local", 1e-3)] == "finished"
    assert states[("fedavg", 1e30)] == "failed"


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to find the worker of a trial")
def test_a_worker_that_dies_fails_its_trial_and_no_other(tmp_path):
    killed = []

    def kill_its_worker(event):
        if event["event"] == "round" and "resfim" in event["trial"] and not killed:
            killed.append(worker_of("resfim"))
            os.kill(killed[0], signal.SIGKILL)

    long = {"recipe.rounds": 15}
    with pytest.raises(TrialFailed, match="exit code -9"):
        run(tmp_path, methods=["resfim", "fedavg", "local"], jobs=2, settings=long, listen=kill_its_worker)
    assert states_in(tmp_path) == {"resfim": "failed", "fedavg": "finished", "local": "finished"}
    frame = run(tmp_path, methods=["resfim", "fedavg", "local"], jobs=2, settings=long)  # asked again, it is run again
    assert set(frame.method) == {"resfim", "fedavg", "local"}


def worker_of(method):
    """Return the process that holds the lock of the method's trial."""
    children = [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(p) == os.getpid()]
    return next(pid for pid in children if any(method in name for name in open_files(pid)))


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def open_files(pid):
    return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]


def states_in(folder):
    trials = [json.loads(path.read_text()) for path in folder.glob("*/trial.json")]
    return {trial["spec"]["method"]["name"]: trial["state"] for trial in trials}
