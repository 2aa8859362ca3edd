"""More metrics of finished trials, from what they kept of their test cases: nothing is trained for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from pflbench import results, scoring
from pflbench.results import Picture, Trial


def measure(
    trials: Sequence[Trial], names: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Add metrics to the finished trials that lack them; return a sentence for each trial for which it cannot be done.

    They are kept in ``metrics.csv``, so a metric is computed once. ``report(done, total)`` counts trials.
    """
    finished = [trial for trial in trials if trial.state == "finished"]
    lacking = {trial.id: lacks(trial, names) for trial in finished}
    problems = []
    for number, trial in enumerate(finished, 1):
        if lacking[trial.id]:
            problem = _measure(trial, lacking[trial.id])
            problems += [problem] if problem else []
        report(number, len(finished))
    return problems


def lacks(trial: Trial, names: Sequence[str]) -> list[str]:
    """Return those of the metrics that a trial does not have yet, in pixels or in millimetres."""
    here = set(trial.table("metrics")["metric"].map(lambda name: name.removesuffix("_mm")))
    return [name for name in names if name not in here]


def _measure(trial: Trial, names: Sequence[str]) -> str | None:
    predictions, pictures = trial.predictions(), trial.pictures()
    if predictions is None or pictures is None:
        return (
            f"{trial.id} kept no test images, so {', '.join(names)} cannot be computed; run it without --no-pictures."
        )
    cases = trial.table("cases").query("chosen == 'best'")
    ids = {client: cases.loc[cases["client"] == client, "case"].to_list() for client in predictions}
    masks = {case: picture.mask for case, picture in pictures.items()}
    rows = scoring.rows(predictions, masks, ids, _spacings(pictures), names)
    before = trial.table("metrics")
    added = pd.DataFrame(rows, columns=before.columns)
    whole = added if before.empty else pd.concat([before, added], ignore_index=True)
    results.write_table(trial.folder, "metrics", whole.to_numpy().tolist())
    return None


def _spacings(pictures: Mapping[str, Picture]) -> dict[str, scoring.Spacing | None]:
    return {case: scoring.spacing(picture.extent, *picture.mask.shape) for case, picture in pictures.items()}
