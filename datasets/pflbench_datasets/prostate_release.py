"""Recognises the SAML / FedDG release: pairs volumes with labels, and tells labels from what only bears their name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pflbench.api import DataError, Files, Found, Item
from pflbench_datasets.volumes import Volume, read_shape, read_volume

_RELEASE = "SAML / FedDG Processed_data_nii"
_MOST_LABELS = 3  # background and the two zones of NCI-ISBI; more distinct values are an image's


def found_in(files: Files, site: str) -> Found:
    """Return one site's patients that have a label, in the order of their numbers.

    Left out, with a remark: a volume without a label, an empty label, and a file that only bears a label's name
    while another one is the label. Raises DataError naming the file where a patient would be lost otherwise: its
    only label is unlike its image in shape or holds grey levels, it has no image, or it has two of either; or
    where no patient remains.
    """
    images, labels = _by_patient(files, site, ""), _by_patient(files, site, "_segmentation")
    items, remarks = [], []
    for patient, candidates in labels.items():
        image = _only(images.get(patient, []), candidates[0])
        mask, facts, spare = _label(image, candidates)
        for file, reason in spare.items():
            remarks.append(f"{file.name} is left out: {reason}; another file holds the label of {patient}.")
        if facts["foreground"]:
            items.append(Item(patient, patient, {"image": image, "mask": mask}, facts=facts))
        else:
            remarks.append(f"{patient} is left out: its label {mask.name} is empty.")
    bare = [patient for patient in images if patient not in labels]
    remarks += [f"{patient} is left out: it has no label." for patient in bare]
    if remarks and not items:
        raise DataError(f"{files.origin} has no patient of {site} with a label; {remarks[0]} Get the release again.")
    return Found(site, _RELEASE, tuple(items), tuple(remarks))


def _by_patient(files: Files, site: str, ending: str) -> dict[str, list[Path]]:
    """Return patient -> files; BMC spells ``_Segmentation`` with a capital, and numbers may have gaps."""
    found: dict[str, list[Path]] = {}
    for match, file in files.match(rf"{site}/case(\d+){ending}\.nii(?:\.gz)?"):
        found.setdefault(f"Case{match[1]}", []).append(file)
    return dict(sorted(found.items(), key=lambda entry: (int(entry[0][4:]), entry[0])))


def _only(images: list[Path], label: Path) -> Path:
    if not images:
        raise DataError(f"{label} has no image beside it; add it, or remove the label.")
    if len(images) > 1:
        raise DataError(f"{images[0]} and {images[1]} are one patient's image; keep one of the two.")
    return images[0]


def _label(image: Path, candidates: list[Path]) -> tuple[Path, dict[str, Any], dict[Path, str]]:
    """Return a patient's label with its facts, and the files that only bear a label's name, each with the reason."""
    shape, good, refused = read_shape(image), [], {}
    for file in candidates:
        facts, reason = _facts(read_volume(file), shape)
        if reason is None:
            good.append((file, facts))
        else:
            refused[file] = reason
    if not good:
        file, reason = next(iter(refused.items()))
        raise DataError(
            f"{file} is no label of {image}: {reason}; get it again, or remove it to do without the patient."
        )
    if len(good) > 1:
        raise DataError(f"{good[0][0]} and {good[1][0]} are both labels of {image}; keep one of the two.")
    return *good[0], refused


def _facts(label: Volume, shape: tuple[int, int, int]) -> tuple[dict[str, Any], str | None]:
    """Return what the index must know of a label, or the reason why it is none."""
    if label.shape != shape:
        sizes = ["x".join(map(str, size)) for size in (label.shape, shape)]
        return {}, f"it has {sizes[0]} voxels, the image {sizes[1]}"
    values: set[float] = set()
    foreground, shown = [], np.zeros(shape[:2], bool)
    for k in range(shape[2]):
        plane = label[:, :, k]
        values |= set(np.unique(plane).tolist())
        if len(values) > _MOST_LABELS:
            return {}, f"it holds more than {_MOST_LABELS} different values, as an image does"
        if (plane > 0).any():
            foreground.append(k)
            shown |= plane > 0
    box = [[int(along.min()), int(along.max()) + 1] for along in np.nonzero(shown)] if foreground else []
    return {"slices": shape[2], "foreground": foreground, "shape": list(shape[:2]), "box": box}, None
