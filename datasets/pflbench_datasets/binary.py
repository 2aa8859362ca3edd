"""From a mask as it is stored, in any of the ways people store masks, to 0 and 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pflbench.api import DataError, Pixels

Foreground = int | Literal["any"] | None
Values = NDArray[Any]

_FEW = 32  # a mask with a maximum below this holds numbers of labels, not levels of grey
_EDGE = 0.1  # of the maximum: as near to black or white, jpeg leaves specks and they are no label


def binary(values: Values, wanted: Foreground, file: Path) -> Pixels:
    """Return foreground as 1 (uint8, in the shape of ``values``: H x W, or x, y, z).

    With ``wanted``, foreground is what has that value, or with "any" all above 0. Without one, it is what is above
    half of the maximum: so 0 and 1, 0 and 255 and 0 and 65535 come out alike, and 0 to 252 (jpeg, anti-aliased)
    too; from a maximum of 128 to 255 the threshold is 127, the middle of a byte.
    Raises DataError for a map of several labels, which has more values than two and whole areas of them.
    """
    if values.min() < 0:
        raise DataError(f"{file} holds values below 0; a mask has 0 for background.")
    if wanted is not None:
        return np.asarray(values > 0 if wanted == "any" else values == wanted).astype(np.uint8)
    maximum = values.max()
    found = _labels(values)
    if found:
        shown = ", ".join(f"{value:g}" for value in found[:6]) + (", ..." if len(found) > 6 else "")
        raise DataError(
            f"{file} is no binary mask: it has areas of {shown}; choose the foreground with "
            f"--set folder.foreground={found[-1]:g}, or 'any' for all above 0."
        )
    middle = 127 if 128 <= maximum <= 255 else maximum / 2
    return np.asarray(values > middle).astype(np.uint8)


def _labels(values: Values) -> list[float]:
    """Return the values of a map of labels, and nothing for a binary mask."""
    maximum = float(values.max())
    if maximum < _FEW and np.array_equal(values, np.rint(values)):
        present = np.unique(values)
        return [] if len(present) == 1 or (len(present) == 2 and present[0] == 0) else present.tolist()
    flat = _flat_greys(values, maximum)
    return flat if flat and len(np.unique(values)) > 2 else []


def _flat_greys(values: Values, maximum: float) -> list[float]:
    """Return the values, neither near 0 nor near the maximum, that fill 3 x 3 pixels somewhere.

    Blurred edges hold greys too, but each next to another.
    """
    grey = (values > _EDGE * maximum) & (values < (1 - _EDGE) * maximum)
    if not grey.any():
        return []
    across = (values[:, :-2] == values[:, 1:-1]) & (values[:, 1:-1] == values[:, 2:])
    down = (values[:-2] == values[1:-1]) & (values[1:-1] == values[2:])
    flat = across[:-2] & across[1:-1] & across[2:] & down[:, 1:-1]
    return sorted(np.unique(values[1:-1, 1:-1][flat & grey[1:-1, 1:-1]]).tolist()) if flat.any() else []
