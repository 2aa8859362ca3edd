"""What a method costs: bytes, seconds, gradients and memory, each counted per trial and then averaged."""

from __future__ import annotations

import pandas as pd

from pflbench.results import ResultsError, Trial
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
    rows = [{"variant": group.variants[t.id].display, **trial_cost(t)} for t in group.finished]
    frame = pd.DataFrame(rows, columns=["variant", *COLUMNS])
    grouped = frame.groupby("variant", sort=False)
    result = grouped.mean()
    result["peak_mib"] = grouped["peak_mib"].max()
    result["trials"] = grouped.size()
    return result.reset_index()


def trial_cost(trial: Trial) -> dict[str, float]:
    """Return the ``COLUMNS`` of one trial; round 0 is the setup, per round is total / rounds (/ clients)."""
    rounds = max(trial.round, 1)
    guests = {str(client.get("name")) for client in trial.about.get("clients") or () if client.get("train") == 0}
    ledger, cases = trial.table("ledger"), trial.table("cases")
    clients = max(cases.loc[~cases["client"].isin(guests), "client"].nunique(), 1)  # those who train
    return {
        **_traffic(ledger[~ledger["client"].isin(guests)], rounds, clients),
        **_time(trial.table("timing"), rounds),
        **_gradients(trial.table("logs"), rounds),
    }


def _traffic(ledger: pd.DataFrame, rounds: int, clients: int) -> dict[str, float]:
    result = {}
    for direction in ("up", "down"):
        rows = ledger[ledger["direction"] == direction]
        setup = rows["round"] == 0
        result[f"setup_{direction}_bytes"] = float(rows.loc[setup, "bytes"].sum()) / clients
        result[f"{direction}_bytes"] = float(rows.loc[~setup, "bytes"].sum()) / clients / rounds
    return result if len(ledger) else dict.fromkeys(result, _NAN)


def _time(timing: pd.DataFrame, rounds: int) -> dict[str, float]:
    if timing.empty:
        return {"setup_seconds": _NAN, "round_seconds": _NAN, "peak_mib": _NAN}
    setup = timing["round"] == 0
    return {
        "setup_seconds": float(timing.loc[setup, "seconds"].sum()),
        "round_seconds": float(timing.loc[~setup, "seconds"].sum()) / rounds,
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
