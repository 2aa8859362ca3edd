"""Finding a training image or mask in a message, also where it was scaled, shifted, inverted or rearranged."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pflbench.message import Message, tensors
from pflbench.sites import TrainingData

_ALIKE = 0.99  # correlation above which a run of numbers is taken for an image


def contains_image(message: Message, data: TrainingData) -> str | None:
    """Return the path of a tensor that holds a training image, one channel of it, or a mask, or None.

    Looked for is a run of numbers that correlates with the pixels, row by row, whatever their scale: the image as
    C x H x W or H x W x C, in [0, 255], in [0, 1], standardized, inverted, or rounded to few bits.
    """
    patterns = [torch.stack(group) for group in _patterns(data).values() if group]
    for path, value in tensors(message):
        flat = value.detach().cpu().double().reshape(-1)
        if any(len(flat) >= wanted.shape[1] and _alike(flat, wanted) for wanted in patterns):
            return path
    return None


def _patterns(data: TrainingData) -> dict[int, list[Tensor]]:
    """Return length -> what is looked for: centred, of length 1; what is the same everywhere cannot be known again."""
    found: dict[int, list[Tensor]] = {}
    for wanted in _forms(data):
        centred = wanted.double().reshape(-1)
        centred = centred - centred.mean()
        if centred.norm() > 0:
            found.setdefault(len(centred), []).append(centred / centred.norm())
    return found


def _forms(data: TrainingData) -> Iterator[Tensor]:
    for image, mask in zip(data.images.cpu(), data.masks.cpu(), strict=True):
        yield from (image, image.movedim(0, -1), *image, mask)


def _alike(flat: Tensor, wanted: Tensor) -> bool:
    """Say whether some window of ``flat`` correlates with a row of ``wanted`` (K x n), either way round."""
    count = wanted.shape[1]
    flat = flat - flat.mean()
    size = 1 << (len(flat) - 1).bit_length()  # quicker than any other length
    products = torch.fft.irfft(torch.fft.rfft(flat, n=size) * torch.fft.rfft(wanted, n=size).conj(), n=size)
    products = products[:, : len(flat) - count + 1]  # the windows that do not run over the end
    spread = _window_sums(flat.square(), count) - _window_sums(flat, count).square() / count
    varied = spread > 1e-9 * spread.max().clamp_min(torch.finfo(torch.float64).tiny)
    return bool(((products.abs() > _ALIKE * spread.clamp_min(0).sqrt()) & varied).any())


def _window_sums(flat: Tensor, count: int) -> Tensor:
    total = torch.cat([flat.new_zeros(1), flat.cumsum(0)])
    return total[count:] - total[:-count]
