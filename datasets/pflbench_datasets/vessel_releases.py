"""Knows the six vessel releases and the ICPRVessels repository by their paths, and pairs their files by id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pflbench.api import DataError, Files, Found, Item
from pflbench_datasets.vessel_layouts import ICPR, LAYOUTS, Layout, Match, Split

DR_HAGIS_TWINS = ("24", "32")  # one picture twice, as its authors say

_NAMED = 8  # at most so many files are named in a remark
_OTHERS = "ARIA and IOSTAR (which is STARE with its second observer's labels) are not of the paper and are left out."


@dataclass
class _Draft:
    """What has been found of one case."""

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)  # role -> path in the release
    split: Split | None = None

    def shown(self, role: str) -> str:
        """Return a file's name as the user knows it, with the case's where it does not show."""
        file = self.paths[role].rsplit("/", 1)[-1]
        return file if file.startswith(self.name) else f"{file} ({self.name})"


def recognise(files: Files) -> list[Found]:
    """Return the sites of every vessel release among the files.

    Images without a label and labels without an image are left out and named in a remark. Raises DataError
    where a file is there twice.
    """
    found = [site for layout in LAYOUTS for site in _found(files, layout)]
    if any(files.match(r"(?:ARIA|IOSTAR)/(?:Train|Test)/Original/Images/[^/]+")):
        copied = [place for place, site in enumerate(found) if site.release == ICPR]
        for place in copied[-1:]:
            found[place] = replace(found[place], remarks=(*found[place].remarks, _OTHERS))
    return found


def natural(name: str) -> list[tuple[int, str]]:
    """Return a key by which 9 comes before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def subject_of(site: str, name: str) -> str:
    """Return whom an image is of. CHASE has both eyes of a child, ``Image_01L`` and ``Image_01R``.

    DR-HAGIS has one picture twice. In the other releases each image is another person: HRF's ``01_h``, ``01_g``
    and ``01_dr`` are a healthy person, one with glaucoma and one with diabetic retinopathy, who share no more
    than a number.
    """
    if site == "DR-HAGIS" and name == DR_HAGIS_TWINS[1]:
        return DR_HAGIS_TWINS[0]
    eye = re.fullmatch(r"image_?(\d+)[lr]", name, re.IGNORECASE) if site == "CHASEDB1" else None
    return eye[1] if eye else name


def _found(files: Files, layout: Layout) -> Iterator[Found]:
    drafts, strays = _collect(files, layout)
    if not drafts:
        return
    whole = [draft for draft in drafts if draft.files.keys() >= _needed(layout)]
    left_out = [draft for draft in drafts if not draft.files.keys() >= _needed(layout)]
    items = tuple(Item(draft.name, subject_of(layout.site, draft.name), draft.files, draft.split) for draft in whole)
    remarks = (*layout.remarks, *_left_out(layout, whole, left_out, strays), *_blind(whole))
    yield Found(layout.site, layout.release, items, remarks)


def _needed(layout: Layout) -> set[str]:
    return {role for role in layout.roles if role != "field"}


def _collect(files: Files, layout: Layout) -> tuple[list[_Draft], list[str]]:
    """Return the cases by id, and the paths that lie where a case would but name none."""
    drafts: dict[str, _Draft] = {}
    strays: list[str] = []
    for role, match, file in _matches(files, layout):
        name = layout.name(match)
        if name is None:
            strays.append(match.string)
            continue
        draft = drafts.setdefault(name, _Draft(name))
        if role in draft.files:
            raise DataError(
                f"{draft.paths[role]} and {match.string} in {files.origin} are both the {role} of {layout.site} "
                f"{name}; give one copy of a release at a time."
            )
        draft.files[role], draft.paths[role] = file, match.string
        if role == "image":
            draft.split = layout.split(match)
    return sorted(drafts.values(), key=lambda draft: natural(draft.name)), strays


def _matches(files: Files, layout: Layout) -> Iterator[tuple[str, Match, Path]]:
    found = [
        (role, match, file)
        for role, pattern in layout.roles.items()
        for match, file in files.match(f"(?P<here>{pattern})")
    ]
    anchors = {_folder(match) for role, match, _ in found if role == "mask"}
    for role, match, file in found:
        if not layout.anchored or _folder(match) in anchors:
            yield role, match, file


def _folder(match: Match) -> str:
    return match.string[: match.start("here")]


def _left_out(
    layout: Layout, whole: Sequence[_Draft], left_out: Sequence[_Draft], strays: Sequence[str]
) -> Iterator[str]:
    bare = [draft for draft in left_out if "image" in draft.files]
    lost = [draft for draft in left_out if "image" not in draft.files]
    withheld = [draft for draft in bare if layout.site == "DRIVE" and draft.split == "test"]
    if withheld and not any(draft.split == "test" for draft in whole):
        yield (
            f"the {len(withheld)} test images have no labels, as in the release of today, and are left out, so that "
            "DRIVE has nothing to test on; its older release and the ICPRVessels repository hold the labels."
        )
        bare = [draft for draft in bare if draft not in withheld]
    if bare:
        yield _sentence(f"image{_s(bare)} without a {layout.label}", [draft.shown("image") for draft in bare])
    if lost:
        yield _sentence(f"label{_s(lost)} without an image", [draft.shown(min(draft.paths)) for draft in lost])
    if not whole:
        yield f"there is not one image with its {layout.label}; expected are {layout.example}."
    if strays:
        yield _sentence(f"file{_s(strays)} with a number that the release does not have", strays)


def _blind(whole: Sequence[_Draft]) -> Iterator[str]:
    """Yield what is to be said where only some images have a field of view."""
    blind = [draft.name for draft in whole if "field" not in draft.files]
    if 0 < len(blind) < len(whole):
        yield f"{len(blind)} of {len(whole)} images have no field-of-view mask: {_listed(blind)}."


def _sentence(what: str, shown: Sequence[str]) -> str:
    return f"{len(shown)} {what} {'is' if len(shown) == 1 else 'are'} left out: {_listed(shown)}."


def _s(what: Sequence[object]) -> str:
    return "" if len(what) == 1 else "s"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
