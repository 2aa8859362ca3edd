"""FedBN, SiloBN and AdaBN are skipped where the model has nothing that sets them apart from FedAvg."""

import pytest
from short_federation import SIDE, SIZES
from torch import nn

from pflbench.api import TaskCard
from pflbench_methods.adabn import AdaBN
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedbn import FedBN
from pflbench_methods.siobn import SiloBN

CARD = TaskCard("toy", dict(SIZES), 3, SIDE, SIDE, epochs=1, rounds=2)
SENTENCE = "the model has no batch norm, so it would be FedAvg."
METHODS = [FedBN(), SiloBN(), AdaBN()]


def stage(norm):
    """Return a class that is called like the UNet: a convolution, then the normalization that is asked for."""
    return lambda channels, width: nn.Sequential(nn.Conv2d(channels, 4 * width, 3), norm(4 * width))


@pytest.fixture
def looked_at(monkeypatch):
    return lambda norm: monkeypatch.setattr("pflbench_methods.norms.UNet", stage(norm))


def by_name(method):
    return method.name


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_they_suit_the_shared_model_and_any_other_with_batch_norm(method, looked_at):
    assert method.unsuitable(CARD) is None
    looked_at(nn.BatchNorm2d)
    assert method.unsuitable(CARD) is None


@pytest.mark.parametrize("method", METHODS, ids=by_name)
def test_without_batch_norm_they_would_share_what_fedavg_shares_and_say_so(method, looked_at):
    looked_at(nn.Identity)
    assert method.unsuitable(CARD) == SENTENCE
    model = stage(nn.Identity)(3, 1)
    assert method.shared(model) == FedAvg().shared(model)


def test_a_normalization_without_statistics_leaves_fedbn_its_scale_and_shift_and_the_others_nothing(looked_at):
    looked_at(lambda channels: nn.GroupNorm(2, channels))
    assert FedBN().unsuitable(CARD) is None
    assert SiloBN().unsuitable(CARD) == AdaBN().unsuitable(CARD) == SENTENCE
