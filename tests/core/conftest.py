"""A toy dataset of bright discs, a registry of toys, and folders of their own for every test."""

# No `from __future__ import annotations`: another conftest may take this module's name, and with it the
# names that the annotations of these classes would be looked up in.
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import platformdirs
import pytest

from pflbench.dataset import Case, Dataset
from pflbench.method import Method, TaskCard
from pflbench.partition import Partitioner
from pflbench.plugins import Plugin, Registry


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Keep every test away from the user's cache and data."""
    monkeypatch.setenv("PFLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PFLBENCH_DATA", raising=False)
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda *_, **__: str(tmp_path / "user"))


@dataclass(frozen=True)
class SimulatedDiscs(Dataset):
    """A bright disc per image; its place and size are drawn from the case's name."""

    name: ClassVar[str] = "discs-simulated"
    title: ClassVar[str] = "Discs"
    sites: ClassVar[tuple[str, ...]] = ("North", "South", "West")
    licence: ClassVar[Mapping[str, str]] = dict.fromkeys(("North", "South", "West"), "none needed")
    citation: ClassVar[Mapping[str, str]] = {}
    channels: ClassVar[int] = 1
    simulated: ClassVar[bool] = True

    per_site: int = 6
    side: int = 16

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> "SimulatedDiscs | None":
        return cls.of(options)

    def available(self) -> Sequence[str]:
        return self.sites

    def cases(self, site: str) -> Sequence[Case]:
        kinds = ["test" if index < 2 else "train" for index in range(self.per_site)]
        return [Case(f"{site}/{index}", site, f"p{index}", kind) for index, kind in enumerate(kinds)]

    def read(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(zlib.crc32(case.id.encode()))
        row, column = rng.integers(4, self.side - 4, 2)
        rows, columns = np.ogrid[: self.side, : self.side]
        mask = ((rows - row) ** 2 + (columns - column) ** 2 <= rng.integers(4, 12)).astype(np.uint8)
        noise = rng.integers(0, 60, (1, self.side, self.side), dtype=np.uint8)
        return noise + 180 * mask[None], mask

    def digest(self, case: Case) -> str:
        return f"{self.side} {case.id}"


@dataclass(frozen=True)
class Discs(SimulatedDiscs):
    """The "real" discs: a site lies where a folder of its name does."""

    name: ClassVar[str] = "discs"
    title: ClassVar[str] = "Discs"
    simulated: ClassVar[bool] = False
    stand_in: ClassVar[str | None] = "discs-simulated"

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> "Discs | None":
        if folder is None or not any((folder / site).is_dir() for site in cls.sites):
            return None
        return replace(cls.of(options), root=folder)

    def available(self) -> Sequence[str]:
        return [site for site in self.sites if (self.root / site).is_dir()]


@dataclass(frozen=True)
class BySite(Partitioner):
    """Each site is a client."""

    name: ClassVar[str] = "natural"
    title: ClassVar[str] = "one client per site"

    def assign(self, cases: Sequence[Case], rng: np.random.Generator) -> Mapping[str, Sequence[Case]]:
        return {site: [case for case in cases if case.site == site] for site in {c.site: 0 for c in cases}}


@dataclass(frozen=True)
class Idle(Method):
    """Nobody does anything.

    A second paragraph that no table shows.
    """

    name: ClassVar[str] = "idle"
    title: ClassVar[str] = "Idle"
    citation: ClassVar[str] = "Nobody, never."
    travels: ClassVar[str] = "nothing"
    aliases: ClassVar[tuple[str, ...]] = ("lazy",)

    strength: float = 1.0

    def client_update(self, client):
        return {}

    def server_update(self, server, inbox):
        return {}

    def client_receive(self, client, message):
        return None


@dataclass(frozen=True)
class Picky(Idle):
    """Idle, and only with one client."""

    name: ClassVar[str] = "picky"
    title: ClassVar[str] = "Picky"
    aliases: ClassVar[tuple[str, ...]] = ()

    def unsuitable(self, task: TaskCard) -> str | None:
        return None if len(task.clients) == 1 else f"it wants one client, not {len(task.clients)}."


@pytest.fixture
def simulated_discs() -> type[Dataset]:
    return SimulatedDiscs


@pytest.fixture
def discs() -> type[Dataset]:
    return Discs


@pytest.fixture
def by_site() -> Partitioner:
    return BySite()


@pytest.fixture
def idle() -> type[Method]:
    return Idle


@pytest.fixture
def toys() -> Registry:
    """Return a registry that holds the toys and nothing else."""
    plugin = Plugin("toys", "toy-box", "1.2", ("pflbench_methods",))
    kinds = {"method": [Idle, Picky], "dataset": [Discs, SimulatedDiscs], "partitioner": [BySite]}
    found = {kind: {cls.name: (cls, plugin) for cls in classes} for kind, classes in kinds.items()}
    return Registry([plugin], found)


@pytest.fixture
def lay_out(tmp_path) -> Callable[..., Path]:
    """Return a function that makes the folders of some sites below a folder of ``tmp_path``."""

    def make(name: str, *sites: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for site in sites:
            (folder / site).mkdir()
        return folder

    return make
