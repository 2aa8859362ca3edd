"""The portrait of a federation: how its clients look, and how far they lie apart, in numbers without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pflbench.errors import UsageError
from pflbench.heterogeneity import Floats, Heterogeneity, Traits, heterogeneity, verdict

Pixels = NDArray[np.uint8]

LEVELS = 256
BINS = 64  # of a histogram: four grey levels each
LOW = 0.05  # frequencies are low up to this share of the shorter side: a choice; pFL-ResFIM's own window lies within
SAMPLES = 3


@dataclass(frozen=True, eq=False)
class Holding:
    """What one client trains on: ``images`` N x C x H x W and ``masks`` N x 1 x H x W, uint8, foreground above 0.

    ``subjects`` says of whom each case is, unique within the client: halves of a client never share a subject.
    """

    images: Pixels
    masks: Pixels
    cases: Sequence[str]
    subjects: Sequence[str]


@dataclass(frozen=True, eq=False)
class Sample:
    """One case to look at: ``image`` C x H x W, ``mask`` H x W, uint8, and its share of foreground."""

    case: str
    image: Pixels
    mask: Pixels
    foreground: float


@dataclass(frozen=True, eq=False)
class ClientPortrait:
    """How one client's cases look. Grey levels are 0-255, densities per grey level; log is to the base 10."""

    name: str
    cases: tuple[str, ...]
    subjects: int
    mean: Floats  # C
    sd: Floats  # C, over all pixels
    histogram: Floats  # 64: density of the mean of the channels
    channel_histograms: Floats  # C x 64
    spectrum: Floats  # C x (2b+1) x (2b+1): mean log amplitude, the zero frequency in the centre
    radial: Floats  # mean log amplitude on rings of 0, 1, 2, ... cycles per shorter side, over channels and cases
    foreground: Floats  # share of each case
    foreground_summary: Mapping[str, float]  # min, q1, median, q3, max, mean
    samples: tuple[Sample, ...]


@dataclass(frozen=True, eq=False)
class Portrait:
    """A federation in numbers: ``heterogeneity`` by measure (intensity, spectra, foreground)."""

    title: str
    simulated: bool
    low_frequency: int  # b: the compared window of spectra reaches from frequency -b to +b
    clients: tuple[ClientPortrait, ...]
    heterogeneity: Mapping[str, Heterogeneity]
    verdict: str

    def plain(self) -> dict[str, Any]:
        """Return everything as dicts, tuples, arrays, numbers and words, for a report that knows no core."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Measured:
    """What is kept of each case of one client."""

    traits: Traits
    grey: Floats  # N x 256: share of pixels of each level of the mean of the channels
    radial: Floats  # N x rings


def portray(holdings: Mapping[str, Holding], title: str = "", simulated: bool = False) -> Portrait:
    """Return the portrait of client -> what it holds. A client's numbers depend on no other client.

    Raises UsageError where a client holds nothing or images differ in shape.
    """
    _check(holdings)
    measured = {name: _measure(holding) for name, holding in holdings.items()}
    clients = tuple(_client(name, holding, measured[name]) for name, holding in holdings.items())
    found = heterogeneity({name: (measured[name].traits, holding.subjects) for name, holding in holdings.items()})
    words = verdict(found, {client.name: client.subjects for client in clients})
    return Portrait(title, simulated, clients[0].spectrum.shape[-1] // 2, clients, found, words)


def _check(holdings: Mapping[str, Holding]) -> None:
    if not holdings:
        raise UsageError("there is no client to portray; choose sites and a partitioner that give cases to one.")
    shapes = {name: holding.images.shape[1:] for name, holding in holdings.items()}
    if len(set(shapes.values())) > 1:
        listing = ", ".join(f"{name}: {' x '.join(map(str, shape))}" for name, shape in shapes.items())
        raise UsageError(f"clients have images of different shapes ({listing}); resize them to one first.")
    for name, holding in holdings.items():
        count, expected = len(holding.images), (len(holding.images), 1, *holding.images.shape[2:])
        if not count:
            raise UsageError(f"client {name!r} has no training case to portray; leave it out or give it cases.")
        if holding.masks.shape != expected or len(holding.cases) != count or len(holding.subjects) != count:
            raise UsageError(
                f"client {name!r} has {count} images, masks of shape {holding.masks.shape}, {len(holding.cases)} case "
                f"ids and {len(holding.subjects)} subjects; give one of each per image, masks of shape {expected}."
            )


def _measure(holding: Holding) -> _Measured:
    """Measure case by case: memory does not grow with the images, which may lie on disk."""
    rings = _rings(*holding.images.shape[2:])
    rows = [_one(np.asarray(image), rings) for image in holding.images]
    levels, grey, spectra, radial = (np.stack(column) for column in zip(*rows, strict=True))
    foreground = np.array([np.count_nonzero(mask) / mask.size for mask in holding.masks])
    return _Measured(Traits(levels, spectra, foreground), grey, radial)


def _one(image: Pixels, rings: NDArray[np.intp]) -> tuple[Floats, Floats, Floats, Floats]:
    channels = len(image)
    # rounded half up, in integers: a change of all channels by k changes the mean by exactly k
    grey = (image.sum(axis=0, dtype=np.int64) + channels // 2) // channels
    log = log_amplitude(image)
    b = low_frequency(*image.shape[1:])
    window = np.arange(-b, b + 1)
    ring_means = np.bincount(rings.ravel(), log.mean(axis=0).ravel()) / np.bincount(rings.ravel())
    profile = ring_means[: min(image.shape[1:]) // 2 + 1]  # beyond, rings are cut by the corners
    return np.stack([_shares(plane) for plane in image]), _shares(grey), log[:, window[:, None], window], profile


def _shares(plane: NDArray[Any]) -> Floats:
    """Return the share of pixels of each grey level."""
    return np.bincount(plane.ravel(), minlength=LEVELS) / plane.size


def low_frequency(height: int, width: int) -> int:
    """Return b: frequencies from -b to +b are low, b = floor(min(H, W) * 0.05), at least 1."""
    return max(1, math.floor(min(height, width) * LOW))


def log_amplitude(image: NDArray[Any]) -> Floats:
    """Return log10 |FFT2(x)| / (H W) of each channel, in grey levels: C x H x W, the zero frequency first.

    Amplitudes below what rounding to whole grey levels leaves (sqrt(1/12) per pixel) count as that: the
    logarithm of less says nothing about a picture, and that of zero nothing at all.
    """
    pixels = image.shape[-2] * image.shape[-1]
    amplitude: Floats = np.abs(np.fft.fft2(image.astype(np.float64))) / pixels
    return np.log10(np.maximum(amplitude, math.sqrt(1 / 12 / pixels)))


def _rings(height: int, width: int) -> NDArray[np.intp]:
    """Return the ring of each frequency: whole cycles per shorter side, the same length in both directions."""
    down, across = np.fft.fftfreq(height), np.fft.fftfreq(width)
    rings: NDArray[np.intp] = np.rint(np.hypot(down[:, None], across) * min(height, width)).astype(np.intp)
    return rings


def _client(name: str, holding: Holding, measured: _Measured) -> ClientPortrait:
    traits = measured.traits
    levels = traits.levels.mean(axis=0)
    mean = levels @ np.arange(LEVELS)
    variance = (levels * (np.arange(LEVELS) - mean[:, None]) ** 2).sum(axis=1)
    return ClientPortrait(
        name=name,
        cases=tuple(holding.cases),
        subjects=len(set(holding.subjects)),
        mean=mean,
        sd=np.sqrt(variance),
        histogram=_density(measured.grey.mean(axis=0)),
        channel_histograms=_density(levels),
        spectrum=traits.spectra.mean(axis=0),
        radial=measured.radial.mean(axis=0),
        foreground=traits.foreground,
        foreground_summary=_summary(traits.foreground),
        samples=_samples(holding, traits.foreground),
    )


def _density(shares: Floats) -> Floats:
    """Return ... x 64 densities per grey level out of ... x 256 shares."""
    width = LEVELS // BINS
    densities: Floats = shares.reshape(*shares.shape[:-1], BINS, width).sum(axis=-1) / width
    return densities


def _summary(foreground: Floats) -> dict[str, float]:
    words = ("min", "q1", "median", "q3", "max")
    quartiles = np.quantile(foreground, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return {**dict(zip(words, quartiles, strict=True)), "mean": float(foreground.mean())}


def _samples(holding: Holding, foreground: Floats) -> tuple[Sample, ...]:
    """Choose cases spread over the shares of foreground: the middles of equal parts, from little to much."""
    order = np.argsort(foreground, kind="stable")
    count = min(SAMPLES, len(order))
    chosen = [int(order[(2 * part + 1) * len(order) // (2 * count)]) for part in range(count)]
    return tuple(
        Sample(holding.cases[i], np.array(holding.images[i]), np.array(holding.masks[i, 0]), float(foreground[i]))
        for i in chosen
    )
