"""Writes fakes of the vessel releases: real names, counts, modes and quirks, with tiny seeded pictures.

Every function fills a folder as if a release had been cloned or unpacked there, and returns it. The same case
has the same picture in every release that holds it. ``python tests/data/vessel/make.py FOLDER`` writes them all.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Mask = NDArray[np.bool_]

EYES = [f"Image_{child:02d}{eye}" for child in range(1, 15) for eye in "LR"]
GROUPS = [f"{number:02d}_{group}" for number in range(1, 16) for group in ("dr", "g", "h")]
HAGIS = [str(number) for number in range(1, 41)]
DRIVE_TRAINING = [f"{number:02d}" for number in range(21, 41)]
DRIVE_TEST = [f"{number:02d}" for number in range(1, 21)]
LES_AV = [12, 15, 33, 34, 37, 42, 49, 53, 90, 111, 119, 224, 240, 275, 279, 304, 318, 367, 370, 486, 529, 586]
ORVS_TEST = [2014, 2016, 2045, 2118, 2119, 2120, 2121, 2146]
ORVS_TRAIN = [2012, 2013, 2015, 2017, 2020, 2022, 2023, *range(2026, 2034), 2036, *range(2039, 2045)]
ORVS_TRAIN += [*range(2046, 2051), 2052, 2053, *range(2060, 2064), *range(2110, 2118)]

SIZES = {"CHASEDB1": (42, 40), "DRIVE": (40, 41), "HRF": (48, 32), "ORVS": (44, 44)}
HAGIS_SIZES = [(28, 19), (29, 19), (32, 21), (35, 23), (48, 32)]


# pictures


def size(site: str, name: str) -> tuple[int, int]:
    """Return width and height."""
    if site == "DR-HAGIS":
        return HAGIS_SIZES[int("24" if name == "32" else name) % 5]
    if site == "LES-AV":
        return (44, 39) if name == "34" else (32, 29)
    return SIZES[site]


def _rng(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32("/".join(map(str, key)).encode()))


def vessels(site: str, name: str, observer: int = 1) -> Mask:
    """Return the true mask of a case, H x W; observers differ."""
    if (site, name) == ("DR-HAGIS", "32"):
        name = "24"
    width, height = size(site, name)
    rng = _rng(site, name, observer)
    canvas = Image.new("L", (width, height))
    for _ in range(3):
        ends = rng.uniform(0.15, 0.85, 4) * (width, height, width, height)
        ImageDraw.Draw(canvas).line(ends.round().tolist(), fill=255, width=3)
    return np.asarray(canvas) > 0


def field(site: str, name: str) -> Mask:
    """Return the true field of view, H x W: an ellipse that touches the border."""
    width, height = size(site, name)
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).ellipse([1, 1, width - 2, height - 2], fill=255)
    return np.asarray(canvas) > 0


def picture(site: str, name: str) -> Image.Image:
    """Return a reddish picture: dark outside its field of view, darker along its vessels."""
    if (site, name) == ("DR-HAGIS", "32"):
        name = "24"
    colour = np.array([180, 90, 40]) + _rng(site, name).integers(-20, 20, 3)
    shade = np.where(vessels(site, name), 0.6, 1.0) * field(site, name)
    return Image.fromarray((shade[..., None] * colour).astype(np.uint8))


def grey(mask: Mask) -> Image.Image:
    """Return a mask of 0 and 255."""
    return Image.fromarray(mask.astype(np.uint8) * 255)


def one_bit(mask: Mask) -> Image.Image:
    """Return a mask of one bit per pixel."""
    return Image.fromarray(mask)


def palette(mask: Mask, black: int = 0) -> Image.Image:
    """Return a mask of indices; ``black`` is the index that means outside, 1 in an inverted palette."""
    image = Image.fromarray(np.where(mask, 1 - black, black).astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 255, 255] if black == 0 else [255, 255, 255, 0, 0, 0])
    return image


def rimmed(mask: Mask) -> Image.Image:
    """Return an RGB mask with a grey rim around what it marks, as JPEG compression and smoothing leave one."""
    wide = np.asarray(grey(mask).filter(ImageFilter.MaxFilter(3))) > 0
    return Image.fromarray(np.where(mask, 255, np.where(wide, 80, 0)).astype(np.uint8)).convert("RGB")


def save(image: Image.Image, file: Path) -> None:
    """Write a picture in the format of its suffix; JPEG without chroma subsampling, TIFF packed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    how = {".jpg": {"quality": 95, "subsampling": 0}, ".tif": {"compression": "packbits"}}
    image.save(file, **how.get(file.suffix.lower(), {}))


def litter(folder: Path) -> None:
    """Leave behind what an operating system does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


# original releases


def chase(folder: Path) -> Path:
    """CHASEDB1.zip, flat: one-bit labels of two observers, no field of view."""
    for name in EYES:
        save(picture("CHASEDB1", name), folder / f"{name}.jpg")
        save(one_bit(vessels("CHASEDB1", name, 1)), folder / f"{name}_1stHO.png")
        save(one_bit(vessels("CHASEDB1", name, 2)), folder / f"{name}_2ndHO.png")
    return folder


def drive(folder: Path, test_labels: bool = True) -> Path:
    """DRIVE: TIFF pictures, GIF labels; since some years without the test labels. 2nd_manual holds 0 and 1."""
    for split, names in (("training", DRIVE_TRAINING), ("test", DRIVE_TEST)):
        root = folder / "DRIVE" / split
        for name in names:
            save(picture("DRIVE", name), root / "images" / f"{name}_{split}.tif")
            save(grey(field("DRIVE", name)), root / "mask" / f"{name}_{split}_mask.gif")
            if split == "training" or test_labels:
                save(grey(vessels("DRIVE", name)), root / "1st_manual" / f"{name}_manual1.gif")
            if split == "test" and test_labels:
                second = Image.fromarray(vessels("DRIVE", name, 2).astype(np.uint8))
                save(second, root / "2nd_manual" / f"{name}_manual2.gif")
    return folder


def hrf(folder: Path) -> Path:
    """all.zip of HRF: _dr pictures with an upper-case suffix, field-of-view masks of three channels."""
    for name in GROUPS:
        save(picture("HRF", name), folder / "images" / f"{name}{'.JPG' if name.endswith('dr') else '.jpg'}")
        save(grey(vessels("HRF", name)), folder / "manual1" / f"{name}.tif")
        save(grey(field("HRF", name)).convert("RGB"), folder / "mask" / f"{name}_mask.tif")
    return folder


def les_av(folder: Path) -> Path:
    """LES-AV.zip: palette GIF fields of view, the last with an inverted palette as in copies; picture 34 is larger."""
    root = folder / "LES-AV"
    for name in map(str, LES_AV):
        mask = vessels("LES-AV", name)
        save(picture("LES-AV", name), root / "images" / f"{name}.png")
        save(grey(mask), root / "vessel-segmentations" / f"{name}.png")
        save(palette(field("LES-AV", name), black=int(name == "586")), root / "masks" / f"{name}_mask.gif")
        for kind in ("arteries", "veins"):
            save(one_bit(mask), root / kind / f"{name}.png")
        save(rimmed(mask), root / "arteries-and-veins" / f"{name}.png")
        shadow = folder / "__MACOSX/LES-AV/images" / f"._{name}.png"
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.write_bytes(b"\0\5\26\7")
    (root / "Data.xlsx").write_bytes(b"PK\5\6" + bytes(18))
    (root / "README.txt").write_text("LES-AV database\n")
    litter(root)
    return folder


def dr_hagis(folder: Path) -> Path:
    """DRHAGIS.zip: one-bit labels, five sizes, 24 and 32 the same bytes."""
    root = folder / "DRHAGIS"
    for name in HAGIS:
        save(picture("DR-HAGIS", name), root / "Fundus_Images" / f"{name}.jpg")
        save(one_bit(vessels("DR-HAGIS", name)), root / "Manual_Segmentations" / f"{name}_manual_orig.png")
        save(one_bit(field("DR-HAGIS", name)), root / "Mask_images" / f"{name}_mask_orig.png")
    for part in ("", "Fundus_Images", "Manual_Segmentations", "Mask_images"):
        litter(root / part)
    return folder


# the ICPRVessels repository


def icpr(folder: Path) -> Path:
    """Clone of ICPRVessels: five of the sites, renamed, and two that are not of the paper."""
    for site, split, file, image, label in _icpr_cases():
        root = folder / "Vessels-Datasets" / site / split / "Original"
        labels = "labels" if (site, split) == ("DRIVE", "Test") else "Labels"
        save(image, root / "Images" / file)
        suffix = {"DR-Hagis": ".png", "HRF": ".tif"}.get(site, ".jpg")
        save(label, root / labels / f"{Path(file).stem}{suffix}")
    for site, name in (("ARIA", "500"), ("IOSTAR", "im0001")):
        for split in ("Train", "Test"):
            for part in ("Images", "Labels"):
                save(picture("DRIVE", "21"), folder / "Vessels-Datasets" / site / split / f"Original/{part}/{name}.tif")
    (folder / "README.md").write_text("# ICPR-Transfer Learning\n")
    (folder / ".git").mkdir(exist_ok=True)
    (folder / ".git/HEAD").write_text("ref: refs/heads/main\n")
    return folder


def _icpr_cases() -> Iterator[tuple[str, str, str, Image.Image, Image.Image]]:
    """Yield folder, split, file name, picture and label."""
    for place, name in enumerate(EYES):
        split, number = ("Train", place + 1) if place < 20 else ("Test", place - 19)
        union = vessels("CHASEDB1", name, 1) | vessels("CHASEDB1", name, 2)
        yield "ChaseDB", split, f"{number}.jpg", picture("CHASEDB1", name), rimmed(union)
    for name in HAGIS:
        split = "Test" if name in {"33", "34", "35", "37", "39", "40"} else "Train"
        yield "DR-Hagis", split, f"{name}.jpg", picture("DR-HAGIS", name), one_bit(vessels("DR-HAGIS", name))
    for split, names in (("Train", DRIVE_TRAINING), ("Test", DRIVE_TEST)):
        for name in names:
            yield "DRIVE", split, f"{name}.jpg", picture("DRIVE", name), grey(vessels("DRIVE", name))
    numbered = [name for name in GROUPS if not name.endswith("dr")] + [name for name in GROUPS if name.endswith("dr")]
    for number, name in enumerate(numbered, start=61):
        split = "Train" if int(name[:2]) > 10 else "Test"
        yield "HRF", split, f"{number}.jpg", picture("HRF", name), grey(vessels("HRF", name))
    for split, names in (("Train", ORVS_TRAIN), ("Test", ORVS_TEST)):
        for name in map(str, names):
            label = rimmed(vessels("ORVS", name))
            if name == "2063":  # one pixel narrower than its picture
                label = label.crop((0, 0, label.width - 1, label.height))
            yield "ORVS", split, f"{name}.jpg", picture("ORVS", name), label


def everything(folder: Path) -> Path:
    """Write every release into a folder of its own."""
    icpr(folder / "ICPRVessels")
    for name, release in {"LES-AV": les_av, "CHASEDB1": chase, "DRIVE": drive, "HRF": hrf, "DRHAGIS": dr_hagis}.items():
        release(folder / name)
    return folder


if __name__ == "__main__":
    print(everything(Path(sys.argv[1])))
