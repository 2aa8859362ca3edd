"""The cache of pixels: filled once, keyed by content, never half-filled, and resized by area."""

import os
import threading
import time
from typing import ClassVar

import numpy as np
import platformdirs
import pytest

from pflbench import pixels
from pflbench.errors import DataError
from pflbench.origin import note_origin
from pflbench.pixels import cache_folder, digests, foreground, open_cache, resize_image, resize_mask


@pytest.fixture
def data(simulated_discs):
    """Return a dataset of discs that notes which cases were read, with some of its cases."""

    class Noting(simulated_discs):
        noted: ClassVar[list] = []
        changed = ""  # a case whose content is another one now
        broken: ClassVar[dict] = {}  # case -> the error that reading it raises

        def read(self, case):
            self.noted.append(case.id)
            if case.id in self.broken:
                raise self.broken[case.id]
            return super().read(case)

        def digest(self, case):
            return super().digest(case) + ("!" if case.id == self.changed else "")

    return Noting()


@pytest.fixture
def cases(data):
    return [case for site in ("North", "South") for case in data.cases(site)]


def opened(data, cases, height=16, width=16, **options):
    index = {site: [case for case in cases if case.site == site] for site in dict.fromkeys(c.site for c in cases)}
    return open_cache(data, index, digests(data, cases), height, width, **options)


def names(folder):
    """Return the cache's entries: locks apart, what was left over included."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock") if folder.exists() else []


def test_the_cache_holds_what_the_reader_gives(data, cases):
    found = opened(data, cases).take(cases)
    assert found.images.shape == (12, 1, 16, 16)
    assert found.masks.shape == (12, 1, 16, 16)
    assert found.images.dtype == found.masks.dtype == np.uint8
    for case, small, small_mask in zip(cases, found.images, found.masks, strict=True):
        image, mask = data.read(case)
        assert np.array_equal(small, image)
        assert np.array_equal(small_mask[0], mask)


def test_every_case_is_read_once_and_never_again(data, cases):
    first = opened(data, cases)
    assert sorted(data.noted) == sorted(case.id for case in cases)
    data.noted.clear()
    again = opened(data, cases)
    assert np.array_equal(first.take(cases).images, again.take(cases).images)
    assert data.noted == []


def test_the_cache_is_a_file_that_cannot_be_written_to(data, cases):
    for decoded, _ in opened(data, cases).sites.values():
        for pixels_of_all in (decoded.images, decoded.masks):
            assert isinstance(pixels_of_all, np.memmap)
            with pytest.raises(ValueError, match="read-only"):
                pixels_of_all[0] = 0


def test_what_is_taken_is_a_copy_that_may_be_written_to(data, cases):
    cache = opened(data, cases)
    taken = cache.take(cases[:2])
    before = taken.images.copy()
    taken.images[:] = taken.masks[:] = 7
    assert np.array_equal(cache.take(cases[:2]).images, before)


def test_changed_content_is_read_anew(data, cases):
    opened(data, cases)
    data.noted.clear()
    type(data).changed = cases[3].id
    opened(data, cases)
    assert sorted(data.noted) == sorted(case.id for case in data.cases("North"))  # the other site's is as it was


@pytest.mark.parametrize("change", [{"height": 8, "width": 8}, {"height": 16, "width": 8}])
def test_another_size_is_another_entry(data, cases, change):
    opened(data, cases)
    data.noted.clear()
    assert opened(data, cases, **change).take(cases).images.shape[-2:] == (change["height"], change["width"])
    assert len(data.noted) == len(cases)


def test_the_entry_of_a_built_in_dataset_keeps_its_name(simulated_discs):
    discs = simulated_discs()
    opened(discs, discs.cases("North"))
    assert names(cache_folder()) == ["discs-simulated-16x16-d92e2cc946408e624dfa0134"]  # as version 3 named it


def test_another_version_of_the_plugin_that_reads_is_another_entry(data, cases):
    read = []
    for version in (None, "1.2", "1.3", "1.2"):
        if version:
            note_origin(type(data), "toy-box", version)
        data.noted.clear()
        opened(data, cases)
        read.append(len(data.noted))
    assert read == [len(cases), len(cases), len(cases), 0]


def test_shares_of_foreground_are_those_of_the_plugins_version(data, cases):
    for version in ("1.2", "1.3"):
        note_origin(type(data), "toy-box", version)
        data.noted.clear()
        foreground(data, cases, digests(data, cases))
        assert len(data.noted) == len(cases)
    foreground(data, cases, digests(data, cases))
    assert len(data.noted) == len(cases)


def test_another_area_rule_is_another_entry(data, cases, monkeypatch):
    opened(data, cases, 8, 8)
    data.noted.clear()
    monkeypatch.setattr(type(data), "mask_area", 0.6)
    opened(data, cases, 8, 8)
    assert len(data.noted) == len(cases)


def test_a_subset_of_the_cases_gives_their_own_pixels(data, cases):
    cache = opened(data, cases)
    few = [cases[8], cases[3], cases[4]]
    found = cache.take(few)
    for case, small, small_mask in zip(few, found.images, found.masks, strict=True):
        image, mask = data.read(case)
        assert np.array_equal(small, image), case.id
        assert np.array_equal(small_mask[0], mask), case.id


def test_the_order_of_the_cases_does_not_mix_them_up(data, cases):
    opened(data, cases)
    data.noted.clear()
    back = opened(data, cases[::-1]).take(cases)
    assert data.noted == []
    for row, case in enumerate(cases):
        image, mask = data.read(case)
        assert np.array_equal(back.images[row], image), case.id
        assert np.array_equal(back.masks[row, 0], mask), case.id


@pytest.mark.parametrize("error", [DataError("North/3.png is no readable picture."), KeyboardInterrupt()])
def test_an_interrupted_decode_leaves_nothing_and_can_be_repeated(data, cases, error):
    type(data).broken = {cases[3].id: error}
    with pytest.raises(type(error)):
        opened(data, cases)
    assert names(cache_folder()) == []
    type(data).broken = {}
    data.noted.clear()
    cache = opened(data, cases)
    assert sorted(data.noted) == sorted(case.id for case in cases)
    assert np.array_equal(cache.take([cases[3]]).images[0], data.read(cases[3])[0])


def test_the_first_of_several_broken_files_is_named_however_late_it_is_noticed(data, cases, monkeypatch):
    read = type(data).read

    def broken(self, case):
        time.sleep(0.05 * (case.id == "North/1"))
        if case.id in ("North/1", "North/2", "North/5"):
            raise DataError(f"{case.id}.png is no readable picture.")
        return read(self, case)

    monkeypatch.setattr(type(data), "read", broken)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    with pytest.raises(DataError, match=r"^North/1\.png"):
        opened(data, cases)


def test_the_sites_before_an_interruption_need_not_be_decoded_again(data, cases):
    type(data).broken = {"South/3": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        opened(data, cases)
    type(data).broken = {}
    data.noted.clear()
    opened(data, cases)
    assert sorted(data.noted) == sorted(case.id for case in data.cases("South"))


def test_a_killed_decode_leaves_no_entry(data, cases, monkeypatch):
    """A kill cannot clean up: what it leaves must not look like an entry."""
    monkeypatch.setattr(pixels.os, "replace", lambda *_: (_ for _ in ()).throw(SystemExit))
    monkeypatch.setattr(pixels.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(SystemExit):
        opened(data, cases)
    left = names(cache_folder())
    assert left
    assert all(name.startswith(".") for name in left)
    monkeypatch.undo()


def test_two_that_come_at_once_decode_once(data, cases):
    caches = []
    threads = [threading.Thread(target=lambda: caches.append(opened(data, cases))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caches) == 4
    assert len(data.noted) == len(cases)


def test_the_cache_lies_where_the_variable_says(data, cases, tmp_path, monkeypatch):
    monkeypatch.setenv("PFLBENCH_CACHE", str(tmp_path / "elsewhere"))
    opened(data, cases)
    assert len(names(tmp_path / "elsewhere")) == 2  # one entry a site
    assert all(name.startswith("discs-simulated-16x16-") for name in names(tmp_path / "elsewhere"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("given", [None, ""])
def test_without_the_variable_it_lies_in_the_users_cache_folder(tmp_path, monkeypatch, given):
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name, **_: str(tmp_path / "home" / name))
    monkeypatch.delenv("PFLBENCH_CACHE")
    if given is not None:
        monkeypatch.setenv("PFLBENCH_CACHE", given)
    assert cache_folder() == tmp_path / "home" / "pflbench"


def test_decoding_is_reported_from_none_to_all(data, cases):
    told = []
    opened(data, cases, report=lambda done, total: told.append((done, total)))
    assert told == [(done, 12) for done in range(13)]
    told.clear()
    opened(data, cases, report=lambda done, total: told.append((done, total)))
    assert told == []


@pytest.mark.parametrize(
    ("image", "mask"),
    [((3, 16, 16), (16, 16)), ((16, 16), (16, 16)), ((1, 16, 16), (16, 15)), ((1, 16, 16), (1, 16, 16))],
)
def test_a_case_of_wrong_shape_is_named_with_its_shapes(data, cases, monkeypatch, image, mask):
    monkeypatch.setattr(type(data), "read", lambda *_: (np.zeros(image, np.uint8), np.zeros(mask, np.uint8)))
    with pytest.raises(DataError) as error:
        opened(data, cases[:1])
    assert "'North/0'" in str(error.value)
    assert str(image) in str(error.value)
    assert str(mask) in str(error.value)


def test_a_site_whose_masks_are_all_empty_is_refused_and_one_mask_is_enough(data, cases, monkeypatch):
    read = type(data).read

    def emptied(self, case, but=""):
        image, mask = read(self, case)
        return image, mask * (case.site == "North" or case.id == but)

    monkeypatch.setattr(type(data), "read", emptied)
    with pytest.raises(DataError, match="every mask of South is empty"):
        opened(data, cases)
    assert len(names(cache_folder())) == 1  # North's
    monkeypatch.setattr(type(data), "read", lambda self, case: emptied(self, case, but="South/4"))
    assert opened(data, cases).take(cases).masks.any(axis=(1, 2, 3)).tolist() == [True] * 6 + [False] * 4 + [
        True,
        False,
    ]


def block_means(plane, height, width):
    """Return the mean of each block, one after another."""
    rows, columns = plane.shape[0] // height, plane.shape[1] // width
    means = np.empty((height, width))
    for i in range(height):
        for j in range(width):
            means[i, j] = plane[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns].astype(float).mean()
    return means


@pytest.mark.parametrize("area", [0.0, 0.2, 0.4, 0.5])
@pytest.mark.parametrize("old", [(32, 32), (32, 48), (80, 16), (64, 16)])
def test_a_pixel_of_a_small_mask_is_foreground_above_the_share_of_its_area(old, area):
    mask = (np.random.default_rng(1).random(old) < 0.4).astype(np.uint8)
    expected = block_means(mask, 16, 16) > area + 1e-9
    assert np.array_equal(resize_mask(mask, 16, 16, area), expected.astype(np.uint8))


def test_exactly_the_share_is_not_above_it():
    mask = np.array([[1, 1], [0, 0]], np.uint8)
    assert resize_mask(mask, 1, 1, 0.5).tolist() == [[0]]
    assert resize_mask(mask, 1, 1, 0.49).tolist() == [[1]]


@pytest.mark.parametrize("old", [(3, 32, 32), (3, 48, 32), (1, 16, 64)])
def test_a_pixel_of_a_small_image_is_the_mean_of_those_it_covers(old):
    image = np.random.default_rng(2).integers(0, 256, old, dtype=np.uint8)
    small = resize_image(image, 16, 16)
    assert small.shape == (old[0], 16, 16)
    for plane, resized in zip(image, small, strict=True):
        assert np.abs(block_means(plane, 16, 16) - resized).max() <= 1


def test_what_has_the_size_already_is_not_touched():
    rng = np.random.default_rng(3)
    image, mask = rng.integers(0, 256, (3, 8, 8), np.uint8), rng.integers(0, 2, (8, 8), np.uint8)
    assert np.array_equal(resize_image(image, 8, 8), image)
    assert np.array_equal(resize_mask(mask, 8, 8, 0.4), mask)


def test_a_mask_that_grows_stays_a_mask():
    mask = np.array([[1, 0], [0, 1]], np.uint8)
    assert np.array_equal(resize_mask(mask, 4, 4, 0.4), np.kron(mask, np.ones((2, 2), np.uint8)))
