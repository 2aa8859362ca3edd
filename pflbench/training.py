"""Batches, loss, optimiser and the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pflbench.errors import TrialFailed
from pflbench.numerics import Numerics
from pflbench.recipe import Recipe
from pflbench.weights import NORMS

Batch = tuple[Tensor, Tensor]  # images N x C x H x W in [0, 1], masks N x 1 x H x W in {0, 1}, both float32
Loss = Callable[[Tensor, Tensor], Tensor]  # logits, masks -> scalar
Penalty = Callable[[nn.Module], Tensor]  # model -> scalar that is added to the loss
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, images, masks -> scalar that is minimized
SMOOTH = 1e-6  # in numerator and denominator of the soft Dice


@dataclass(frozen=True)
class BCEDice:
    """share x binary cross-entropy + (1 - share) x soft Dice loss, a mean over images.

    Cross-entropy is the mean over pixels; the Dice loss of an image is 1 - (2 sum(py) + s) / (sum(p) + sum(y) + s)
    with p = sigmoid(logits) and s = 1e-6.
    """

    share: float = 0.5

    def __call__(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Return the loss of N x 1 x H x W logits and masks, in float32."""
        logits = logits.float()
        probability = logits.sigmoid()
        overlap = (probability * masks).sum(dim=(1, 2, 3))
        total = probability.sum(dim=(1, 2, 3)) + masks.sum(dim=(1, 2, 3))
        dice = 1 - ((2 * overlap + SMOOTH) / (total + SMOOTH)).mean()
        return self.share * F.binary_cross_entropy_with_logits(logits, masks) + (1 - self.share) * dice


def batches(
    images: Tensor, masks: Tensor, recipe: Recipe, numerics: Numerics, epochs: int, rng: torch.Generator
) -> Iterator[Batch]:
    """Yield augmented batches of every epoch, each a fresh order of all uint8 images; the last one may be smaller."""
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=rng)
        for start in range(0, len(order), recipe.batch):
            chosen = order[start : start + recipe.batch]
            moves = torch.randint(2, (len(chosen), 3), generator=rng).tolist()
            yield _batch(images, masks, chosen.tolist(), moves, recipe, numerics)


def _batch(
    images: Tensor,
    masks: Tensor,
    chosen: list[int],
    moves: list[list[int]],
    recipe: Recipe,
    numerics: Numerics,
) -> Batch:
    if recipe.augment == "none":
        moves = [[0, 0, 0]] * len(chosen)
    elif recipe.augment == "flips":
        moves = [[across, down, 0] for across, down, _ in moves]
    pixels = torch.stack([_moved(images[i], *move) for i, move in zip(chosen, moves, strict=True)])
    labels = torch.stack([_moved(masks[i], *move) for i, move in zip(chosen, moves, strict=True)])
    return numerics.images(pixels), labels.float()


def _moved(pixels: Tensor, across: int, down: int, turn: int) -> Tensor:
    """Return a C x H x W image flipped left-right, upside down and turned by 90 degrees, each if 1."""
    axes = [axis for axis, flip in ((2, across), (1, down)) if flip]
    pixels = pixels.flip(axes) if axes else pixels
    return pixels.rot90(1, (1, 2)) if turn else pixels


def adam(parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Adam:
    """Return Adam as in the paper's protocol; the fused kernel is the same formula in one pass."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Iterable[Batch],
    loss: Loss,
    numerics: Numerics,
    *,
    only: frozenset[str] | None = None,
    penalty: Penalty | None = None,
    objective: Objective | None = None,
) -> tuple[float, int]:
    """Train a model and return (mean loss without the penalty, images seen).

    ``objective`` stands for the loss of the model's logits. With ``only``, the other entries are frozen, and
    normalization layers without a trained entry use and keep their running statistics. Raises TrialFailed naming
    the step where what is minimized is not finite.
    """
    losses: list[Tensor] = []
    minimized: list[Tensor] = []
    seen = 0
    with _trainable(model, only):
        for images, masks in data:
            optimizer.zero_grad(set_to_none=True)
            value = _value(model, images, masks, loss, objective, numerics)
            losses.append(value.detach())
            if penalty is not None:
                value = value + penalty(model)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            minimized.append(value.detach())
            seen += len(images)
    _check_finite(minimized)
    return _mean(losses), seen


def _value(
    model: nn.Module, images: Tensor, masks: Tensor, loss: Loss, objective: Objective | None, numerics: Numerics
) -> Tensor:
    with numerics.autocast():
        if objective is not None:
            return objective(model, images, masks)
        logits = model(images)
    return loss(logits, masks)


def _check_finite(losses: list[Tensor]) -> None:
    """Raise TrialFailed for the first that is not finite; once, because looking at every step would stall a GPU."""
    finite = torch.isfinite(torch.stack(losses)) if losses else torch.ones(1, dtype=torch.bool)
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0]) + 1
        raise TrialFailed(f"the training loss is not finite at step {step} of {len(losses)}; try a lower recipe.lr.")


def _mean(losses: list[Tensor]) -> float:
    return float(torch.stack(losses).double().mean()) if losses else float("nan")


class _trainable:
    """Freeze all entries but ``only`` and set training mode; leaving restores both."""

    def __init__(self, model: nn.Module, only: frozenset[str] | None) -> None:
        self.model, self.only = model, only

    def __enter__(self) -> None:
        self.was_training = self.model.training
        self.frozen: list[nn.Parameter] = []
        self.model.train()
        if self.only is None:
            return
        for name, parameter in self.model.named_parameters():
            if name not in self.only and parameter.requires_grad:
                parameter.requires_grad_(False)
                self.frozen.append(parameter)
        for module in self.model.modules():
            if isinstance(module, NORMS) and not any(p.requires_grad for p in module.parameters()):
                module.eval()

    def __exit__(self, *error: object) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(True)
        self.model.train(self.was_training)
