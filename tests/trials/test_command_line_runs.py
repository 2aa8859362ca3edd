"""The command line as a user runs it, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REAL = Path(__file__).parents[2].parent / "shared/data/vessel_open_256"
TINY = ["--set", "recipe.epochs=1", "--set", "recipe.base_width=4", "--set", "recipe.image_height=32"]
TINY += ["--set", "recipe.image_width=32"]
SIMULATED = ["--dataset", "vessel-simulated", "--set", "vessel-simulated.size=64", "--sites", "sim-CHASEDB1,sim-LES-AV"]


def pflbench(*arguments, **options):
    command = [sys.executable, "-m", "pflbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, **options)


@pytest.mark.slow
def test_a_run_and_its_report(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "report"
    done = pflbench(
        "run",
        "--methods",
        "fedavg,resfim",
        "--seeds",
        "0,3",
        "--set",
        "recipe.rounds=2",
        *TINY,
        *SIMULATED,
        "--out",
        runs,
    )
    assert done.returncode == 0, done.stderr
    assert "SIMULATED DATA" in done.stdout
    assert len(list(runs.glob("*/trial.json"))) == 4
    assert done.stdout.count("finished (") == 4
    written = pflbench("report", runs, "--out", out)
    assert written.returncode == 0, written.stderr
    for name in ("report.md", "report.html"):
        page = (out / name).read_text()
        assert "SIMULATED DATA" in page
        assert "pFL-ResFIM" in page
        assert "sim-LES-AV" in page


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real retinal images are not beside the checkout")
def test_a_run_on_real_images(tmp_path):
    where = ["--dataset", "vessel", "--sites", "CHASEDB1,HRF", "--data-root", REAL, "--out", tmp_path]
    done = pflbench("run", "--methods", "local,resfim", "--seeds", "1", "--set", "recipe.rounds=2", *TINY, *where)
    assert done.returncode == 0, done.stderr
    assert "SIMULATED" not in done.stdout
    cases = (next(tmp_path.glob("*resfim*")) / "cases.csv").read_text()
    assert len(re.findall(r"^last,", cases, flags=re.M)) == 8 + 30


@pytest.mark.slow
def test_a_failed_trial_gives_exit_code_1_and_the_others_finish(tmp_path):
    sweep = ["--sweep", "recipe.lr=1e30,0.001", "--methods", "fedavg", "--seeds", "1", "--set", "recipe.rounds=2"]
    done = pflbench("run", *sweep, *TINY, *SIMULATED, "--out", tmp_path)
    assert done.returncode == 1, done.stderr
    reason = re.findall(
        r"(\S*_fedavg_\S*): FAILED, fedavg.client_update at client sim-.*not finite at step", done.stdout
    )
    assert len(reason) == 1  # said once, when it happens
    assert f"1 trial FAILED, for the reasons above: {reason[0]}. The whole" in done.stdout
    assert done.stdout.count("finished (") == 1


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path, jobs):
    command = [sys.executable, "-m", "pflbench", "run", "--methods", "fedavg,fedbn", "--seeds", "1", *TINY, *SIMULATED]
    command += ["--set", "recipe.rounds=5000", "--jobs", str(jobs), "--out", str(tmp_path)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in background
    )
    for line in process.stdout:
        if "begins" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "go on with:" in errors
    assert "--methods fedavg,fedbn" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_plan_trains_nothing(tmp_path):
    done = pflbench("run", "--plan", "--methods", "paper", "--seeds", "2", *TINY, *SIMULATED, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10 of 10 trials to run, about" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read_is_named_before_anything_is_trained(tmp_path):
    for kind in ("images", "masks"):
        for split, children in (("train", ("01", "02")), ("test", ("11",))):
            folder = tmp_path / "data/CHASEDB1" / split / kind
            folder.mkdir(parents=True)
            for child in children:
                (folder / f"Image_{child}L.png").write_bytes(b"this is no image")
    done = pflbench("run", "--sites", "CHASEDB1", "--data-root", tmp_path / "data", "--out", tmp_path / "runs", *TINY)
    assert done.returncode == 2
    assert "Image_01L" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()
