"""Scoring stored segmentations case by case, after a trial: overlap, distances between surfaces, centrelines."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pflbench.errors import UsageError, unknown
from pflbench.metrics import FORMULAS, METRICS

Masks = NDArray[np.bool_]  # N x H x W, or one of them
Spacing = tuple[float, float]  # of rows and of columns, in millimetres per pixel of the image as it is scored
Row = tuple[str, str, str, float]  # client, case, metric, value

CHOICES = ("iou", "sensitivity", "precision", "hd95", "assd", "cldice")  # beside Dice, which every trial reports
_REPORTED = ("dice", "dice_volume", "dice_fov")
_LIBRARY = {"surfaces": "monai", "centrelines": "skimage"}  # what a metric needs -> the module that computes it


def chosen(names: str) -> tuple[str, ...]:
    """Return the metrics of a comma list, or of "all", that must be computed beside Dice, in the order of ``CHOICES``.

    Dice may be named: it is reported anyway. Raises UsageError for an unknown name, and where the library that
    computes a metric is not installed.
    """
    wanted = {name.strip().lower() for name in names.split(",")} - {""}
    if "all" in wanted:
        wanted = (wanted - {"all"}) | set(CHOICES)
    for name in sorted(wanted - {*CHOICES, *_REPORTED}):
        raise unknown("metric", name, ["all", *CHOICES, *_REPORTED])
    found = tuple(name for name in CHOICES if name in wanted)
    _check_installed(found)
    return found


def spacing(extent: tuple[float, float] | None, height: int, width: int) -> Spacing | None:
    """Return the millimetres per pixel of an image of this size that shows ``extent`` (height, width in mm)."""
    return None if extent is None else (extent[0] / height, extent[1] / width)


def in_units(names: Sequence[str], spacings: Sequence[Spacing | None]) -> tuple[str, ...]:
    """Return the names under which scores are stored: of distances, ``_mm`` only if every case has a spacing.

    Give the spacings of all test cases of all clients, so that a table never mixes pixels and millimetres.
    """
    known = bool(spacings) and all(spacing is not None for spacing in spacings)
    return tuple(f"{name}_mm" if known and METRICS[name].unit == "px" else name for name in names)


def rows(
    predictions: Mapping[str, Masks],
    truths: Mapping[str, Masks],
    case_ids: Mapping[str, Sequence[str]],
    spacings: Mapping[str, Spacing | None],
    names: Sequence[str],
) -> list[Row]:
    """Return every case's scores: predictions by client (N x H x W), truths (H x W) and spacings by case id.

    Distances are in millimetres if every case has a spacing, else all in pixels, and named so. Raises UsageError
    where a client's predictions and cases differ in number.
    """
    stored = in_units(names, [spacings[case] for own in case_ids.values() for case in own])
    found: list[Row] = []
    for client, own in case_ids.items():
        if len(predictions[client]) != len(own):
            raise UsageError(
                f"client {client!r} has {len(predictions[client])} stored predictions for {len(own)} test cases; "
                "run the trial again."
            )
        truth = np.stack([truths[case] for case in own]) if own else np.zeros_like(predictions[client])
        scores = score(predictions[client], truth, stored, [spacings[case] for case in own])
        found += [(client, case, name, scores[name][row]) for row, case in enumerate(own) for name in stored]
    return found


def score(
    found: Masks, truth: Masks, names: Sequence[str], spacings: Sequence[Spacing | None]
) -> dict[str, list[float]]:
    """Return metric -> each case's score, for predictions and masks N x H x W.

    Ratios are in 0..1. ``hd95`` and ``assd`` are in pixels of the image as it is given, whatever the spacings;
    ``hd95_mm`` and ``assd_mm`` are in millimetres and need every spacing. What an empty prediction or mask scores
    is ``empty_rule`` of ``METRICS``. Raises UsageError where a library is not installed.
    """
    _check_installed(names)
    cases = list(zip(found, truth, spacings, strict=True))
    by_name: dict[str, list[float]] = {}
    for name in names:
        needs, unit = METRICS[name].needs, METRICS[name].unit
        if needs == "counts":
            by_name[name] = [FORMULAS[name](*_counts(p, t)) for p, t, _ in cases]
        elif needs == "centrelines":
            by_name[name] = [cldice(p, t) for p, t, _ in cases]
        else:
            measure = DISTANCES[name.removesuffix("_mm")]
            by_name[name] = [measure(p, t, _known(known) if unit == "mm" else (1.0, 1.0)) for p, t, known in cases]
    return by_name


def hd95(found: Masks, truth: Masks, spacing: Spacing) -> float:
    """Return the 95 % Hausdorff distance of two masks H x W, in the unit of ``spacing``.

    From every border pixel of one mask, the distance to the nearest border pixel of the other: the 95th percentile
    of those (interpolated), once from the prediction and once from the mask, and the larger of the two. That is
    MONAI's form; others take one percentile of both together. A border pixel is foreground with one of its four
    neighbours not foreground or outside the image.
    """
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    return _between(found, truth, spacing, partial(compute_hausdorff_distance, percentile=95))


def assd(found: Masks, truth: Masks, spacing: Spacing) -> float:
    """Return the average symmetric surface distance of two masks H x W, in the unit of ``spacing``.

    The mean over the border pixels of both masks together of the distance to the other mask's border, by MONAI.
    """
    from monai.metrics.surface_distance import compute_average_surface_distance

    return _between(found, truth, spacing, partial(compute_average_surface_distance, symmetric=True))


DISTANCES: Mapping[str, Callable[[Masks, Masks, Spacing], float]] = {"hd95": hd95, "assd": assd}


def cldice(found: Masks, truth: Masks) -> float:
    """Return the centreline Dice of two masks H x W, in 0..1.

    Tprec = |S(P) and T| / |S(P)|, Tsens = |S(T) and P| / |S(T)|, and their harmonic mean, with S the skeleton
    (scikit-image, Zhang and Suen 1984, as in the authors' code). MONAI has only the loss, whose soft skeleton is made
    for gradients: what it finds depends on a number of iterations. Shit et al., clDice, CVPR 2021.
    """
    from skimage.morphology import skeletonize

    if not (found.any() and truth.any()):
        return float(not found.any() and not truth.any())
    thin_found, thin_truth = skeletonize(found), skeletonize(truth)  # type: ignore[no-untyped-call]
    right, kept = float(truth[thin_found].mean()), float(found[thin_truth].mean())  # Tprec, Tsens
    return 2 * right * kept / (right + kept) if right + kept else 0.0


def _counts(found: Masks, truth: Masks) -> tuple[int, int, int]:
    hits = int((found & truth).sum())
    return hits, int(found.sum()) - hits, int(truth.sum()) - hits


def _between(found: Masks, truth: Masks, spacing: Spacing, measure: Callable[..., Any]) -> float:
    """Return what one of MONAI's functions measures; where a mask is empty, 0 or the diagonal instead of infinity."""
    if not found.any() and not truth.any():
        return 0.0
    if not found.any() or not truth.any():
        return math.hypot(found.shape[0] * spacing[0], found.shape[1] * spacing[1])
    # MONAI expects N x channels x H x W; include_background=True keeps the only channel, which is the foreground.
    # It refuses a spacing of an int and a float
    unit = [float(side) for side in spacing]
    with _calmly():
        return float(measure(found[None, None], truth[None, None], include_background=True, spacing=unit))


@contextmanager
def _calmly() -> Iterator[None]:
    """Give torch one thread, and keep off the terminal what MONAI says about its own deprecated arguments.

    On small images threads only wait for each other: ten times longer on a busy machine.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch.set_num_threads(threads)


def _known(spacing: Spacing | None) -> Spacing:
    if spacing is None:
        raise ValueError("a distance in millimetres needs the spacing of every case; in_units() decides the unit")
    return spacing


def _check_installed(names: Sequence[str]) -> None:
    """Refuse at once what could not be computed after hours; nothing is imported, which takes seconds."""
    for name in names:
        library = _LIBRARY.get(METRICS[name].needs)
        if library and importlib.util.find_spec(library) is None:
            raise UsageError(f"metric {name!r} needs {library}; install it with pip install 'pflbench[metrics]'.")
