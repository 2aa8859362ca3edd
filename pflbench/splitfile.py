"""A split written down: who holds which case for what, with the hash of every case, so that others can use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from pflbench.dataset import Case
from pflbench.errors import UsageError
from pflbench.partition import Partitioner, Split
from pflbench.results import hash_of, write_json

FORMAT = 1
_KINDS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def write_split(path: Path, splits: Mapping[str, Split], content: Mapping[str, str], about: Mapping[str, Any]) -> None:
    """Write the cases of every client with their hashes. ``about`` says how it came about; nobody reads it back."""
    clients = {
        client: {kind: {case.id: content[case.id] for case in getattr(split, kind)} for kind in _KINDS}
        for client, split in splits.items()
    }
    write_json(path, {"pflbench split": FORMAT, "about": dict(about), "clients": clients})


@dataclass(frozen=True)
class Prescribed(Partitioner):
    """Clients and splits as a file says, the same for every seed.

    ``digest`` is that of the file's clients: two runs with one split have one specification, wherever it lies.
    """

    name: ClassVar[str] = "file"
    title: ClassVar[str] = "as written in a split file"

    digest: str = ""
    path: Path | None = field(default=None, compare=False, metadata={"setting": False})
    clients: Any = field(default=None, compare=False, repr=False, metadata={"setting": False})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a split file. Raises UsageError naming it where it is none."""
        try:
            content = json.loads(path.read_text())
            if content["pflbench split"] != FORMAT:
                raise UsageError(f"{path} has split format {content['pflbench split']!r}; this version reads {FORMAT}.")
            clients = {c: {kind: dict(parts[kind]) for kind in _KINDS} for c, parts in content["clients"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{path} is no split file ({error!r}); 'pflbench data show ... --out FOLDER' writes one."
            ) from error
        return cls(digest=hash_of(clients, 16), path=path.resolve(), clients=clients)

    def sites(self, dataset_sites: Sequence[str], cases: Mapping[str, Sequence[Case]]) -> tuple[str, ...]:
        """Return the sites that the file's cases come from. Raises UsageError naming a case that is not here."""
        wanted = {case for parts in self.clients.values() for kind in _KINDS for case in parts[kind]}
        here = {case.id for own in cases.values() for case in own}
        absent = sorted(wanted - here)
        if absent:
            raise UsageError(
                f"{self.path} names {absent[0]!r}, which is not in this data ({len(absent)} cases are missing)."
            )
        return tuple(site for site in dataset_sites if any(case.id in wanted for case in cases[site]))

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        """Return the file's clients; cases that it does not name are left out."""
        known = {case.id: case for case in cases}
        absent = [c for parts in self.clients.values() for kind in _KINDS for c in parts[kind] if c not in known]
        if absent:
            raise UsageError(f"{self.path} names {absent[0]!r}, which is not in this data.")
        return {
            client: [replace(known[case], split=kind) for kind in _KINDS for case in parts[kind]]
            for client, parts in self.clients.items()
        }

    def verify(self, content: Mapping[str, str]) -> None:
        """Raise UsageError naming the first case whose content is not what it was when the split was written."""
        for parts in self.clients.values():
            for kind in _KINDS:
                for case, digest in parts[kind].items():
                    if content.get(case, digest) != digest:
                        raise UsageError(
                            f"{case!r} is not what it was when {self.path} was written (other file, or other "
                            "settings of the dataset); the split cannot be used with it."
                        )
