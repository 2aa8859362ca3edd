"""The cache goes by site, volumes are read in one go, fields of view are kept, foreground is measured once."""

import os
import threading
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from pflbench.dataset import Case
from pflbench.errors import DataError
from pflbench.pixels import cache_folder, digests, foreground, open_cache
from pflbench.recipe import Recipe
from pflbench.task import open_source, open_task

SITES = ("North", "South", "West")
RECIPE = Recipe(image_height=16, image_width=16)


@pytest.fixture
def data(simulated_discs):
    """Return a dataset of discs that notes who read which case; some have a field of view, some a volume."""

    @dataclass(frozen=True)
    class Noting(simulated_discs):
        noted: ClassVar[list] = []
        pause: ClassVar[float] = 0.0
        seen: ClassVar[dict] = {}  # case id -> its field of view
        volumes: ClassVar[tuple] = ()  # sites whose cases are slices, two of each volume
        content: ClassVar[str] = ""

        def cases(self, site):
            own = super().cases(site)
            return [replace(c, volume=f"v{i // 2}") for i, c in enumerate(own)] if site in self.volumes else own

        def read(self, case):
            self.noted.append((threading.get_ident(), case.id))
            time.sleep(self.pause)
            return super().read(case)

        def digest(self, case):
            return super().digest(case) + self.content

        def field_of_view(self, case):
            return self.seen.get(case.id)

    return Noting()


def opened(data, sites=SITES, side=16, **options):
    index = {site: data.cases(site) for site in sites}
    content = digests(data, [case for own in index.values() for case in own])
    return open_cache(data, index, content, side, side, **options)


def read_cases(data):
    return sorted(case for _, case in data.noted)


def of(*sites, count=6):
    return sorted(f"{site}/{index}" for site in sites for index in range(count))


# ---------------------------------------------------------------------------------------------- sites


def test_a_federation_of_other_sites_decodes_only_what_is_new(data):
    opened(data, ("North", "South"))
    assert read_cases(data) == of("North", "South")
    data.noted.clear()
    opened(data, ("South",))
    opened(data, ("South", "North"))
    assert data.noted == []
    opened(data, ("West", "North"))
    assert read_cases(data) == of("West")


def test_a_partition_that_leaves_cases_out_decodes_nothing_anew(data, by_site):
    class Fewer(type(by_site)):
        def assign(self, cases, rng):
            return {"one": [case for case in cases if case.site != "West"][1:-1]}

    open_task(open_source(data, SITES, by_site), RECIPE, 0, "cpu")
    data.noted.clear()
    task = open_task(open_source(data, SITES, Fewer()), RECIPE, 0, "cpu")
    assert data.noted == []
    held = [label.id for label in task.clients["one"].test_cases]
    assert held == ["North/1", "South/0", "South/1"]
    shown = task.clients["one"].held_out["test"].images
    data.noted.clear()
    for label, image in zip(held, shown, strict=True):
        assert np.array_equal(image, data.read(Case(label, label[:5], ""))[0]), label


def test_cases_of_several_sites_are_taken_in_the_order_asked_for(data):
    cache = opened(data)
    wanted = [data.cases(site)[row] for site, row in (("West", 3), ("North", 5), ("South", 0), ("North", 1))]
    found = cache.take(wanted)
    for case, image, mask in zip(wanted, found.images, found.masks, strict=True):
        expected, expected_mask = data.read(case)
        assert np.array_equal(image, expected), case.id
        assert np.array_equal(mask[0], expected_mask), case.id


def test_only_what_is_new_is_reported_volume_by_volume(data, monkeypatch):
    monkeypatch.setattr(type(data), "volumes", ("West",))
    opened(data, ("South",))
    told = []
    opened(data, report=lambda done, total: told.append((done, total)))
    assert told == [(done, 12) for done in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12)]


def test_a_site_without_cases_stops_nobody(data):
    assert [len(decoded.images) for decoded, _ in opened(replace(data, per_site=0), ("North",)).sites.values()] == [0]


# -------------------------------------------------------------------------------------------- volumes


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the number of threads cannot be set here")
@pytest.mark.parametrize("purpose", ["decode", "foreground"])
def test_the_slices_of_a_volume_are_read_one_after_another_in_one_thread(data, monkeypatch, purpose):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    many = replace(data, per_site=16)
    monkeypatch.setattr(type(data), "volumes", ("North",))
    monkeypatch.setattr(type(data), "pause", 0.005)
    cases = many.cases("North")
    if purpose == "decode":
        opened(many, ("North",))
    else:
        foreground(many, cases, digests(many, cases))
    threads = {}
    for thread, case in data.noted:
        threads.setdefault(thread, []).append(case)
    assert len(threads) > 1  # volumes are read at the same time
    for read in threads.values():
        numbers = [int(case.removeprefix("North/")) for case in read]
        assert [(n, n + 1) for n in numbers[::2]] == list(zip(numbers[::2], numbers[1::2], strict=True))
        assert all(number % 2 == 0 for number in numbers[::2])


# --------------------------------------------------------------------------------------- field of view


def half(side=16):
    field = np.zeros((side, side), np.uint8)
    field[:, : side // 2] = 1
    return field


def test_fields_of_view_stand_beside_the_images_they_belong_to(data, monkeypatch):
    fields = {"North/2": half(), "North/4": np.ones((16, 16), np.uint8)}
    monkeypatch.setattr(type(data), "seen", fields)
    cases = [*data.cases("North")[::-1], *data.cases("South")[:2]]
    found = opened(data).take(cases).fields
    assert found.shape == (8, 1, 16, 16)
    for case, field in zip(cases, found, strict=True):
        assert np.array_equal(field[0], fields.get(case.id, np.zeros((16, 16)))), case.id


def test_where_no_case_has_a_field_of_view_there_is_none(data, monkeypatch):
    monkeypatch.setattr(type(data), "seen", {"North/2": half()})
    cache = opened(data)
    assert cache.take(data.cases("South")).fields is None
    assert cache.take(data.cases("North")[:2]).fields.any(axis=(1, 2, 3)).tolist() == [False, False]


def test_a_pixel_of_a_small_field_of_view_is_inside_where_more_than_half_of_it_was(data, monkeypatch):
    field = (np.random.default_rng(1).random((16, 16)) < 0.5).astype(np.uint8)
    field[:2, :2] = [[1, 1], [0, 0]]  # exactly half of the first pixel
    monkeypatch.setattr(type(data), "seen", {"North/0": field})
    small = opened(data, ("North",), side=8).take(data.cases("North")[:1]).fields[0, 0]
    blocks = [[field[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] for column in range(8)] for row in range(8)]
    assert small.tolist() == [[int(block.sum() > 2) for block in row] for row in blocks]


def test_a_field_of_view_of_another_size_than_its_image_is_named(data, monkeypatch):
    monkeypatch.setattr(type(data), "seen", {"North/3": np.ones((16, 15), np.uint8)})
    with pytest.raises(DataError, match=r"'North/3' .*\(16, 15\).*\(16, 16\)"):
        opened(data)
    assert not [path for path in cache_folder().iterdir() if path.suffix != ".lock"]


def test_a_client_is_given_the_fields_of_view_of_its_test_cases(data, by_site, monkeypatch):
    monkeypatch.setattr(type(data), "seen", {"North/1": half(), "South/5": half()})
    task = open_task(open_source(data, SITES, by_site), RECIPE, 0, "cpu")
    north, west = task.clients["North"].held_out["test"], task.clients["West"].held_out["test"]
    assert np.array_equal(north.fields[:, 0], np.stack([np.zeros((16, 16)), half()]))  # cases 0 and 1 are tested
    assert west.fields is None


# ----------------------------------------------------------------------------------------- foreground


def measured(data, cases):
    return foreground(data, cases, digests(data, cases))


def test_foreground_is_the_share_of_the_mask_in_original_size(data):
    large = replace(data, side=40)
    shares = measured(large, large.cases("North"))
    for case in large.cases("North"):
        mask = large.read(case)[1]
        assert shares[case.id] == np.count_nonzero(mask) / 1600


def test_foreground_is_measured_once_whatever_the_order(data):
    cases = [case for site in SITES for case in data.cases(site)]
    first = measured(data, cases)
    assert read_cases(data) == of(*SITES)
    data.noted.clear()
    assert measured(data, cases[::-1]) == first
    assert data.noted == []


def test_foreground_of_changed_content_is_measured_anew(data, monkeypatch):
    cases = data.cases("North")
    measured(data, cases)
    data.noted.clear()
    monkeypatch.setattr(type(data), "content", "other")
    measured(data, cases)
    assert read_cases(data) == of("North")


def test_two_that_ask_at_once_measure_once(data, monkeypatch):
    monkeypatch.setattr(type(data), "pause", 0.002)
    found = []
    threads = [threading.Thread(target=lambda: found.append(measured(data, data.cases("North")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert read_cases(data) == of("North")


@pytest.mark.parametrize("wanted", [True, False])
def test_only_a_partitioner_that_wants_foreground_is_given_it(data, by_site, wanted):
    given = {}

    class Looking(type(by_site)):
        def wants_foreground(self):
            return wanted

        def assign(self, cases, rng):
            given.update({case.id: case.foreground for case in cases})
            return super().assign(cases, rng)

    source = open_source(data, ("North", "West"), Looking())
    data.noted.clear()
    cases = [case for site in ("North", "West") for case in data.cases(site)]
    assert given == {case.id: data.read(case)[1].mean() if wanted else None for case in cases}
    plain = open_source(data, ("North", "West"), by_site)
    assert source.digest == plain.digest
    data.noted.clear()
    open_task(source, RECIPE, 0, "cpu")
    assert read_cases(data) == of("North", "West")
