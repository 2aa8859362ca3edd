"""A dataset that keeps its contract, and others each broken in one way."""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pflbench.api import Case, DataError, Dataset

BROKEN_DATASETS: dict[type, tuple[str, str]] = {}  # class -> name of the check, words of the reason
_SITES = ("north", "south")


@dataclass(frozen=True)
class Discs(Dataset):
    """Bright discs, their place drawn from the name of the case."""

    name: ClassVar[str] = "checked-discs"
    title: ClassVar[str] = "Discs"
    sites: ClassVar[tuple[str, ...]] = _SITES
    expected: ClassVar[Mapping[str, tuple[int, int]]] = dict.fromkeys(_SITES, (6, 2))
    licence: ClassVar[Mapping[str, str]] = dict.fromkeys(_SITES, "none needed")
    citation: ClassVar[Mapping[str, str]] = dict.fromkeys(_SITES, "made for a test")
    simulated: ClassVar[bool] = True

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> "Discs | None":
        return cls.of(options)

    def available(self) -> Sequence[str]:
        return self.sites

    def cases(self, site: str) -> Sequence[Case]:
        splits = ["test" if number < 2 else "train" for number in range(8)]
        return [Case(f"{site}/{number}", site, f"p{number}", split) for number, split in enumerate(splits)]

    def read(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        return self.drawn(np.random.default_rng(zlib.crc32(case.id.encode())))

    def drawn(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return image and mask."""
        rows, columns = np.ogrid[:16, :20]
        row, column = rng.integers(4, 12, 2)
        mask = ((rows - row) ** 2 + (columns - column) ** 2 <= 9).astype(np.uint8)
        return rng.integers(0, 60, (3, 16, 20), dtype=np.uint8) + 180 * mask, mask

    def digest(self, case: Case) -> str:
        return case.id


def fails(check, words):
    """Return a decorator that names a class, makes it a frozen dataclass, and registers it."""

    def register(cls):
        cls.name, cls.title = f"{cls.__name__.lower()}", cls.__name__
        if cls.__doc__ is None:
            cls.__doc__ = "Discs that are broken on purpose."
        made = dataclass(frozen=True)(cls)
        BROKEN_DATASETS[made] = (check, words)
        return made

    return register


@fails("contract", "nobody calls Misspelt.availabel; did you mean 'available'")
class Misspelt(Discs):
    def availabel(self):
        return self.sites


@fails("settings", "'level' is no plain value")
class NotANumber(Discs):
    level: float = float("nan")


@fails("name", "vessel is a dataset of pflbench; take another name")
class Taken(Discs):
    aliases: ClassVar[tuple[str, ...]] = ("vessel",)


@fails("docstring", "class Silent has no docstring of its own")
class Silent(Discs):
    __doc__ = ""


@fails("licences", "licence says nothing of south")
class Unlicensed(Discs):
    licence: ClassVar[Mapping[str, str]] = {"north": "CC BY 4.0"}


@fails("licences", "citation says nothing of north")
class Uncited(Discs):
    citation: ClassVar[Mapping[str, str]] = {"north": "  ", "south": "Doe 2026."}


@fails("presets", "the preset 'quick': no setting of recipe called 'round'; did you mean 'rounds'?")
class NoRecipe(Discs):
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "quick": {"round": 3}}


@fails("presets", "it lacks the presets quick")
class NotQuick(Discs):
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}


@fails("found", "find() returns None; a simulated dataset needs no folder")
class Lost(Discs):
    @classmethod
    def find(cls, folder, **options):
        return None


@fails("found", "available() names ['south', 'north']; its sites are ['north', 'south'], in that order")
class Reordered(Discs):
    def available(self):
        return self.sites[::-1]


@fails("counts", "north has 6/2, 5/2 expected; south has 6/2, 5/2 expected.")
class Miscounted(Discs):
    expected: ClassVar[Mapping[str, tuple[int, int]]] = dict.fromkeys(_SITES, (5, 2))


@fails("ids", "the id '7' is given twice")
class Doubled(Discs):
    def cases(self, site):
        *others, last = Discs.cases(self, site)
        return [*others, replace(last, id="7")]

    def digest(self, case):
        return f"{case.site} {case.id}"

    def read(self, case):
        return self.drawn(np.random.default_rng(zlib.crc32(f"{case.site}/{case.subject}".encode())))


@fails("ids", "cases('north') lists 'north/0', which says that it is of 'east'")
class Misplaced(Discs):
    def cases(self, site):
        return [replace(case, site="east") for case in Discs.cases(self, site)]


@fails("subjects", "'p3' of north is in the splits none and train")
class Divided(Discs):
    def cases(self, site):
        return [*Discs.cases(self, site), Case(f"{site}/8", site, "p3", None)]

    expected: ClassVar[Mapping[str, tuple[int, int]]] = {}


@fails("subjects", "the volume 'v' of north is of p3 and p5")
class SharedVolume(Discs):
    def cases(self, site):
        return [replace(case, volume="v" if case.subject in ("p3", "p5") else None) for case in Discs.cases(self, site)]


@fails("subjects", "slices of a volume of north do not follow each other")
class TornVolume(Discs):
    def cases(self, site):
        first, *others = [replace(case, subject="p", split="train") if case.subject in ("p3", "p5") else case
                          for case in Discs.cases(self, site)]  # fmt: skip
        return [first, *(replace(case, volume="v") if case.subject == "p" else case for case in others)]


@fails("clients", "client 'north' has no test case")
class Untested(Discs):
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {}

    def cases(self, site):
        return [replace(case, split="train") for case in Discs.cases(self, site)]


@fails("reads", "north/0.png is missing")
class Missing(Discs):
    def read(self, case):
        raise DataError(f"{case.id}.png is missing.")


@fails("images", "has the shape (16, 20, 3), not C x H x W with C = 3")
class ChannelsLast(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return np.moveaxis(image, 0, 2), mask.reshape(16, 20)


@fails("images", "the image of 'north/0' is of float32, not uint8")
class Floating(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return image.astype(np.float32), mask


@fails("images", "the image of 'north/0' runs from 0 to 1, not to 255")
class Truncated(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return (image / 127).astype(np.uint8).clip(0, 1), mask


@fails("images", "the image of 'north/0' is 9 everywhere")
class Blank(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return np.full_like(image, 9), mask


@fails("masks", "the mask of 'north/0' has the shape (8, 10), its image (16, 20)")
class Halved(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return image, mask[::2, ::2]


@fails("masks", "the mask of 'north/0' is of bool, not uint8")
class Boolean(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return image, mask.astype(bool)


@fails("masks", "the mask of 'north/0' holds 0, 255; 0 or 1 is allowed")
class White(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return image, 255 * mask


@fails("masks", "every mask of north that was read is empty")
class Empty(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return image, 0 * mask


@fails("masks", "every mask of north that was read is full")
class Full(Discs):
    def read(self, case):
        image, mask = Discs.read(self, case)
        return image, 0 * mask + 1


@fails("fields", "the field of view of 'north/0' is not H x W")
class Blinkered(Discs):
    def field_of_view(self, case):
        return np.ones((4, 4), np.uint8)


@fails("fields", "the extent of 'north/0' is (0.0, 12.0) mm")
class Flat(Discs):
    def extent(self, case):
        return 0.0, 12.0


@fails("same-again", "'north/0' has other pixels, or another digest, when it is read again")
class Restless(Discs):
    """Discs that are another every time, but not in their first reading in a process."""

    def read(self, case):
        image, mask = Discs.read(self, case)
        place = _SEEN.setdefault(case.id, itertools.count())
        return image ^ np.uint8(min(1, next(place))), mask


_SEEN: dict[str, Any] = {}


@fails("fresh-process", "'north/0' has other pixels, or another digest, in a fresh process")
class Hashing(Discs):
    def read(self, case):
        return self.drawn(np.random.default_rng(abs(hash(case.id))))


@fails("digests", "'north/0' and 'north/1' have one digest and different pixels")
class Undigested(Discs):
    def digest(self, case):
        return "the same"
