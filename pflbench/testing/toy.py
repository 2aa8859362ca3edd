"""A toy federation: three hospitals with discs of different size, brightness and colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pflbench.engines import Engine
from pflbench.engines.in_process import InProcess
from pflbench.evaluation import HeldOut
from pflbench.method import Method, TaskCard
from pflbench.numerics import Numerics
from pflbench.opening import sites_of
from pflbench.recipe import Recipe
from pflbench.rounds import CaseLabel, Federation
from pflbench.sites import Setting, TrainingData
from pflbench.steps import Site
from pflbench.task import ClientData, Task, pooled, pools_data
from pflbench.trial import federation_of

_SIDE = 16
_CASES = {"train": 4, "val": 2, "test": 2}
# hospital -> brightness of disc and ground for each channel
_STYLES = {
    "north": ((220, 60, 60), (20, 20, 40)),
    "south": ((120, 180, 80), (60, 40, 20)),
    "west": ((90, 90, 200), (10, 60, 60)),
}


@dataclass
class ToyFederation:
    """A federation in progress with its sites, so that a test can look into both."""

    federation: Federation
    sites: Mapping[str, Site]
    card: TaskCard

    def play(self, rounds: int | None = None) -> ToyFederation:
        """Play so many rounds, or all."""
        for done in self.federation.play():
            if done == rounds:
                break
        return self

    def kept(self) -> dict[str, Any]:
        """Return all that is kept between two rounds, without the table of times."""
        kept = self.federation.kept()
        tables = dict(self.federation.progress.tables)
        tables.pop("timing")
        return {**kept, "tables": repr(tables)}


def toy_images(client: str, split: str, seed: int = 0) -> TrainingData:
    """Return a hospital's cases: a disc of random place and size on a noisy ground."""
    rng = torch.Generator().manual_seed(hash_of_name(client + split) + seed)
    disc, ground = (torch.tensor(colour).view(3, 1, 1) for colour in _STYLES.get(client, _STYLES["north"]))
    grid = torch.arange(_SIDE)
    images, masks = [], []
    for _ in range(_CASES[split]):
        row, column = torch.randint(5, _SIDE - 5, (2,), generator=rng).tolist()
        radius = int(torch.randint(2, 5, (1,), generator=rng))
        mask = (grid[:, None] - row) ** 2 + (grid[None, :] - column) ** 2 <= radius**2
        noise = torch.randint(-15, 16, (3, _SIDE, _SIDE), generator=rng)
        images.append((torch.where(mask, disc, ground) + noise).clamp(0, 255).to(torch.uint8))
        masks.append(mask[None].to(torch.uint8))
    return TrainingData(torch.stack(images), torch.stack(masks))


def hash_of_name(name: str) -> int:
    """Return a number that depends on the name alone (``hash`` differs from process to process)."""
    return sum((position + 1) * ord(letter) for position, letter in enumerate(name))


def toy_federation(
    method: Method,
    *,
    rounds: int = 2,
    epochs: int = 1,
    seed: int = 0,
    width: int = 4,
    clients: tuple[str, ...] = ("north", "south", "west"),
    guests: tuple[str, ...] = (),
    data: Callable[[str, str], TrainingData] = toy_images,
    engine: Callable[[Mapping[str, Site]], Engine] = InProcess,
    device: str = "cpu",
) -> ToyFederation:
    """Return a federation of tiny images and a UNet of a small width, ready to play; ``guests`` are clients."""
    recipe = Recipe(
        rounds=rounds, epochs=epochs, batch=2, lr=2e-2, base_width=width, image_height=_SIDE, image_width=_SIDE,
        precision="float32",
    )  # fmt: skip
    setting = Setting(recipe, Numerics(device, "float32"), seed)
    setting.numerics.prepare()

    def there(client: str, split: str) -> TrainingData:
        found = data(client, split)
        return TrainingData(found.images.to(device), found.masks.to(device))

    task = _task(recipe, clients, guests, there)
    task = pooled(task) if pools_data(method) else task
    sites = sites_of(method, setting, task, task.clients)
    return ToyFederation(federation_of(method, setting, engine(sites), task), sites, task.card)


def _task(
    recipe: Recipe, clients: tuple[str, ...], guests: tuple[str, ...], data: Callable[[str, str], TrainingData]
) -> Task:
    def own(client: str, split: str) -> TrainingData:
        found = data(client, split)
        nothing = client in guests and split != "test"
        return TrainingData(found.images[:0], found.masks[:0]) if nothing else found

    held = {client: {split: HeldOut(**vars(own(client, split))) for split in ("val", "test")} for client in clients}
    labels = {
        client: tuple(CaseLabel(client, str(i), "", f"{client}/{i}") for i in range(len(held[client]["test"].images)))
        for client in clients
    }
    own_data = {
        client: ClientData(own(client, "train"), held[client], labels[client], (None,) * len(labels[client]))
        for client in clients
    }
    public = torch.cat([toy_images(f"public {i}", "train").images for i in range(2)]).to(_device_of(own_data))
    card = TaskCard(
        dataset="toy", clients={c: len(own_data[c].training.images) for c in clients if c not in guests},
        channels=3, height=_SIDE, width=_SIDE, epochs=recipe.epochs, rounds=recipe.rounds, guests=guests,
        public=len(public),
    )  # fmt: skip
    return Task(card, own_data, "", public)


def _device_of(clients: Mapping[str, ClientData]) -> torch.device:
    return next(iter(clients.values())).training.images.device


def differences(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the places where two trees of tensors and plain values are not the same to the last bit."""
    if one.keys() != other.keys():
        return [f"{path}: {sorted(one.keys() ^ other.keys())} on one side only"]
    found = []
    for key, value in one.items():
        here, twin = f"{path}/{key}", other[key]
        if isinstance(value, Mapping) and isinstance(twin, Mapping):
            found += differences(value, twin, here)
        elif isinstance(value, Tensor) and isinstance(twin, Tensor):
            found += [] if value.shape == twin.shape and torch.equal(_bits(value), _bits(twin)) else [here]
        elif repr(value) != repr(twin):
            found.append(here)
    return found


def _bits(value: Tensor) -> Tensor:
    flat = value.detach().cpu().contiguous().reshape(-1)
    return flat if flat.dtype is torch.bool else flat.view(torch.uint8)
