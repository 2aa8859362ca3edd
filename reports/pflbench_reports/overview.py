"""The overview of a federation, in files: the picture of its clients and the tables it was drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pflbench.results import write_atomically
from pflbench_reports.portraits import draw

Facts = Mapping[str, Any]


def write_overview(portrait: Facts, out: Path) -> list[Path]:
    """Write overview.svg, overview.png and the CSVs they were drawn from into ``out``; return the files written.

    ``portrait`` is what ``Portrait.plain()`` of the core returns: title, simulated, low_frequency, clients,
    heterogeneity, verdict.
    """
    drawn = draw(portrait, distances(portrait))
    frames = {
        "heterogeneity": drawn.data,
        "histograms": histograms(portrait["clients"]),
        "spectra": spectra(portrait["clients"]),
        "foreground": foreground(portrait["clients"]),
    }
    tables = {f"{name}.csv": frame.to_csv(index=False, lineterminator="\n").encode() for name, frame in frames.items()}
    files = {"overview.svg": drawn.svg, "overview.png": drawn.png, **tables}
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomically(out / name, content)
    return [out / name for name in files]


def distances(portrait: Facts) -> pd.DataFrame:
    """Return a row for each measure and ordered pair of clients, a client with itself among them.

    ``distance`` is between all their cases, ``halves`` between random halves, and ``reference`` what halves
    would give without any difference between the two. The ratio in the picture is the mean of ``halves`` by
    the mean of ``reference`` over the pairs of two clients.
    """
    names = [client["name"] for client in portrait["clients"]]
    rows = [
        [measure, facts["unit"], one, other, facts["distances"][a, b], facts["halves"][a, b], facts["reference"][a, b]]
        for measure, facts in portrait["heterogeneity"].items()
        for a, one in enumerate(names)
        for b, other in enumerate(names)
    ]
    return pd.DataFrame(rows, columns=["measure", "unit", "client", "other", "distance", "halves", "reference"])


def histograms(clients: Sequence[Facts]) -> pd.DataFrame:
    """Return densities per grey level; ``channel`` is a number, or "mean" for the mean of the channels."""
    rows = []
    for client in clients:
        lines: list[tuple[str | int, Any]] = [("mean", client["histogram"]), *enumerate(client["channel_histograms"])]
        for channel, densities in lines:
            width = 256 // len(densities)
            rows += [[client["name"], channel, i * width, (i + 1) * width, d] for i, d in enumerate(densities)]
    return pd.DataFrame(rows, columns=["client", "channel", "from", "below", "density"])


def spectra(clients: Sequence[Facts]) -> pd.DataFrame:
    """Return mean log10 amplitudes by ring, and how far they lie above the mean over clients, in decades."""
    average = np.mean([client["radial"] for client in clients], axis=0)
    rows = [
        [client["name"], ring, value, value - average[ring]]
        for client in clients
        for ring, value in enumerate(client["radial"])
    ]
    return pd.DataFrame(rows, columns=["client", "cycles_per_side", "log10_amplitude", "above_mean"])


def foreground(clients: Sequence[Facts]) -> pd.DataFrame:
    """Return each case's share of foreground, and its place among the sample pictures (empty: not shown)."""
    rows = []
    for client in clients:
        shown = {sample["case"]: place for place, sample in enumerate(client["samples"], start=1)}
        shares = zip(client["cases"], client["foreground"], strict=True)
        rows += [[client["name"], case, 100 * share, shown.get(case)] for case, share in shares]
    frame = pd.DataFrame(rows, columns=["client", "case", "foreground_percent", "sample"])
    return frame.astype({"sample": "Int64"})
