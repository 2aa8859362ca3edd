"""One step at one hospital, without a federation; and the same batches again, in float64, to recompute it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from short_federation import cases, setting
from torch import Tensor, nn

from pflbench.api import UNet
from pflbench.sites import Client, Memory


def hospital(
    count: int = 2,
    *,
    name: str = "Bern",
    briefing: dict[str, Any] | None = None,
    model: nn.Module | None = None,
    stage: str = "update",
    **changes: Any,
) -> Client:
    """Return a client in round 1 with so many toy images; two of them are one batch."""
    toy = setting(**changes)
    own: Any = toy.new_model() if model is None else model
    memory = Memory(own, briefing=briefing or {})
    return Client(name, 1, stage, cases(name, count), memory, toy)


def same_batches(count: int = 2, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    """Return the batches that a hospital's first training of a step sees."""
    return [(images.double(), masks.double()) for images, masks in hospital(count, **changes).batches()]


def in_double(model: nn.Module) -> Any:
    """Return a copy in float64, in training mode."""
    return copy.deepcopy(model).double().train()


def taken(model: nn.Module) -> dict[str, Tensor]:
    """Return the gradients of the last training step, by parameter."""
    return {name: parameter.grad.double() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare to 1e-4 of each parameter's largest entry; biases before batch norm have none but rounding."""
    assert found.keys() == expected.keys()
    overall = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        allowed = 1e-4 * float(value.abs().max()) + 1e-5 * overall
        assert float((found[name] - value).abs().max()) <= allowed, name


def initial_model() -> UNet:
    """Return the model that every hospital starts from."""
    return setting().new_model()


class Recorder(nn.Module):
    """A model of one weight that remembers every image it is given; for a UNet's ``features`` and ``head`` too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.seen: list[Tensor] = []

    def features(self, images: Tensor) -> Tensor:
        """Return scaled images."""
        self.seen.append(images.detach().clone())
        return images * self.weight

    def head(self, features: Tensor) -> Tensor:
        """Return the mean channel."""
        return features.mean(1, keepdim=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.features(images))
