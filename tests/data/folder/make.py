"""Writes small datasets of one's own in both layouts and every format: ``python make.py FOLDER``."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH, DEPTH = 24, 16, 5

# site -> suffix of images, suffix of masks, brightest value of masks, mode of images
TREE = {
    "Coast": (".png", ".png", 255, "RGB"),
    "Hill": (".jpg", ".png", 1, "RGB"),  # 0 and 1: looks black in every viewer
    "Lake": (".tif", ".gif", 255, "I;16"),
    "Moor": (".ppm", ".pgm", 255, "RGB"),
    "Port": (".webp", ".bmp", 255, "RGB"),
    "Reef": (".npy", ".npy", 1, "RGB"),
}
UNSPLIT = "Moor"
TREE_SPLITS = ("train", "train", "val", "test")  # of the files of a site, by number
# site -> suffix of images, suffix of masks, volumes or not
TABLE = {
    "Scan": (".nii.gz", ".nii.gz", True),
    "Array": (".npy", ".nii", True),
    "Plane": (".npy", ".png", False),
    "Film": (".png", ".tiff", False),  # 16 bits
}
TABLE_SPLITS = ("test", "train", "train", "val")


def truth(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a disc, H x W of bool; its place follows the number."""
    row, column = 8 + number % 5, 7 + number % 4
    rows, columns = np.ogrid[:height, :width]
    return (rows - row) ** 2 + (columns - column) ** 2 <= 25


def truth_volume(number: int) -> np.ndarray:
    """Return x, y, z of bool: discs, and nothing in the first and last slice."""
    slices = [truth(number + z) if 0 < z < DEPTH - 1 else np.zeros((HEIGHT, WIDTH), bool) for z in range(DEPTH)]
    return np.stack([plane.T for plane in slices], axis=2)


def grey(mask: np.ndarray, number: int) -> np.ndarray:
    """Return an image of a mask's shape, uint8: the foreground is brighter."""
    rng = np.random.default_rng(number)
    return (rng.integers(10, 90, mask.shape) + 120 * mask).astype(np.uint8)


def colour(mask: np.ndarray, number: int) -> np.ndarray:
    """Return an image H x W x 3, uint8, whose channels differ."""
    plane = grey(mask, number)
    return np.stack([plane, plane // 2, 255 - plane], axis=2)


def save(values: np.ndarray, file: Path) -> None:
    """Write a picture or a volume in the format that the file's name says."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, values)
    elif file.name.endswith((".nii", ".nii.gz")):
        import nibabel

        nibabel.save(nibabel.Nifti1Image(values, np.diag([0.5, 0.5, 3.0, 1.0])), file)
    else:
        options = {"lossless": True} if file.suffix == ".webp" else {}
        Image.fromarray(values).save(file, **options)


def write_tree(root: Path) -> Path:
    """Write SITE/{train,val,test}/{images,masks}/pN_left and one site without splits; return ``root``."""
    for site, (image, mask, brightest, mode) in TREE.items():
        for number, split in enumerate(TREE_SPLITS):
            folder = root / site if site == UNSPLIT else root / site / split
            shape = truth(number)
            values = colour(shape, number) if mode == "RGB" else grey(shape, number).astype(np.uint16) * 200
            save(values, folder / "images" / f"p{number}_left{image}")
            save((shape * brightest).astype(np.uint8), folder / "masks" / f"p{number}_left{mask}")
    return root


def write_table(root: Path) -> Path:
    """Write volumes and pictures, all grey, and own.csv that lists them; return the table."""
    rows = []
    for site, (image, mask, volume) in TABLE.items():
        for number, split in enumerate(TABLE_SPLITS):
            shape = truth_volume(number) if volume else truth(number)
            deep = grey(shape, number).astype(np.int16 if volume else np.uint16) * 100
            images, masks = Path(site) / f"s{number}" / f"scan{image}", Path(site) / f"s{number}" / f"label{mask}"
            save(deep, root / images)
            save(shape.astype(np.uint8), root / masks)
            rows.append([masks, split, f"s{number}", site, images, "1.5T" if number % 2 else ""])
    table = root / "own.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["mask", "split", "subject", "site", "image", "scanner"], *rows])
    return table


if __name__ == "__main__":
    print(write_tree(Path(sys.argv[1]) / "tree"), write_table(Path(sys.argv[1]) / "table"))
