"""What each method's round takes: seconds as a ratio to FedAvg's of the same minute, and peak memory beyond it.

Every method trains alone in a process of its own, FedAvg before and after it, on the simulated vessels:
``python benchmarks/speed/methods.py [--repeat N] [METHOD ...]``. Prints a Markdown table; with ``--repeat`` the
median of N such comparisons, and their range.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
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


def comparisons(method: str) -> Iterator[tuple[float, float]]:
    """Yield, without end, a method's seconds as a ratio to FedAvg's and the MiB beyond them: mean of before and after.

    The FedAvg after one comparison is the one before the next.
    """
    before = trial("fedavg")
    while True:
        (seconds, peak), after = trial(method), trial("fedavg")
        yield seconds / ((before[0] + after[0]) / 2), peak - (before[1] + after[1]) / 2
        before = after


def summed_up(values: Sequence[float], form: str) -> str:
    """Return the median of the values and, of several, the range."""
    spread = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{median(values):{form}}{spread}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare each method's round with FedAvg's.")
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="default: all that are installed")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="comparisons of each method")
    given = parser.parse_args(arguments)
    if given.repeat < 1:
        parser.error("--repeat must be at least 1.")
    print("| method | seconds of a round / FedAvg's | peak memory beyond FedAvg's, MiB |\n|---|---|---|")
    for method in given.methods or listed():
        ratios, peaks = zip(*islice(comparisons(method), given.repeat), strict=True)
        print(f"| {method} | {summed_up(ratios, '.2f')} | {summed_up(peaks, '+.0f')} |", flush=True)


if __name__ == "__main__":
    main()
