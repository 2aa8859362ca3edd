"""What is scored: per case, inside the field of view, and per volume; from the pixels to the frame of scores."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from torch import nn

from pflbench.matrix import run_plan
from pflbench.plan import Request, make_plan
from pflbench.results import Trial, scores, write_table, write_trial

SPEC = {
    "dataset": {"name": "discs", "simulated": True},
    "method": {"name": "fedavg", "title": "FedAvg", "label": ""},
    "seed": 0,
}


def row(client, case, dice, volume="", inside=None, counts=(1, 0, 0), site=None, chosen="best"):
    return [chosen, 3, client, site or client, "p", volume, case, dice, inside, *counts]


@pytest.fixture
def scored(tmp_path):
    """Return a function that writes rows of cases and returns metric -> client -> (value, cases)."""

    def write(*rows):
        made = Trial(tmp_path, "t", "finished", 4, SPEC, {})
        write_trial(made)
        write_table(made.folder, "cases", rows)
        frame = scores([made])
        return {
            metric: {one.client: (one.value, one.cases) for one in own.itertuples()}
            for metric, own in frame[frame.chosen == "best"].groupby("metric")
        }

    return write


# ------------------------------------------------------------------------------------ the frame of scores


def test_without_volumes_and_fields_of_view_dice_is_the_only_metric(scored):
    assert scored(row("A", "1", 0.5), row("A", "2", 1.0)) == {"dice": {"A": (0.75, 2)}}


def test_dice_of_a_volume_pools_the_pixels_of_its_slices(scored):
    found = scored(
        row("A", "1", 1.0, "v", counts=(1, 0, 0)),
        row("A", "2", 0.5, "v", counts=(10, 15, 5)),
        row("A", "3", 0.0, "v", counts=(0, 3, 1)),
        row("A", "4", 0.0, "w", counts=(0, 0, 8)),
    )
    assert found["dice"]["A"] == (0.375, 4)
    of_v = 2 * 11 / (2 * 11 + 18 + 6)  # the mean of its slices would be 0.5
    assert found["dice_volume"]["A"] == (pytest.approx(of_v / 2), 2)


def test_a_volume_without_foreground_in_which_nothing_was_found_is_right(scored):
    found = scored(row("A", "1", 1.0, "v", counts=(0, 0, 0)), row("A", "2", 1.0, "v", counts=(0, 0, 0)))
    assert found["dice_volume"] == {"A": (1.0, 1)}


def test_volumes_of_one_name_at_two_sites_or_two_clients_are_apart(scored):
    found = scored(
        row("A", "1", 0.0, "v", counts=(0, 1, 1), site="one"),
        row("A", "2", 1.0, "v", counts=(3, 0, 0), site="two"),
        row("B", "3", 1.0, "v", counts=(5, 0, 0), site="three"),
    )
    assert found["dice_volume"] == {"A": (0.5, 2), "B": (1.0, 1)}


def test_volumes_of_the_best_and_of_the_last_round_are_apart(scored):
    found = scored(row("A", "1", 1.0, "v", counts=(3, 0, 0)), row("A", "1", 0.0, "v", counts=(0, 3, 3), chosen="last"))
    assert found["dice_volume"] == {"A": (1.0, 1)}


def test_single_images_beside_volumes_are_no_volumes(scored):
    found = scored(row("A", "1", 1.0, "v", counts=(3, 0, 0)), row("A", "2", 0.0, counts=(0, 1, 0)), row("B", "3", 0.5))
    assert found["dice"] == {"A": (0.5, 2), "B": (0.5, 1)}
    assert found["dice_volume"] == {"A": (1.0, 1)}


def test_dice_inside_is_given_where_every_case_of_the_client_has_a_field_of_view(scored):
    found = scored(
        row("A", "1", 0.5, inside=0.6),
        row("A", "2", 0.5, inside=1.0),
        row("B", "3", 0.4, inside=0.9),
        row("B", "4", 0.2),
        row("C", "5", 0.1),
    )
    assert found["dice"] == {"A": (0.5, 2), "B": (pytest.approx(0.3), 2), "C": (0.1, 1)}
    assert found["dice_fov"] == {"A": (pytest.approx(0.8), 2)}


# --------------------------------------------------------------------------------- from pixels to the frame


class Copy(nn.Module):
    """Says as a logit what the first channel holds."""

    def forward(self, images):
        return (images[:, :1] / (1 - images[:, :1])).log()


@pytest.fixture
def data(simulated_discs):
    """Return discs whose masks lie aside: South is slices, West half with fields of view, North with all."""

    @dataclass(frozen=True)
    class Aside(simulated_discs):
        name: ClassVar[str] = "aside"

        def cases(self, site):
            own = super().cases(site)
            return [replace(c, volume=f"v{i // 2}") for i, c in enumerate(own)] if site == "South" else own

        def read(self, case):
            image, mask = super().read(case)
            return image, np.roll(mask, 2, axis=1)

        def field_of_view(self, case):
            if case.site == "South" or case.id == "West/0":
                return None
            field = np.zeros((self.side, self.side), np.uint8)
            field[2:14, : 9 + int(case.id[-1])] = 1
            return field

    return Aside


@pytest.fixture
def played(data, toys, idle, tmp_path):
    """Return the dataset and the finished trial of a method that finds what is bright."""

    @dataclass(frozen=True)
    class Bright(idle):
        name: ClassVar[str] = "bright"

        def personal_model(self, client):
            return Copy()

    toys.found["dataset"]["aside"] = (data, toys.plugins[0])
    settings = {"recipe.rounds": 2, "recipe.image_height": 16, "recipe.image_width": 16, "recipe.threshold": 0.2}
    request = Request(
        methods=(Bright(),), dataset="aside", seeds=(0,), device="cpu", settings=settings, out=tmp_path / "runs"
    )
    (trial,) = run_plan(make_plan(request, toys), 1, lambda event: None)
    return data(), trial


def by_hand(dataset, case, field=None):
    """Return the pixels by outcome of what is brighter than a fifth, as sets of places."""
    image, mask = dataset.read(case)
    found = {tuple(place) for place in np.argwhere(image[0] / 255 > 0.2)}
    true = {tuple(place) for place in np.argwhere(mask)}
    inside = {tuple(place) for place in np.argwhere(np.ones_like(mask) if field is None else field)}
    return [len(part & inside) for part in (found & true, found - true, true - found)]


def overlap(hits, wrong, missed):
    return hits / (hits + (wrong + missed) / 2)


def test_the_table_of_cases_counts_pixels_inside_the_field_of_view_and_everywhere(played):
    dataset, trial = played
    assert trial.state == "finished"
    table = trial.table("cases").set_index(["chosen", "case"])
    for chosen in ("best", "last"):
        for site in dataset.sites:
            for case in dataset.cases(site)[:2]:  # the others are trained on
                shown, field = table.loc[(chosen, case.id)], dataset.field_of_view(case)
                expected = by_hand(dataset, case)
                assert min(expected) > 0
                assert shown[["tp", "fp", "fn"]].tolist() == expected, case.id
                assert shown.dice == pytest.approx(overlap(*expected), abs=1e-12)
                assert shown.volume == (case.volume or "")
                assert (shown.client, shown.site, shown.subject) == (site, site, case.subject)
                if field is None:
                    assert np.isnan(shown.dice_fov)
                else:
                    assert shown.dice_fov == pytest.approx(overlap(*by_hand(dataset, case, field)), abs=1e-12)
                    assert shown.dice_fov != shown.dice
    assert len(table) == 2 * 3 * 2


def test_the_frame_names_each_metric_where_the_data_allows_it(played):
    dataset, trial = played
    frame = scores([trial])
    found = {(one.metric, one.client): (one.value, one.cases) for one in frame[frame.chosen == "best"].itertuples()}
    assert found.keys() == {("dice", site) for site in dataset.sites} | {
        ("dice_fov", "North"),
        ("dice_volume", "South"),
    }
    north = [overlap(*by_hand(dataset, c, dataset.field_of_view(c))) for c in dataset.cases("North")[:2]]
    assert found["dice_fov", "North"] == (pytest.approx(sum(north) / 2), 2)
    pooled = np.sum([by_hand(dataset, case) for case in dataset.cases("South")[:2]], axis=0)
    assert found["dice_volume", "South"] == (pytest.approx(overlap(*pooled)), 1)
    assert found["dice_volume", "South"][0] != pytest.approx(found["dice", "South"][0], abs=1e-6)
