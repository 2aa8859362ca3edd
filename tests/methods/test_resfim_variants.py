"""ResFIM's ablations: coarser masks, other scores, sampled labels, a Fisher for every other client."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_federation import PARAMETERS, SIZES, P, cases, play, played
from test_controls import assert_same_models
from test_fisher import by_loop, example, loss64
from test_resfim import card, chosen_by_sorting, flat

from pflbench.training import BCEDice
from pflbench_methods.fisher import mean_fisher, mean_gradient, sampled_fisher
from pflbench_methods.local import Local
from pflbench_methods.masks import largest, largest_groups
from pflbench_methods.resfim import ResFIM
from pflbench_methods.residual import residual
from pflbench_methods.siobn import SiloBN

OTHER_SCORES = ["fisher", "gradient", "random"]
MODULES = list(dict.fromkeys(name.rpartition(".")[0] for name in PARAMETERS))


# whole channels, whole layers ----------------------------------------------------------------------------------


def groups_by_hand(scores, granularity):
    """Return (mean, [(entry, row)]) of every group, walking over modules and rows one by one."""
    groups = []
    for module in dict.fromkeys(name.rpartition(".")[0] for name in scores):
        entries = [name for name in scores if name.rpartition(".")[0] == module]
        every = [(name, row) for row in range(len(scores[entries[0]])) for name in entries]
        rows = len(scores[entries[0]])
        parts = [every] if granularity == "layer" else [[(n, row) for n in entries] for row in range(rows)]
        for part in parts:
            values = [v for name, row in part for v in np.asarray(scores[name][row]).ravel().tolist()]
            groups.append((sum(values) / len(values), len(values), part))
    return groups


def chosen_by_hand(scores, share, granularity):
    masks = {name: np.zeros(value.shape, bool) for name, value in scores.items()}
    room = round(share * sum(value.numel() for value in scores.values()))
    for _, size, part in sorted(groups_by_hand(scores, granularity), key=lambda group: -group[0]):
        room -= size
        if room < 0:
            break
        for name, row in part:
            masks[name][row] = True
    return masks


def random_scores(seed):
    rng = np.random.default_rng(seed)
    shapes = {"a.0.weight": (4, 3, 2, 2), "a.0.bias": (4,), "a.1.weight": (4,), "a.1.bias": (4,), "b.weight": (1, 4)}
    # few different values, so that there are ties between channels
    return {name: torch.from_numpy(rng.integers(0, 3, shape).astype(np.float64)) for name, shape in shapes.items()}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(["channel", "layer"]))
def test_whole_groups_are_chosen_from_the_largest_mean_downwards(seed, share, granularity):
    scores = random_scores(seed)
    found = largest_groups(scores, share, granularity)
    expected = chosen_by_hand(scores, share, granularity)
    for name in scores:
        np.testing.assert_array_equal(found[name].numpy(), expected[name], err_msg=name)


def test_groups_of_one_parameter_each_are_chosen_like_parameters():
    scores = {"a.weight": torch.tensor([3.0, 1.0, 2.0, 2.0]), "b.weight": torch.tensor([2.0, 5.0])}
    for count in range(7):
        one, other = largest(scores, count / 6), largest_groups(scores, count / 6, "channel")
        assert all(torch.equal(one[name], other[name]) for name in scores)


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        largest_groups({"a.weight": torch.tensor([1.0, float("nan")])}, 0.5, "layer")


@pytest.mark.parametrize("granularity", ["channel", "layer"])
def test_a_federation_s_masks_hold_whole_groups_and_never_more_than_delta(granularity):
    for kept in played(ResFIM(granularity=granularity, delta=0.3)).kept.values():
        mask = kept["state"]["mask"]
        assert 0 < flat(mask).sum() <= round(0.3 * P)
        for module in MODULES:
            entries = [mask[f"{module}.{part}"].flatten(1) if part == "weight" and mask[f"{module}.weight"].dim() > 1
                       else mask[f"{module}.{part}"][:, None] for part in ("weight", "bias")]  # fmt: skip
            rows = torch.cat(entries, dim=1)
            whole = rows if granularity == "channel" else rows.reshape(1, -1)
            assert torch.equal(whole.all(1), whole.any(1)), module


@pytest.mark.parametrize("granularity", ["channel", "layer"])
def test_the_limits_hold_for_every_granularity(granularity):
    assert_same_models(played(ResFIM(granularity=granularity, delta=0), 3), played(SiloBN(), 3))
    assert_same_models(played(ResFIM(granularity=granularity, delta=1), 3), played(Local(), 3))


# other scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", OTHER_SCORES)
def test_the_limits_hold_for_every_score(score):
    assert_same_models(played(ResFIM(score=score, delta=0), 3), played(SiloBN(), 3))
    assert_same_models(played(ResFIM(score=score, delta=1), 3), played(Local(), 3))


@pytest.mark.parametrize("score", OTHER_SCORES)
def test_no_spectrum_is_sent_where_none_is_needed(score):
    after = played(ResFIM(score=score))
    assert after.ledger(0, "up") == after.ledger(0, "down") == {}
    assert played(ResFIM()).ledger(0, "up")
    assert "spectrum" in ResFIM.travels
    assert "spectrum" not in ResFIM(score=score).policies()["travels"]
    assert "travels" not in ResFIM().policies()


def gradient_by_loop(model, images, masks):
    """Return the size of the mean gradient by one backward pass per image, in float64."""
    model = model.double().eval()
    total = {name: np.zeros(tuple(p.shape)) for name, p in model.named_parameters()}
    for image, mask in zip(images.double(), masks.double(), strict=True):
        model.zero_grad(set_to_none=True)
        loss64(model(image[None]), mask[None]).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad.numpy()
    return {name: np.abs(value) / len(images) for name, value in total.items()}


def test_the_mean_gradient_is_that_of_single_images_averaged():
    model, images, masks = example(count=11)
    found = mean_gradient(model, [(images[:9], masks[:9]), (images[9:], masks[9:])], BCEDice(0.5))
    expected = gradient_by_loop(model, images, masks)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=0, atol=2e-5 * value.max(), err_msg=name)


def trained_once(client):
    """Return a client's model after its training in round 1, and its images and masks."""
    from pflbench.unet import UNet

    model, data = UNet(3, 4), cases(client, dict(SIZES)[client])
    model.load_state_dict(played(Local(), 1).models[client])
    return model.double(), data.images.double() / 255, data.masks.double()


@pytest.mark.parametrize(("score", "by_hand"), [("fisher", by_loop), ("gradient", gradient_by_loop)])
def test_the_mask_of_another_score_is_where_that_score_is_largest(score, by_hand):
    for client, _ in SIZES:
        scores = flat(by_hand(*trained_once(client)))
        mask = flat(played(ResFIM(score=score), 1).kept[client]["state"]["mask"])
        expected = chosen_by_sorting(scores, round(0.1 * P))
        margin = np.sort(scores)[-round(0.1 * P)]
        odd = mask != expected  # float32 against float64: only where scores all but tie
        assert odd.sum() <= 6
        np.testing.assert_allclose(scores[odd], margin, rtol=1e-3)


def test_a_random_mask_is_drawn_once_and_depends_on_no_image():
    masks = {rounds: played(ResFIM(score="random"), rounds).kept for rounds in (1, 3)}
    dark = {name: cases(name, count) for name, count in SIZES}
    for data in dark.values():
        data.images[:] = data.images // 2
    darker = play(ResFIM(score="random"), dark, rounds=1).kept
    for client, _ in SIZES:
        first = flat(masks[1][client]["state"]["mask"])
        assert first.sum() == round(0.1 * P)
        np.testing.assert_array_equal(flat(masks[3][client]["state"]["mask"]), first)
        np.testing.assert_array_equal(flat(darker[client]["state"]["mask"]), first)
    bern, lyon = (flat(masks[1][client]["state"]["mask"]) for client in ("Bern", "Lyon"))
    assert (bern != lyon).any()
    other_seed = played(ResFIM(score="random"), 1, seed=1).kept["Bern"]["state"]["mask"]
    assert (flat(other_seed) != bern).any()


@pytest.mark.parametrize(
    ("method", "per_image"),
    [
        (ResFIM(), 3),
        (ResFIM(pooling="per client"), 3),
        (ResFIM(fisher_labels="sampled"), 3),
        (ResFIM(granularity="layer"), 3),
        (ResFIM(score="fisher"), 1),
        (ResFIM(score="gradient"), 1),
        (ResFIM(score="random"), 0),
    ],
)
def test_gradients_counted_are_those_announced(method, per_image):
    counted = played(method).logs("gradients")
    for client, images in SIZES:
        assert counted[1, client] == counted[2, client] == images + per_image * images
        assert method.extra_gradients(card(SIZES))[client] == per_image * images


# sampled labels ------------------------------------------------------------------------------------------------


class OnePixel(torch.nn.Module):
    """z = w x for images of one pixel: d z / d w = x, so every Fisher has a closed form."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def forward(self, images):
        return images * self.w


def test_a_sampled_fisher_comes_to_the_expectation_over_the_model_s_own_labels():
    x = torch.linspace(-3, 3, 40_000, dtype=torch.float64).view(-1, 1, 1, 1)
    found = float(sampled_fisher(OnePixel(), [x[:25_000], x[25_000:]], torch.Generator().manual_seed(0))["w"])
    p, x = 1 / (1 + np.exp(-0.7 * x.numpy())), x.numpy()
    terms = p * (1 - p) * x**2  # E_y (p - y)^2 x^2 for y ~ Bernoulli(p)
    variance = ((p * (1 - p) ** 4 + (1 - p) * p**4) * x**4 - terms**2).mean() / x.size
    assert abs(found - terms.mean()) < 4 * variance**0.5
    assert 4 * variance**0.5 < 0.05 * terms.mean()  # tight enough to tell: with y = 1 everywhere it is 30 % off
    assert abs(((1 - p) ** 2 * x**2).mean() - terms.mean()) > 0.3 * terms.mean()


def test_sampled_labels_are_not_the_true_ones():
    true, sampled = played(ResFIM(), 1), played(ResFIM(fisher_labels="sampled"), 1)
    for client, _ in SIZES:
        masks = [flat(one.kept[client]["state"]["mask"]) for one in (true, sampled)]
        assert masks[0].sum() == masks[1].sum()
        assert (masks[0] != masks[1]).any()


def test_sampling_leaves_the_model_in_its_mode():
    model = example()[0].train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sampled_fisher(model, [torch.rand(2, 3, 16, 16)], torch.Generator().manual_seed(0))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


class Counting(torch.nn.Module):
    """A UNet that remembers how many images it was given together."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.given = inner, []

    def forward(self, images):
        self.given.append(len(images))
        return self.inner(images)


def by_sampled(model, images, masks):
    return sampled_fisher(model, [images], torch.Generator().manual_seed(0))


def by_gradient(model, images, masks):
    return mean_gradient(model, [(images, masks)], BCEDice(0.5))


def by_true_labels(model, images, masks):
    return mean_fisher(model, [(images, masks)], BCEDice(0.5))


@pytest.mark.parametrize("score", [by_sampled, by_gradient, by_true_labels])
def test_however_many_images_a_client_has_a_model_is_given_eight_together_at_most(score):
    model, images, masks = example(20)
    counting = Counting(model)
    score(counting, images, masks)
    assert max(counting.given) <= 8
    assert sum(counting.given) in (20, 40)  # once for the gradient, and once before for the labels


def test_the_masks_drawn_piece_by_piece_are_those_of_all_images_at_once():
    model, images, _ = example(20, dtype=torch.float64)
    with torch.no_grad():
        probability = model.eval()(images).sigmoid()
    masks = (torch.rand((20, 1, 16, 16), generator=torch.Generator().manual_seed(0)) < probability).double()
    expected = mean_fisher(model, [(images, masks)], torch.nn.functional.binary_cross_entropy_with_logits)
    found = sampled_fisher(model, [images[:11], images[11:]], torch.Generator().manual_seed(0))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12 * float(value.max()), err_msg=name)


# one Fisher for every other client -----------------------------------------------------------------------------


def test_the_residual_to_several_is_the_mean_difference_over_the_largest():
    rng = np.random.default_rng(0)
    own, *others = ({"a.weight": torch.from_numpy(rng.random(50))} for _ in range(4))
    change = sum((own["a.weight"] - other["a.weight"]).abs().numpy() for other in others) / 3
    found = residual(own, *others, how="max")["a.weight"].numpy()
    np.testing.assert_allclose(found, change / change.max(), rtol=1e-12)
    top = np.max([fisher["a.weight"].numpy() for fisher in (own, *others)], axis=0)
    np.testing.assert_allclose(residual(own, *others, how="relative")["a.weight"].numpy(), change / top, rtol=1e-12)


def fishers_of(pooling):
    """Return the other clients' Fishers of a made-up client, whose two neighbours have styles of their own."""
    model, images, masks = example()
    rng = torch.Generator().manual_seed(3)
    briefing = {name: torch.rand((4, 3, 3, 3), generator=rng) * 200 for name in ("Lyon", "Oslo")}
    client = SimpleNamespace(
        model=model, briefing=briefing, rng=torch.Generator().manual_seed(5), device=images.device, loss=BCEDice(0.5)
    )
    return ResFIM(pooling=pooling)._other_fishers(client, images, masks)


def test_fishers_of_every_client_have_that_of_all_together_as_their_mean():
    (together,), apart = fishers_of("together"), fishers_of("per client")
    assert len(apart) == 2
    for name, value in together.items():
        mean = (apart[0][name].double() + apart[1][name].double()) / 2
        np.testing.assert_allclose(value.numpy(), mean.numpy(), rtol=1e-4, atol=1e-6 * float(mean.max()))


def test_with_one_other_client_pooling_changes_nothing():
    two = SIZES[:2]
    assert_same_models(played(ResFIM(pooling="per client"), 2, two), played(ResFIM(), 2, two))


def test_with_two_others_it_does():
    masks = [flat(played(ResFIM(pooling=p), 1).kept["Bern"]["state"]["mask"]) for p in ("together", "per client")]
    assert (masks[0] != masks[1]).any()
