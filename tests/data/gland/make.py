"""Writes a copy of the MGD-1K repository: real names, modes and quirks, drawn lids.

python tests/data/gland/make.py FOLDER
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

PATIENTS = {1: 34, 2: 74, 3: 102, 4: 128}  # pictures -> patients who have as many
KINDS = {"OD_LOWER": 276, "OD_UPPER": 258, "OS_LOWER": 257, "OS_UPPER": 209}  # pictures of each kind
TWICE = "DMI_OS_LOWER_REFLECTED_IR_14933989"  # the one lid that was taken twice, the second time as ..._001
SMALL_SUFFIX = "DMI_OD_LOWER_REFLECTED_IR_3915374"  # the one picture whose suffix is .jpg, not .JPG
SIZE = (64, 32)  # width and height; 1280 x 640 in the release
EXPLORE = "Expore MGD1k Dataset"
GLANDS, LIDS = "Meibomian Gland Labels", "Eyelid Lebels"
BY_CATEGORY = "Download Dataset by Category"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{:064x}\nsize 24380868\n"


def stems(patients: int = 338) -> list[str]:
    """Return the names of all pictures, as many per patient and kind as in the release where all are asked for."""
    left = Counter(KINDS) - Counter({"OS_LOWER": 2})
    found = [TWICE, f"{TWICE}_001"]
    wanted = [pictures for pictures in (4, 3, 2, 1) for _ in range(PATIENTS[pictures] - (pictures == 2))]
    for number, pictures in enumerate(_spread(wanted, patients - 1)):
        kinds = [kind for kind, _ in left.most_common(pictures)]
        left -= Counter(kinds)
        patient = 3915374 if number == 0 else 700_000 + 61_803 * number
        found += [f"DMI_{kind}_REFLECTED_IR_{patient}" for kind in kinds]
    return found


def _spread(wanted: list[int], count: int) -> list[int]:
    """Return ``count`` of the numbers, evenly from the first to the last."""
    return [wanted[place * len(wanted) // count] for place in range(count)]


def draw(rng: np.random.Generator) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Return a grey picture stored as RGB, and the grey-edged labels of its glands and its lid."""
    width, height = (4 * side for side in SIZE)
    glands, lid = Image.new("L", (width, height)), Image.new("L", (width, height))
    box = [width * 0.2, height * 0.2, width * 0.8, height * 0.8]
    ImageDraw.Draw(lid).ellipse(box, fill=255)
    for x in np.arange(0.3, 0.7, 0.07) * width:
        top, end = height * rng.uniform(0.33, 0.4), height * rng.uniform(0.5, 0.65)
        ImageDraw.Draw(glands).line([x, top, x + rng.uniform(-6, 6), end], fill=255, width=9)
    gland_label, lid_label = glands.reduce(4), lid.reduce(4)
    light = 60 + 0.3 * np.asarray(lid_label, float) + 0.35 * np.asarray(gland_label, float)
    grey = np.clip(light + rng.normal(0, 5, light.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB"), gland_label, lid_label


def write(folder: Path, patients: int = 338, seed: int = 0) -> Path:
    """Write the release into ``folder/MGD1k`` and return that."""
    root = folder / "MGD1k"
    for name in ("Original Images", GLANDS, LIDS, "Graded Meiboscore"):
        (root / EXPLORE / name).mkdir(parents=True)
    (root / BY_CATEGORY).mkdir()
    for number, name in enumerate((LIDS, "Graded Meiboscore", GLANDS)):
        (root / BY_CATEGORY / f"{name}.zip").write_text(POINTER.format(number))
    rng = np.random.default_rng(seed)
    for number, stem in enumerate(stems(patients)):
        _write_picture(root / EXPLORE, stem, number, rng)
    _write_scores(root / EXPLORE / "Graded Meiboscore", stems(patients))
    return root


def _write_picture(root: Path, stem: str, number: int, rng: np.random.Generator) -> None:
    picture, glands, lid = draw(rng)
    if number % 11 == 5:  # 90 of the 1,000 gland labels hold no greys
        glands = glands.point(lambda grey: 255 * (grey > 127))
    elif number < 3:  # and three are 252 at most
        glands = glands.point(lambda grey: min(grey, 252))
    suffix = "jpg" if stem == SMALL_SUFFIX else "JPG"
    picture.save(root / "Original Images" / f"{stem}.{suffix}", format="JPEG", quality=95)
    glands.save(root / GLANDS / f"{stem}.png")
    lid.save(root / LIDS / f"{stem}.png")


def _write_scores(root: Path, names: list[str]) -> None:
    (root / "Images with Meiboscore.csv").write_text("".join(f"{name}.png,{i % 4}\n" for i, name in enumerate(names)))
    listed = "\n".join(f"{name}.png" for name in names[: len(names) // 5])
    (root / "200 test Images used for Meiboscore Classification.txt").write_text(listed)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
