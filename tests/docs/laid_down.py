"""Writes what a page takes for granted: releases as they are downloaded, and data of a reader's own."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def lay_down(page: str, text: str, folder: Path) -> None:
    """Write into a folder what the commands of a page read."""
    if "data import" in text:
        releases(folder)
    if page == "docs/own-data.md":
        own_folders(folder / "mydata")
        own_list(folder / "mylist")


def maker(data: str) -> ModuleType:
    """Return the module that makes up the releases of a dataset."""
    spec = importlib.util.spec_from_file_location(f"make_{data}", ROOT / f"tests/data/{data}/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def releases(folder: Path) -> None:
    """Write made-up releases under the names by which the pages import them."""
    vessel = maker("vessel")
    vessel.icpr(folder / "ICPRVessels")
    vessel.les_av(folder / "made/les_av")
    shutil.make_archive(folder / "LES-AV", "zip", folder / "made/les_av")
    prostate = maker("prostate")
    prostate.make(folder / "made/prostate", dict.fromkeys(prostate.PATIENTS, 5), (32, 32, 4))
    shutil.make_archive(folder / "Processed_data_nii", "zip", folder / "made/prostate")
    maker("gland").write(folder, patients=12)


def own_folders(root: Path) -> None:
    """Write the folders that the page draws: six persons of Lisbon, two pictures each, and five volumes of Oslo."""
    make = maker("folder")
    splits = {1: "train", 2: "train", 3: "train", 50: "val", 107: "test", 108: "test"}
    for number, split in splits.items():
        image = "jpg" if split == "test" else "png"
        for eye in ("left", "right"):
            mask = make.truth(number)
            make.save(make.colour(mask, number), root / f"Lisbon/{split}/images/{number:04d}_{eye}.{image}")
            make.save(mask.astype("uint8"), root / f"Lisbon/{split}/masks/{number:04d}_{eye}.png")
    for number in range(1, 6):
        _volume(make, number, *(root / f"Oslo/{half}/{number:04d}_knee.nii.gz" for half in ("images", "masks")))


def own_list(root: Path) -> None:
    """Write the rows of the page's list, and some more persons, with the files that they name."""
    make, rows = maker("folder"), ["site,subject,split,image,mask,scanner"]
    for number, split in enumerate(("train", "test", "train", "train", "test"), 1):
        image, mask = (f"lisbon/p{number}/{half}.nii.gz" for half in ("t2", "label"))
        _volume(make, number, root / image, root / mask)
        rows.append(f"Lisbon,p{number},{split},{image},{mask},{'3T' if split == 'test' else '1.5T'}")
    for number, letter in enumerate("abcde", 1):
        image, mask = f"oslo/{letter}.npy", f"oslo/{letter}_mask.png"
        make.save(make.grey(make.truth(number), number), root / image)
        make.save(make.truth(number).astype("uint8"), root / mask)
        rows.append(f"Oslo,p{number},,{image},{mask},3T")
    (root / "own.csv").write_text("\n".join(rows) + "\n")


def _volume(make: ModuleType, number: int, image: Path, mask: Path) -> None:
    shape = make.truth_volume(number)
    make.save(make.grey(shape, number), image)
    make.save(shape.astype("uint8"), mask)
