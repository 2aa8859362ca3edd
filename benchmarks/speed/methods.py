"""What each method's round takes: seconds as a ratio to FedAvg's of the same minute, and peak memory beyond it.

Every method trains alone in a process of its own, FedAvg before and after it, on the simulated vessels:
``python benchmarks/speed/methods.py [METHOD ...]``. Prints a Markdown table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import pandas as pd

_ROUNDS = 4
_SETTINGS = (f"recipe.rounds={_ROUNDS}", "recipe.epochs=2", "recipe.batch=4")


def trial(method: str) -> tuple[float, float]:
    """Return the median seconds of a round and the peak memory in MiB of a trial in a fresh process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "pflbench", "run", "--methods", method, "--dataset", "vessel-simulated"]
        command += ["--seeds", "1", "--jobs", "1", "--no-pictures", "--out", out]
        for setting in _SETTINGS:
            command += ["--set", setting]
        subprocess.run(command, check=True, capture_output=True)
        [folder] = [path.parent for path in Path(out).glob("*/timing.csv")]
        timing = pd.read_csv(folder / "timing.csv")
    training = timing[(timing["round"] > 0) & ~timing["stage"].isin(["val", "test"])]
    # from round 2 on: the first also fills caches; the last rounds may be selected, and some methods tune there
    return float(median(training[training["round"] > 1].groupby("round")["seconds"].sum())), float(
        timing["peak_mib"].max()
    )


def listed() -> list[str]:
    """Return the names of the installed methods."""
    command = [sys.executable, "-m", "pflbench", "list", "methods", "--json"]
    return [row["name"] for row in json.loads(subprocess.run(command, check=True, capture_output=True).stdout)]


def main(methods: list[str]) -> None:
    """Print the table."""
    print("| method | seconds of a round / FedAvg's | peak memory beyond FedAvg's, MiB |\n|---|---|---|")
    before = trial("fedavg")
    for method in methods:
        (seconds, peak), after = trial(method), trial("fedavg")
        usual = (before[0] + after[0]) / 2
        print(f"| {method} | {seconds / usual:.2f} | {peak - (before[1] + after[1]) / 2:+.0f} |", flush=True)
        before = after


if __name__ == "__main__":
    main(sys.argv[1:] or listed())
