"""What the options of the vessel dataset decide where a release leaves it open, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from pflbench.api import DataError, Item
from pflbench_datasets.vessel_facts import COUNTS
from pflbench_datasets.vessel_layouts import Split
from pflbench_datasets.vessel_releases import DR_HAGIS_TWINS, natural

Observer = Literal["first", "second", "union"]
HrfSplit = Literal["paper", "first5"]

SITE_OF: Mapping[str, str] = {  # option -> the one site that it concerns
    "chase_labels": "CHASEDB1",
    "hrf_split": "HRF",
    "dr_hagis_duplicate": "DR-HAGIS",
    "les_av_seed": "LES-AV",
}

_OBSERVERS: Mapping[str, tuple[str, ...]] = {
    "first": ("mask-first",),
    "second": ("mask-second",),
    "union": ("mask-first", "mask-second"),
}


def mask_roles(item: Item, labels: Observer) -> tuple[str, ...]:
    """Return the roles of the files whose union is a picture's mask. Raises DataError where they are not there."""
    if "mask" in item.files:
        return ("mask",)
    if "mask-union" not in item.files:
        return _OBSERVERS[labels]
    if labels != "union":
        raise DataError(
            f"CHASEDB1 was imported from ICPRVessels, which holds the union of both observers only; for "
            f"vessel.chase_labels={labels} import CHASEDB1.zip in its place, or leave the option out."
        )
    return ("mask-union",)


def split_of(site: str, item: Item, rule: HrfSplit, drawn: Collection[str]) -> Split:
    """Return a picture's split: the release's own, by rule for HRF, by lot for LES-AV."""
    if site == "LES-AV":
        return "test" if item.id in drawn else "train"
    if site == "HRF":
        number = int(item.id.partition("_")[0])
        return "train" if (number > 10 if rule == "paper" else number <= 5) else "test"
    return "test" if item.split == "test" else "train"


def drawn_for_testing(names: Collection[str], seed: int) -> list[str]:
    """Return which pictures of LES-AV are for testing: 5 of 22, or the same share of those that are here.

    Lots are raw output of PCG64, which numpy promises never to change (its permutations it does not), dealt to
    the names in the order of their numbers; the lowest are for testing.
    """
    ordered = sorted(names, key=natural)
    trained, tested = COUNTS["LES-AV"]
    count = max(1, round(len(ordered) * tested / (trained + tested)))
    lots = np.random.PCG64(seed).random_raw(len(ordered))
    return sorted((ordered[place] for place in np.argsort(lots, kind="stable")[:count]), key=natural)


def said_of_chase(labels: Observer) -> str:
    """Return whose labels are used."""
    whose = "the union of both observers" if labels == "union" else f"those of the {labels} observer"
    return f"labels are {whose} (vessel.chase_labels={labels})."


def said_of_hrf(rule: HrfSplit) -> str:
    """Return which split is used."""
    paper = "11-15 of each group (dr, g, h) train and 01-10 test, as in ICPRVessels"
    first5 = "01-05 of each group (dr, g, h) train and 06-15 test, as in most published code"
    return f"{paper if rule == 'paper' else first5} (vessel.hrf_split={rule})."


def said_of_dr_hagis(choice: str) -> str:
    """Return what becomes of the picture that is there twice."""
    first, second = DR_HAGIS_TWINS
    fate = f"{second} is left out" if choice == "drop" else "both are kept, as one subject"
    return f"{first} and {second} are the same picture; {fate} (vessel.dr_hagis_duplicate={choice})."


def said_of_les_av(drawn: Sequence[str], seed: int) -> str:
    """Return which pictures were drawn for testing."""
    return f"no split is published; {', '.join(drawn)} were drawn for testing (vessel.les_av_seed={seed})."
