"""What a file or a package of one's own provides is run: tables, processes, resumption, failures, changed lines."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import pflbench
from pflbench.errors import TrialFailed, UsageError
from pflbench.plugins import registry
from pflbench.scaffold import scaffold

METHOD = """
    from dataclasses import dataclass
    from typing import ClassVar

    from pflbench_methods.fedavg import FedAvg


    @dataclass(frozen=True)
    class FedFoo(FedAvg):
        '''FedAvg, but for a line.'''

        name: ClassVar[str] = "fedfoo"
        title: ClassVar[str] = "FedFoo"
        strength: float = 0.5

        def client_update(self, client):
            message = super().client_update(client)
            return message
"""
TINY = ["--set", "recipe.epochs=1", "--set", "recipe.base_width=4", "--set", "recipe.image_height=32"]
TINY += ["--set", "recipe.image_width=32", "--set", "recipe.rounds=2", "--seeds", "1", "--device", "cpu"]
DATA = ["--dataset", "vessel-simulated", "--set", "vessel-simulated.size=64", "--sites", "sim-CHASEDB1,sim-LES-AV"]
SETTINGS = {
    **dict.fromkeys(("recipe.epochs", "recipe.rounds"), 1),
    **dict.fromkeys(("recipe.image_height", "recipe.image_width"), 32),
    "recipe.base_width": 4,
    "vessel-simulated.size": 64,
}


@pytest.fixture
def here(tmp_path):
    """Return a folder with my_method.py in it, and where tests write others."""
    write(tmp_path)
    return tmp_path


def write(folder, old="", new=""):
    code = textwrap.dedent(METHOD)
    assert old in code
    (folder / "my_method.py").write_text(code.replace(old, new) if old else code)


def breaks(folder, when):
    write(folder, "        return message", f"        return message['nothing'] if {when} else message")


def run(folder, *arguments, methods="fedavg,fedfoo", env=None):
    command = [sys.executable, "-m", "pflbench", "run", "--methods", methods, "--plugin", "my_method.py"]
    command += [*TINY, *DATA, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=folder, env=env)


def trials(folder, method="fedfoo"):
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"runs/*_{method}_*/trial.json"))]


def tables(folder):
    """Return the bytes of all tables that two runs of one trial share, by the trial's name."""
    files = ("rounds.csv", "cases.csv", "ledger.csv", "logs.csv")
    return {path.name: [(path / file).read_bytes() for file in files] for path in folder.glob("*_seed*")}


@pytest.mark.slow
def test_a_method_in_a_file_stands_in_the_table_beside_the_others(here):
    done = run(here, "--jobs", 1, "--set", "fedfoo.strength=0.7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FedAvg" in done.stdout
    assert "FedFoo strength=0.7" in done.stdout
    (trial,) = trials(here)
    assert trial["spec"]["method"]["distribution"] == "file"
    assert "--plugin my_method.py" in trial["about"]["command"]


@pytest.mark.slow
def test_worker_processes_load_the_same_file(here):
    one_process = tables_of_run(here, "alone", "--jobs", 1, "--seeds", 2)
    assert len(one_process) == 2
    assert tables_of_run(here, "trials", "--jobs", 2, "--seeds", 2) == one_process  # a trial in each process
    assert tables_of_run(here, "clients", "--jobs", 2).items() <= one_process.items()  # a client in each


def tables_of_run(here, out, *arguments):
    done = run(here, "--set", "recipe.rounds=1", "--out", out, *arguments, methods="fedfoo")
    assert done.returncode == 0, done.stdout + done.stderr
    return tables(here / out)


@pytest.mark.slow
def test_a_trial_whose_processes_are_killed_goes_on_in_others(here):
    killed = """if client.round == 1:
            time.sleep(float(os.environ.get("PAUSE", 0)))  # so that a checkpoint is due
        elif "PAUSE" in os.environ:
            os._exit(9)
        return message"""
    write(here, "return message", killed)
    path = here / "my_method.py"
    path.write_text("import os, time\n" + path.read_text())
    stopped = run(here, "--jobs", 2, methods="fedfoo", env={**os.environ, "PAUSE": "2.5"})
    assert "the worker process ended with exit code 9" in stopped.stdout
    done = run(here, "--jobs", 2, methods="fedfoo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after round 1 of 2" in done.stdout
    assert run(here, "--out", "whole", methods="fedfoo").returncode == 0
    assert tables(here / "runs") == tables(here / "whole")


@pytest.mark.slow
def test_a_method_that_breaks_is_named_with_its_line_and_the_others_finish(here):
    breaks(here, "client.round == 2 and client.name == 'sim-LES-AV'")
    done = run(here, "--jobs", 2)
    assert done.returncode == 1, done.stdout + done.stderr
    place = "my_method.py, line 18: return message['nothing'] if client.round == 2"
    failed = [line for line in done.stdout.splitlines() if ": FAILED, " in line]
    assert len(failed) == 1
    assert "fedfoo.client_update at client sim-LES-AV, round 2: KeyError: 'nothing' (" + place in failed[0]
    assert trials(here, "fedavg")[0]["state"] == "finished"
    (trial,) = trials(here)
    assert "trial.json; the same command tries again" in done.stdout
    assert "in client_update\n    return message['nothing']" in trial["error"]["traceback"]
    assert place in trial["error"]["sentence"]


@pytest.mark.slow
def test_the_same_from_python(here):
    events = []
    options = {"dataset": "vessel-simulated", "sites": ["sim-CHASEDB1", "sim-LES-AV"], "seeds": 1, "device": "cpu"}
    options |= {"settings": SETTINGS, "jobs": 1, "out": here / "runs", "plugins": [here / "my_method.py"]}
    with pytest.warns(UserWarning, match="SIMULATED"):
        frame = pflbench.run("fedfoo", **options)
    assert set(frame.title) == {"FedFoo"}
    with pytest.warns(UserWarning, match="SIMULATED"):
        again = pflbench.run("fedfoo", **options, listen=events.append)
    assert [event["event"] for event in events] == ["done before"]  # while the file is what it was
    assert again.equals(frame)
    breaks(here, "client.round == 1")
    with pytest.warns(UserWarning, match="SIMULATED"), pytest.raises(TrialFailed, match=r"my_method.py, line 18: retu"):
        pflbench.run("fedfoo", **options)
    with pytest.raises(UsageError, match=r"no method called 'fedfoo'"):
        pflbench.run("fedfoo", **{**options, "plugins": []})


@pytest.mark.parametrize("arguments", [["run", "--plan", *TINY, *DATA], ["list", "methods"]])
def test_a_file_that_cannot_be_loaded_stops_before_anything_is_trained(here, arguments):
    write(here, "client_update(self, client)", "client_update(self)")
    command = [sys.executable, "-m", "pflbench", *arguments, "--plugin", "my_method.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=60)
    assert done.returncode == 2
    assert "my_method.py: FedFoo.client_update(self) has a wrong signature" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "runs").exists()


def test_lists_show_the_method_of_a_file(here):
    command = [sys.executable, "-m", "pflbench", "list", "methods", "--json", "--plugin", here / "my_method.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["fedfoo"]["from"].startswith("file ")
    assert rows["fedfoo"]["settings"] == {"strength": 0.5}
    assert "fedavg" in rows


@pytest.fixture
def broken_distribution(here):
    """Install, for processes that are told so, a distribution whose plugin fails to import."""
    folder = here / "installed"
    info = folder / "pflbench_broken-0.3.dist-info"
    info.mkdir(parents=True)
    (folder / "pflbench_broken.py").write_text("import a_library_that_is_not_there\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pflbench-broken\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[pflbench]\npflbench-broken = pflbench_broken\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.mark.parametrize(
    "typed",
    [
        ["check", "natural"],
        ["data", "list"],
        ["data", "status"],
        ["data", "show", "vessel-simulated", "--set", "vessel-simulated.size=64", "--sites", "sim-CHASEDB1"],
    ],
)
def test_whatever_is_looked_at_a_plugin_that_cannot_be_loaded_is_a_warning(broken_distribution, here, typed):
    command = [sys.executable, "-m", "pflbench", *typed]
    done = subprocess.run(command, capture_output=True, text=True, env=broken_distribution, cwd=here, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.startswith("Warning: plugin 'pflbench-broken' of pflbench-broken 0.3 could not be loaded (")
    assert done.stderr.count("pflbench-broken 0.3") == 1


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 2)])
def test_an_installed_plugin_that_cannot_be_loaded_is_a_warning_or_fatal(broken_distribution, here, strict, code):
    command = [sys.executable, "-m", "pflbench", "run", "--plan", "--methods", "fedavg", *TINY, *DATA, *strict]
    done = subprocess.run(command, capture_output=True, text=True, env=broken_distribution, cwd=here, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    sentence = "plugin 'pflbench-broken' of pflbench-broken 0.3 could not be loaded (ModuleNotFoundError"
    assert done.stderr.count(sentence) == 1
    assert "pflbench_broken.py, line 1: import a_library_that_is_not_there" in done.stderr
    assert ("Mend it or uninstall it, or leave out --strict." in done.stderr) == bool(strict)


@pytest.fixture
def polyps(tmp_path):
    """Write the package of a new dataset, install it as pip's --editable does, and draw its made-up files."""
    package = scaffold("dataset", "polyps", tmp_path, registry())
    info = tmp_path / "installed" / "pflbench_polyps-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pflbench-polyps\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[pflbench]\npflbench-polyps = pflbench_polyps\n")
    (info / "direct_url.json").write_text(json.dumps({"url": package.as_uri(), "dir_info": {"editable": True}}))
    path = os.pathsep.join(map(str, (info.parent, package)))
    surroundings = {**os.environ, "PYTHONPATH": path, "PFLBENCH_CACHE": str(tmp_path / "cache")}
    draw = [sys.executable, package / "tests" / "fake_polyps.py", tmp_path / "fake"]
    subprocess.run(draw, check=True, capture_output=True, env=surroundings, timeout=60)
    return package / "pflbench_polyps.py", surroundings


def run_polyps(folder, surroundings, *arguments):
    command = [sys.executable, "-m", "pflbench", "run", "--methods", "fedavg", "--dataset", "polyps", *TINY]
    command += ["--preset", "quick", "--data-root", "fake", "--out", "polyps", "--no-pictures", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=surroundings, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("given", ["installed", "as a file"])
def test_the_marked_line_of_a_new_dataset_changed_gives_another_trial_and_other_masks(polyps, tmp_path, given):
    module, surroundings = polyps
    options = ["--jobs", 2]
    if given == "as a file":
        options += ["--plugin", module]
        surroundings = {**surroundings, "PYTHONPATH": ""}

    def shares():
        """Return the share of foreground in each mask file of the cache, those of both sites."""
        return {path: np.load(path).mean() for path in (tmp_path / "cache").glob("polyps-*/masks.npy")}

    run_polyps(tmp_path, surroundings, *options)
    assert "all finished before and kept" in run_polyps(tmp_path, surroundings, *options)
    first, (marked,) = shares(), [line for line in module.read_text().splitlines() if "<- change this line" in line]
    module.write_text(module.read_text().replace(marked, marked.replace("> 0", "== 0")))
    assert "all finished before" not in run_polyps(tmp_path, surroundings, *options)
    both = shares()
    assert (len(first), len(both)) == (2, 4)  # workers read what was decoded before they started
    assert max(first.values()) < 0.2
    assert min(share for path, share in both.items() if path not in first) > 0.8
    assert len(tables(tmp_path / "polyps")) == 2
    assert len({cases[1] for cases in tables(tmp_path / "polyps").values()}) == 2
