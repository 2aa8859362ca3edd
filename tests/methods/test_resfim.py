"""Residual, mask and Eq. 2 of pFL-ResFIM against hand computation and naive loops."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from short_federation import ENTRIES, PARAMETERS, STAGES, STATISTICS, P, cases, play, played, setting
from test_fisher import by_loop
from test_spectral import fda, windows_by_hand

from pflbench import seeds
from pflbench.api import TaskCard, UsageError
from pflbench.message import copied
from pflbench.sites import Server
from pflbench_methods.local import Local
from pflbench_methods.masks import largest, masking_rates, unmasked_mean
from pflbench_methods.resfim import ResFIM
from pflbench_methods.residual import residual
from pflbench_methods.spectral import low_frequency

MODES = ["max", "layer_max", "relative", "raw", "literal"]
DIVIDED = ["max", "layer_max", "relative"]
OWN = {"a.weight": [4.0, 1.0, 0.0], "a.bias": [2.0], "b.weight": [[0.5, 0.0], [3.0, 8.0]]}
OTHER = {"a.weight": [1.0, 1.5, 0.0], "a.bias": [0.0], "b.weight": [[0.25, 0.0], [8.0, 3.0]]}
BY_HAND = {
    "raw": {"a.weight": [3, 0.5, 0], "a.bias": [2], "b.weight": [[0.25, 0], [5, 5]]},
    "max": {"a.weight": [3 / 5, 0.5 / 5, 0], "a.bias": [2 / 5], "b.weight": [[0.25 / 5, 0], [1, 1]]},
    "layer_max": {"a.weight": [1, 0.5 / 3, 0], "a.bias": [2 / 3], "b.weight": [[0.25 / 5, 0], [1, 1]]},
    "relative": {
        "a.weight": [3 / 4, 0.5 / 1.5, 0],
        "a.bias": [1],
        "b.weight": [[0.25 / 0.5, 0], [5 / 8, 5 / 8]],
    },
}


def tensors(tree, dtype=torch.float32):
    return {name: torch.tensor(value, dtype=dtype) for name, value in tree.items()}


def flat(tree):
    return np.concatenate([np.asarray(value).ravel() for value in tree.values()])


def chosen_by_sorting(scores, count):
    """Return the mask of the largest by a stable sort: of equal scores the first in position."""
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask


@pytest.mark.parametrize("how", BY_HAND)
def test_residual_by_hand(how):
    found = residual(tensors(OWN), tensors(OTHER), how=how)
    assert list(found) == list(OWN)
    for name, value in BY_HAND[how].items():
        np.testing.assert_allclose(found[name].numpy(), np.array(value), rtol=1e-7)


def test_literal_residual_is_eq_1_one_above_epsilon_and_linear_below():
    own = tensors({"a.weight": [3.0, 1e-8, 4e-9, 0.0, 1e-12, 2e-9]})
    other = tensors({"a.weight": [1.0, 0.0, 0.0, 0.0, 2e-12, 1e-9]})
    np.testing.assert_allclose(
        residual(own, other, how="literal", epsilon=1e-8)["a.weight"].numpy(), [1, 1, 0.4, 0, 1e-4, 0.1], rtol=1e-6
    )
    np.testing.assert_allclose(
        residual(own, other, how="literal", epsilon=4.0)["a.weight"].numpy(),
        [0.5, 2.5e-9, 1e-9, 0, 2.5e-13, 2.5e-10],
        rtol=1e-6,
    )


FISHERS = hnp.arrays(np.float32, (3, 2), elements=st.floats(0, 1024, width=32, allow_subnormal=False))


@settings(max_examples=60, deadline=None)
@given(FISHERS, FISHERS, FISHERS, FISHERS, st.sampled_from(DIVIDED))
def test_divided_residuals_lie_between_zero_and_one_and_are_symmetric(own_a, own_b, other_a, other_b, how):
    own = {"a.weight": torch.from_numpy(own_a), "b.weight": torch.from_numpy(own_b)}
    other = {"a.weight": torch.from_numpy(other_a), "b.weight": torch.from_numpy(other_b)}
    own["c.weight"] = torch.tensor([1.0])  # some change everywhere: its absence is a test of its own
    other["c.weight"] = torch.tensor([0.5])
    found, swapped = residual(own, other, how=how), residual(other, own, how=how)
    for name, value in found.items():
        assert torch.equal(value, swapped[name])
        assert ((value >= 0) & (value <= 1)).all()
    if how == "max":
        change = flat(own) - flat(other)
        assert flat(found)[np.abs(change).argmax()] == 1.0
        expected = np.abs(change.astype(np.float64)) / np.abs(change.astype(np.float64)).max()
        np.testing.assert_allclose(flat(found), expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("how", MODES)
def test_without_a_change_every_residual_is_zero(how):
    for fisher in (tensors(OWN), {name: torch.zeros_like(value) for name, value in tensors(OWN).items()}):
        found = residual(fisher, {name: value.clone() for name, value in fisher.items()}, how=how)
        assert all(torch.equal(value, torch.zeros_like(value)) for value in found.values())


@pytest.mark.parametrize("how", MODES)
def test_a_layer_without_a_change_has_residual_zero(how):
    own, other = tensors(OWN), tensors(OTHER)
    other["b.weight"] = own["b.weight"].clone()
    found = residual(own, other, how=how)
    assert torch.equal(found["b.weight"], torch.zeros(2, 2))
    assert found["a.weight"].max() > 0


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=5),
    st.floats(0, 1),
)
def test_exactly_the_share_is_chosen_and_ties_are_broken_by_position(values, share):
    scores = {f"layer{i}.weight": torch.tensor(value, dtype=torch.float32) for i, value in enumerate(values)}
    count = int(np.rint(share * sum(map(len, values))))
    mask = largest(scores, share)
    assert list(mask) == list(scores)
    assert all(mask[name].shape == scores[name].shape for name in mask)
    assert all(value.dtype is torch.bool for value in mask.values())
    assert flat(mask).sum() == count
    np.testing.assert_array_equal(flat(mask), chosen_by_sorting(flat(scores), count))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0, 1e-4, 0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1]))
def test_the_largest_of_all_entries_together_in_many_dimensions(seed, share):
    rng = np.random.default_rng(seed)
    shapes = {"a.weight": (4, 3, 3, 3), "a.bias": (4,), "b.weight": (2, 4, 1, 1), "b.bias": ()}
    # few distinct values, over many magnitudes
    scores = {
        name: torch.from_numpy(np.asarray(10.0 ** rng.integers(-30, 3, shape), dtype=np.float32))
        for name, shape in shapes.items()
    }
    scores["a.weight"] = scores["a.weight"].contiguous(memory_format=torch.channels_last)
    count = round(share * (108 + 4 + 8 + 1))
    mask = largest(scores, share)
    assert {name: tuple(value.shape) for name, value in mask.items()} == shapes
    np.testing.assert_array_equal(flat(mask), chosen_by_sorting(flat(scores), count))


def test_the_choice_is_global_and_not_per_layer():
    scores = tensors({"a.weight": [5.0, 6.0, 7.0, 8.0], "b.weight": [1.0, 2.0, 3.0, 4.0]})
    mask = largest(scores, 0.5)
    assert mask["a.weight"].tolist() == [True] * 4
    assert mask["b.weight"].tolist() == [False] * 4


def test_masking_rates_count_by_layer():
    rng = np.random.default_rng(0)
    mask = {name: torch.from_numpy(rng.random(shape) < 0.3) for name, shape in PARAMETERS.items()}
    expected = {}
    for stage in [f"{stage}.{part}" for stage in STAGES for part in (0, 1)] + ["final"]:
        bits = [bool(bit) for suffix in ("weight", "bias") for bit in mask[f"{stage}.{suffix}"].flatten()]
        expected[stage] = sum(bits) / len(bits)
    assert masking_rates(mask) == expected


# Eq. 2 ---------------------------------------------------------------------------------------------------------

SHARES = {"Bern": 0.5, "Lyon": 0.2, "Oslo": 0.3}


def inbox(names, masked=0.3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {
        client: {
            "weights": {name: torch.randn(ENTRIES[name], generator=rng) for name in names},
            "mask": {name: torch.rand(shape, generator=rng) < masked for name, shape in PARAMETERS.items()},
        }
        for client in SHARES
    }


def replies(method, sent):
    server = Server(1, "update", SHARES, {}, setting())
    before = copied(sent)
    outbox = method.server_update(server, sent)
    for client, message in sent.items():
        for part in message:
            assert all(torch.equal(message[part][n], value) for n, value in before[client][part].items())
    return outbox


def lists(tree):
    return {name: value.double().flatten().tolist() for name, value in tree.items()}


def eq_2(sent, client, name, personal):
    """Return an entry of one client by Eq. 2, one parameter after another, in float64."""
    values = {c: sent[c]["weights"][name].double().flatten().tolist() for c in SHARES}
    kept = personal.flatten().tolist()
    return [
        values[client][p] if kept[p] else math.fsum(SHARES[c] * values[c][p] for c in SHARES) for p in range(len(kept))
    ]


@pytest.mark.parametrize("statistics", ["kept", "averaged", "follow"])
def test_server_update_is_eq_2_parameter_by_parameter(statistics):
    names = list(PARAMETERS) if statistics == "kept" else list(ENTRIES)
    sent = inbox(names)
    outbox = replies(ResFIM(statistics=statistics), sent)
    assert list(outbox) == list(SHARES)
    for client, message in outbox.items():
        assert set(message) == set(names)
        for name, value in message.items():
            if name in PARAMETERS:
                personal = sent[client]["mask"][name]
            elif statistics == "follow":  # kept in the channels whose scale is masked
                personal = sent[client]["mask"][name.split(".running")[0] + ".weight"]
            else:
                personal = torch.zeros(ENTRIES[name], dtype=torch.bool)
            expected = eq_2(sent, client, name, personal)
            np.testing.assert_allclose(value.double().flatten(), expected, rtol=0, atol=5e-7, err_msg=name)
            assert torch.equal(value[personal], sent[client]["weights"][name][personal])


def test_the_shared_value_of_eq_2_is_the_same_for_everybody():
    sent = inbox(PARAMETERS)
    outbox = replies(ResFIM(), sent)
    for name in PARAMETERS:
        free = ~(sent["Bern"]["mask"][name] | sent["Oslo"]["mask"][name])
        assert torch.equal(outbox["Bern"][name][free], outbox["Oslo"][name][free])


def unmasked_by_loop(sent, name):
    """Return sum w (1 - M) W / sum w (1 - M), and the plain mean where every client keeps its own."""
    values = {c: sent[c]["weights"][name].double().flatten().tolist() for c in SHARES}
    kept = {c: sent[c]["mask"][name].flatten().tolist() for c in SHARES}
    means = []
    for p in range(len(values["Bern"])):
        free = [c for c in SHARES if not kept[c][p]]
        counted = free or list(SHARES)
        means.append(sum(SHARES[c] * values[c][p] for c in counted) / sum(SHARES[c] for c in counted))
    return means


def test_unmasked_mean_leaves_out_those_who_keep_the_parameter_and_falls_back():
    sent = inbox(PARAMETERS, masked=0.6)
    everywhere = [sent[c]["mask"]["dec4.0.weight"] for c in SHARES]
    assert torch.stack(everywhere).all(0).any()  # the fallback is met
    fallback = {name: torch.full(shape, 7.0) for name, shape in PARAMETERS.items()}
    weights = {c: message["weights"] for c, message in sent.items()}
    masks = {c: message["mask"] for c, message in sent.items()}
    found = unmasked_mean(weights, masks, SHARES, fallback)
    assert list(found) == list(PARAMETERS)
    for name in PARAMETERS:
        nobody = torch.stack([masks[c][name] for c in SHARES]).all(0)
        assert torch.equal(found[name][nobody], fallback[name][nobody])
        expected = np.array(unmasked_by_loop(sent, name)).reshape(ENTRIES[name])
        np.testing.assert_allclose(found[name][~nobody].numpy(), expected[~nobody.numpy()], rtol=0, atol=1e-6)


@pytest.mark.parametrize("statistics", ["kept", "averaged"])
def test_unmasked_server_update_parameter_by_parameter(statistics):
    names = list(PARAMETERS) if statistics == "kept" else list(ENTRIES)
    sent = inbox(names, masked=0.6)
    outbox = replies(ResFIM(shared_average="unmasked", statistics=statistics), sent)
    for client, message in outbox.items():
        for name in PARAMETERS:
            own = sent[client]["weights"][name]
            personal = sent[client]["mask"][name]
            expected = np.array(unmasked_by_loop(sent, name)).reshape(own.shape)
            np.testing.assert_allclose(message[name][~personal].numpy(), expected[~personal.numpy()], rtol=0, atol=1e-6)
            assert torch.equal(message[name][personal], own[personal])
        for name in STATISTICS & set(names):
            nobody = torch.zeros(ENTRIES[name], dtype=torch.bool)
            expected = eq_2(sent, client, name, nobody)
            np.testing.assert_allclose(message[name].double(), expected, rtol=0, atol=5e-7)


# the exchange before round 1, and the simulated images ---------------------------------------------------------


def test_every_client_is_briefed_with_the_amplitudes_of_all_others_and_not_its_own():
    beta = 0.13  # b = 2 of 16
    data = {name: cases(name, count) for name, count in (("Bern", 5), ("Lyon", 3), ("Oslo", 4))}
    after = play(ResFIM(beta=beta), data, rounds=1)
    for client in data:
        briefing = after.kept[client]["briefing"]
        assert set(briefing) == set(data) - {client}
        for other, windows in briefing.items():
            expected = windows_by_hand(data[other].images.double().numpy() / 255, 2)
            assert windows.shape == (len(data[other].images), 3, 5, 5)
            np.testing.assert_allclose(windows.numpy(), expected, rtol=0, atol=5e-5)


def restyling_client(round, count=11):
    rng = np.random.default_rng(0)
    styles = {name: rng.random((windows, 3, 16, 16)) for name, windows in (("Lyon", 3), ("Oslo", 4))}
    images = torch.from_numpy(rng.random((count, 3, 16, 16)))
    briefing = {name: low_frequency(torch.from_numpy(style), 0.1) for name, style in styles.items()}
    client = SimpleNamespace(
        briefing=briefing,
        device=torch.device("cpu"),
        rng=seeds.generator(0, "client", "Bern", "update", round),
    )
    return client, images


def drawn_by_matching(round, count=11):
    """Return which of the others' spectra each simulated image carries, by comparing with all of them."""
    client, images = restyling_client(round, count)
    masks = torch.arange(count, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    one = ResFIM(beta=0.1)
    batches = [batch for windows in client.briefing.values() for batch in one._restyled(client, windows, images, masks)]
    restyled = torch.cat([batch for batch, _ in batches]).numpy()
    labels = torch.cat([label for _, label in batches])[:, 0, 0, 0].tolist()
    assert labels == [*range(count), *range(count)]  # N (C - 1) images, each with the label of its source
    drawn = {}
    for k, name in enumerate(client.briefing):
        windows = client.briefing[name].numpy()
        for i in range(count):
            source = images[i : i + 1].numpy()
            options = [np.clip(fda(source, window[None]), 0, 1)[0] for window in windows]
            distances = [np.abs(restyled[k * count + i] - option).max() for option in options]
            assert min(distances) < 1e-12
            drawn[name, i] = int(np.argmin(distances))
    return drawn


def test_each_image_takes_one_random_spectrum_of_each_other_client_anew_every_round():
    first, second = drawn_by_matching(1), drawn_by_matching(2)
    assert first == drawn_by_matching(1)
    assert first != second
    for name, count in (("Lyon", 3), ("Oslo", 4)):
        assert {value for (other, _), value in first.items() if other == name} == set(range(count))
    # images are restyled eight at a time; the ninth has a draw of its own
    assert any(
        one[name, 8 + i] != one[name, i] for one in (first, second) for name in ("Lyon", "Oslo") for i in range(3)
    )


# the whole of a round ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["max", "relative"])
def test_the_mask_of_a_round_by_hand(how):
    """From trained weights to mask in float64: FDA, one backward pass per image, Eq. 1, a stable sort.

    The others have one image each, so no random choice is left; the weights after training are those of
    training alone, which starts from the same weights and draws the same batches.
    """
    sizes, delta = (("Bern", 4), ("Lyon", 1), ("Oslo", 1)), 0.1
    after = played(ResFIM(delta=delta, beta=0.1, residual=how), 1, sizes)
    trained = setting().new_model()
    trained.load_state_dict(played(Local(), 1, sizes).models["Bern"])
    data = {name: cases(name, count) for name, count in sizes}
    images = {name: own.images.double().numpy() / 255 for name, own in data.items()}
    masks = data["Bern"].masks.double()
    simulated = [
        np.clip(fda(images["Bern"], np.repeat(windows_by_hand(images[other], 1), 4, axis=0)), 0, 1)
        for other in ("Lyon", "Oslo")
    ]
    own = by_loop(trained, torch.from_numpy(images["Bern"]), masks)
    other = by_loop(trained, torch.from_numpy(np.concatenate(simulated)), torch.cat([masks, masks]))
    scores = np.abs(flat(own) - flat(other))
    if how == "relative":
        larger = np.maximum(flat(own), flat(other))
        scores = scores / np.maximum(larger, 1e-12 * larger.max())
    expected = chosen_by_sorting(scores, round(delta * P))
    mask = after.kept["Bern"]["state"]["mask"]
    assert list(mask) == list(PARAMETERS)
    found = flat(mask)
    assert found.sum() == round(delta * P)
    # only scores that agree with the last one chosen to float32's precision may be chosen otherwise
    last = np.sort(scores)[-round(delta * P)]
    assert (np.abs(scores[found != expected] - last) < 1e-4 * last).all()
    assert (found != expected).sum() <= 2


def test_logged_rates_are_those_of_the_mask():
    after = played(ResFIM(delta=0.1), 2)
    for client, kept in after.kept.items():
        mask = kept["state"]["mask"]
        assert flat(mask).sum() == round(0.1 * P)
        for layer in [f"{stage}.{part}" for stage in STAGES for part in (0, 1)] + ["final"]:
            both = np.concatenate([mask[f"{layer}.{part}"].numpy().ravel() for part in ("weight", "bias")])
            assert after.logs(f"mask_rate/{layer}")[2, client] == both.mean()


def card(sizes, rounds=3):
    return TaskCard("toy", dict(sizes), 3, 16, 16, 1, rounds)


@pytest.mark.parametrize("sizes", [(("Bern", 5), ("Lyon", 3), ("Oslo", 4)), (("Bern", 3),)])
def test_gradients_counted_are_the_training_s_and_one_per_image_and_style(sizes):
    counted = played(ResFIM(), 2, sizes).logs("gradients")
    for client, images in sizes:
        for round in (1, 2):
            assert counted[round, client] == 1 * images + len(sizes) * images  # E N + C N
        assert ResFIM().extra_gradients(card(sizes))[client] == len(sizes) * images


def test_gradients_with_fewer_images_every_other_round():
    sizes = (("Bern", 5), ("Lyon", 1), ("Oslo", 4))
    cheap = ResFIM(fisher_images=2, fisher_every=2)
    counted = played(cheap, 3, sizes).logs("gradients")
    for client, images in sizes:
        extra = min(images, 2) * 3
        assert [counted[round, client] for round in (1, 2, 3)] == [images + extra, images, images + extra]
        assert cheap.extra_gradients(card(sizes))[client] == -(-extra // 2)


def test_a_mask_is_kept_until_it_is_due_again():
    sizes = (("Bern", 4), ("Lyon", 3))
    after = {rounds: played(ResFIM(fisher_every=2), rounds, sizes) for rounds in (1, 2, 3)}
    for client, _ in sizes:
        masks = {rounds: flat(one.kept[client]["state"]["mask"]) for rounds, one in after.items()}
        np.testing.assert_array_equal(masks[2], masks[1])
        assert (masks[3] != masks[1]).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": 1.01},
        {"delta": -0.1},
        {"beta": 0.5},
        {"beta": -0.01},
        {"epsilon": 0},
        {"residual": "min"},
        {"statistics": "local"},
        {"shared_average": "none"},
        {"fisher_images": 0},
        {"fisher_every": 0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(UsageError, match=rf"^resfim\.{next(iter(wrong))} = "):
        ResFIM(**wrong)
