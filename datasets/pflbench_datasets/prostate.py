"""Prostate MRI: six hospitals' T2 volumes from the SAML / FedDG release, cut into axial slices."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, SkipValidation

from pflbench.api import Case, DataError, Dataset, Files, Found, Item, Pixels, Store, StoredSite
from pflbench_datasets.prostate_release import found_in
from pflbench_datasets.volumes import Spacing, read_spacing, read_volume, slice_of, to_grey

# site -> patients; the paper's table, in its order
PATIENTS: Mapping[str, int] = {"BIDMC": 12, "BMC": 30, "HK": 12, "I2CVB": 19, "RUNMC": 30, "UCL": 13}

# 6:2:2 by patient: a fifth is tested, a quarter of the rest validates
_SHARES = {"validation": 0.25, "test": 0.2}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "rounds": 100,
        "epochs": 4,
        "batch": 4,
        "lr": 1e-4,
        "lr_decay": 1.0,
        "base_width": 64,
        "image_height": 256,
        "image_width": 256,
        **_SHARES,
    },
    "quick": {
        "rounds": 20,
        "epochs": 1,  # a site has some hundred slices, a tenth of what four epochs of a vessel site see
        "batch": 4,
        "lr": 1e-3,
        "lr_decay": 0.97,
        "base_width": 16,
        "image_height": 128,
        "image_width": 128,
        **_SHARES,
    },
}

READER = 1  # raise it whenever a change of the code changes a pixel: caches and results are keyed by it
_TERMS = "none on the release's page; its authors ask to be cited. "
_CITED = "Liu et al., FedDG, CVPR 2021, and Liu et al., Shape-aware meta-learning, MICCAI 2020; images from "
_ISBI = "Bloch et al., NCI-ISBI 2013 challenge: automated segmentation of prostate structures, TCIA 2015"
_I2CVB = "Lemaitre et al., Computer-aided detection and diagnosis for prostate cancer, Comput. Biol. Med. 60, 2015"
_PROMISE = "Litjens et al., Evaluation of prostate segmentation algorithms: PROMISE12, Med. Image Anal. 18(2), 2014"
_DRIVE_ID = "1TtrjnlnJ1yqr5m4LUGMelKTQXtvZaru-"
_HOW = (
    f"download Processed_data_nii.zip from https://drive.google.com/file/d/{_DRIVE_ID}/view in a browser (or: gdown "
    f"{_DRIVE_ID}), then run 'pflbench data import prostate --from Processed_data_nii.zip'"
)
_UNKNOWN = "{!r} is no case of {}; take one of those cases() lists."


@dataclass(frozen=True)
class Prostate(Dataset):
    """Axial slices of T2-weighted MR volumes of six hospitals; the mask is the whole gland."""

    slices: Literal["foreground", "all"] = "foreground"  # those that show the gland, as in published code, or all
    crop: Annotated[int, Field(ge=0)] = 256  # side of the centre that is kept, of 384 pixels; 0 keeps everything
    clip: Annotated[float, Field(gt=0, le=100)] = 99.0  # percentile of the volume that becomes white
    store: SkipValidation[Store | None] = field(default=None, compare=False, repr=False, metadata={"setting": False})

    name: ClassVar[str] = "prostate"
    title: ClassVar[str] = "Prostate MRI"
    sites: ClassVar[tuple[str, ...]] = tuple(PATIENTS)
    expected_subjects: ClassVar[Mapping[str, int]] = PATIENTS
    channels: ClassVar[int] = 1
    mask_area: ClassVar[float] = 0.5  # a compact gland keeps its area; nothing of it is thin
    licence: ClassVar[Mapping[str, str]] = {
        "BIDMC": _TERMS + "Part of PROMISE12, whose terms do not allow passing it on",
        "BMC": _TERMS + "Part of NCI-ISBI 2013 (TCIA terms)",
        "HK": _TERMS + "Part of PROMISE12, whose terms do not allow passing it on",
        "I2CVB": _TERMS + "Part of I2CVB (its own terms)",
        "RUNMC": _TERMS + "Part of NCI-ISBI 2013 (TCIA terms)",
        "UCL": _TERMS + "Part of PROMISE12, whose terms do not allow passing it on",
    }
    citation: ClassVar[Mapping[str, str]] = {
        "BIDMC": _CITED + _PROMISE,
        "BMC": _CITED + _ISBI,
        "HK": _CITED + _PROMISE,
        "I2CVB": _CITED + _I2CVB,
        "RUNMC": _CITED + _ISBI,
        "UCL": _CITED + _PROMISE,
    }
    addresses: ClassVar[Mapping[str, str]] = dict.fromkeys(PATIENTS, "https://liuquande.github.io/SAML/")
    instructions: ClassVar[Mapping[str, str]] = dict.fromkeys(PATIENTS, _HOW)
    stand_in: ClassVar[str | None] = "prostate-simulated"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> Self | None:
        """Return the dataset as it was imported into ``folder`` or ``folder/prostate``, or None."""
        store = Store.open(folder, cls.name)
        return None if store is None else replace(cls.of(options), root=store.folder, store=store)

    def available(self) -> Sequence[str]:
        """Return the imported sites."""
        return tuple(site for site in self.sites if self.store is not None and site in self.store.sites)

    def cases(self, site: str) -> Sequence[Case]:
        """Return a site's slices, patient by patient, from the first slice of the file to the last."""
        return [
            Case(f"{site}/{item.id}/{k:03d}", site, item.subject, item.split, volume=item.id)
            for item in self._site(site).items.values()
            for k in (item.facts["foreground"] if self.slices == "foreground" else range(item.facts["slices"]))
        ]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return a slice (1 x H x W) and its mask (H x W): grey levels of the whole volume, zones merged, centre cut.

        The volume is decoded once for all its slices that are read one after another.
        """
        item, k = self._place(case)
        stored = self._site(case.site).files[item.id]
        files = tuple((stored[role].path, stored[role].sha256) for role in ("image", "mask"))
        image, mask = _decoded(files, self.clip, self.crop)
        if k >= image.shape[2]:
            raise DataError(_UNKNOWN.format(case.id, self.root))
        return slice_of(image, k)[None], slice_of(mask, k)

    def digest(self, case: Case) -> str:
        """Return a hash of both files, the slice and what is done to it."""
        item, k = self._place(case)
        files = [self._site(case.site).digest(item.id, role) for role in ("image", "mask")]
        return hashlib.sha256(json.dumps([READER, *files, k, self.clip, self.crop]).encode()).hexdigest()

    def extent(self, case: Case) -> tuple[float, float] | None:
        """Return height and width of the kept centre in millimetres, by the header of the image file, or None.

        Raises DataError where the file cannot be read.
        """
        item, _ = self._place(case)
        spacing = _spacing(self._site(case.site).files[item.id]["image"].path)
        if spacing is None:
            return None
        across, down = (_window(size, self.crop) for size in item.facts["shape"])
        return (down.stop - down.start) * spacing[1], (across.stop - across.start) * spacing[0]

    def remarks(self) -> Sequence[str]:
        """Return what was done to the volumes, what the crop cuts off, and what the import left out."""
        items = [item for site in self.available() for item in self._site(site).items.values()]
        cut = [item for item in items if _reaches_out(item.facts["shape"], item.facts["box"], self.crop)]
        done = [
            "slices that show the gland only" if self.slices == "foreground" else "all slices",
            f"grey levels clipped at percentile {self.clip:g} of the volume",
            f"the centre of {self.crop} pixels" if self.crop else "not cropped",
        ]
        left = [f"{site}: {remark}" for site in self.available() for remark in self._site(site).remarks]
        lost = [f"the crop cuts into the gland in {len(cut)} of {len(items)} volumes."] if cut else []
        return [f"prostate: {', '.join(done)}; labels 1 and 2 (zones) are merged.", *lost, *left]

    @classmethod
    def recognise(cls, files: Files) -> Sequence[Found]:
        """Return the sites under folders named as in the release, with every patient that has a label.

        Labels are read, for the slices that show the gland. Raises DataError as ``found_in`` does.
        """
        everything = [found_in(files, site) for site in cls.sites]
        return [found for found in everything if found.items or found.remarks]

    def _site(self, site: str) -> StoredSite:
        if self.store is None or site not in self.store.sites:
            raise DataError(f"{self.root} holds no {site}; import it with 'pflbench data import {self.name} --from'.")
        return self.store.sites[site]

    def _place(self, case: Case) -> tuple[Item, int]:
        """Return the item and the slice that a case's id names."""
        site, name, k = ([*case.id.split("/"), "", ""])[:3]
        item = self._site(site).items.get(name) if site == case.site and site in self.available() else None
        if item is None or not k.isdigit():
            raise DataError(_UNKNOWN.format(case.id, self.root))
        return item, int(k)


# a unit of work is a volume, one per thread; the longest, of I2CVB, takes 8 MB when cropped
@lru_cache(maxsize=os.cpu_count() or 1)
def _decoded(files: tuple[tuple[Path, str], ...], clip: float, crop: int) -> tuple[Pixels, Pixels]:
    """Return the centre (x, y, z) of an image file and a mask file, each given with its hash."""
    (image_file, _), (mask_file, _) = files
    image, mask = read_volume(image_file), read_volume(mask_file)
    if image.shape != mask.shape:
        raise DataError(
            f"{image_file} has {image.shape} voxels, its mask {mask_file} has {mask.shape}; import the dataset again."
        )
    across, down = _window(image.shape[0], crop), _window(image.shape[1], crop)
    # copies, so that what lies around the centre is not kept in memory
    return to_grey(image, clip)[across, down].copy(order="F"), np.asarray(mask[across, down] > 0, np.uint8, order="F")


def _spacing(file: Path) -> Spacing | None:
    """Return the spacing of an image file, or None where its header says nothing to be believed.

    1 x 1 x 1 is what tools write that were given no spacing, even where they name the unit; no T2 slice is 1 mm thin.
    """
    found = read_spacing(file)
    return None if found == (1.0, 1.0, 1.0) else found


def _window(size: int, crop: int) -> slice:
    """Return the centre of ``crop`` pixels, or everything where there is no more or no crop is wanted."""
    kept = min(crop, size) if crop else size
    start = (size - kept) // 2
    return slice(start, start + kept)


def _reaches_out(shape: Sequence[int], box: Sequence[Sequence[int]], crop: int) -> bool:
    windows = [_window(size, crop) for size in shape]
    return any(low < kept.start or high > kept.stop for kept, (low, high) in zip(windows, box, strict=True))
