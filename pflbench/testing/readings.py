"""What is seen in a case of a dataset when it is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pflbench.dataset import Case, Dataset
from pflbench.testing.fresh import pixel_digest

_READ = 4  # cases of each site whose pixels are read: the first, the last, and some between


@dataclass(frozen=True)
class Reading:
    """What was seen in one case."""

    case: Case
    image: tuple[tuple[int, ...], str, int, int]  # shape, type, least and greatest value
    mask: tuple[tuple[int, ...], str, tuple[float, ...]]  # shape, type, distinct values (some of them)
    hashed: str


def spread(cases: Sequence[Case]) -> list[Case]:
    """Return some cases: the first, the last, and others evenly between."""
    places = sorted({round(index * (len(cases) - 1) / (_READ - 1)) for index in range(_READ)})
    return [cases[place] for place in places]


def read(dataset: Dataset, case: Case) -> Reading:
    """Read a case once."""
    image, mask = (np.asarray(part) for part in dataset.read(case))
    values: tuple[Any, ...] = tuple(np.unique(mask).tolist()[:5])
    seen = (image.shape, str(image.dtype), image.min().item(), image.max().item())
    return Reading(case, seen, (mask.shape, str(mask.dtype), values), pixel_digest(image, mask, dataset.digest(case)))


def pixels_of(dataset: Dataset, case: Case) -> bytes:
    """Return all pixels of a case, image and mask."""
    image, mask = dataset.read(case)
    return image.tobytes() + mask.tobytes()
