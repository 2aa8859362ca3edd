"""Somebody else's package from wheels in a fresh environment: listed, run, and a new one begun beside it."""

import csv
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "pflbench-fedprox-momentum"
# two of six hospitals, three rounds (momentum shows in the third), a network of width 2: seconds
TINY = ["--sites", "sim-DRIVE,sim-LES-AV", "--seeds", "1", "--no-pictures"]
for setting in ("rounds=3", "epochs=1", "base_width=2", "image_height=16", "image_width=16"):
    TINY += ["--set", f"recipe.{setting}"]


class Fresh:
    """A new environment, and a folder outside the checkout in which its commands are typed."""

    def __init__(self, folder):
        self.home = folder
        venv.create(folder / "venv", with_pip=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PFLBENCH"))}
        self.surroundings = {
            **kept,
            "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{kept['PATH']}",
            "PFLBENCH_CACHE": str(folder / "cache"),
            "PFLBENCH_DATA": str(folder / "no data"),
            "OMP_NUM_THREADS": "1",
        }

    def types(self, *command, code=0, folder="."):
        """Type a command, and return what it printed; what it complained about, where another code is expected."""
        words = [str(word) for word in command]
        where = self.home / folder
        ran = subprocess.run(words, cwd=where, env=self.surroundings, capture_output=True, text=True, timeout=900)
        assert ran.returncode == code, " ".join(words) + "\n" + ran.stdout + ran.stderr
        return ran.stderr if code else ran.stdout


def installed(folder):
    """Build both wheels and install them, and nothing of this checkout, into a new environment."""
    fresh = Fresh(folder)
    for source in (ROOT, EXAMPLE):
        fresh.types("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", source)
    # compiling every file of every library ahead would take longer than all that is run here
    options = ["--quiet", "--no-compile", "--constraint", ROOT / "constraints.txt"]
    fresh.types("pip", "install", *options, "pytest", *sorted((folder / "wheels").glob("*.whl")))
    return fresh


def table(fresh, out):
    """Write a report, and return its table: method -> its clients."""
    fresh.types("pflbench", "report", out, "--out", "report")
    [file] = (fresh.home / "report" / "tables").glob("*-dice-best-clients.csv")
    rows = {}
    with open(file, newline="") as lines:
        for row in csv.DictReader(lines):
            rows.setdefault(row["variant"], set()).add(row["client"])
    return rows


def trained(fresh, out):
    """Return the method and the table of rounds, as bytes, of every trial; all are finished."""
    found = {path.parent: json.loads(path.read_text()) for path in (fresh.home / out).glob("*/trial.json")}
    assert {trial["state"] for trial in found.values()} == {"finished"}
    return [(trial["spec"]["method"]["name"], (at / "rounds.csv").read_bytes()) for at, trial in found.items()]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_the_example_passes_the_linter_and_the_formatter_of_pflbench(command):
    pytest.importorskip("ruff", reason="ruff comes with the extra dev")
    options = ["--no-cache", "--config", str(ROOT / "pyproject.toml")]
    ran = subprocess.run(
        [sys.executable, "-m", "ruff", *command, *options, "."], cwd=EXAMPLE, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


# one test, because the environment takes longer than what is done in it, and no two processes should make it
@pytest.mark.slow
def test_the_example_and_a_new_method_work_from_wheels_in_a_fresh_environment(tmp_path):
    fresh = installed(tmp_path)
    nothing_comes_from_the_checkout(fresh)
    the_example_is_listed_with_its_distribution_and_version(fresh)
    the_example_passes_its_own_tests(fresh)
    the_example_is_run_as_its_readme_says(fresh)
    a_misspelt_name_is_one_sentence(fresh)
    a_new_method_is_a_row_beside_the_others_as_soon_as_one_line_is_changed(fresh)
    a_line_changed_again_is_trained_again(fresh)
    what_its_workflow_types_on_every_push_passes(fresh)


def nothing_comes_from_the_checkout(fresh):
    modules = "pflbench, pflbench_methods, pflbench_fedprox_momentum"
    files = fresh.types("python", "-c", f"import {modules}; print(*(m.__file__ for m in ({modules})), sep='\\n')")
    assert len(files.splitlines()) == 3
    assert all(Path(file).is_relative_to(fresh.home / "venv") for file in files.splitlines())


def the_example_is_listed_with_its_distribution_and_version(fresh):
    rows = {row["plugin"]: row for row in json.loads(fresh.types("pflbench", "list", "plugins", "--json"))}
    assert list(rows) == ["pflbench-datasets", "pflbench-methods", "pflbench-fedprox-momentum"]
    row = rows["pflbench-fedprox-momentum"]
    assert (row["distribution"], row["version"]) == ("pflbench-fedprox-momentum", "0.2.0")
    assert (row["hooks"], row["problem"]) == (["pflbench_methods"], "")


def the_example_passes_its_own_tests(fresh):
    printed = fresh.types("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLE / "tests")
    assert " passed" in printed


def the_example_is_run_as_its_readme_says(fresh):
    readme = (EXAMPLE / "README.md").read_text().splitlines()
    [command] = [line for line in readme if line.startswith("pflbench run")]
    fresh.types(*command.split(), *TINY, "--out", "results")
    assert sorted(name for name, _ in trained(fresh, "results")) == ["fedavg", "fedprox-momentum", "fedprox-momentum"]


def a_misspelt_name_is_one_sentence(fresh):
    """Where nothing is installed that only the tests need."""
    said = fresh.types("pflbench", "run", "--methods", "fedprox-momentun", code=2)
    assert said == "pflbench: no method called 'fedprox-momentun'; did you mean 'fedprox-momentum'?\n"


def a_new_method_is_a_row_beside_the_others_as_soon_as_one_line_is_changed(fresh):
    said = fresh.types("pflbench", "new", "method", "fedfoo").splitlines()
    install, check, run = (line.strip() for line in said[-3:])
    change(fresh, "<- change this line", "0.5 * (own + mean)")
    fresh.types(*install.split(), "--quiet")
    fresh.types(*check.split())
    fresh.types(*run.split(), *TINY, "--out", "results")
    rows = table(fresh, "results")
    assert {"FedAvg", "FedProx + momentum", "FedBN", "FedFoo"} <= set(rows)
    assert all(clients >= {"sim-DRIVE", "sim-LES-AV"} for clients in rows.values())
    assert len({rounds for _, rounds in trained(fresh, "results")}) == len(rows) == 5


def a_line_changed_again_is_trained_again(fresh):
    change(fresh, "0.5 * (own + mean)", "0.25 * own + 0.75 * mean")
    fresh.types("pflbench", "run", "--methods", "fedfoo", "--dataset", "vessel", *TINY, "--out", "results")
    assert len({rounds for name, rounds in trained(fresh, "results") if name == "fedfoo"}) == 2


def what_its_workflow_types_on_every_push_passes(fresh):
    workflow = (fresh.home / "pflbench-fedfoo" / ".github" / "workflows" / "test.yml").read_text()
    steps = re.findall(r"^ +- run: (.+)$", workflow, re.M)
    assert len(steps) == 2
    printed = [fresh.types("bash", "-euc", step, folder="pflbench-fedfoo") for step in steps]
    assert " passed" in printed[-1]


def change(fresh, marked, value):
    """Let the one line with a mark return something else."""
    file = fresh.home / "pflbench-fedfoo" / "pflbench_fedfoo.py"
    [line] = [line for line in file.read_text().splitlines() if marked in line]
    file.write_text(file.read_text().replace(line, f"        return {value}"))
