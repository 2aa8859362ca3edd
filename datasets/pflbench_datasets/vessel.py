"""Retinal vessels: six real sites in ready folders, ``SITE/{train,test}/{images,masks}/<stem>.<suffix>``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pflbench.api import Case, DataError, Dataset, Pixels
from pflbench_datasets.pictures import content, fitted, read_image, read_mask
from pflbench_datasets.ready import named_sites, pairs

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

_SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")


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
            for stem in pairs(self._folder(site) / split)
        ]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return the image (3 x H x W) and its mask (H x W, 0 or 1) as they lie on disk."""
        image_file, mask_file = self._files(case)
        image = read_image(image_file)
        return image, fitted(read_mask(mask_file), image, mask_file, image_file)

    def digest(self, case: Case) -> str:
        """Return a hash of the bytes of both files."""
        digest = hashlib.sha256()
        for file in self._files(case):
            found = content(file)
            digest.update(len(found).to_bytes(8, "little") + found)
        return digest.hexdigest()

    def _folder(self, site: str) -> Path:
        folders = _site_folders(self.root)
        if site not in folders:
            raise DataError(f"{self.root} has no folder of {site}; add {site}/{{train,test}}/{{images,masks}} there.")
        return folders[site]

    def _files(self, case: Case) -> tuple[Path, Path]:
        site, split, stem = ([*case.id.split("/", 2), "", ""])[:3]
        here = pairs(self._folder(site) / split) if split in _SPLITS else {}
        if stem not in here:
            raise DataError(f"{case.id!r} is no case of {self.root}; take one of those cases() lists.")
        return here[stem]


def _site_folders(root: Path | None) -> dict[str, Path]:
    """Return site -> its folder, in the paper's order; ``Chase_DB1`` and ``drhagis`` are understood."""
    return named_sites(root, COUNTS, _SPLITS)


def _subject(site: str, stem: str) -> str:
    """Return whom an image is of. CHASE has both eyes of a child, ``Image_01L`` and ``Image_01R``.

    In the other releases each image is another person: HRF's ``01_h``, ``01_g`` and ``01_dr`` are a healthy
    person, one with glaucoma and one with diabetic retinopathy, who share no more than a number.
    """
    eye = re.fullmatch(r"image_?(\d+)[lr]", stem, re.IGNORECASE) if site == "CHASEDB1" else None
    return eye[1] if eye else stem
