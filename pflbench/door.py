"""The Python door: ``pflbench.run`` does what ``pflbench run`` does and returns a table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pflbench.errors import TrialFailed
from pflbench.results import scores

if TYPE_CHECKING:
    import pandas as pd

    from pflbench.method import Method
    from pflbench.trial import Listener


def run(
    methods: str | Sequence[str | Method] = "all",
    dataset: str = "vessel",
    seeds: int | Sequence[int] = 3,
    *,
    partitioner: str = "natural",
    split: str | Path | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    sites: Sequence[str] | None = None,
    public: Sequence[str] | None = None,
    data_root: str | Path | None = None,
    device: str = "auto",
    jobs: int | None = None,
    out: str | Path = "runs",
    pictures: bool = True,
    metrics: str = "dice",
    plugins: Sequence[str | Path] = (),
    listen: Listener | None = None,
) -> pd.DataFrame:
    """Run methods x seeds on a dataset and return the tidy frame of test scores.

    ``methods`` are names, "all", "paper", or Method values of your own (these run in this process). ``plugins`` are
    Python files that define further methods, datasets or partitioners. ``seeds`` is a number of seeds or a list of
    them. ``settings`` and ``sweep`` are as on the command line:
    ``{"recipe.rounds": 20, "resfim.delta": 0.2}``. ``split`` is a file that ``pflbench data show`` wrote, instead
    of a partitioner. ``jobs`` is the number of processes (default: one per core
    on a CPU). ``listen`` is called with every event. Trials that are finished in ``out`` are not run again.

    ``public`` are sites that are no client: the server has their images, without masks.
    With ``pictures`` the test images are kept in ``out/pictures`` for the report. ``metrics`` are further scores, as
    on the command line: "hd95,cldice" or "all".

    Columns: see ``pflbench.results.scores``; where a client has several metrics, choose by ``metric``. Raises
    UsageError before anything is trained, and TrialFailed after all others are done if a trial failed.
    """
    from pflbench.asked import numbered_seeds
    from pflbench.matrix import default_jobs, run_plan
    from pflbench.measuring import measure
    from pflbench.plan import Request, make_plan
    from pflbench.plugins import with_files
    from pflbench.scoring import chosen

    wanted = [methods] if isinstance(methods, str) else list(methods)
    names = [part for entry in wanted for part in (entry.split(",") if isinstance(entry, str) else [entry])]
    request = Request(
        methods=tuple(names),
        dataset=dataset,
        seeds=numbered_seeds(seeds) if isinstance(seeds, int) else tuple(seeds),
        partitioner=partitioner,
        split=Path(split) if split else None,
        preset=preset,
        settings=dict(settings or {}),
        sweep=dict(sweep or {}),
        sites=tuple(sites) if sites else None,
        public=tuple(public) if public else None,
        data_root=Path(data_root) if data_root else None,
        device=device,
        out=Path(out),
        pictures=pictures,
        command="pflbench.run(...)",
    )
    more = chosen(metrics)
    registry = with_files(plugins)
    for problem in registry.problems:
        warnings.warn(problem, stacklevel=2)
    plan = make_plan(request, registry)
    if plan.banner:
        warnings.warn(plan.banner, stacklevel=2)
    trials = run_plan(plan, jobs or default_jobs(plan), listen or (lambda event: None))
    failed = [f"{trial.id}: {trial.error['sentence']}" for trial in trials if trial.error]
    if failed:
        raise TrialFailed(f"{len(failed)} of {len(trials)} trials failed. " + " ".join(failed))
    for sentence in measure(trials, more):
        warnings.warn(sentence, stacklevel=2)
    return scores(trials)
