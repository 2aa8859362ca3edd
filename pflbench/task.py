"""Dataset + partitioner + recipe -> each client's own data: the only place that sees all sites."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch

from pflbench import pixels, seeds
from pflbench.dataset import Case, Dataset
from pflbench.errors import UsageError, unknown
from pflbench.evaluation import HeldOut
from pflbench.method import Method, TaskCard
from pflbench.partition import Partitioner, Split, check, divide, split_hash
from pflbench.recipe import Recipe
from pflbench.results import hash_of
from pflbench.rounds import CaseLabel
from pflbench.sites import TrainingData
from pflbench.splitfile import Prescribed

DATA_VARIABLE = "PFLBENCH_DATA"
_PARTITION_SEED = 0  # clients are the same for every seed of a run; a partitioner may have a seed of its own


def data_folders(data_root: Path | None) -> list[Path]:
    """Return where real data is looked for: the given folder only, else PFLBENCH_DATA and the user data folder."""
    if data_root is not None:
        return [data_root]
    given = os.environ.get(DATA_VARIABLE)
    user = Path(platformdirs.user_data_dir("pflbench", appauthor=False))
    return [Path(given), user] if given else [user]


def locate(
    cls: type[Dataset],
    lookup: Callable[[str], type[Dataset]],
    data_root: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Return the dataset where it lies, or its simulated stand-in where there is no real data.

    A --data-root that holds nothing of the dataset is an error, not a reason to simulate.
    Raises UsageError.
    """
    options = dict(options or {})
    for name in options:
        if name not in cls.setting_names():
            raise unknown(f"setting of {cls.label()}", name, cls.setting_names())
    folders = data_folders(data_root)
    for folder in folders:
        found = cls.find(folder, **options)
        if found is not None:
            return found
    looked = ", ".join(str(folder) for folder in folders)
    if data_root is not None or cls.stand_in is None or options:
        raise UsageError(f"no {cls.name} data in {looked}; give its folder with --data-root or {DATA_VARIABLE}.")
    stand_in = lookup(cls.stand_in).find(None)
    if stand_in is None:
        raise UsageError(f"{cls.stand_in} cannot stand in for {cls.name}.")
    return stand_in


def chosen_sites(dataset: Dataset, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the sites of the federation. Raises UsageError naming those that are unknown or missing."""
    here = list(dataset.available())
    known = dataset.sites or here
    if not wanted:
        missing = [site for site in known if site not in here and site not in dataset.optional_sites]
        if missing:
            raise UsageError(
                f"{dataset.name} lacks the sites {', '.join(missing)} in {dataset.root}; "
                f"add them, or restrict the federation with --sites {','.join(here)}."
            )
        return tuple(here)
    folded = {site.lower(): site for site in known}
    for site in wanted:
        if site.lower() not in folded:
            raise unknown(f"site of {dataset.name}", site, known)
    sites = [folded[site.lower()] for site in wanted]
    absent = [site for site in sites if site not in here]
    if absent:
        raise UsageError(
            f"{dataset.name} lacks the sites {', '.join(absent)} in {dataset.root}; here are {', '.join(here)}."
        )
    if len(set(sites)) < len(sites):
        raise UsageError(f"--sites names a site twice: {', '.join(sites)}.")
    return tuple(sites)


def chosen_public(dataset: Dataset, wanted: Sequence[str] | None, clients: Sequence[str] | None) -> tuple[str, ...]:
    """Return the sites whose images the server has: those asked for, which ``clients`` may not name too.

    Default: the dataset's own. Raises UsageError.
    """
    if not wanted:
        return dataset.public_sites
    own = {site.lower(): site for site in dataset.public_sites}
    public = tuple(own[site.lower()] if site.lower() in own else chosen_sites(dataset, [site])[0] for site in wanted)
    for site in public:
        if clients and site.lower() in {client.lower() for client in clients}:
            raise UsageError(f"{site} is in --sites and in --public; a public site is no client, so name it once.")
    return public


@dataclass(frozen=True)
class Source:
    """The data of a run: dataset, its sites, their cases, and who holds which."""

    dataset: Dataset
    sites: tuple[str, ...]
    partitioner: Partitioner
    index: Mapping[str, tuple[Case, ...]]  # site -> all its cases
    holdings: Mapping[str, tuple[Case, ...]]  # client -> its cases; some may be with nobody
    content: Mapping[str, str]  # case id -> hash of its content, of all cases
    public: tuple[str, ...] = ()  # sites that are no client: the server has their images

    @property
    def digest(self) -> str:
        """A hash of the content of every case that some client holds."""
        held = sorted(case.id for cases in self.holdings.values() for case in cases)
        return self._digest(held)

    @property
    def public_digest(self) -> str:
        """A hash of the content of every public case."""
        return self._digest(sorted(case.id for case in self.public_cases))

    @property
    def public_cases(self) -> list[Case]:
        """The cases whose images the server has."""
        return [case for site in self.public for case in self.index[site]]

    def _digest(self, cases: Sequence[str]) -> str:
        return hash_of([(case, self.content[case]) for case in cases], 16)

    def splits(self, recipe: Recipe, seed: int) -> dict[str, Split]:
        """Return each client's train, validation and test cases for a seed. Raises UsageError for a leak."""
        seed = 0 if recipe.fixed_split else seed
        splits = {
            client: divide(cases, recipe.validation, recipe.test, seeds.numpy_generator(seed, "split", client))
            for client, cases in self.holdings.items()
        }
        check(splits)
        return splits


def open_source(
    dataset: Dataset, sites: tuple[str, ...], partitioner: Partitioner, public: tuple[str, ...] = ()
) -> Source:
    """Index the sites and give their cases to clients, those of the ``public`` ones to the server.

    Raises UsageError or DataError.
    """
    index = {site: tuple(dataset.cases(site)) for site in (*sites, *public)}
    everything = [case for own in index.values() for case in own]
    if len({case.id for case in everything}) < len(everything):
        raise UsageError(f"{dataset.name} lists a case twice; ids must be unique within a dataset.")
    content = pixels.digests(dataset, everything)
    cases = [case for site in sites for case in index[site]]
    if isinstance(partitioner, Prescribed):
        partitioner.verify(content)
    if partitioner.wants_foreground():
        shares = pixels.foreground(dataset, cases, content)
        cases = [replace(case, foreground=shares[case.id]) for case in cases]
    rng = seeds.numpy_generator(_PARTITION_SEED, "partition", partitioner.name)
    holdings = {client: tuple(own) for client, own in partitioner.assign(cases, rng).items()}
    return Source(dataset, sites, partitioner, index, holdings, content, public)


@dataclass(frozen=True)
class ClientData:
    """One client's pixels, apart by what they are used for."""

    training: TrainingData
    held_out: Mapping[str, HeldOut]  # "val", "test"
    test_cases: tuple[CaseLabel, ...]
    extents: tuple[tuple[float, float] | None, ...]  # millimetres of the test images' sides, where known


@dataclass(frozen=True)
class Task:
    """Every client's own data, and the card that methods may read."""

    card: TaskCard
    clients: Mapping[str, ClientData]
    split: str  # hash of the splits
    public: torch.Tensor | None = None  # the server's images, N x C x H x W, uint8


def card(source: Source, recipe: Recipe, splits: Mapping[str, Split]) -> TaskCard:
    """Return the names and numbers of a task."""
    return TaskCard(
        dataset=source.dataset.name,
        clients={client: len(split.train) for client, split in splits.items() if not split.is_guest},
        guests=tuple(client for client, split in splits.items() if split.is_guest),
        channels=source.dataset.image_channels(),
        height=recipe.image_height,
        width=recipe.image_width,
        epochs=recipe.epochs,
        rounds=recipe.rounds,
        public=len(source.public_cases),
    )


def pools_data(method: Method) -> bool:
    """Say whether a method is no federated one but trains on everybody's data in one place."""
    return bool(vars(type(method)).get("pools_data"))


def pooled_card(card: TaskCard) -> TaskCard:
    """Return the card of the task whose training data all lies in one place."""
    everybody = {_everybody(card): sum(card.clients.values())}
    return replace(card, clients=everybody, guests=(*card.clients, *card.guests))


def _everybody(card: TaskCard) -> str:
    """Return a name for the pooled data that no client has."""
    taken, name = {*card.clients, *card.guests}, "pooled data"
    while name in taken:
        name += "*"
    return name


def pooled(task: Task) -> Task:
    """Return the task with all training data at one client, which is not tested; the others keep only their tests."""
    card = pooled_card(task.card)
    parts = [data.training for data in task.clients.values()]
    everything = TrainingData(torch.cat([part.images for part in parts]), torch.cat([part.masks for part in parts]))
    no_images, no_masks = everything.images[:0], everything.masks[:0]
    nothing = TrainingData(no_images, no_masks)
    untested = {split: HeldOut(no_images, no_masks) for split in ("val", "test")}
    clients = {client: replace(data, training=nothing) for client, data in task.clients.items()}
    gathered = {next(iter(card.clients)): ClientData(everything, untested, (), ())}
    return replace(task, card=card, clients={**gathered, **clients})


def open_task(source: Source, recipe: Recipe, seed: int, device: str) -> Task:
    """Bring each client's pixels, from the cache, to the training device."""
    splits = source.splits(recipe, seed)
    height, width = recipe.image_height, recipe.image_width
    cache = pixels.open_cache(source.dataset, source.index, source.content, height, width)
    nothing = pixels.Decoded(
        np.zeros((0, source.dataset.image_channels(), height, width), np.uint8),
        np.zeros((0, 1, height, width), np.uint8),
        None,
    )

    def load(cases: Sequence[Case]) -> pixels.Decoded:
        return cache.take(cases) if cases else nothing

    def training(cases: Sequence[Case]) -> TrainingData:
        found = load(cases)
        return TrainingData(torch.from_numpy(found.images).to(device), torch.from_numpy(found.masks).to(device))

    def held_out(cases: Sequence[Case]) -> HeldOut:
        found = load(cases)
        fields = None if found.fields is None else torch.from_numpy(found.fields).to(device)
        return HeldOut(torch.from_numpy(found.images).to(device), torch.from_numpy(found.masks).to(device), fields)

    clients = {
        client: ClientData(
            training=training(split.train),
            held_out={"val": held_out(split.val), "test": held_out(split.test)},
            extents=tuple(source.dataset.extent(case) for case in split.test),
            test_cases=tuple(CaseLabel(case.site, case.subject, case.volume or "", case.id) for case in split.test),
        )
        for client, split in splits.items()
    }
    public = torch.from_numpy(load(source.public_cases).images).to(device) if source.public else None
    return Task(card(source, recipe, splits), clients, split_hash(splits), public)
