"""Limits in which a method must become another one, byte for byte, over whole federations."""

import json
import math

import numpy as np
import pytest
import torch
from short_federation import (
    ENTRIES,
    HEAD,
    NORMS,
    PARAMETERS,
    SIDE,
    SIZES,
    STATISTICS,
    P,
    cases,
    play,
    played,
    setting,
)

from pflbench.sites import TrainingData
from pflbench_methods.fedavg import FedAvg
from pflbench_methods.fedbn import FedBN
from pflbench_methods.fedper import FedPer
from pflbench_methods.local import Local
from pflbench_methods.resfim import ResFIM
from pflbench_methods.siobn import SiloBN
from pflbench_methods.spectral import low_frequency, spectral_transfer

CLIENTS = [name for name, _ in SIZES]
ONE = (("Bern", 5),)
LAST_DECODER = {name for name in ENTRIES if name.startswith("dec2.")}


def differing(one, other):
    """Return the names of the entries, counters included, that are not the same byte for byte."""
    assert list(one) == list(other)
    return {name for name in one if not torch.equal(one[name], other[name])}


def apart_between_clients(after):
    """Return the floating-point entries that differ between at least two clients, and between all pairs."""
    pairs = [("Bern", "Lyon"), ("Lyon", "Oslo"), ("Bern", "Oslo")]
    found = [differing(after.models[a], after.models[b]) & set(ENTRIES) for a, b in pairs]
    return set.union(*found), set.intersection(*found)


def assert_same_models(one, other, but=frozenset()):
    for client in one.models:
        assert differing(one.models[client], other.models[client]) == set(but), client


# pFL-ResFIM at its limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_resfim_that_keeps_nothing_is_fedavg(seed):
    assert_same_models(played(ResFIM(delta=0, statistics="averaged"), 3, seed=seed), played(FedAvg(), 3, seed=seed))


@pytest.mark.parametrize("statistics", ["averaged", "follow"])
def test_resfim_that_keeps_nothing_is_fedavg_whoever_is_averaged(statistics):
    # the unmasked mean divides by the sum of shares, so it is the mean up to rounding only
    one = played(ResFIM(delta=0, statistics=statistics, shared_average="unmasked"), 1)
    other = played(FedAvg(), 1)
    assert_same_models(played(ResFIM(delta=0, statistics=statistics), 2), played(FedAvg(), 2))
    for client in CLIENTS:
        for name in ENTRIES:
            np.testing.assert_allclose(
                one.models[client][name].numpy(), other.models[client][name].numpy(), rtol=0, atol=1e-6
            )


@pytest.mark.parametrize("seed", [0, 1])
def test_resfim_that_keeps_only_statistics_is_silobn(seed):
    assert_same_models(played(ResFIM(delta=0, statistics="kept"), 3, seed=seed), played(SiloBN(), 3, seed=seed))


@pytest.mark.parametrize("statistics", ["kept", "follow"])
def test_resfim_that_keeps_all_is_training_alone(statistics):
    assert_same_models(played(ResFIM(delta=1, statistics=statistics), 3), played(Local(), 3))


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_resfim_that_keeps_all_but_averages_statistics_trains_alone(rounds):
    # Training uses the statistics of the batch, so averaged running statistics reach the parameters only by
    # way of the Fisher and the mask; at delta = 1 the mask is full whatever the Fisher says.
    assert_same_models(played(ResFIM(delta=1, statistics="averaged"), rounds), played(Local(), rounds), but=STATISTICS)


@pytest.mark.parametrize("delta", [0, 0.1, 1])
@pytest.mark.parametrize("statistics", ["kept", "averaged", "follow"])
def test_alone_resfim_is_training_alone(delta, statistics):
    assert_same_models(played(ResFIM(delta=delta, statistics=statistics), 2, ONE), played(Local(), 2, ONE))


@pytest.mark.parametrize("method", [FedAvg(), FedBN(), SiloBN(), FedPer()])
def test_alone_every_method_is_training_alone(method):
    assert_same_models(played(method, 2, ONE), played(Local(), 2, ONE))


def test_between_its_limits_resfim_is_neither():
    between = played(ResFIM(delta=0.1))
    for client in CLIENTS:
        for limit in (SiloBN(), Local()):
            assert differing(between.models[client], played(limit).models[client]) & set(PARAMETERS)


def test_resfim_keeps_its_masked_parameters_and_shares_the_rest():
    after, alone = played(ResFIM(delta=0.1), 1), played(Local(), 1)
    for client in CLIENTS:
        masks = after.kept[client]["state"]["mask"]
        for name, mask in masks.items():
            own = alone.models[client][name]
            mean = sum(n / 12 * alone.models[c][name].double() for c, n in SIZES)
            found = after.models[client][name]
            assert torch.equal(found[mask], own[mask])
            np.testing.assert_allclose(found[~mask].numpy(), mean[~mask].numpy(), rtol=0, atol=1e-7)
        for name in STATISTICS:
            assert torch.equal(after.models[client][name], alone.models[client][name])


# no difference in style, no residual ---------------------------------------------------------------------------


def test_own_amplitudes_give_back_the_images():
    images = cases("Bern", 9).images.float() / 255
    for beta in (0.0, 0.1):
        assert torch.equal(spectral_transfer(images, low_frequency(images, beta)), images)


def one_brightness(name, count):
    """Return black and white images, a third of whose pixels are white: all means agree, and exactly."""
    data = cases(name, count)
    for i in range(count):
        for channel in range(3):
            rng = torch.Generator().manual_seed(1000 * len(name) + 10 * i + channel)
            white = torch.randperm(SIDE * SIDE, generator=rng)[: SIDE * SIDE // 3]
            data.images[i, channel] = 0
            data.images[i, channel].view(-1)[white] = 255
    return TrainingData(data.images, data.masks)


@pytest.mark.parametrize("residual", ["max", "relative", "raw", "literal"])
def test_without_a_difference_in_style_the_mask_is_a_tie(residual):
    # b = 0 exchanges mean brightness alone, and all images have the same: the Fishers agree bit for bit,
    # all residuals are 0, and the first positions are taken
    data = {"Bern": one_brightness("Bern", 4), "Oslo!": one_brightness("Oslo!", 3)}
    assert not torch.equal(data["Bern"].images[:3], data["Oslo!"].images)
    after = play(ResFIM(delta=0.25, beta=0.0, residual=residual), data, rounds=1)
    first = round(0.25 * P)
    for kept in after.kept.values():
        bits = torch.cat([value.flatten() for value in kept["state"]["mask"].values()])
        assert bits[:first].all()
        assert not bits[first:].any()


def test_with_a_difference_in_style_it_is_not():
    bits = [
        torch.cat([value.flatten() for value in kept["state"]["mask"].values()])
        for kept in played(ResFIM(delta=0.25, beta=0.0)).kept.values()
    ]
    assert all(not one[: round(0.25 * P)].all() for one in bits)
    assert not torch.equal(bits[0], bits[1])


# what each method shares, and what stays -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "personal"),
    [
        (Local(), set(ENTRIES)),
        (FedAvg(), set()),
        (FedBN(), NORMS),
        (SiloBN(), STATISTICS),
        (FedPer(), HEAD),
        (FedPer(personal="last_decoder"), HEAD | LAST_DECODER),
    ],
)
@pytest.mark.parametrize("rounds", [1, 3])
def test_exactly_the_personal_entries_differ_between_clients(method, personal, rounds):
    somewhere, everywhere = apart_between_clients(played(method, rounds))
    assert somewhere == everywhere == personal


@pytest.mark.parametrize(
    ("method", "personal"),
    [(FedAvg(), set()), (FedBN(), NORMS), (SiloBN(), STATISTICS), (FedPer(), HEAD)],
)
def test_after_a_round_shared_entries_are_the_mean_by_images_and_the_others_the_client_s(method, personal):
    after, alone = played(method, 1), played(Local(), 1)
    for client in CLIENTS:
        for name in ENTRIES:
            found = after.models[client][name]
            if name in personal:
                assert torch.equal(found, alone.models[client][name])
                continue
            sent = {c: alone.models[c][name].double().flatten().tolist() for c in CLIENTS}
            mean = [math.fsum(n * sent[c][p] for c, n in SIZES) / 12 for p in range(found.numel())]
            np.testing.assert_allclose(found.double().flatten(), mean, rtol=3e-7, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("method", [FedBN(), FedPer(), Local(), ResFIM()])
def test_other_methods_train_other_parameters_than_fedavg(method):
    # FedBN is FedAvg by accident where its layers are looked for by a name that this UNet does not use
    for client in CLIENTS:
        assert differing(played(method).models[client], played(FedAvg()).models[client]) & set(PARAMETERS)


def test_silobn_trains_the_parameters_of_fedavg_and_evaluates_them_with_other_statistics():
    # training uses the statistics of the batch: what becomes of the running ones matters to evaluation alone
    assert_same_models(played(SiloBN(), 3), played(FedAvg(), 3), but=STATISTICS)


@pytest.mark.parametrize("method", [Local(), FedAvg(), FedBN(), SiloBN(), FedPer(), ResFIM()])
def test_counters_stay_at_home_and_count_the_client_s_batches(method):
    after = played(method, 3)
    for client, images in SIZES:
        counters = [v for name, v in after.models[client].items() if name.endswith("num_batches_tracked")]
        assert [int(value) for value in counters] == [3 * math.ceil(images / 2)] * 7


# what it costs to send -----------------------------------------------------------------------------------------


def entry_bytes(names):
    return 4 * sum(math.prod(ENTRIES[name]) for name in names)


def described(names, dtype="float32"):
    return {name: [dtype, list(shape)] for name, shape in ENTRIES.items() if name in names}


def with_header(tree, payload):
    """Return the bytes of a message: a length of 8 bytes, JSON filled up to a multiple of 8, the payload."""
    text = len(json.dumps(tree, separators=(",", ":")))
    return 8 + math.ceil(text / 8) * 8 + payload


def plain(names):
    return with_header(described(names), entry_bytes(names))


ALL, A = set(ENTRIES), NORMS - STATISTICS


def test_counts_by_hand():
    # widths 4, 8, 16, 32: convolutions, a scale and a shift per channel, a head of 4 + 1
    channels = 4 + 8 + 16 + 32 + 16 + 8 + 4
    products = 9 * (3 * 4 + 4 * 8 + 8 * 16 + 16 * 32 + 48 * 16 + 24 * 8 + 12 * 4)
    assert products + 3 * channels + 5 == P
    assert entry_bytes(PARAMETERS) == 4 * P
    assert entry_bytes(STATISTICS) == entry_bytes(A) == 4 * 2 * channels
    assert entry_bytes(HEAD) == 4 * 5


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        (FedAvg(), ALL),  # P + B
        (FedBN(), ALL - NORMS),  # P - a
        (SiloBN(), set(PARAMETERS)),  # P
        (FedPer(), ALL - HEAD),  # P - h + B
        (FedPer(personal="last_decoder"), ALL - HEAD - LAST_DECODER),
    ],
)
def test_bytes_up_and_down_are_those_of_the_shared_entries(method, sent):
    after = played(method)
    for round in (1, 2):
        assert after.ledger(round, "up") == after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(sent))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}


def test_training_alone_sends_nothing():
    assert played(Local()).tables["ledger"] == []


@pytest.mark.parametrize(("statistics", "sent"), [("kept", set(PARAMETERS)), ("averaged", ALL), ("follow", ALL)])
def test_resfim_sends_weights_and_one_bit_per_parameter(statistics, sent):
    after = played(ResFIM(statistics=statistics))
    bits = sum(math.ceil(math.prod(shape) / 8) for shape in PARAMETERS.values())
    assert P / 8 <= bits < P / 8 + len(PARAMETERS)
    tree = {"weights": described(sent), "mask": described(set(PARAMETERS), "bool")}
    for round in (1, 2):
        up = with_header(tree, entry_bytes(sent) + bits)
        assert after.ledger(round, "up") == dict.fromkeys(CLIENTS, up)
        assert after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(sent))


def test_resfim_sends_windows_once():
    after = played(ResFIM(beta=0.13))  # b = 2: 5 x 5 amplitudes per channel
    window = 4 * 3 * 5 * 5
    shapes = {client: ["float32", [count, 3, 5, 5]] for client, count in SIZES}
    assert after.ledger(0, "up") == {
        client: with_header({"windows": shapes[client]}, count * window) for client, count in SIZES
    }
    others = {client: {other: shape for other, shape in shapes.items() if other != client} for client in CLIENTS}
    assert after.ledger(0, "down") == {
        client: with_header(others[client], (12 - count) * window) for client, count in SIZES
    }


def test_the_toy_recipe_starts_everybody_alike():
    one, other = setting().new_model().state_dict(), setting().new_model().state_dict()
    assert not differing(one, other)
    assert differing(one, setting(seed=1).new_model().state_dict()) & set(PARAMETERS)
