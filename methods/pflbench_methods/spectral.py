"""Spectral transfer: give an image the low-frequency amplitudes, and so the style, of another (FDA).

Yang, Soatto: FDA: Fourier Domain Adaptation for Semantic Segmentation. CVPR 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fft import fft2, ifft2

from pflbench.api import Inbox, Outbox


def half_width(height: int, width: int, beta: float) -> int:
    """Return b = floor(min(H, W) * beta): the window reaches from frequency -b to +b."""
    b = math.floor(min(height, width) * beta)
    if not 0 <= 2 * b + 1 <= min(height, width):
        raise ValueError(
            f"beta = {beta} asks for frequencies up to {b} of {height} x {width} images; take it below 0.5."
        )
    return b


def low_frequency(images: Tensor, beta: float) -> Tensor:
    """Return the amplitudes of the lowest frequencies of each channel, the zero frequency in the centre.

    N x C x H x W images -> N x C x (2b+1) x (2b+1) windows |FFT2(x)|, b = floor(min(H, W) * beta). It is all
    that spectral transfer ever uses of a spectrum: at 256 x 256 and beta 0.01, 75 numbers instead of 196,608.
    """
    height, width = images.shape[-2:]
    b = half_width(height, width, beta)
    return _window(_spectrum(images), b).abs()


def spectral_transfer(images: Tensor, windows: Tensor, clip: tuple[float, float] | None = (0.0, 1.0)) -> Tensor:
    """Return the images with the amplitudes of their lowest frequencies replaced by ``windows``, phases kept.

    ``images`` N x C x H x W, ``windows`` N x C x (2b+1) x (2b+1) as from ``low_frequency``. The result is
    clipped to the valid range. Computed as x + IFFT2((A' - A) e^(i phase)) on the window alone: the same as
    replacing and transforming back, but exact where the amplitudes agree. The centred window keeps the
    spectrum Hermitian, so the result is real.
    """
    side = windows.shape[-1]
    if (
        windows.shape[:-2] != images.shape[:-2]
        or windows.shape[-2] != side
        or side % 2 == 0
        or side > min(images.shape[-2:])
    ):
        raise ValueError(
            f"windows of shape {tuple(windows.shape)} do not fit images of shape {tuple(images.shape)}: one square "
            "window of odd side, no larger than the image, for each image and channel."
        )
    b = side // 2
    spectrum = _window(_spectrum(images), b)
    amplitude = spectrum.abs()
    # the phase of a vanishing coefficient is taken as 0, as atan2(0, 0) is
    phase = torch.where(amplitude > 0, spectrum / amplitude.clamp(min=torch.finfo(amplitude.dtype).tiny), 1)
    height, width = images.shape[-2:]
    rows, columns = _frequencies(b, height, images.device), _frequencies(b, width, images.device)
    change = torch.zeros(images.shape, dtype=phase.dtype, device=images.device)
    change[..., rows[:, None], columns] = (windows - amplitude) * phase
    restyled: Tensor = images + ifft2(change).real
    return restyled if clip is None else restyled.clamp(*clip)


def windows_of_others(inbox: Inbox) -> Outbox:
    """Return for every client the ``windows`` that each other one sent: client -> other client -> its windows."""
    windows = {client: message["windows"] for client, message in inbox.items()}
    return {client: {other: w for other, w in windows.items() if other != client} for client in inbox}


def _spectrum(images: Tensor) -> Tensor:
    """Return FFT2(x); of contiguous images, because else its last digits depend on how many there are."""
    spectrum: Tensor = fft2(images.contiguous())
    return spectrum


def _frequencies(b: int, size: int, device: torch.device) -> Tensor:
    """Return where the frequencies -b .. b lie in an FFT of a given size."""
    return torch.arange(-b, b + 1, device=device) % size


def _window(spectrum: Tensor, b: int) -> Tensor:
    rows = _frequencies(b, spectrum.shape[-2], spectrum.device)
    columns = _frequencies(b, spectrum.shape[-1], spectrum.device)
    return spectrum[..., rows[:, None], columns]
