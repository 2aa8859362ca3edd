"""Meibomian glands in infrared pictures of everted lids: MGD-1K, and the private LFSC for those who have it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import SkipValidation

from pflbench.api import Case, DataError, Dataset, Files, Found, Item, Pixels, Store, StoredSite
from pflbench_datasets.gland_release import FOLDERS, LFSC, MGD1K, found_sites
from pflbench_datasets.pictures import fitted, read_image, read_mask

# The paper's rounds, epochs, batch and rates. 192 x 384 is its authors' public harness. A quarter of the four fifths
# that are not for testing makes 6:2:2.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {
        "rounds": 100,
        "epochs": 4,
        "batch": 4,
        "lr": 1e-3,
        "lr_decay": 0.99,
        "base_width": 64,
        "image_height": 192,
        "image_width": 384,
        "validation": 0.25,
        "test": 0.2,
    },
    "quick": {
        "rounds": 30,
        "epochs": 4,
        "batch": 4,
        "lr": 2e-3,
        "lr_decay": 0.97,
        "base_width": 16,
        "image_height": 96,
        "image_width": 192,
        "validation": 0.25,
        "test": 0.2,
    },
}


@dataclass(frozen=True)
class Gland(Dataset):
    """Infrared meibography with masks of the glands; a subject is a patient, with one to four pictures.

    The paper does not say how many channels its network sees; here 1. MGD-1K is stored as RGB, but in all of its
    1,000 pictures the three channels are equal (its authors' public harness copies grey into three).
    """

    name: ClassVar[str] = "gland"
    title: ClassVar[str] = "Meibomian glands"
    sites: ClassVar[tuple[str, ...]] = (LFSC, MGD1K)
    optional_sites: ClassVar[tuple[str, ...]] = (LFSC,)  # private: a federation without it is no error
    expected_subjects: ClassVar[Mapping[str, int]] = {MGD1K: 338}
    licence: ClassVar[Mapping[str, str]] = {
        LFSC: "private to the Lo Fong Shiu Po Eye Centre, Hong Kong; not published",
        MGD1K: "all rights reserved by its authors; do not redistribute",
    }
    citation: ClassVar[Mapping[str, str]] = {
        LFSC: "in-house pictures of the Lo Fong Shiu Po Eye Centre, Hong Kong, as used in arXiv:2603.14848",
        MGD1K: "Saha et al., Automated quantification of meibomian gland dropout in infrared meibography using "
        "deep learning, The Ocular Surface 26, 2022",
    }
    addresses: ClassVar[Mapping[str, str]] = {MGD1K: "https://mgd1k.github.io/"}
    instructions: ClassVar[Mapping[str, str]] = {
        LFSC: "LFSC is private; if you have it, lay it out as MGD-1K ('Original Images', 'Meibomian Gland Labels', "
        "the same file names) below a folder called LFSC, then run 'pflbench data import gland --from FOLDER'",
        MGD1K: "run 'git clone https://github.com/MGD1K/MGD1k' (its zips need git-lfs and are not used), then "
        "'pflbench data import gland --from MGD1k'; all rights are its authors'",
    }
    channels: ClassVar[int] = 1
    stand_in: ClassVar[str | None] = "gland-simulated"
    mask_area: ClassVar[float] = 0.5  # keeps the area: .0542 of 100 originals, .0536 at 192 x 384 (0.4: .0562)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS

    target: Literal["glands", "eyelid"] = "glands"  # what is to be found; "eyelid" is the whole lid turned out
    store: SkipValidation[Store | None] = field(default=None, compare=False, repr=False, metadata={"setting": False})

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> Self | None:
        """Return the dataset as it was imported into ``folder``, or None where it was not."""
        store = Store.open(folder, cls.name)
        return None if store is None else replace(cls.of(options), root=store.folder, store=store)

    @classmethod
    def recognise(cls, files: Files) -> Sequence[Found]:
        """Return MGD-1K, and LFSC where a folder of that name holds the same layout."""
        return found_sites(files)

    def available(self) -> Sequence[str]:
        """Return the imported sites."""
        return tuple(site for site in self.sites if self.store is not None and site in self.store.sites)

    def cases(self, site: str) -> Sequence[Case]:
        """Return a site's cases by name; traits are the lid (upper, lower) and the eye (OD: right, OS: left)."""
        items = [item for item in self._site(site).items.values() if self._role in item.files]
        if not items:
            raise DataError(
                f"{self.root} has no label of the {self.target} for {site}; import a release with the folder "
                f"{FOLDERS[self._role]!r}, or leave {self.name}.target at its default."
            )
        return [Case(f"{site}/{item.id}", site, item.subject, item.split, traits=item.traits) for item in items]

    def read(self, case: Case) -> tuple[Pixels, Pixels]:
        """Return the image (1 x H x W, grey) and the mask of the target (H x W, 0 or 1)."""
        _, item = self._item(case)
        image = read_image(item.files["image"], self.channels)
        label = item.files[self._role]
        return image, fitted(read_mask(label), image, label, item.files["image"])

    def digest(self, case: Case) -> str:
        """Return a hash of the image and of the target's label, from the hashes of the import."""
        site, item = self._item(case)
        parts = [self.target, *(site.digest(item.id, role) for role in ("image", self._role))]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def remarks(self) -> Sequence[str]:
        """Return what a reader of results should know."""
        said = []
        if self.target == "eyelid":
            said.append("the masks are of the eyelid, not of the glands as in the paper.")
        if LFSC not in self.available():
            said.append("LFSC is private and not here; the paper's federation has two clients, LFSC and MGD-1K.")
        if MGD1K in self.available():
            said.append("MGD-1K: patients are told apart by the number in the file name; its page counts 320, not 338.")
        return said

    @property
    def _role(self) -> str:
        return "mask" if self.target == "glands" else "eyelid"

    def _site(self, site: str) -> StoredSite:
        if self.store is None or site not in self.store.sites:
            raise DataError(f"{self.root} does not hold {site}; import it with 'pflbench data import {self.name}'.")
        return self.store.sites[site]

    def _item(self, case: Case) -> tuple[StoredSite, Item]:
        site, _, stem = case.id.partition("/")
        items = self._site(site).items if site in self.available() else {}
        if stem not in items or self._role not in items[stem].files:
            raise DataError(f"{case.id!r} is no case of {self.root}; take one of those cases() lists.")
        return self._site(site), items[stem]
