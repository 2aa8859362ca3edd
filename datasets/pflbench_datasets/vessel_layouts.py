"""Where each vessel release keeps its files, and how their paths name case and split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "test"]
Match = re.Match[str]

ICPR = "ICPRVessels"
_DR_HAGIS_TEST = frozenset({33, 34, 35, 37, 39, 40})  # of ICPRVessels; the release itself names none


@dataclass(frozen=True)
class Layout:
    """One site in one release: where each role's files lie, and how a path names case and split."""

    site: str
    release: str
    roles: Mapping[str, str]  # role -> pattern of its path
    name: Callable[[Match], str | None]  # the official id; None: no file of the release
    split: Callable[[Match], Split | None]
    example: str  # of an image with its label
    label: str = "label"
    remarks: tuple[str, ...] = ()
    anchored: bool = False  # its images bear common names: only those with labels in the neighbouring folder count


# how a path names its case


def _digits(width: int) -> Callable[[Match], str]:
    return lambda match: f"{int(match['n']):0{width}d}"


def _eye(match: Match) -> str:
    return f"Image_{int(match['n']):02d}{match['eye'].upper()}"


def _group(match: Match) -> str:
    return f"{int(match['n']):02d}_{match['group'].lower()}"


def _eye_again(match: Match) -> str | None:
    """Give a picture of CHASE its name back: ICPRVessels counts left and right eyes through, in each split anew."""
    number, (first, count) = int(match["n"]), (0, 20) if _by_folder(match) == "train" else (20, 8)
    child, right = divmod(first + number - 1, 2)
    return f"Image_{child + 1:02d}{'LR'[right]}" if 1 <= number <= count else None


def _group_again(match: Match) -> str | None:
    """Give a picture of HRF its name back: 61..90 are 01_g, 01_h, 02_g .. 15_h, and 91..105 are 01_dr .. 15_dr."""
    number = int(match["n"])
    if 61 <= number <= 90:
        return f"{(number - 61) // 2 + 1:02d}_{'gh'[(number - 61) % 2]}"
    return f"{number - 90:02d}_dr" if 91 <= number <= 105 else None


# how a path names its split


def _by_folder(match: Match) -> Split:
    return "train" if match["split"].lower().startswith("train") else "test"


def _by_child(match: Match) -> Split:
    return "train" if int(match["n"]) <= 10 else "test"


def _by_number(match: Match) -> Split:
    return "test" if int(match["n"]) in _DR_HAGIS_TEST else "train"


def _later(match: Match) -> None:
    """Leave the split to the dataset's options: none is published."""


def _icpr(site: str, folder: str, name: Callable[[Match], str | None], example: str, *remarks: str) -> Layout:
    path = folder + r"/(?P<split>Train|Test)/Original/%s/(?P<n>\d{1,6})\.(?:jpe?g|png|tiff?)"
    mask = "mask-union" if site == "CHASEDB1" else "mask"
    split = _later if site == "HRF" else _by_folder
    roles = {"image": path % "Images", mask: path % "Labels"}
    shown = f"{folder}/Train/Original/Images/{example} with the same in Labels"
    return Layout(site, ICPR, roles, name, split, shown, remarks=remarks)


_DRIVE = r"(?P<split>training|test)/%s/(?P<n>\d{1,6})_%s\.%s"

LAYOUTS = (
    Layout(
        "CHASEDB1",
        "CHASE_DB1 (Kingston)",
        {
            "image": r"Image_(?P<n>\d{1,6})(?P<eye>[LR])\.jpe?g",
            "mask-first": r"Image_(?P<n>\d{1,6})(?P<eye>[LR])_1stHO\.png",
            "mask-second": r"Image_(?P<n>\d{1,6})(?P<eye>[LR])_2ndHO\.png",
        },
        _eye,
        _by_child,
        "Image_01L.jpg with Image_01L_1stHO.png and Image_01L_2ndHO.png",
        label="label of each observer",
    ),
    _icpr(
        "CHASEDB1",
        "ChaseDB",
        _eye_again,
        "1.jpg",
        "labels are JPEG copies; official names are given back to the numbered files.",
    ),
    Layout(
        "DR-HAGIS",
        "DR HAGIS",
        {
            "image": r"Fundus_Images/(?P<n>\d{1,6})\.jpe?g",
            "mask": r"Manual_Segmentations/(?P<n>\d{1,6})_manual_orig\.png",
            "field": r"Mask_images/(?P<n>\d{1,6})_mask_orig\.png",
        },
        _digits(1),
        _by_number,
        "Fundus_Images/1.jpg with Manual_Segmentations/1_manual_orig.png",
    ),
    _icpr("DR-HAGIS", "DR-Hagis", _digits(1), "1.jpg"),
    Layout(
        "DRIVE",
        "DRIVE",
        {
            "image": _DRIVE % ("images", "(?:training|test)", "tiff?"),
            "mask": _DRIVE % ("1st_manual", "manual1", "gif"),
            "field": _DRIVE % ("mask", "(?:training|test)_mask", "gif"),
        },
        _digits(2),
        _by_folder,
        "training/images/21_training.tif with training/1st_manual/21_manual1.gif",
    ),
    _icpr(
        "DRIVE", "DRIVE", _digits(2), "21.jpg", "images and labels are JPEG copies of the original TIFF and GIF files."
    ),
    Layout(
        "HRF",
        "HRF (FAU)",
        {
            "image": r"images/(?P<n>\d{1,6})_(?P<group>dr|g|h)\.jpe?g",
            "mask": r"manual1/(?P<n>\d{1,6})_(?P<group>dr|g|h)\.tiff?",
            "field": r"mask/(?P<n>\d{1,6})_(?P<group>dr|g|h)_mask\.tiff?",
        },
        _group,
        _later,
        "images/01_h.jpg with manual1/01_h.tif",
    ),
    _icpr("HRF", "HRF", _group_again, "61.jpg", "official names are given back to the numbered files."),
    Layout(
        "LES-AV",
        "LES-AV",
        {
            "image": r"images/(?P<n>\d{1,6})\.png",
            "mask": r"vessel-segmentations/(?P<n>\d{1,6})\.png",
            "field": r"masks/(?P<n>\d{1,6})_mask\.gif",
        },
        _digits(1),
        _later,
        "images/12.png with vessel-segmentations/12.png",
        anchored=True,
    ),
    _icpr("ORVS", "ORVS", _digits(1), "2012.jpg"),
)
