"""How long a report takes and how much memory: N made-up trials, reported in a process of its own.

``python benchmarks/speed/report.py`` makes 1,000 trials of the size of the paper's (six clients, 100 rounds, 77
test cases), in ``--groups`` comparison groups of ``--methods`` methods, writes their report in a subprocess and
prints one line; ``--trials 15 --groups 1 --methods 5`` is one real comparison. Not a test: machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pflbench.results import FORMAT, TABLES, TRIAL, hash_of

CLIENTS = {"CHASEDB1": 8, "DR-HAGIS": 6, "DRIVE": 20, "HRF": 30, "LES-AV": 5, "ORVS": 8}  # and their test cases
ROUNDS = 100
LAYERS = ("enc1", "enc2", "enc3", "enc4", "dec4", "dec3", "dec2")
SIDE = 65_536  # pixels of a case


def main() -> None:
    """Make the trials, report them, print seconds and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--methods", type=int, default=20, help="per group, settings of a sweep among them")
    parser.add_argument("--keep", type=Path, help="folder for trials and report; used again where trials lie in it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = asked.keep or Path(scratch)
        if not (home / "runs").exists():
            make(home / "runs", asked.trials, asked.groups, asked.methods)
        seconds, peak = report(home / "runs", home / "report")
    found = f"{asked.trials} trials in {asked.groups} groups of {asked.methods} methods"
    print(f"{found}: {seconds:.1f} s, peak {peak:.0f} MiB, on {os.cpu_count()} cores")


def report(runs: Path, out: Path) -> tuple[float, float]:
    """Return the wall-clock seconds of ``write_report`` with its imports, and its peak memory in MiB."""
    code = "import sys; from pathlib import Path; from pflbench_reports import write_report; "
    code += "write_report([Path(sys.argv[1])], Path(sys.argv[2]))"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(runs), str(out)], check=True)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def make(runs: Path, trials: int, groups: int, methods: int) -> None:
    """Write the trials; a fifth of the methods logs what it keeps of every layer, as pFL-ResFIM does."""
    rng = np.random.default_rng(0)
    shared = {name: frame.to_csv(index=False) for name, frame in _same_in_all().items()}
    masks = _table("logs", _mask_rows()).to_csv(index=False)
    for index in range(trials):
        group, method, seed = index % groups, index // groups % methods, index // (groups * methods)
        texts = shared | {"cases": _cases(rng, method).to_csv(index=False)}
        if method % 5 == 1:
            texts["logs"] = masks
        _write(runs, _spec(group, method, seed), texts)


def _write(runs: Path, spec: dict[str, object], texts: dict[str, str]) -> None:
    identity = f"made_{hash_of(spec)}"
    folder = runs / identity
    folder.mkdir(parents=True)
    clients = [{"name": name, "train": 20, "val": 5, "test": count} for name, count in CLIENTS.items()]
    trial = {"format": FORMAT, "id": identity, "state": "finished", "round": ROUNDS, "error": None}
    trial |= {"spec": spec, "about": {"clients": clients, "method_summary": "Made up.", "command": "none"}}
    (folder / TRIAL).write_text(json.dumps(trial))
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)


def _spec(group: int, method: int, seed: int) -> dict[str, object]:
    names = ("local", "resfim", "fedavg", "fedbn", "siobn")
    name, swept = names[method % 5], method // 5
    return {
        "version": "0",
        "dataset": {"name": f"vessel-simulated-{group}", "title": f"Made-up vessels {group}", "simulated": True},
        "partitioner": {"name": "natural", "title": "one client per site", "settings": {}},
        "split": f"split{seed}",
        "method": {
            "name": name,
            "title": name.capitalize(),
            "label": f"delta={swept / 10}" if swept else "",
            "settings": {"delta": swept / 10},
        },
        "recipe": {"rounds": ROUNDS, "epochs": 4},
        "numerics": {"device": "cpu"},
        "seed": seed,
    }


def _table(name: str, rows: Iterator[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows)).reindex(columns=list(TABLES[name]))


def _same_in_all() -> dict[str, pd.DataFrame]:
    every = [(number, client) for number in range(1, ROUNDS + 1) for client in CLIENTS]
    validation = ({"round": r, "client": c, "split": "val", "dice": 0.7 - 0.3 / r, "loss": 0.4} for r, c in every)
    training = ({"round": r, "client": c, "split": "train", "loss": 0.4} for r, c in every)
    traffic = ({"round": r, "client": c, "direction": d, "bytes": 10**7} for r, c in every for d in ("up", "down"))
    stages = ("update", "receive", "validate")
    timing = ({"round": r, "client": c, "stage": s, "seconds": 1.23456789} for r, c in every for s in stages)
    logs = ({"round": r, "client": c, "key": "gradients", "value": 80} for r, c in every)
    made = {"ledger": traffic, "timing": timing, "logs": logs}
    frames = {name: _table(name, rows) for name, rows in made.items()}
    return frames | {"rounds": pd.concat([_table("rounds", validation), _table("rounds", training)])}


def _mask_rows() -> Iterator[dict[str, object]]:
    for number in range(1, ROUNDS + 1):
        for client in CLIENTS:
            for layer in LAYERS:
                for part in (0, 1):
                    rate = 1 / (1 + number)
                    yield {"round": number, "client": client, "key": f"mask_rate/{layer}.{part}", "value": rate}


def _cases(rng: np.random.Generator, method: int) -> pd.DataFrame:
    rows = []
    for chosen, number in (("best", 80), ("last", ROUNDS)):
        for client, count in CLIENTS.items():
            for index, score in enumerate(rng.normal(0.7 + 0.002 * method, 0.05, count).clip(0.05, 0.95)):
                hits = round(SIDE / 8 * score)
                missed = round(SIDE / 8 * (1 - score))
                row = {"chosen": chosen, "round": number, "client": client, "site": client, "subject": str(index)}
                row |= {"case": f"{client}/{index}", "dice": score, "tp": hits, "fp": missed, "fn": missed}
                rows.append(row)
    return _table("cases", iter(rows))


if __name__ == "__main__":
    main()
