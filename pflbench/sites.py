"""Client and Server: all that a method can see at one hospital and at the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pflbench import seeds, training
from pflbench.message import Message
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.training import Batch, BCEDice, Loss, Objective, Penalty
from pflbench.unet import UNet
from pflbench.weights import load

_OWN = "model"  # role of the optimiser of client.model


@dataclass(frozen=True)
class TrainingData:
    """One hospital's training cases on the training device: N x C x H x W and N x 1 x H x W, uint8."""

    images: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Setting:
    """What all sites of a trial share."""

    recipe: Recipe
    numerics: Numerics
    seed: int
    channels: int = 3

    def new_model(self, weights: Mapping[str, Tensor] | None = None) -> UNet:
        """Return a model with the trial's common initial weights, overwritten by ``weights`` where given."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.seed_for(self.seed, "initial weights"))
            model = UNet(self.channels, self.recipe.base_width)
        model = model.to(self.numerics.device)
        if weights:
            load(model, weights)
        return model


@dataclass
class Memory:
    """What survives at a client from step to step; owned by the harness."""

    model: UNet
    optimizers: dict[str, torch.optim.Adam] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    briefing: Message = field(default_factory=dict)


class Client:
    """All that a method can see at one hospital during one step: its own training data, nobody else's.

    ``name``, ``round`` (1-based; 0 in the setup), ``samples`` (training images), ``rng`` (of this seed, round
    and client), ``device``, ``model`` (kept, and evaluated unless ``personal_model`` says otherwise), ``state``
    (kept, private), ``briefing`` (the server's reply to the setup; read-only), ``images`` N x C x H x W in
    [0, 1] and ``masks`` N x 1 x H x W in {0, 1} (float32), ``recipe``, ``loss`` (the training loss), ``log``
    (numbers for the report), ``gradients`` (per-image gradients so far in this step; add your own), ``losses``
    (mean losses of the step's trainings; the report shows their mean; add your own).
    """

    def __init__(self, name: str, round: int, stage: str, data: TrainingData, memory: Memory, setting: Setting) -> None:
        self.name, self.round, self.samples = name, round, len(data.images)
        self.recipe, self.device = setting.recipe, torch.device(setting.numerics.device)
        self.loss: Loss = BCEDice(setting.recipe.bce_share)
        self.log: dict[str, float] = {}
        self.gradients = 0
        self.rng = seeds.generator(setting.seed, "client", name, stage, round)
        self.losses: list[float] = []
        self._stage, self._data, self._memory, self._setting = stage, data, memory, setting
        self._streams = 0

    @property
    def model(self) -> UNet:
        """The client's own model."""
        return self._memory.model

    @property
    def state(self) -> dict[str, Any]:
        """What the method keeps here between steps: a tree of tensors, numbers, strings and None."""
        return self._memory.state

    @property
    def briefing(self) -> Message:
        """What the server sent once, before round 1."""
        return self._memory.briefing

    @property
    def images(self) -> Tensor:
        """All training images, un-augmented."""
        return self._setting.numerics.images(self._data.images)

    @property
    def masks(self) -> Tensor:
        """All training masks."""
        return self._data.masks.float()

    def batches(self, epochs: int | None = None) -> Iterator[Batch]:
        """Yield augmented training batches; each call draws its own order."""
        self._streams += 1
        rng = seeds.generator(self._setting.seed, "batches", self.name, self._stage, self.round, self._streams)
        epochs = self.recipe.epochs if epochs is None else epochs
        return training.batches(self._data.images, self._data.masks, self.recipe, self._setting.numerics, epochs, rng)

    def fit(
        self,
        model: nn.Module | None = None,
        *,
        only: Iterable[str] | None = None,
        epochs: int | None = None,
        penalty: Penalty | None = None,
        objective: Objective | None = None,
        passes: int = 1,
        role: str | None = None,
    ) -> float:
        """Train ``model`` (default: the client's own) on the local data and return the mean loss, penalty left out.

        ``only`` names the entries that are trained. ``objective`` (model, images, masks -> scalar) is minimized
        instead of the loss of the model's logits; it runs under ``autocast``, and ``passes`` says how many
        gradients of the network it takes per image. ``penalty`` (model -> scalar) is added. The optimiser of
        ``role`` survives the round (default: that of the client's own model; for another model without a
        role it is new each time).
        """
        role = _OWN if model is None and role is None else role
        model = self.model if model is None else model
        chosen = None if only is None else frozenset(only)
        optimizer = self.optimizer(model, role=role)
        mean, seen = training.fit(
            model,
            optimizer,
            self.batches(epochs),
            self.loss,
            self._setting.numerics,
            only=chosen,
            penalty=penalty,
            objective=objective,
        )
        self.gradients += passes * seen
        self.losses.append(mean)
        return mean

    def optimizer(
        self, model: nn.Module | None = None, only: Iterable[str] | None = None, *, role: str | None = None
    ) -> torch.optim.Adam:
        """Return the recipe's Adam at this round's learning rate, over the entries ``only`` or all of the model.

        With a role it is the one kept under that name (if the recipe keeps optimisers), else a new one.
        """
        model = self.model if model is None else model
        chosen = None if only is None else frozenset(only)
        named = [(n, p) for n, p in model.named_parameters() if chosen is None or n in chosen]
        kept = self._memory.optimizers.get(role) if role and self.recipe.optimizer_state == "kept" else None
        if kept is None:
            kept = training.adam([p for _, p in named], self.recipe.lr, self.recipe.weight_decay)
        elif {id(p) for p in kept.param_groups[0]["params"]} != {id(p) for _, p in named}:
            kept = _rebound(kept, named, self.recipe)
        if role:
            self._memory.optimizers[role] = kept
        kept.param_groups[0]["lr"] = self.recipe.learning_rate(self.round)
        kept.param_groups[0]["names"] = [name for name, _ in named]
        return kept

    def new_model(self, weights: Mapping[str, Tensor] | None = None) -> UNet:
        """Return another model, with the trial's initial weights or the given ones."""
        return self._setting.new_model(weights)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a training forward pass, in the recipe's precision; ``fit`` enters it by itself."""
        return self._setting.numerics.autocast()


def _rebound(old: torch.optim.Adam, named: list[tuple[str, nn.Parameter]], recipe: Recipe) -> torch.optim.Adam:
    """Return the optimiser with its moments moved, by name, to the parameters of another model object."""
    moments = dict(zip(old.param_groups[0]["names"], old.param_groups[0]["params"], strict=True))
    new = training.adam([p for _, p in named], recipe.lr, recipe.weight_decay)
    for name, parameter in named:
        if name in moments and moments[name] in old.state:
            new.state[parameter] = old.state[moments[name]]
    return new


class Server:
    """All that a method can see at the server: no hospital's data, and no client.

    ``round``, ``rng``, ``device``, ``shares`` (client -> share of the training images), ``state`` (kept),
    ``recipe``, ``log`` (numbers for the report), ``gradients`` (per-image gradients so far in this step; add
    your own), ``public_images`` N x C x H x W in [0, 1] (float32): images without masks that are nobody's
    training or test images; often none (``TaskCard.public`` says how many beforehand).
    """

    def __init__(
        self,
        round: int,
        stage: str,
        shares: Mapping[str, float],
        state: dict[str, Any],
        setting: Setting,
        public: Tensor | None = None,
    ) -> None:
        self.round, self.shares, self.state, self.recipe = round, dict(shares), state, setting.recipe
        self.gradients = 0
        self._public = public
        self.device = torch.device(setting.numerics.device)
        self.rng = seeds.generator(setting.seed, "server", stage, round)
        self.log: dict[str, float] = {}
        self._setting = setting

    def new_model(self, weights: Mapping[str, Tensor] | None = None) -> UNet:
        """Return a model with the trial's initial weights or the given ones."""
        return self._setting.new_model(weights)

    def optimizer(self, model: nn.Module, lr: float | None = None) -> torch.optim.Adam:
        """Return a new Adam over a model, with the recipe's learning rate of this round unless given."""
        recipe = self._setting.recipe
        rate = recipe.learning_rate(max(1, self.round)) if lr is None else lr
        return training.adam(model.parameters(), rate, recipe.weight_decay)

    @property
    def public_images(self) -> Tensor:
        """All public images, un-augmented."""
        side = self._setting.recipe.image_height, self._setting.recipe.image_width
        nothing = torch.zeros((0, self._setting.channels, *side), dtype=torch.uint8, device=self.device)
        return self._setting.numerics.images(nothing if self._public is None else self._public)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a training forward pass, in the recipe's precision."""
        return self._setting.numerics.autocast()
