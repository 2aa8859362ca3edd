"""How far clients lie apart in intensity, spectra and foreground, against how far halves of one client do."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

Floats = NDArray[np.float64]

DRAWS = 20  # random halves of each client
# Times as far between clients as within. Simulated, of two equal clients: one pair in eight exceeds 1.5 by chance in
# some measure, at most one in twenty 2; six equal clients hardly ever exceed 1.5.
CLEAR, SLIGHT = 2.0, 1.5
FEW = 5  # subjects: of fewer, two halves say little about the client


@dataclass(frozen=True, eq=False)
class Traits:
    """The cases (N) of a client in numbers."""

    levels: Floats  # N x C x 256: share of pixels of each grey level
    spectra: Floats  # N x C x (2b+1) x (2b+1): log10 amplitudes of low frequencies
    foreground: Floats  # N: share of the mask

    def part(self, cases: NDArray[np.bool_]) -> Traits:
        """Return some of the cases."""
        return Traits(self.levels[cases], self.spectra[cases], self.foreground[cases])


def intensity(one: Traits, other: Traits) -> float:
    """Return the Wasserstein-1 distance of grey levels, mean over channels: a tint counts, not only brightness."""
    gap = np.cumsum(one.levels.mean(axis=0) - other.levels.mean(axis=0), axis=-1)
    return float(np.abs(gap).sum(axis=-1).mean())


def spectra(one: Traits, other: Traits) -> float:
    """Return the root mean square difference of the mean log10 amplitudes at low frequencies."""
    return float(np.sqrt(np.mean((one.spectra.mean(axis=0) - other.spectra.mean(axis=0)) ** 2)))


def foreground(one: Traits, other: Traits) -> float:
    """Return the Wasserstein-1 distance of the cases' shares of foreground, in percentage points."""
    return float(wasserstein_distance(100 * one.foreground, 100 * other.foreground))


MEASURES: Mapping[str, tuple[str, Callable[[Traits, Traits], float]]] = {
    "intensity": ("grey levels", intensity),
    "spectra": ("decades", spectra),
    "foreground": ("percentage points", foreground),
}


@dataclass(frozen=True, eq=False)
class Heterogeneity:
    """How far the clients (K) lie apart in one measure.

    ``distances`` K x K is measured between all cases of two clients. Chance alone keeps it above zero; how
    far is seen where nothing differs, between two halves of one client. So ``halves`` K x K is the mean
    distance between random halves, of two clients or, on the diagonal, of one (NaN where a client has one
    subject): all its entries rest on about as few cases and can be compared. ``reference`` K x K is what two
    clients without any difference would have there, the root mean square of their own. ``ratio`` is the
    mean of halves over pairs by the mean of reference over pairs, NaN where nothing can be compared. It
    says whether a difference is more than chance, and grows with the number of subjects; how large the
    difference is, the distances say.
    """

    unit: str
    distances: Floats
    halves: Floats
    reference: Floats
    ratio: float

    @property
    def between(self) -> float:
        """Return the mean of halves over pairs of clients, NaN where there is no pair."""
        return _mean(self.halves[np.triu_indices(len(self.halves), k=1)].tolist())


def heterogeneity(clients: Mapping[str, tuple[Traits, Sequence[str]]]) -> dict[str, Heterogeneity]:
    """Return measure -> how far the clients lie apart; a client is its cases' traits and their subjects."""
    whole = [traits for traits, _ in clients.values()]
    halved = [halves_of(name, traits, subjects) for name, (traits, subjects) in clients.items()]
    return {measure: _compared(unit, distance, whole, halved) for measure, (unit, distance) in MEASURES.items()}


def halves_of(name: str, traits: Traits, subjects: Sequence[str]) -> list[tuple[Traits, ...]]:
    """Draw pairs of halves of a client, by subject: two eyes, or slices of a volume, are no two witnesses.

    Halves have equally many subjects, an odd one is left out. A client with one subject is given whole, once
    each time.
    """
    people = np.array(sorted(set(subjects)))
    half = len(people) // 2
    if not half:
        return [(traits,)] * DRAWS
    rng = np.random.default_rng(zlib.crc32(name.encode()))  # its own: other clients do not change the numbers
    draws = [rng.permutation(people) for _ in range(DRAWS)]
    return [
        (traits.part(np.isin(subjects, drawn[:half])), traits.part(np.isin(subjects, drawn[half : 2 * half])))
        for drawn in draws
    ]


def _compared(
    unit: str,
    distance: Callable[[Traits, Traits], float],
    whole: Sequence[Traits],
    halved: Sequence[Sequence[tuple[Traits, ...]]],
) -> Heterogeneity:
    count = len(whole)
    distances = np.zeros((count, count))
    halves = np.diag([_mean([distance(*pair) for pair in own if len(pair) == 2]) for own in halved])
    for a, b in combinations(range(count), 2):
        distances[a, b] = distances[b, a] = distance(whole[a], whole[b])
        draws = zip(halved[a], halved[b], strict=True)
        halves[a, b] = halves[b, a] = _mean([distance(x, y) for draw in draws for x, y in zip(*draw, strict=False)])
    squares = np.diagonal(halves) ** 2
    reference = np.sqrt((squares[:, None] + squares) / 2)
    return Heterogeneity(unit, distances, halves, reference, _ratio(halves, reference))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _ratio(halves: Floats, reference: Floats) -> float:
    pairs = np.triu(np.isfinite(reference), k=1)
    between, within = float(halves[pairs].sum()), float(reference[pairs].sum())
    if not pairs.any():
        return math.nan
    if within == 0:  # every client's cases agree: with each other's too, or not
        return math.inf if between > 0 else 1.0
    return between / within


def verdict(found: Mapping[str, Heterogeneity], subjects: Mapping[str, int]) -> str:
    """Say in words what measure -> heterogeneity allows one to expect; ``subjects`` counts each client's."""
    if len(subjects) < 2:
        return "There is one client only: nothing to compare, nothing to personalize."
    known = {measure: item for measure, item in found.items() if not math.isnan(item.ratio)}
    unknown = [measure for measure in found if measure not in known]
    sentences = [*_finding(known), *_meaning({measure: item.ratio for measure, item in known.items()})]
    if unknown:
        sentences.append(f"Nothing can be said about {_listed(unknown)}: it takes two clients of two subjects each.")
    if few := sum(count < FEW for count in subjects.values()):
        who = "1 client has" if few == 1 else f"{few} clients have"
        sentences.append(f"{who} fewer than {FEW} subjects, so the comparison with halves is rough.")
    return " ".join(
        [
            *sentences,
            "How annotators differ is not measured, and only trained models tell whether personalization pays.",
        ]
    )


def _finding(known: Mapping[str, Heterogeneity]) -> list[str]:
    if not known:
        return []
    sizes = _listed([f"{_short(item.between)} {item.unit} ({measure})" for measure, item in known.items()])
    times = _listed(
        [f"{item.ratio:.1f}" if math.isfinite(item.ratio) else "infinitely many" for item in known.values()]
    )
    return [f"Halves of different clients lie {sizes} apart, {times} times as far as halves of one client."]


def _meaning(ratios: Mapping[str, float]) -> list[str]:
    clear = [measure for measure, ratio in ratios.items() if ratio >= CLEAR]
    slight = [measure for measure, ratio in ratios.items() if SLIGHT <= ratio < CLEAR]
    if clear:
        return [
            f"That is clearly more than chance ({CLEAR:g} times or more) in {_listed(clear)}: personalization can pay."
        ]
    if slight:
        limits = f"{SLIGHT:g} to {CLEAR:g} times"
        return [f"That is little more than chance ({limits}) in {_listed(slight)}: personalization may pay a little."]
    none = f"That is no more than chance gives (below {SLIGHT:g} times): expect little from personalization."
    return [none] if ratios else []


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 9.5 else f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
