"""Retinal vessels: six real sites, imported from their releases or in ready folders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field

from pflbench.api import Case, DataError, Dataset, Download, Files, Found, Item, Pixels, Store, StoredSite, UsageError
from pflbench_datasets import known_files, vessel_choices, vessel_facts
from pflbench_datasets.pictures import content, fitted, read_image, read_mask
from pflbench_datasets.ready import named_sites, pairs
from pflbench_datasets.vessel_choices import HrfSplit, Observer, mask_roles
from pflbench_datasets.vessel_facts import COUNTS as COUNTS
from pflbench_datasets.vessel_facts import PRESETS as PRESETS
from pflbench_datasets.vessel_releases import DR_HAGIS_TWINS, natural, recognise, subject_of

_SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")


@dataclass(frozen=True)
class Vessel(Dataset):
    """Fundus photographs with vessel masks from six releases, each a site of its own.

    They are imported, or lie in ready folders, ``SITE/{train,test}/{images,masks}/<stem>.<suffix>``, whose masks
    and splits are taken as they are: options cannot change them.
    """

    name: ClassVar[str] = "vessel"
    title: ClassVar[str] = "Retinal vessels"
    sites: ClassVar[tuple[str, ...]] = tuple(COUNTS)
    expected: ClassVar[Mapping[str, tuple[int, int]]] = COUNTS
    licence: ClassVar[Mapping[str, str]] = vessel_facts.LICENCES
    citation: ClassVar[Mapping[str, str]] = vessel_facts.CITATIONS
    addresses: ClassVar[Mapping[str, str]] = vessel_facts.ADDRESSES
    downloads: ClassVar[Mapping[str, Download]] = vessel_facts.DOWNLOADS
    instructions: ClassVar[Mapping[str, str]] = vessel_facts.INSTRUCTIONS
    stand_in: ClassVar[str | None] = "vessel-simulated"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    chase_labels: Observer = "union"  # observer; ICPRVessels has only the union
    hrf_split: HrfSplit = "paper"  # train on 11-15, as ICPRVessels, or on 01-05, as most code
    dr_hagis_duplicate: Literal["keep", "drop"] = "keep"  # 32 is the same picture as 24; both are for training
    les_av_seed: Annotated[int, Field(ge=0)] = 0  # of its split, since none is published
    store: Store | None = field(default=None, compare=False, metadata={"setting": False})

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> Self | None:
        """Return the dataset in ``folder`` or in ``folder/vessel``, or None where no site lies there.

        Raises DataError where imported data and ready folders lie there both, UsageError where an option
        would change a ready folder.
        """
        found = cls.of(options)
        store = Store.open(folder, cls.name)
        roots = (folder, folder / "vessel") if folder is not None else ()
        ready = next((root for root in roots if _site_folders(root)), None)
        if store is None:
            return replace(found, root=ready)._unchanging() if ready is not None else None
        if ready is not None:
            raise DataError(
                f"{ready} holds ready folders ({', '.join(_site_folders(ready))}) and {store.folder} imported data; "
                "move one of the two away."
            )
        return replace(found, root=store.folder, store=store)

    @classmethod
    def recognise(cls, files: Files) -> Sequence[Found]:
        """Return the sites of the six releases and of the ICPRVessels repository among the files."""
        return recognise(files)

    @classmethod
    def known_hashes(cls) -> Mapping[str, frozenset[str]]:
        """Return site -> the first 16 hexadecimal digits of the sha256 of every file known to be original."""
        return known_files.known()

    def available(self) -> Sequence[str]:
        """Return the sites that were imported or have a folder, in the paper's order."""
        here = _site_folders(self.root) if self.store is None else self.store.sites
        return tuple(site for site in self.sites if site in here)

    def cases(self, site: str) -> Sequence[Case]:
        """Return a site's cases, train before test, by name; raises DataError where a file has no partner."""
        if self.store is None:
            return [
                Case(f"{site}/{split}/{stem}", site, subject_of(site, stem), split)
                for split in _SPLITS
                for stem in pairs(self._folder(site) / split)
            ]
        items = self._items(site)
        for item in items:
            mask_roles(item, self.chase_labels)  # which refuses labels that were not imported
        drawn = self._drawn(items) if site == "LES-AV" else ()
        splits = {item.id: vessel_choices.split_of(site, item, self.hrf_split, drawn) for item in items}
        return [
            Case(f"{site}/{item.id}", site, item.subject, split)
            for split in _SPLITS
            for item in items
            if splits[item.id] == split
        ]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return the image (3 x H x W) and its mask (H x W, 0 or 1) in original size."""
        image_file, *mask_files = self._files(case)
        image = read_image(image_file)
        masks = [fitted(read_mask(file), image, file, image_file) for file in mask_files]
        return image, np.bitwise_or.reduce(masks)

    def field_of_view(self, case: Case) -> Pixels | None:
        """Return where the camera saw anything (H x W, 0 or 1), or None where the release does not say."""
        file = None if self.store is None else self._item(case).files.get("field")
        return None if file is None else _field(file, self._files(case)[0])

    def digest(self, case: Case) -> str:
        """Return a hash of every file that is read; an option counts through the files that it chooses."""
        digest = hashlib.sha256()
        if self.store is None:
            for file in self._files(case):
                found = content(file)
                digest.update(len(found).to_bytes(8, "little") + found)
            return digest.hexdigest()
        item, site = self._item(case), self.store.sites[case.site]
        for role in ("image", *mask_roles(item, self.chase_labels), "field"):
            if role in item.files:
                digest.update(f"{role} {site.digest(item.id, role)}\n".encode())
        return digest.hexdigest()

    def remarks(self) -> Sequence[str]:
        """Return what was chosen where a release leaves it open, and what was said on import."""
        if self.store is None:
            return (f"{', '.join(self.available())}: masks and splits are those of ready folders.",)
        return [
            f"{site}: {remark}"
            for site in self.available()
            for remark in (*self._choices(site), *self.store.sites[site].remarks)
        ]

    def _choices(self, site: str) -> Iterator[str]:
        items = self._items(site)
        if site == "CHASEDB1":
            yield vessel_choices.said_of_chase(self.chase_labels)
        elif site == "HRF":
            yield vessel_choices.said_of_hrf(self.hrf_split)
        elif site == "DR-HAGIS" and self._stored(site).items.keys() >= set(DR_HAGIS_TWINS):
            yield vessel_choices.said_of_dr_hagis(self.dr_hagis_duplicate)
        elif site == "LES-AV":
            yield vessel_choices.said_of_les_av(self._drawn(items), self.les_av_seed)

    def _drawn(self, items: Sequence[Item]) -> Sequence[str]:
        return vessel_choices.drawn_for_testing([item.id for item in items], self.les_av_seed)

    def _unchanging(self) -> Self:
        """Return the dataset; raises UsageError for an option that would change a ready folder."""
        folders = _site_folders(self.root)
        for option in self.changed():
            site = vessel_choices.SITE_OF[option]
            if site in folders:
                raise UsageError(
                    f"vessel.{option} cannot change {folders[site]}: the masks and splits of a ready folder are what "
                    f"lies there; leave the option out, or import the release of {site}."
                )
        return self

    def _stored(self, site: str) -> StoredSite:
        here = {} if self.store is None else self.store.sites
        if site not in here:
            raise DataError(f"{self.root} holds no {site}; import it: {self.instructions.get(site, 'it is unknown')}.")
        return here[site]

    def _items(self, site: str) -> list[Item]:
        dropped = DR_HAGIS_TWINS[1] if site == "DR-HAGIS" and self.dr_hagis_duplicate == "drop" else None
        items = self._stored(site).items.values()
        return sorted((item for item in items if item.id != dropped), key=lambda item: natural(item.id))

    def _item(self, case: Case) -> Item:
        site, _, name = case.id.partition("/")
        items = self._stored(site).items
        if name not in items:
            raise DataError(f"{case.id!r} is no case of {self.root}; take one of those cases() lists.")
        return items[name]

    def _folder(self, site: str) -> Path:
        folders = _site_folders(self.root)
        if site not in folders:
            raise DataError(f"{self.root} has no folder of {site}; add {site}/{{train,test}}/{{images,masks}} there.")
        return folders[site]

    def _files(self, case: Case) -> tuple[Path, ...]:
        """Return the image's file and those whose union is its mask."""
        if self.store is not None:
            item = self._item(case)
            return tuple(item.files[role] for role in ("image", *mask_roles(item, self.chase_labels)))
        site, split, stem = ([*case.id.split("/", 2), "", ""])[:3]
        here = pairs(self._folder(site) / split) if split in _SPLITS else {}
        if stem not in here:
            raise DataError(f"{case.id!r} is no case of {self.root}; take one of those cases() lists.")
        return here[stem]


def _site_folders(root: Path | None) -> dict[str, Path]:
    """Return site -> its folder, in the paper's order; ``Chase_DB1`` and ``drhagis`` are understood."""
    return named_sites(root, COUNTS, _SPLITS)


def _field(file: Path, image_file: Path) -> Pixels:
    """Return a field-of-view mask (H x W, 0 or 1) in its image's size, of which only the header is read."""
    grey = read_image(file, channels=1)[0]
    inside = (grey > grey.max() / 2).astype(np.uint8)  # not 127: a palette may hold 0 and 1 out of 255
    if not inside.any():
        raise DataError(f"{file} is a field-of-view mask without a field of view; get the file again.")
    with Image.open(image_file) as picture:
        size = np.broadcast_to(np.uint8(0), (3, picture.height, picture.width))
    return fitted(inside, size, file, image_file)
