"""FedAS: traces, class means and alignment against loops in float64, whole rounds from plain tensors."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from short_federation import ENTRIES, HEAD, PARAMETERS, SIZES, STAGES, STATISTICS, cases, play, played, setting
from test_controls import ALL, assert_same_models, described, differing, entry_bytes, plain, with_header
from test_fisher import example as seen_by_a_unet

from pflbench import seeds
from pflbench.method import TaskCard
from pflbench.training import batches
from pflbench_methods.fedas import FedAS, class_means, distance, fisher_trace
from pflbench_methods.fedper import FedPer
from pflbench_methods.fisher import diagonal_fisher
from pflbench_methods.local import Local

CLIENTS = [name for name, _ in SIZES]
BASE = ALL - HEAD
UNALIGNED = FedAS(alignment_epochs=0)


example = functools.partial(seen_by_a_unet, dtype=torch.float64)


def in_twos(*tensors):
    return list(zip(*(tensor.split(2) for tensor in tensors), strict=True))


# the trace of the Fisher information -----------------------------------------------------------------------------


def trace_by_loop(model, pairs):
    """Return the sum of squared derivatives of each batch's mean negative log-likelihood, in float64."""
    model = copy.deepcopy(model).double().eval()
    total = 0.0
    for images, masks in pairs:
        model.zero_grad(set_to_none=True)
        p = 1 / (1 + torch.exp(-model(images.double())))
        likelihood = torch.where(masks.double() > 0, p, 1 - p)
        (-likelihood.log().sum() / masks.numel()).backward()
        total += math.fsum(float(g) ** 2 for parameter in model.parameters() for g in parameter.grad.flatten())
    return total


def test_the_trace_is_the_sum_of_squares_of_batch_gradients():
    model, images, masks = example()
    expected = trace_by_loop(model, in_twos(images, masks))
    assert fisher_trace(model, in_twos(images, masks)) == pytest.approx(expected, rel=1e-10)
    single = model.float(), in_twos(images.float(), masks.float())
    assert fisher_trace(*single) == pytest.approx(expected, rel=1e-5)


def test_of_single_images_it_is_that_of_the_diagonal_fisher():
    model, images, masks = example()
    ones = list(zip(images.split(1), masks.split(1), strict=True))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    diagonal = diagonal_fisher(model, images, masks, entropy)
    expected = 5 * sum(float(value.sum()) for value in diagonal.values())
    assert fisher_trace(model, ones) == pytest.approx(expected, rel=1e-10)
    assert fisher_trace(model, in_twos(images, masks)) < 0.9 * expected  # what is averaged first is smaller


@pytest.mark.parametrize("training", [True, False])
def test_the_trace_leaves_the_model_as_it_was(training):
    model, images, masks = example()
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    fisher_trace(model, in_twos(images, masks))
    assert not differing(before, model.state_dict())
    assert model.training is model.dec2[1].training is training
    assert all(parameter.grad is None for parameter in model.parameters())


# class means and the distance from them --------------------------------------------------------------------------


def maps_by_batches(model, images):
    """Return the last decoder maps, N x H x W x channels, of images normalized in twos."""
    model = copy.deepcopy(model).train()
    with torch.no_grad():
        return torch.cat([model.features(two) for two in images.split(2)]).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("training", [True, False])
def test_class_means_are_means_over_all_pixels_of_a_class_whatever_the_mode(training):
    model, images, masks = example()
    maps = maps_by_batches(model, images)
    inside = masks[:, 0].numpy() == 1
    expected = [maps[~inside].mean(0), maps[inside].mean(0)]
    found = class_means(model.train(training), in_twos(images, masks))
    assert found.shape == (2, 4)
    assert not found.requires_grad
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert not np.allclose(expected[0], expected[1], rtol=1e-2)
    by_image = np.mean([m[i].mean(0) for m, i in zip(maps, inside, strict=True)], axis=0)
    assert not np.allclose(by_image, expected[1], rtol=1e-3)  # images with more of a class count more


def test_a_class_without_a_pixel_has_no_part():
    model, images, masks = example(2)
    nothing = torch.zeros_like(masks)
    found = class_means(model, [(images, nothing)])
    assert torch.equal(found[1], torch.zeros(4))
    features = model.eval().features(images)
    elsewhere = torch.stack([found[0], torch.full((4,), 1e6)]).double()
    assert distance(features, nothing, elsewhere) == distance(features, nothing, found.double())
    assert torch.isfinite(distance(features, 1 - nothing, found.double()))


def distance_by_loop(features, masks, prototypes):
    """Return the distance and its derivative by the features, pixel by pixel."""
    value, slope = 0.0, np.zeros_like(features)
    for k in (0, 1):
        pixels = np.argwhere(masks[:, 0] == k)
        for n, row, column in pixels:
            error = features[n, :, row, column] - prototypes[k]
            value += (error**2).sum() / (len(pixels) * features.shape[1])
            slope[n, :, row, column] = 2 * error / (len(pixels) * features.shape[1])
    return value, slope


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_distance_and_its_derivative_are_those_of_a_loop_over_pixels(share):
    rng = np.random.default_rng(1)
    features, prototypes = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(2, 4))
    masks = (rng.random((3, 1, 5, 6)) < share).astype(float)
    leaf = torch.from_numpy(features).requires_grad_()
    found = distance(leaf, torch.from_numpy(masks), torch.from_numpy(prototypes))
    found.backward()
    value, slope = distance_by_loop(features, masks, prototypes)
    assert found.item() == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(leaf.grad.numpy(), slope, rtol=1e-12, atol=1e-15)


# whole rounds ----------------------------------------------------------------------------------------------------


@functools.cache
def trained():
    """Return each client's model after the training of round 1: what it is without a server."""
    return {client: played(Local(), 1).models[client] for client in CLIENTS}


def loaded(weights):
    model = setting().new_model()
    model.load_state_dict(weights)
    return model.double()


def pixels(client):
    data = cases(client, dict(SIZES)[client])
    return data.images.double() / 255, data.masks.double()


@functools.cache
def traces_again():
    found = {}
    for client, count in SIZES:
        images, masks = pixels(client)
        order = torch.randperm(count, generator=seeds.generator(0, "client", client, "update", 1))
        found[client] = trace_by_loop(loaded(trained()[client]), in_twos(images[order], masks[order]))
    return found


@functools.cache
def mean_again(temperature=1.0):
    traces = {client: math.exp(math.log(trace) / temperature) for client, trace in traces_again().items()}
    total = math.fsum(traces.values())
    own = trained()
    return {name: sum(traces[c] / total * own[c][name].double() for c in CLIENTS) for name in BASE}


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_server_weights_by_traces_and_each_client_keeps_its_head(temperature):
    after = played(FedAS(alignment_epochs=0, temperature=temperature), 1)
    mean, own = mean_again(temperature), trained()
    for client in CLIENTS:
        for name in BASE:
            np.testing.assert_allclose(
                after.models[client][name].double(), mean[name], rtol=1e-5, atol=1e-7, err_msg=name
            )
        assert not differing(*({n: models[n] for n in HEAD} for models in (after.models[client], own[client])))


def test_the_log_has_traces_and_the_weights_that_they_make():
    after, expected = played(FedAS(), 1), traces_again()
    for client in CLIENTS:
        assert after.logs("fisher_trace")[1, client] == pytest.approx(expected[client], rel=1e-5)
    weights = {key: value for _, _, key, value in after.tables["logs"] if key.startswith("weight/")}
    total = math.fsum(expected.values())
    assert weights == {f"weight/{c}": pytest.approx(expected[c] / total, rel=1e-5) for c in CLIENTS}
    assert math.fsum(weights.values()) == pytest.approx(1, rel=1e-12)


def test_a_high_temperature_weights_all_alike():
    after, own = played(FedAS(alignment_epochs=0, temperature=1e9), 1), trained()
    for name in BASE:
        mean = sum(own[client][name].double() for client in CLIENTS) / 3
        np.testing.assert_allclose(after.models["Bern"][name].double(), mean, rtol=3e-7, atol=1e-8, err_msg=name)


def test_a_client_s_name_is_percent_encoded_in_the_log():
    after = play(FedAS(), {"A/B": cases("Bern", 2), "C": cases("Lyon", 2)}, rounds=1)
    assert {key for _, _, key, _ in after.tables["logs"] if key.startswith("weight/")} == {"weight/A%2FB", "weight/C"}


def aligned_again(client, rate, epochs):
    """Return the model after alignment, in float64, by torch's SGD and a loop over classes."""
    images, masks = pixels(client)
    order = torch.randperm(len(images), generator=seeds.generator(0, "client", client, "receive", 1))
    maps = torch.from_numpy(maps_by_batches(loaded(trained()[client]), images[order]))
    prototypes = [maps[masks[order, 0] == k].mean(0) for k in (0, 1)]
    model = loaded({**trained()[client], **mean_again()}).train()
    optimizer = torch.optim.SGD([p for name, p in model.named_parameters() if name not in HEAD], lr=rate)
    data, toy = cases(client, dict(SIZES)[client]), setting()
    rng = seeds.generator(0, "batches", client, "receive", 1, 1)
    for x, y in batches(data.images, data.masks, toy.recipe, toy.numerics, epochs, rng):
        maps = model.features(x.double()).permute(0, 2, 3, 1)
        squares = torch.nn.functional.mse_loss
        parts = [maps[y[:, 0] == k] for k in (0, 1)]
        loss = sum(squares(part, p.expand_as(part)) for part, p in zip(parts, prototypes, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("method", [FedAS(), FedAS(alignment_rate=0.05, alignment_epochs=2)])
def test_a_received_base_is_aligned_with_the_class_means_of_the_previous_one(method):
    after = played(method, 1)
    for client in CLIENTS:
        expected = aligned_again(client, method.alignment_rate, method.alignment_epochs)
        for name in ENTRIES:
            found = after.models[client][name].double()
            np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=2e-6, err_msg=name)
        changes = [float((expected[name] - mean_again()[name]).abs().max()) for name in BASE & set(PARAMETERS)]
        assert max(changes) > 1e-4


def test_without_a_step_alignment_moves_statistics_alone():
    after, before = played(FedAS(alignment_rate=0), 1), played(UNALIGNED, 1)
    for client in CLIENTS:
        assert differing(after.models[client], before.models[client]) & ALL == STATISTICS


def test_aligned_bases_differ_between_clients_and_unaligned_ones_do_not():
    # of a bias before a normalization layer the gradient is 0 up to rounding
    steered = ALL - {f"{stage}.0.bias" for stage in STAGES}
    for method, personal in [(FedAS(), ALL), (UNALIGNED, HEAD)]:
        after = played(method, 2)
        for one, other in [("Bern", "Oslo"), ("Oslo", "Lyon")]:
            found = differing(after.models[one], after.models[other]) & ALL
            assert personal & steered <= found <= personal


def test_alone_and_unaligned_it_is_training_alone():
    alone = (("Bern", 5),)
    assert_same_models(played(UNALIGNED, 3, alone), played(Local(), 3, alone))


def test_unaligned_it_is_fedper_but_for_who_is_averaged_how():
    for client in CLIENTS:
        assert differing(played(UNALIGNED, 1).models[client], played(FedPer(), 1).models[client]) & ALL == {
            name for name in BASE if differing_between_clients(name)
        }


def differing_between_clients(name):
    own = trained()
    return any(not torch.equal(own[a][name], own[b][name]) for a, b in [("Bern", "Lyon"), ("Lyon", "Oslo")])


# settings and cost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [{"alignment_rate": 0.1}, {"alignment_epochs": 2}, {"temperature": 2.0}])
def test_every_setting_changes_the_result(changed):
    for client in CLIENTS:
        assert differing(played(FedAS()).models[client], played(FedAS(**changed)).models[client]) & set(PARAMETERS)


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_it_takes_a_gradient_for_each_image_of_alignment_and_trace(epochs):
    method = FedAS(alignment_epochs=epochs)
    after = played(method, 2)
    card = TaskCard("toy", dict(SIZES), 3, 16, 16, epochs=1, rounds=2)
    for client, count in SIZES:
        for round in (1, 2):
            counted = sum(row[3] for row in after.tables["logs"] if row[:3] == [round, client, "gradients"])
            assert counted == count + method.extra_gradients(card)[client] == count * (2 + epochs)


def test_it_sends_the_base_and_one_number_and_receives_the_base():
    after = played(FedAS())
    for round in (1, 2):
        assert after.ledger(round, "down") == dict.fromkeys(CLIENTS, plain(BASE))
        for client in CLIENTS:
            trace = after.logs("fisher_trace")[round, client]
            tree = {"base": described(BASE), "fisher_trace": trace}
            assert after.ledger(round, "up")[client] == with_header(tree, entry_bytes(BASE))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}
