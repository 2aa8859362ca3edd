"""The memory of a round: the most bytes that are saved at one time for backward passes; counted, the same everywhere.

The federation that is played is a scale model of the paper's. What is saved grows with width x pixels x batch, the
model with the square of its width; so a width of 4 at 64 x 64 keeps the paper's proportion of the two (64 at
256 x 256, both with batches of four), and with it every ratio between methods.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Self

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pflbench.engines.in_process import InProcess
from pflbench.evaluation import HeldOut
from pflbench.method import Method, TaskCard
from pflbench.numerics import Numerics
from pflbench.opening import sites_of
from pflbench.recipe import Recipe
from pflbench.rounds import CaseLabel, Federation
from pflbench.sites import Setting, TrainingData
from pflbench.task import ClientData, Task, pooled, pools_data
from pflbench.training import BCEDice
from pflbench.trial import federation_of
from pflbench.unet import UNet

_RECIPE = Recipe(rounds=2, epochs=1, base_width=4, image_height=64, image_width=64, precision="float32")
_CLIENTS = ("north", "south", "west")
_IMAGES = 8  # of each client, and public: two steps, so that what one leaves behind is seen in the next


class SavedBytes:
    """Counts, while it is entered, the bytes that autograd holds for backward passes: ``now``, and ``peak`` so far.

    A storage counts once however often it is saved, and until the last tensor saved of it is freed. Parameters are
    left out: they are there anyway.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._holders: Counter[int] = Counter()
        self._hooks = saved_tensors_hooks(self._pack, _Held.opened)

    def __enter__(self) -> Self:
        """Count from here on."""
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Count no further tensor; those counted still leave ``now`` as they go."""
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> _Held:
        held = _Held(tensor)
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            self._take(storage._cdata, storage.nbytes())
            weakref.finalize(held, self._release, storage._cdata, storage.nbytes())
        return held

    def _take(self, storage: int, size: int) -> None:
        self.now += 0 if self._holders[storage] else size
        self._holders[storage] += 1
        self.peak = max(self.peak, self.now)

    def _release(self, storage: int, size: int) -> None:
        self._holders[storage] -= 1
        self.now -= 0 if self._holders[storage] else size


class _Held:
    """A saved tensor; detached, because one that knows its own graph would keep that alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()

    def opened(self) -> Tensor:
        return self._tensor


def memory_of(method: Method) -> float:
    """Return the most bytes that a client, or the server, holds for backward passes, as a multiple of FedAvg's.

    Of two rounds of the scale model. Forward passes without gradients, optimisers and what is kept are not in it.
    As on a CPU: on a GPU pFL-ResFIM takes the gradients of eight images at once.
    """
    return peak_of_a_round(method) / peak_of_a_step(_RECIPE.base_width, _RECIPE.image_height, _RECIPE.batch)


def peak_of_a_round(method: Method) -> int:
    """Return these bytes."""
    federation = _scale_model(method)
    with SavedBytes() as saved:
        for _ in federation.play():
            pass
    return saved.peak


def peak_of_a_step(width: int, side: int, batch: int) -> int:
    """Return the most bytes that FedAvg holds for one backward pass, of images with three channels.

    On the device that has shapes and no numbers: the size of a step decides nothing about the time this takes.
    """
    with torch.device("meta"):
        model, images, masks = UNet(3, width), torch.empty(batch, 3, side, side), torch.empty(batch, 1, side, side)
    with SavedBytes() as saved:
        _ = BCEDice()(model(images.contiguous(memory_format=torch.channels_last)), masks)
    return saved.peak


def _scale_model(method: Method) -> Federation:
    setting = Setting(_RECIPE, Numerics("cpu", "float32"), seed=0)
    setting.numerics.prepare()
    task = pooled(_task()) if pools_data(method) else _task()
    return federation_of(method, setting, InProcess(sites_of(method, setting, task, task.clients)), task)


def _task() -> Task:
    """Return clients with images of noise, and masks of a square: what they show changes no byte."""
    rng, side = torch.Generator().manual_seed(0), _RECIPE.image_height
    masks = torch.zeros(_IMAGES, 1, side, side, dtype=torch.uint8)
    masks[..., side // 4 : side // 2, side // 4 : side // 2] = 1

    def images() -> Tensor:
        return torch.randint(256, (_IMAGES, 3, side, side), generator=rng, dtype=torch.uint8)

    def own(client: str) -> ClientData:
        held_out = {split: HeldOut(images()[:1], masks[:1]) for split in ("val", "test")}
        return ClientData(TrainingData(images(), masks), held_out, (CaseLabel(client, "0", "", client),), (None,))

    card = TaskCard(
        "scale model", dict.fromkeys(_CLIENTS, _IMAGES), channels=3, height=side, width=side, epochs=_RECIPE.epochs,
        rounds=_RECIPE.rounds, public=_IMAGES,
    )  # fmt: skip
    return Task(card, {client: own(client) for client in _CLIENTS}, "", images())
