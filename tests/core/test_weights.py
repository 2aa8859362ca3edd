"""Entries are chosen by the type of their module, averaged with the clients' shares, and loaded with care."""

from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pflbench.errors import TrialFailed
from pflbench.unet import UNet
from pflbench.weights import (
    head_keys,
    keys,
    layer,
    load,
    module_keys,
    norm_keys,
    overlay,
    parameter_keys,
    pick,
    scale_of_statistics,
    statistics_keys,
    weighted_mean,
)


class Oddly(nn.Module):
    """Normalization layers under names that say nothing, and a convolution that is called ``bn``."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.Sequential(nn.BatchNorm2d(4)))
        self.alpha = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.plain = nn.InstanceNorm2d(4)
        self.loose = nn.BatchNorm2d(4, affine=False)
        self.beta = nn.LayerNorm(4)
        self.bn = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 1, 1)

    @property
    def head(self):
        return self.last


NORM_KEYS = {
    "stem.1.weight",
    "stem.1.bias",
    "stem.2.0.weight",
    "stem.2.0.bias",
    "stem.2.0.running_mean",
    "stem.2.0.running_var",
    "alpha.weight",
    "alpha.bias",
    "alpha.running_mean",
    "alpha.running_var",
    "loose.running_mean",
    "loose.running_var",
    "beta.weight",
    "beta.bias",
}


def test_normalization_layers_are_found_by_type_whatever_they_are_called():
    assert norm_keys(Oddly()) == NORM_KEYS


def test_a_convolution_called_bn_is_no_normalization_layer():
    assert not any(name.startswith("bn.") for name in norm_keys(Oddly()))


def test_a_subclass_of_a_normalization_layer_is_one():
    class Mine(nn.BatchNorm2d):
        pass

    assert norm_keys(nn.Sequential(nn.Conv2d(1, 2, 1), Mine(2))) == {
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
    }


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.BatchNorm3d(2), nn.SyncBatchNorm(2), nn.GroupNorm(1, 2)]
)
def test_a_model_that_is_a_normalization_layer_consists_of_its_entries(norm):
    assert norm_keys(norm) == keys(norm)


def test_a_normalization_layer_used_in_two_places_is_found_under_both_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.BatchNorm2d(2)
            self.second = self.first

    assert norm_keys(Tied()) == keys(Tied())


def test_rms_norm_is_a_normalization_layer():
    assert norm_keys(nn.Sequential(nn.RMSNorm(3))) == {"0.weight"}


def test_statistics_are_the_running_means_and_variances():
    names = {name for name in NORM_KEYS if name.endswith(("running_mean", "running_var"))}
    assert statistics_keys(Oddly()) == names


def test_counters_are_not_among_the_entries():
    model = Oddly()
    assert "stem.2.0.num_batches_tracked" in model.state_dict()
    assert keys(model) == {n for n in model.state_dict() if not n.endswith("num_batches_tracked")}
    assert parameter_keys(model) == dict(model.named_parameters()).keys()
    assert keys(model) == parameter_keys(model) | statistics_keys(model)


def test_each_statistic_knows_the_scale_of_its_layer():
    assert scale_of_statistics(Oddly()) == {
        "stem.2.0.running_mean": "stem.2.0.weight",
        "stem.2.0.running_var": "stem.2.0.weight",
        "alpha.running_mean": "alpha.weight",
        "alpha.running_var": "alpha.weight",
    }


def test_each_statistic_of_a_model_that_is_one_layer_knows_its_scale():
    assert scale_of_statistics(nn.BatchNorm2d(2)) == {"running_mean": "weight", "running_var": "weight"}


def test_the_head_is_the_declared_last_layer():
    assert head_keys(Oddly()) == {"last.weight", "last.bias"}
    assert head_keys(UNet(width=1)) == {"final.weight", "final.bias"}


def test_a_model_without_a_head_is_refused():
    with pytest.raises(TrialFailed, match="Sequential declares no head"):
        head_keys(nn.Sequential(nn.Linear(1, 1)))


def test_the_entries_of_a_module_are_all_that_it_contains():
    model = Oddly()
    assert module_keys(model, model.stem) == {n for n in keys(model) if n.startswith("stem.")}
    assert module_keys(model, model.stem[2]) == {n for n in keys(model) if n.startswith("stem.2.")}
    assert module_keys(model, nn.Linear(1, 1)) == frozenset()


def test_the_unet_has_seven_normalization_layers():
    model = UNet(width=2)
    assert {layer(name) for name in norm_keys(model)} == {
        f"{stage}.1" for stage in ("enc1", "enc2", "enc3", "enc4", "dec4", "dec3", "dec2")
    }


def test_the_layer_of_an_entry_is_its_module():
    assert [layer(name) for name in ("enc1.0.weight", "final.bias", "weight")] == ["enc1.0", "final", ""]


def test_picking_keeps_the_order_of_the_weights():
    weights = {"c": torch.zeros(1), "a": torch.zeros(1), "b": torch.zeros(1)}
    assert list(pick(weights, ["b", "c", "unknown"])) == ["c", "b"]


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=6),
    st.integers(0, 2**31),
    st.sampled_from([(), (3,), (2, 3)]),
)
@settings(max_examples=50, deadline=None)
def test_the_mean_is_that_of_a_loop_in_float64(samples, seed, shape):
    rng = torch.Generator().manual_seed(seed)
    inbox = {f"c{i}": {"w": torch.randn(shape, generator=rng)} for i in range(len(samples))}
    shares = {f"c{i}": count / sum(samples) for i, count in enumerate(samples)}
    expected = torch.zeros(shape, dtype=torch.float64)
    for count, client in zip(samples, inbox, strict=True):
        expected = expected + inbox[client]["w"].double() * count
    torch.testing.assert_close(
        weighted_mean(inbox, shares)["w"].double(), expected / sum(samples), rtol=1e-5, atol=1e-6
    )


def test_shares_are_renormalized_over_those_in_the_inbox():
    inbox = {"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([4.0])}}
    mean = weighted_mean(inbox, {"a": 0.2, "b": 0.1, "absent": 0.7})
    assert mean["w"].item() == pytest.approx((0.2 * 1 + 0.1 * 4) / 0.3)


def test_the_mean_of_equal_weights_is_the_weights():
    inbox = {name: {"w": torch.full((4,), 8.0)} for name in "abcd"}
    assert weighted_mean(inbox, dict.fromkeys("abcd", 0.25))["w"].tolist() == [8.0] * 4


def test_averaging_leaves_what_was_sent_as_it_was():
    inbox = {"a": {"w": torch.ones(2)}, "b": {"w": torch.zeros(2)}}
    mean = weighted_mean(inbox, {"a": 0.5, "b": 0.5})
    mean["w"].fill_(9)
    assert inbox["a"]["w"].tolist() == [1, 1]
    assert inbox["b"]["w"].tolist() == [0, 0]


def test_a_client_that_sends_other_entries_is_named():
    inbox = {"a": {"w": torch.ones(1)}, "b": {"w": torch.ones(1), "extra": torch.ones(1)}}
    with pytest.raises(TrialFailed, match="b sent other entries than the first client: extra"):
        weighted_mean(inbox, {"a": 0.5, "b": 0.5})


@pytest.mark.parametrize(
    "silent",
    [
        "a",
        "b",
    ],
)
def test_a_client_that_sent_nothing_is_left_out_of_the_mean_or_named(silent):
    inbox = {name: {} if name == silent else {"w": torch.ones(2)} for name in ("a", "b")}
    with suppress(TrialFailed):  # refusing it is fine too
        assert weighted_mean(inbox, {"a": 0.5, "b": 0.5})["w"].tolist() == [1, 1]


def test_loading_copies_entries_and_leaves_the_others():
    model, given_weight = nn.Linear(2, 1), torch.tensor([[5.0, 6.0]])
    bias = model.bias.detach().clone()
    load(model, {"weight": given_weight})
    given_weight.zero_()
    assert model.weight.tolist() == [[5.0, 6.0]]
    assert torch.equal(model.bias, bias)
    assert model.weight.requires_grad


def test_loading_statistics_works_like_loading_parameters():
    model = nn.BatchNorm2d(2)
    load(model, {"running_mean": torch.tensor([1.0, 2.0])})
    assert model.running_mean.tolist() == [1.0, 2.0]


def test_loading_an_unknown_entry_is_refused_with_its_name():
    with pytest.raises(TrialFailed, match=r"'wieght' of shape \(1, 2\) is not in this model"):
        load(nn.Linear(2, 1), {"wieght": torch.ones(1, 2)})


def test_loading_a_misshaped_entry_is_refused_with_both_shapes():
    with pytest.raises(TrialFailed, match=r"'weight' of shape \(2, 1\) is not of shape \(1, 2\)"):
        load(nn.Linear(2, 1), {"weight": torch.ones(2, 1)})


def test_an_entry_that_would_broadcast_is_refused_too():
    with pytest.raises(TrialFailed, match="'weight'"):
        load(nn.Linear(2, 1), {"weight": torch.ones(())})


def test_an_overlay_keeps_what_is_masked_and_shares_the_rest():
    mask = {"w": torch.tensor([True, False])}
    own = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    shared = {"w": torch.tensor([10.0, 20.0]), "b": torch.tensor([30.0])}
    result = overlay(mask, own, shared)
    assert {name: value.tolist() for name, value in result.items()} == {"w": [1.0, 20.0], "b": [30.0]}


@pytest.mark.parametrize(("value", "expected"), [(True, "own"), (False, "shared")])
def test_a_full_mask_keeps_all_and_an_empty_one_nothing(value, expected):
    weights = {"own": {"w": torch.randn(5)}, "shared": {"w": torch.randn(5)}}
    result = overlay({"w": torch.full((5,), value)}, weights["own"], weights["shared"])
    assert torch.equal(result["w"], weights[expected]["w"])
