"""Public images: sites that are no client, whose images, without masks, the server has."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from pflbench.errors import UsageError
from pflbench.matrix import run_plan
from pflbench.plan import Request, make_plan
from pflbench.plugins import registry
from pflbench.recipe import Recipe
from pflbench.task import chosen_public, open_source, open_task

FEDAVG = registry().method("fedavg")
SMALL = {"recipe.rounds": 2, "recipe.epochs": 1, "recipe.base_width": 2, "recipe.image_height": 16}
SMALL |= {"recipe.image_width": 16}


def server_sees(seen):
    """Return a method whose server notes its public images."""

    @dataclass(frozen=True)
    class Looking(FEDAVG):
        name: ClassVar[str] = "looking"

        def server_update(self, server, inbox):
            seen.append(server.public_images)
            return super().server_update(server, inbox)

    return Looking()


@pytest.fixture
def plan(toys, tmp_path):
    def make(*methods, **request):
        options = {"dataset": "discs-simulated", "seeds": (0,), "settings": SMALL, "device": "cpu", **request}
        return make_plan(Request(methods=methods, out=tmp_path / "runs", **options), toys)

    return make


def test_the_server_has_the_images_of_public_sites_and_no_client_does(plan, simulated_discs):
    seen = []
    made = plan(server_sees(seen), public=("West",))
    (trial,) = run_plan(made, 1, lambda event: None)
    assert trial.state == "finished", trial.error
    assert [client["name"] for client in trial.about["clients"]] == ["North", "South"]
    assert set(trial.table("cases").site) == {"North", "South"}
    data = simulated_discs()
    expected = np.stack([data.read(case)[0] for case in data.cases("West")]).astype(np.float32) / 255
    assert len(seen) == 2
    for images in seen:
        assert images.dtype is torch.float32
        np.testing.assert_array_equal(images.numpy(), expected)


def test_without_a_public_site_the_server_has_none(plan):
    seen = []
    (trial,) = run_plan(plan(server_sees(seen)), 1, lambda event: None)
    assert trial.state == "finished", trial.error
    assert {tuple(images.shape) for images in seen} == {(0, 1, 16, 16)}


def test_the_card_says_how_many_there_are(plan, idle):
    assert plan(idle()).trials[0].card.public == 0
    assert plan(idle(), public=("West",)).trials[0].card.public == 6


def test_the_specification_names_them_and_what_they_hold(plan, idle):
    assert "public" not in plan(idle()).trials[0].spec["dataset"]
    west, south = (plan(idle(), public=(site,)).trials[0].spec["dataset"]["public"] for site in ("West", "South"))
    assert west["sites"] == ["West"]
    assert south["sites"] == ["South"]
    assert west["digest"] != south["digest"]


def test_their_licence_and_source_stand_beside_the_others(plan, idle):
    assert set(plan(idle(), public=("West",)).trials[0].about["licences"]) == {"North", "South", "West"}
    assert set(plan(idle(), sites=("North", "South")).trials[0].about["licences"]) == {"North", "South"}


def test_other_pixels_in_a_public_site_are_another_specification(simulated_discs, by_site):
    sources = [open_source(simulated_discs(side=side), ("North",), by_site, ("West",)) for side in (16, 24)]
    assert sources[0].public_digest != sources[1].public_digest
    alone = open_source(simulated_discs(), ("North",), by_site)
    assert sources[0].digest == alone.digest  # who trains on what is the same with and without


def test_public_images_are_resized_like_all_others(simulated_discs, by_site):
    source = open_source(simulated_discs(), ("North",), by_site, ("West", "South"))
    recipe = replace(Recipe(), image_height=8, image_width=16)
    task = open_task(source, recipe, 0, "cpu")
    assert task.public.shape == (12, 1, 8, 16)
    assert task.public.dtype is torch.uint8
    assert set(task.clients) == {"North"}


def test_a_dataset_s_own_public_sites_are_taken_unless_others_are_asked_for(simulated_discs):
    @dataclass(frozen=True)
    class WithPublic(simulated_discs):
        public_sites: ClassVar[tuple[str, ...]] = ("Everyone",)

    assert chosen_public(WithPublic(), None, None) == ("Everyone",)
    assert chosen_public(WithPublic(), ["west"], None) == ("West",)
    assert chosen_public(WithPublic(), ["everyone", "West"], None) == ("Everyone", "West")
    assert chosen_public(simulated_discs(), None, None) == ()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"public": ("Wst",)}, "no site of discs-simulated called 'Wst'.*did you mean 'West'"),
        ({"public": ("West",), "sites": ("north", "west")}, "West is in --sites and in --public"),
        ({"public": ("North", "South", "West")}, "every site of discs-simulated is public"),
    ],
)
def test_what_cannot_be_public_is_refused(plan, idle, request_, sentence):
    with pytest.raises(UsageError, match=sentence):
        plan(idle(), **request_)


def test_the_simulated_vessels_bring_a_public_site_that_is_no_client():
    found = registry().dataset("vessel-simulated").find(None)
    assert found.public_sites == ("sim-public",)
    assert not set(found.public_sites) & set(found.available())
    cases = found.cases("sim-public")
    assert len({case.id for case in cases}) == len(cases) == 24
    image, mask = found.read(cases[0])
    assert image.shape == (3, 256, 256)
    assert 0.02 < mask.mean() < 0.2
    other = found.read(found.cases("sim-HRF")[0])[0]
    assert (image != other).mean() > 0.5
