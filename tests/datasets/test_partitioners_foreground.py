"""Clients that differ in the size of their lesions: subjects divided by the share of the image that the mask takes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from pflbench.api import Case, UsageError
from pflbench_datasets.mixtures import Dirichlet, Iid


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def lesions(count, seed=1, images=1):
    """Return subjects with an official split whose masks take evenly spread shares of the image."""
    shares = np.linspace(0.0, 0.4, count)
    order = rng(seed).permutation(count)
    kinds = ["test" if n % 4 == 0 else "train" for n in range(count)]
    return [
        Case(f"A/{n}-{i}", "A", f"{n}", kinds[rank], foreground=float(shares[rank]) + 0.001 * (i - (images - 1) / 2))
        for n, rank in enumerate(order)
        for i in range(images)
    ]


def spread_of_foreground(alpha, draws=8):
    """Return the standard deviation of the clients' mean foreground, over several draws."""
    partitioner = Dirichlet(clients=4, alpha=alpha, over="foreground", at_least=2)
    dealt = [partitioner.assign(lesions(200), rng(seed)) for seed in range(draws)]
    return float(np.mean([np.std([np.mean([c.foreground for c in mine]) for mine in d.values()]) for d in dealt]))


def test_over_foreground_small_alpha_gives_clients_lesions_of_unlike_size_and_large_alpha_does_not():
    # Shares are uniform on 0-0.4 (standard deviation 0.115). Equal draws of 50 from every bin leave bin-wise noise
    # only: 0.023 / sqrt(50) = 0.003.
    assert spread_of_foreground(1e6) < 2 * 0.0033
    assert spread_of_foreground(0.1) > 0.05


def test_only_over_foreground_are_masks_asked_for():
    assert Dirichlet(over="foreground").wants_foreground()
    assert not Dirichlet().wants_foreground()
    assert not Iid().wants_foreground()


def test_the_bins_of_foreground_hold_equally_many_subjects_and_each_is_divided_evenly_by_a_large_alpha():
    cases = [replace(case, split=None) for case in lesions(80)]
    ranks = {case.id: rank for rank, case in enumerate(sorted(cases, key=lambda case: case.foreground))}
    for mine in Dirichlet(clients=4, alpha=1e7, over="foreground", bins=5).assign(cases, rng()).values():
        assert Counter(ranks[case.id] // 16 for case in mine) == dict.fromkeys(range(5), 4)


def test_a_subject_s_bin_is_that_of_its_mean_foreground():
    """Two of four kinds of subject have the smaller lesions; their first images alone would say other two."""
    shares = {"small": (0.3, 0.0), "smaller": (0.0, 0.2), "large": (0.1, 0.5), "larger": (0.4, 0.6)}
    cases = [
        Case(f"A/{name}{n}-{i}", "A", f"{name}{n}", foreground=share)
        for name, pair in shares.items()
        for n in range(8)
        for i, share in enumerate(pair)
    ]
    for mine in Dirichlet(clients=4, alpha=1e7, over="foreground", bins=2).assign(cases, rng()).values():
        assert Counter(case.subject.startswith("small") for case in mine) == {True: 8, False: 8}


def test_test_subjects_follow_training_subjects_bin_by_bin():
    cases = lesions(400)
    edges = np.quantile([case.foreground for case in cases], [0.25, 0.5, 0.75])
    of_bin = Counter((int(np.searchsorted(edges, c.foreground)), c.split) for c in cases)
    for mine in Dirichlet(clients=3, alpha=0.5, over="foreground", bins=4).assign(cases, rng(2)).values():
        held = Counter((int(np.searchsorted(edges, c.foreground)), c.split) for c in mine)
        for number in range(4):
            expected = held[number, "train"] * of_bin[number, "test"] / of_bin[number, "train"]
            assert abs(held[number, "test"] - expected) < 1


def test_an_image_s_other_images_go_with_it_over_foreground():
    dealt = Dirichlet(clients=3, alpha=0.2, over="foreground").assign(lesions(60, images=3), rng())
    assert all(set(Counter(case.subject for case in mine).values()) == {3} for mine in dealt.values())
    assert sum(len(mine) for mine in dealt.values()) == 180


def test_unknown_foreground_is_refused():
    cases = lesions(60)
    cases[7] = replace(cases[7], foreground=None)
    with pytest.raises(UsageError, match=r"subject '7' of A is not known; set dirichlet\.over=site"):
        Dirichlet(clients=2, over="foreground").assign(cases, rng())


@pytest.mark.parametrize("wrong", [{"bins": 1}, {"over": "colour"}])
def test_parameters_over_foreground_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=r"dirichlet\."):
        Dirichlet(**wrong)
