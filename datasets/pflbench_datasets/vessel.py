"""Retinal vessels: six real sites in ready folders, ``SITE/{train,test}/{images,masks}/<stem>.<suffix>``."""

from __future__ import annotations

import hashlib
import io
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image

from pflbench.api import Case, DataError, Dataset, Pixels

# site -> images for training, for testing; the paper's table, in its order
COUNTS: Mapping[str, tuple[int, int]] = {
    "CHASEDB1": (20, 8),
    "DR-HAGIS": (34, 6),
    "DRIVE": (20, 20),
    "HRF": (15, 30),
    "LES-AV": (17, 5),
    "ORVS": (41, 8),
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "rounds": 100,
        "epochs": 4,
        "batch": 4,
        "lr": 1e-3,
        "lr_decay": 0.99,
        "base_width": 64,
        "image_height": 256,
        "image_width": 256,
    },
    "quick": {
        "rounds": 30,
        "epochs": 4,
        "batch": 4,
        "lr": 2e-3,
        "lr_decay": 0.97,
        "base_width": 16,
        "image_height": 128,
        "image_width": 128,
    },
}

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".webp"})
_SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")
_LFS = b"version https://git-lfs"
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_SLACK = 2  # pixels by which a mask may differ from its image: ORVS 2063 is one short


@dataclass(frozen=True)
class Vessel(Dataset):
    """Fundus photographs with vessel masks from six releases, each a site of its own."""

    name: ClassVar[str] = "vessel"
    title: ClassVar[str] = "Retinal vessels"
    sites: ClassVar[tuple[str, ...]] = tuple(COUNTS)
    expected: ClassVar[Mapping[str, tuple[int, int]]] = COUNTS
    licence: ClassVar[Mapping[str, str]] = {
        "CHASEDB1": "CC BY 4.0",
        "DR-HAGIS": "unclear: no licence was found; ask its authors before passing it on",
        "DRIVE": "research and education only; must not be redistributed",
        "HRF": "CC BY 4.0",
        "LES-AV": "scientific use only, not commercial; do not redistribute",
        "ORVS": "unclear: its authors ask to be cited and name no licence",
    }
    citation: ClassVar[Mapping[str, str]] = {
        "CHASEDB1": "Fraz et al., An ensemble classification-based approach applied to retinal blood vessel "
        "segmentation, IEEE TBME 59(9), 2012",
        "DR-HAGIS": "Holm et al., DR HAGIS: a fundus image database for the automatic extraction of retinal "
        "surface vessels from diabetic patients, J. Med. Imaging 4(1), 2017",
        "DRIVE": "Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE TMI 23(4), 2004",
        "HRF": "Budai et al., Robust vessel segmentation in fundus images, Int. J. Biomed. Imaging, 2013",
        "LES-AV": "Orlando et al., Towards a glaucoma risk index based on simulated hemodynamics from fundus "
        "images, MICCAI 2018",
        "ORVS": "Sarhan et al., Transfer learning through weighted loss function and group normalization for "
        "vessel segmentation from retinal images, ICPR 2020",
    }
    addresses: ClassVar[Mapping[str, str]] = {
        "CHASEDB1": "https://researchdata.kingston.ac.uk/96/",
        "DR-HAGIS": "https://zenodo.org/records/10847157",
        "DRIVE": "https://drive.grand-challenge.org/",
        "HRF": "https://www5.cs.fau.de/research/data/fundus-images/",
        "LES-AV": "https://figshare.com/articles/dataset/LES-AV_dataset/11857698",
        "ORVS": "https://github.com/AbdullahSarhan/ICPRVessels",
    }
    stand_in: ClassVar[str | None] = "vessel-simulated"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> Self | None:
        """Return the dataset in ``folder`` or in ``folder/vessel``, or None where no site lies there."""
        for root in (folder, folder / "vessel") if folder is not None else ():
            if _site_folders(root):
                return replace(cls.of(options), root=root)
        return None

    def available(self) -> Sequence[str]:
        """Return the sites that have a folder."""
        return tuple(_site_folders(self.root))

    def cases(self, site: str) -> Sequence[Case]:
        """Return a site's cases, train before test, by name; raises DataError where a file has no partner."""
        return [
            Case(f"{site}/{split}/{stem}", site, _subject(site, stem), split)
            for split in _SPLITS
            for stem in _pairs(self._folder(site) / split)
        ]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return the image (3 x H x W) and its mask (H x W, 0 or 1) as they lie on disk."""
        image_file, mask_file = self._files(case)
        image, mask = _decode(image_file, "RGB"), _decode(mask_file, "L")
        if image.size != mask.size:
            off = max(abs(mine - other) for mine, other in zip(image.size, mask.size, strict=True))
            if off > _SLACK:
                raise DataError(
                    f"{image_file} is {_across(image)} pixels but its mask {mask_file} is {_across(mask)}; "
                    f"up to {_SLACK} pixels are allowed: resize the mask, or check that it is this image's."
                )
            mask = mask.resize(image.size, Image.Resampling.NEAREST)
        pixels = np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))
        # Jpeg and anti-aliased masks hold greys: "> 0" would widen every vessel.
        return pixels, (np.asarray(mask) > 127).astype(np.uint8)

    def digest(self, case: Case) -> str:
        """Return a hash of the bytes of both files."""
        digest = hashlib.sha256()
        for file in self._files(case):
            content = _content(file)
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()

    def _folder(self, site: str) -> Path:
        folders = _site_folders(self.root)
        if site not in folders:
            raise DataError(f"{self.root} has no folder of {site}; add {site}/{{train,test}}/{{images,masks}} there.")
        return folders[site]

    def _files(self, case: Case) -> tuple[Path, Path]:
        site, split, stem = ([*case.id.split("/", 2), "", ""])[:3]
        pairs = _pairs(self._folder(site) / split) if split in _SPLITS else {}
        if stem not in pairs:
            raise DataError(f"{case.id!r} is no case of {self.root}; take one of those cases() lists.")
        return pairs[stem]


def _site_folders(root: Path | None) -> dict[str, Path]:
    """Return site -> its folder, in the paper's order; ``Chase_DB1`` and ``drhagis`` are understood."""
    if root is None or not root.is_dir():
        return {}
    found: dict[str, Path] = {}
    known = {_folded(site): site for site in COUNTS}
    for folder in sorted(root.iterdir()):
        site = known.get(_folded(folder.name))
        if site is None or not any((folder / split).is_dir() for split in _SPLITS):
            continue
        if site in found:
            raise DataError(f"{found[site]} and {folder} are both {site}; keep one of the two.")
        found[site] = folder
    return {site: found[site] for site in COUNTS if site in found}


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _subject(site: str, stem: str) -> str:
    """Return whom an image is of. CHASE has both eyes of a child, ``Image_01L`` and ``Image_01R``.

    In the other releases each image is another person: HRF's ``01_h``, ``01_g`` and ``01_dr`` are a healthy
    person, one with glaucoma and one with diabetic retinopathy, who share no more than a number.
    """
    eye = re.fullmatch(r"image_?(\d+)[lr]", stem, re.IGNORECASE) if site == "CHASEDB1" else None
    return eye[1] if eye else stem


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return stem -> image and mask, by name; raises DataError where one lacks the other."""
    images, masks = _by_stem(folder / "images"), _by_stem(folder / "masks")
    for stem, file in sorted(images.items()):
        if stem not in masks:
            raise DataError(f"{file} has no mask; put one of the same name into {folder / 'masks'}.")
    for stem, file in sorted(masks.items()):
        if stem not in images:
            raise DataError(f"{file} has no image; put it into {folder / 'images'}, or remove the mask.")
    return {stem: (images[stem], masks[stem]) for stem in sorted(images)}


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing; a site has the folders {{train,test}}/{{images,masks}}.")
    files: dict[str, Path] = {}
    for file in _pictures(folder.iterdir()):
        if file.stem in files:
            raise DataError(f"{files[file.stem]} and {file} have one name; keep one of the two.")
        files[file.stem] = file
    if not files:
        raise DataError(f"{folder} holds no picture; allowed are {', '.join(sorted(_SUFFIXES))}.")
    return files


def _pictures(entries: Iterable[Path]) -> list[Path]:
    """Return the picture files, without what operating systems leave behind (``._a.png``, ``Thumbs.db``)."""
    return sorted(
        entry
        for entry in entries
        if entry.suffix.lower() in _SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )


def _content(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); check it and its permissions.") from error
    if content.startswith(_LFS):
        raise DataError(f"{file} is a git-lfs pointer, not a picture; run 'git lfs pull' where it was cloned.")
    return content


def _decode(file: Path, mode: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(_content(file))) as picture:
            return picture.convert(mode)
    except _BROKEN as error:
        raise DataError(f"{file} is no readable picture ({error}); get the file again.") from error


def _across(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
