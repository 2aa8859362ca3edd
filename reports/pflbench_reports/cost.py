"""What a method costs: bytes, seconds, gradients and memory, each counted per trial and then averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pflbench.results import ResultsError, Trial

if TYPE_CHECKING:  # groups counts the costs while it reads the trials
    from pflbench_reports.groups import Group

_NAN = float("nan")
COLUMNS: dict[str, str] = {
    "setup_up_bytes": "bytes a client sends once, before round 1",
    "up_bytes": "bytes a client sends per round",
    "setup_down_bytes": "bytes a client receives once, before round 1",
    "down_bytes": "bytes a client receives per round",
    "setup_seconds": "seconds of the setup, all stages and clients",
    "round_seconds": "seconds of one round, all stages and clients",
    "round_gradients": "per-image gradient evaluations of one round, all clients",
    "setup_gradients": "per-image gradient evaluations of the setup, all clients",
    "peak_mib": "largest peak memory of any stage, MiB",
}


def cost(group: Group) -> pd.DataFrame:
    """Return one row per method: mean over its finished trials of ``trial_cost`` (peak memory: maximum)."""
    rows = [{"variant": group.variants[trial].display, **found} for trial, found in group.costs.items()]
    frame = pd.DataFrame(rows, columns=["variant", *COLUMNS])
    grouped = frame.groupby("variant", sort=False)
    result = grouped.mean()
    result["peak_mib"] = grouped["peak_mib"].max()
    result["trials"] = grouped.size()
    return result.reset_index()


def trial_cost(trial: Trial, tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Return the ``COLUMNS`` of one trial from its tables; round 0 is the setup, per round is total / rounds."""
    rounds = max(trial.round, 1)
    guests = {str(client.get("name")) for client in trial.about.get("clients") or () if client.get("train") == 0}
    ledger, cases = tables["ledger"], tables["cases"]
    clients = max(len(set(cases["client"]) - guests), 1)  # those who train
    if guests:
        ledger = ledger[~ledger["client"].isin(guests)]
    return {
        **_traffic(ledger, rounds, clients),
        **_time(tables["timing"], rounds),
        **_gradients(tables["logs"], rounds),
    }


def _traffic(ledger: pd.DataFrame, rounds: int, clients: int) -> dict[str, float]:
    sent, number = ledger["bytes"].to_numpy(dtype=float), ledger["round"].to_numpy(dtype=float)
    way = ledger["direction"].to_numpy(dtype=object)
    result = {}
    for direction in ("up", "down"):
        result[f"setup_{direction}_bytes"] = float(np.nansum(sent[(way == direction) & (number == 0)])) / clients
        result[f"{direction}_bytes"] = float(np.nansum(sent[(way == direction) & (number > 0)])) / clients / rounds
    return result if len(ledger) else dict.fromkeys(result, _NAN)


def _time(timing: pd.DataFrame, rounds: int) -> dict[str, float]:
    if timing.empty:
        return {"setup_seconds": _NAN, "round_seconds": _NAN, "peak_mib": _NAN}
    seconds, number = timing["seconds"].to_numpy(dtype=float), timing["round"].to_numpy(dtype=float)
    return {
        "setup_seconds": float(np.nansum(seconds[number == 0])),
        "round_seconds": float(np.nansum(seconds[number > 0])) / rounds,
        "peak_mib": float(pd.to_numeric(timing["peak_mib"], errors="coerce").max()),
    }


def _gradients(logs: pd.DataFrame, rounds: int) -> dict[str, float]:
    rows = logs[logs["key"] == "gradients"]
    if rows.empty:
        return {"setup_gradients": _NAN, "round_gradients": _NAN}
    values, setup = rows["value"].astype(float), rows["round"] == 0
    return {
        "setup_gradients": float(values[setup].sum()),
        "round_gradients": float(values[~setup].sum()) / rounds,
    }


def hardware(group: Group) -> list[str]:
    """Return the different machines and thread settings that the finished trials were timed on."""
    machines = {
        f"{e.get('cpu', '?')}, {e.get('cores', '?')} cores, GPU: {e.get('gpu') or 'none'}"
        for trial in group.finished
        for e in environments(trial)
    }
    return sorted(machines)


def environments(trial: Trial) -> list[dict[str, object]]:
    """Return the environments of a trial; none where the file cannot be read."""
    try:
        return [entry for entry in trial.environment() if isinstance(entry, dict)]
    except (ResultsError, TypeError):
        return []
