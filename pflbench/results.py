"""The results store: one folder per trial, plain files, readable on a machine without torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pflbench.metrics import dice

FORMAT = 2  # of the folder; another format is never read as this one
TRIAL, PREDICTIONS = "trial.json", "predictions.npz"
State = Literal["running", "finished", "failed"]

# the tables of a trial: name -> columns. Only timing.csv may differ between two runs of one trial.
# cases: the volume a slice is cut from (or nothing), Dice inside the field of view where one is known, and pixels
# by outcome (true positives, false positives, false negatives), from which other scores can be computed.
# metrics: further scores of the cases chosen "best", where they were asked for.
TABLES: dict[str, tuple[str, ...]] = {
    "rounds": ("round", "client", "split", "dice", "loss"),
    "cases": ("chosen", "round", "client", "site", "subject", "volume", "case", "dice", "dice_fov", "tp", "fp", "fn"),
    "logs": ("round", "client", "key", "value"),
    "ledger": ("round", "client", "direction", "bytes"),
    "metrics": ("client", "case", "metric", "value"),
    "timing": ("round", "client", "stage", "seconds", "peak_mib"),
}


_WORDS = ("client", "case", "volume", "subject", "site", "key", "split", "chosen", "stage", "direction", "metric")


class ResultsError(Exception):
    """A folder is no readable result of this version; the message names it and says why."""


def hash_of(value: object, length: int = 10) -> str:
    """Return a short hash of plain values, the same on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:length]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, flush it to disk, and rename it into place."""
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: object) -> None:
    """Write plain values as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_table(folder: Path, name: str, rows: Sequence[Sequence[Any]]) -> None:
    """Write one of ``TABLES`` atomically; floats keep all their digits."""
    frame = pd.DataFrame(list(rows), columns=list(TABLES[name]))
    write_atomically(folder / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))


@dataclass(frozen=True)
class Trial:
    """One trial as it lies on disk. ``spec`` is all that decides its numbers; ``about`` explains them."""

    folder: Path
    id: str
    state: State
    round: int  # rounds completed
    spec: Mapping[str, Any]
    about: Mapping[str, Any]
    error: Mapping[str, str] | None = None  # sentence, where, traceback

    @property
    def group(self) -> str:
        """Return a hash of everything but method, seed and the split drawn from the seed.

        Only trials of one group may stand in one table.
        """
        shared = {key: value for key, value in self.spec.items() if key not in ("method", "seed", "split")}
        return hash_of(shared)

    def table(self, name: str) -> pd.DataFrame:
        """Return one of ``TABLES``; empty with its columns where nothing has been written yet.

        Raises ResultsError where the file is not such a table.
        """
        path = self.folder / f"{name}.csv"
        columns = list(TABLES[name])
        if not path.exists():
            return pd.DataFrame(columns=columns)
        try:
            # a site may be called NA; only numbers can be missing
            words = dict.fromkeys(_WORDS, str)
            missing = {name: [""] for name in columns if name not in words}
            frame = pd.read_csv(path, dtype=words, keep_default_na=False, na_values=missing)
        except (ValueError, OSError) as error:
            raise ResultsError(f"{path} is not a readable table ({error}).") from error
        if list(frame.columns) != columns:
            raise ResultsError(f"{path} has the columns {list(frame.columns)}, not {columns}.")
        return frame

    def predictions(self) -> dict[str, NDArray[np.bool_]] | None:
        """Return client -> what was found in its test cases, N x H x W, or None where nothing was kept.

        In the order of the client's rows of ``cases`` that are chosen "best". Raises ResultsError.
        """
        path = self.folder / PREDICTIONS
        if not path.exists():
            return None
        stored = _read_arrays(path)
        bits = [stored[f"bits{number}"] for number in range(len(stored["clients"]))]
        unpacked = [np.unpackbits(b, axis=-1, count=int(n)) for b, n in zip(bits, stored["widths"], strict=True)]
        return dict(zip(map(str, stored["clients"]), (b.astype(bool) for b in unpacked), strict=True))

    def pictures(self) -> dict[str, Picture] | None:
        """Return case id -> test case as it was scored, or None where the run kept no images. Raises ResultsError."""
        cases = self.table("cases")
        path = pictures_file(self.folder.parent, self.spec, cases.loc[cases["chosen"] == "best", "case"])
        if not path.exists():
            return None
        stored = _read_arrays(path)
        masks = np.unpackbits(stored["masks"], axis=-1, count=stored["images"].shape[-1]).astype(bool)
        extents = [None if np.isnan(e).any() else (float(e[0]), float(e[1])) for e in stored["extents"]]
        rows = zip(map(str, stored["cases"]), stored["images"], masks, extents, strict=True)
        return {case: Picture(image, mask, extent) for case, image, mask, extent in rows}

    def environment(self) -> list[dict[str, Any]]:
        """Return the environments (versions, hardware, commit) that the trial ran in, first to last.

        Raises ResultsError where the file cannot be read.
        """
        path = self.folder / "environment.json"
        try:
            return list(json.loads(path.read_text())) if path.exists() else []
        except (OSError, ValueError) as error:
            raise ResultsError(f"{path} cannot be read ({error}).") from error


@dataclass(frozen=True)
class Picture:
    """A test case as it was scored: image C x H x W (uint8), mask H x W (boolean), and its sides in mm if known."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    extent: tuple[float, float] | None


def write_predictions(folder: Path, found: Mapping[str, NDArray[np.bool_]]) -> None:
    """Write what was found in each client's test cases (N x H x W), at the client's chosen round, atomically."""
    arrays = {f"bits{number}": np.packbits(masks, axis=-1) for number, masks in enumerate(found.values())}
    widths = np.array([masks.shape[-1] for masks in found.values()])
    _write_arrays(folder / PREDICTIONS, {"clients": np.array(list(found)), "widths": widths, **arrays})


def pictures_file(out: Path, spec: Mapping[str, Any], cases: Iterable[str]) -> Path:
    """Return where the test images of trials with these cases lie: outside the trials, so that they can be removed."""
    recipe = spec["recipe"]
    size = [recipe["image_height"], recipe["image_width"]]
    return out / "pictures" / f"{hash_of([spec['dataset']['digest'], size, sorted(cases)], 24)}.npz"


def write_pictures(path: Path, pictures: Mapping[str, Picture]) -> None:
    """Write test cases by id, atomically; they must be of one size."""
    unknown = (np.nan, np.nan)
    _write_arrays(
        path,
        {
            "cases": np.array(list(pictures)),
            "images": np.stack([picture.image for picture in pictures.values()]),
            "masks": np.packbits(np.stack([picture.mask for picture in pictures.values()]), axis=-1),
            "extents": np.array([picture.extent or unknown for picture in pictures.values()], float),
        },
    )


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read arrays; nothing is unpickled. Raises ResultsError naming the file."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ResultsError(f"{path} cannot be read ({error}).") from error


def read_trial(folder: Path) -> Trial:
    """Read ``trial.json`` of a folder. Raises ResultsError naming the file where it is broken or foreign."""
    path = folder / TRIAL
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ResultsError(f"{path} has results format {found!r}; this version reads format {FORMAT}.")
    try:
        return Trial(
            folder=folder,
            id=content["id"],
            state=content["state"],
            round=content["round"],
            spec=content["spec"],
            about=content["about"],
            error=content["error"],
        )
    except KeyError as error:
        raise ResultsError(f"{path} lacks {error}.") from error


def write_trial(trial: Trial) -> None:
    """Write ``trial.json``, atomically."""
    write_json(
        trial.folder / TRIAL,
        {
            "format": FORMAT,
            "id": trial.id,
            "state": trial.state,
            "round": trial.round,
            "error": dict(trial.error) if trial.error else None,
            "spec": dict(trial.spec),
            "about": dict(trial.about),
        },
    )


def find_trials(paths: Iterable[Path]) -> tuple[list[Trial], list[str]]:
    """Return every trial below the paths, in the order of their folders, and a sentence for each that is broken."""
    trials, broken = [], []
    folders = sorted({found.parent for path in paths for found in Path(path).rglob(TRIAL)})
    for folder in folders:
        try:
            trials.append(read_trial(folder))
        except ResultsError as error:
            broken.append(str(error))
    return trials, broken


def scores(trials: Iterable[Trial]) -> pd.DataFrame:
    """Return the tidy frame of final test scores.

    Columns: trial, group, dataset, simulated, method, title, settings, seed, chosen ("best": the client's
    best validation round in the second half; "last": the last round), round, client, metric ("dice": per
    case, which is a slice where volumes were cut; "dice_fov": inside the field of view, where every test case
    of the client has one; "dice_volume": over all slices of a volume together; others, of the "best" round
    only, where they were asked for: see ``pflbench.metrics.METRICS``), value (mean over the client's
    test cases or volumes, ratios in 0..1), cases (how many of them). Unfinished trials give no rows.
    """
    frames = [_scores(trial) for trial in trials if trial.state == "finished"]
    columns = ["trial", "group", "dataset", "simulated", "method", "title", "settings", "seed"]
    columns += ["chosen", "round", "client", "metric", "value", "cases"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _scores(trial: Trial) -> pd.DataFrame:
    cases = trial.table("cases")
    method, dataset = trial.spec["method"], trial.spec["dataset"]
    return pd.concat([*_means(cases), *_measured(trial, cases)], ignore_index=True).assign(
        trial=trial.id,
        group=trial.group,
        dataset=dataset["name"],
        simulated=dataset["simulated"],
        method=method["name"],
        title=method["title"],
        settings=method["label"],
        seed=trial.spec["seed"],
    )


_OWNER = ["chosen", "round", "client"]


def _means(cases: pd.DataFrame) -> list[pd.DataFrame]:
    """Return each client's mean of every metric that its cases allow."""
    found = [_mean(cases, "dice", "dice")]
    unknown = set(cases.loc[cases["dice_fov"].isna(), "client"])
    inside = ~cases["client"].isin(unknown)
    if inside.any():
        found.append(_mean(cases[inside], "dice_fov", "dice_fov"))
    slices = cases[cases["volume"] != ""]
    if len(slices):
        volumes = slices.groupby([*_OWNER, "site", "volume"], sort=False)[["tp", "fp", "fn"]].sum().reset_index()
        scored = volumes.assign(dice=[dice(*row) for row in volumes[["tp", "fp", "fn"]].to_numpy().tolist()])
        found.append(_mean(scored, "dice", "dice_volume"))
    return found


def _measured(trial: Trial, cases: pd.DataFrame) -> list[pd.DataFrame]:
    """Return each client's mean of the metrics that were asked for besides."""
    metrics = trial.table("metrics")
    if metrics.empty:
        return []
    owners = cases.loc[cases["chosen"] == "best", [*_OWNER, "case"]]
    joined = metrics.merge(owners, on=["client", "case"], how="left", validate="many_to_one")
    return [_mean(rows, "value", str(metric)) for metric, rows in joined.groupby("metric", sort=False)]


def _mean(rows: pd.DataFrame, column: str, metric: str) -> pd.DataFrame:
    means = rows.groupby(_OWNER, sort=False)[column].agg(["mean", "size"]).reset_index()
    return means.rename(columns={"mean": "value", "size": "cases"}).assign(metric=metric)


def discard(folder: Path) -> None:
    """Remove a checkpoint folder that is no longer needed."""
    shutil.rmtree(folder, ignore_errors=True)
