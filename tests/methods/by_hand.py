"""A hospital's training written out in float64: the loss, Adam, and a hook for what a method adds to a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from short_federation import SIZES, WIDTH, cases, setting
from torch import Tensor

from pflbench.sites import Client, Memory
from pflbench.unet import UNet

Weights = dict[str, Tensor]
SHARES = {name: count / sum(n for _, n in SIZES) for name, count in SIZES}
# model, images, masks -> what is minimized; the gradient of it, by entry, may be changed by `Changed`
Minimized = Callable[[UNet, Tensor, Tensor], Tensor]
Changed = Callable[[str, Tensor, Tensor], Tensor]  # entry, its weights, its gradient -> what Adam is given


def half_bce_half_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the recipe's loss from its definition."""
    p, y = torch.sigmoid(logits), masks.double()
    bce = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    dice = [(2 * (a * b).sum() + 1e-6) / (a.sum() + b.sum() + 1e-6) for a, b in zip(p, y, strict=True)]
    return 0.5 * bce + 0.5 * (1 - torch.stack(dice).mean())


def plain_loss(model: UNet, images: Tensor, masks: Tensor) -> Tensor:
    return half_bce_half_dice(model(images), masks)


def initial() -> Weights:
    """Return the common initial weights, in float64."""
    return in_double(setting().new_model().state_dict())


def in_double(weights: Weights) -> Weights:
    return {name: value.double() if value.is_floating_point() else value.clone() for name, value in weights.items()}


def model_of(weights: Weights) -> UNet:
    """Return a UNet in float64, in training mode."""
    model = UNet(3, WIDTH).double()
    model.load_state_dict(weights)
    return model


def mean_by_images(models: dict[str, Weights]) -> Weights:
    """Return the mean of all entries by training images; counters are left out."""
    entries = [name for name, value in models["Bern"].items() if value.is_floating_point()]
    return {name: sum(SHARES[c] * models[c][name] for c in models) for name in entries}


@dataclass
class Hospital:
    """One hospital of the short federation; its Adam's moments go on from round to round."""

    name: str
    count: int
    steps: int = 0
    first: Weights = field(default_factory=dict)
    second: Weights = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)  # of every round: the mean of the plain loss

    def batches(self, round: int, stream: int = 1) -> list[tuple[Tensor, Tensor]]:
        """Return the batches that the harness draws: those of the n-th call in the update of a round."""
        toy = setting()
        client = Client(self.name, round, "update", cases(self.name, self.count), Memory(toy.new_model()), toy)
        drawn = [list(client.batches()) for _ in range(stream)][-1]
        return [(images.double(), masks) for images, masks in drawn]

    def train(
        self, round: int, weights: Weights, minimized: Minimized = plain_loss, changed: Changed | None = None
    ) -> Weights:
        """Return all entries after a round's training from ``weights``."""
        model = model_of(weights)
        losses = []
        for images, masks in self.batches(round):
            gradients = self._gradients(model, images, masks, minimized)
            losses.append(self._plain_value(model, images, masks))
            self.steps += 1
            for name, parameter in model.named_parameters():
                gradient = gradients[name]
                if changed:
                    gradient = changed(name, parameter.detach().clone(), gradient)
                parameter.data -= 1e-3 * 0.99 ** (round - 1) * self._direction(name, parameter.data, gradient)
        self.losses.append(sum(losses) / len(losses))
        return dict(model.state_dict())

    def _gradients(self, model: UNet, images: Tensor, masks: Tensor, minimized: Minimized) -> Weights:
        model.zero_grad()
        minimized(model, images, masks).backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    def _plain_value(self, model: UNet, images: Tensor, masks: Tensor) -> float:
        twin = model_of(dict(model.state_dict()))  # in training mode a forward pass changes the statistics
        with torch.no_grad():
            return float(plain_loss(twin, images, masks))

    def _direction(self, name: str, weights: Tensor, gradient: Tensor) -> Tensor:
        """Return Adam's step over the learning rate: b1 = 0.9, b2 = 0.999, eps = 1e-8, L2 inside the gradient."""
        gradient = gradient + 5e-4 * weights
        zero = torch.zeros_like(gradient)
        self.first[name] = 0.9 * self.first.get(name, zero) + 0.1 * gradient
        self.second[name] = 0.999 * self.second.get(name, zero) + 0.001 * gradient**2
        mean, size = self.first[name] / (1 - 0.9**self.steps), self.second[name] / (1 - 0.999**self.steps)
        return mean / (size.sqrt() + 1e-8)


def hospitals() -> dict[str, Hospital]:
    return {name: Hospital(name, count) for name, count in SIZES}


def assert_as_by_hand(found: Weights, expected: Weights) -> None:
    """Compare float32 with float64: entries differ by less than a hundredth of one of Adam's steps of 1e-3.

    Adam divides gradients by their size, so rounding errors are in units of the step. Where the gradient is nothing
    else, at the biases that batch norm takes out again, a tenth of a step is allowed, and in the running means.
    """
    for name, value in expected.items():
        vain = name.endswith((".0.bias", "running_mean"))
        difference = float((found[name].double() - value).abs().max())
        assert difference < (1e-4 if vain else 1e-5) * max(1.0, float(value.abs().max())), (name, difference)


def apart(one: Weights, other: Weights) -> float:
    """Return the largest difference of an entry that is compared strictly."""
    return max(float((one[n] - v).abs().max()) for n, v in other.items() if not n.endswith((".0.bias", "running_mean")))
