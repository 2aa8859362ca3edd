"""Where data is looked for, which sites take part, and what each client gets of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pflbench.dataset import Case
from pflbench.errors import UsageError
from pflbench.recipe import Recipe
from pflbench.task import card, chosen_sites, data_folders, locate, open_source, open_task

RECIPE = Recipe(image_height=8, image_width=8, rounds=3, epochs=2)


def found(toys, data_root=None, options=None):
    return locate(toys.dataset("discs"), toys.dataset, data_root, options)


def test_the_given_folder_comes_first(toys, lay_out, monkeypatch):
    monkeypatch.setenv("PFLBENCH_DATA", str(lay_out("env", "North")))
    lay_out("user", "North")
    given = lay_out("given", "North")
    assert found(toys, given).root == given


def test_then_the_variable(toys, lay_out, monkeypatch):
    folder = lay_out("env", "North")
    lay_out("user", "North")
    monkeypatch.setenv("PFLBENCH_DATA", str(folder))
    assert found(toys).root == folder


def test_then_the_users_data_folder(toys, lay_out, tmp_path):
    lay_out("user", "North")
    assert found(toys).root == tmp_path / "user"


def test_then_the_stand_in(toys):
    dataset = found(toys)
    assert dataset.name == "discs-simulated"
    assert dataset.simulated


def test_only_the_given_folder_is_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("PFLBENCH_DATA", "env")
    assert data_folders(Path("given")) == [Path("given")]
    assert data_folders(None) == [Path("env"), tmp_path / "user"]
    monkeypatch.delenv("PFLBENCH_DATA")
    assert data_folders(None) == [tmp_path / "user"]


@pytest.mark.parametrize("make", [True, False])
def test_a_given_folder_without_the_data_is_an_error_not_a_simulation(toys, lay_out, tmp_path, make):
    lay_out("user", "North")
    folder = lay_out("empty") if make else tmp_path / "nowhere"
    with pytest.raises(UsageError, match="no discs data in") as error:
        found(toys, folder)
    assert str(folder) in str(error.value)
    assert "--data-root" in str(error.value)


def test_options_of_the_real_data_are_not_dropped_for_the_stand_in(toys):
    with pytest.raises(UsageError, match="no discs data in"):
        found(toys, options={"per_site": 7})


def test_options_reach_the_dataset(toys, lay_out):
    assert found(toys, lay_out("given", "North"), {"per_site": 9}).per_site == 9


def test_an_unknown_option_is_refused_before_anything_is_searched(toys):
    with pytest.raises(UsageError, match="no setting of discs called 'persite'; did you mean 'per_site'"):
        found(toys, options={"persite": 7})


def test_a_dataset_without_a_stand_in_is_an_error_where_it_is_missing(toys, monkeypatch):
    monkeypatch.setattr(toys.dataset("discs"), "stand_in", None)
    with pytest.raises(UsageError, match="PFLBENCH_DATA"):
        found(toys)


def test_all_sites_take_part_where_all_are_there(toys, lay_out):
    dataset = found(toys, lay_out("given", "South", "North", "West"))
    assert chosen_sites(dataset, None) == ("North", "South", "West")


def test_missing_sites_are_named_with_the_way_out(toys, lay_out):
    dataset = found(toys, lay_out("given", "South"))
    with pytest.raises(UsageError, match=r"lacks the sites North, West in .*--sites South"):
        chosen_sites(dataset, None)


def test_sites_are_taken_in_the_order_asked_for_in_any_case_of_letters(toys, lay_out):
    dataset = found(toys, lay_out("given", "North", "West"))
    assert chosen_sites(dataset, ["west", "NORTH"]) == ("West", "North")


def test_an_unknown_site_is_refused_with_the_nearest(toys, lay_out):
    dataset = found(toys, lay_out("given", "North"))
    with pytest.raises(UsageError, match="no site of discs called 'Nort'; did you mean 'North'"):
        chosen_sites(dataset, ["Nort"])


def test_a_known_site_that_is_not_here_is_named_with_those_that_are(toys, lay_out):
    dataset = found(toys, lay_out("given", "North"))
    with pytest.raises(UsageError, match=r"lacks the sites South in .*; here are North"):
        chosen_sites(dataset, ["North", "South"])


def test_a_site_named_twice_is_refused(toys, lay_out):
    dataset = found(toys, lay_out("given", "North"))
    with pytest.raises(UsageError, match="twice"):
        chosen_sites(dataset, ["North", "north"])


@pytest.fixture
def optional(toys, monkeypatch):
    """Let West be a site that nobody can get."""
    monkeypatch.setattr(toys.dataset("discs"), "optional_sites", ("West",))


@pytest.mark.usefixtures("optional")
def test_an_optional_site_is_not_missed(toys, lay_out):
    assert chosen_sites(found(toys, lay_out("without", "South", "North")), None) == ("North", "South")


@pytest.mark.usefixtures("optional")
def test_an_optional_site_takes_part_where_it_is_there(toys, lay_out):
    assert chosen_sites(found(toys, lay_out("with", "West", "South", "North")), None) == ("North", "South", "West")


@pytest.mark.usefixtures("optional")
def test_other_sites_are_missed_as_ever(toys, lay_out):
    with pytest.raises(UsageError, match=r"lacks the sites North in .*--sites South,West"):
        chosen_sites(found(toys, lay_out("partly", "West", "South")), None)


@pytest.mark.usefixtures("optional")
def test_an_optional_site_that_is_asked_for_is_missed(toys, lay_out):
    with pytest.raises(UsageError, match=r"lacks the sites West in .*; here are North, South"):
        chosen_sites(found(toys, lay_out("without", "South", "North")), ["West"])


@pytest.fixture
def open_ended(toys, lay_out, monkeypatch):
    """Return a dataset of whatever sites lie there."""
    folder = lay_out("own", "Süd", "Ost")
    monkeypatch.setattr(toys.dataset("discs"), "find", classmethod(lambda cls, root, **options: cls(root=root)))
    monkeypatch.setattr(toys.dataset("discs"), "sites", ())
    monkeypatch.setattr(toys.dataset("discs"), "available", lambda self: sorted(p.name for p in self.root.iterdir()))
    return found(toys, folder)


def test_a_dataset_that_names_no_sites_takes_whatever_lies_there(open_ended):
    assert chosen_sites(open_ended, None) == ("Ost", "Süd")
    assert chosen_sites(open_ended, ["süd"]) == ("Süd",)


def test_a_dataset_that_names_no_sites_knows_those_that_lie_there(open_ended):
    with pytest.raises(UsageError, match="no site of discs called 'Nord'; known: Ost, Süd"):
        chosen_sites(open_ended, ["Nord"])


@pytest.fixture
def source(simulated_discs, by_site):
    return open_source(simulated_discs(per_site=8), ("North", "South"), by_site)


def test_a_source_holds_the_cases_of_its_sites(source):
    assert list(source.holdings) == ["North", "South"]
    assert {client: len(own) for client, own in source.holdings.items()} == {"North": 8, "South": 8}
    assert {case.site for own in source.holdings.values() for case in own} == {"North", "South"}
    assert source.index == source.holdings


def test_the_digest_changes_with_the_content_and_only_with_it(simulated_discs, by_site):
    def digest(sites=("North",), **options):
        return open_source(simulated_discs(**options), sites, by_site).digest

    assert digest() == digest()
    assert len({digest(), digest(side=24), digest(per_site=7), digest(sites=("South",))}) == 4


def test_cases_that_nobody_holds_are_indexed_and_change_no_digest(simulated_discs, by_site):
    class Fewer(type(by_site)):
        def assign(self, cases, rng):
            return super().assign([case for case in cases if case.id != "North/5"], rng)

    class Changed(simulated_discs):
        def digest(self, case):
            return super().digest(case) + ("!" if case.id == "North/5" else "")

    def opened(dataset, partitioner):
        return open_source(dataset, ("North",), partitioner)

    fewer, everyone = opened(simulated_discs(), Fewer()), opened(simulated_discs(), by_site)
    assert len(fewer.holdings["North"]) == 5
    assert fewer.index == everyone.index
    assert set(fewer.content) == {f"North/{index}" for index in range(6)}
    assert fewer.digest != everyone.digest
    assert opened(Changed(), Fewer()).digest == fewer.digest
    assert opened(Changed(), by_site).digest != everyone.digest


def test_a_case_listed_twice_is_refused(simulated_discs, by_site):
    class Doubled(simulated_discs):
        def cases(self, site):
            return [*super().cases(site), Case(f"{site}/0", site, "again")]

    with pytest.raises(UsageError, match="lists a case twice"):
        open_source(Doubled(), ("North",), by_site)


def test_a_partitioner_that_gives_a_case_to_two_is_refused(simulated_discs, by_site):
    class Doubling(type(by_site)):
        def assign(self, cases, rng):
            return {"one": cases, "two": cases}

    with pytest.raises(UsageError, match="given out twice"):
        open_source(simulated_discs(), ("North",), Doubling()).splits(RECIPE, 0)


def test_validation_changes_with_the_seed_and_the_test_set_does_not(source):
    splits = [source.splits(RECIPE, seed) for seed in range(6)]
    assert len({split["North"].val for split in splits}) > 1
    assert len({split["North"].test for split in splits}) == 1
    assert source.splits(RECIPE, 3) == splits[3]


def test_a_fixed_split_is_the_same_for_every_seed(source):
    fixed = replace(RECIPE, fixed_split=True)
    assert source.splits(fixed, 0) == source.splits(fixed, 5)


def test_two_clients_of_equal_size_draw_independently(source):
    drawn = [
        tuple([case.subject for case in split.val] for split in source.splits(RECIPE, seed).values())
        for seed in range(12)
    ]
    assert any(north != south for north, south in drawn)


def test_the_card_holds_names_and_numbers_only(source):
    shown = card(source, RECIPE, source.splits(RECIPE, 0))
    assert vars(shown) == {
        "dataset": "discs-simulated",
        "clients": {"North": 5, "South": 5},
        "channels": 1,
        "height": 8,
        "width": 8,
        "epochs": 2,
        "rounds": 3,
        "guests": (),
        "public": 0,
    }


def test_each_client_gets_its_own_pixels(source):
    recipe = replace(RECIPE, image_height=16, image_width=16)
    task = open_task(source, recipe, 1, "cpu")
    for client, split in source.splits(recipe, 1).items():
        data = task.clients[client]
        parts = {"train": data.training, **data.held_out}
        for kind, part in parts.items():
            pairs = [source.dataset.read(case) for case in getattr(split, kind)]
            assert torch.equal(part.images, torch.from_numpy(np.stack([image for image, _ in pairs])))
            assert torch.equal(part.masks[:, 0], torch.from_numpy(np.stack([mask for _, mask in pairs])))
        assert [label.id for label in data.test_cases] == [case.id for case in split.test]


def test_test_cases_keep_the_name_of_their_volume(simulated_discs, by_site):
    class Sliced(simulated_discs):
        def cases(self, site):
            return [replace(c, volume=f"scan {c.id}" if site == "South" else None) for c in super().cases(site)]

    task = open_task(open_source(Sliced(), ("North", "South"), by_site), RECIPE, 0, "cpu")
    shown = {client: [(label.id, label.volume) for label in data.test_cases] for client, data in task.clients.items()}
    assert shown["North"] == [("North/0", ""), ("North/1", "")]
    assert shown["South"] == [("South/0", "scan South/0"), ("South/1", "scan South/1")]


def test_the_channels_of_the_task_are_those_of_the_images(simulated_discs, by_site):
    class Coloured(simulated_discs):
        def image_channels(self):
            return 3

        def read(self, case):
            image, mask = super().read(case)
            return np.concatenate([image, 255 - image, image // 2]), mask

    source = open_source(Coloured(), ("North", "South"), by_site)
    task = open_task(source, replace(RECIPE, image_height=16, image_width=16), 0, "cpu")
    assert task.card.channels == 3
    images = task.clients["North"].training.images
    assert images.shape[1:] == (3, 16, 16)
    assert torch.equal(images[:, 0], 255 - images[:, 1])


def test_each_client_gets_its_own_pixels_whatever_was_opened_before(source):
    recipe = replace(RECIPE, image_height=16, image_width=16)
    turned = replace(source, holdings=dict(reversed(source.holdings.items())))
    first, second = open_task(source, recipe, 1, "cpu"), open_task(turned, recipe, 1, "cpu")
    for client in source.holdings:
        assert torch.equal(first.clients[client].training.images, second.clients[client].training.images)
