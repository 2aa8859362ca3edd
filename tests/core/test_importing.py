"""Importing: what is recognised is copied, read and committed in one move; whatever goes wrong changes nothing."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from pflbench import cli, inventory
from pflbench.dataset import Case, Dataset
from pflbench.errors import DataError, UsageError
from pflbench.importing import import_release
from pflbench.pixels import cache_folder, digests, open_cache
from pflbench.release import Files, Found, Item
from pflbench.store import Store


@dataclass(frozen=True)
class Spots(Dataset):
    """Bright squares: ``SITE/images/N.png`` with ``SITE/masks/N.png``."""

    name: ClassVar[str] = "spots"
    title: ClassVar[str] = "Spots"
    sites: ClassVar[tuple[str, ...]] = ("North", "South", "West")
    expected: ClassVar[Mapping[str, tuple[int, int]]] = {"North": (3, 1), "South": (3, 2)}
    channels: ClassVar[int] = 1
    licence: ClassVar[Mapping[str, str]] = {"North": "CC0"}
    citation: ClassVar[Mapping[str, str]] = {"North": "Nobody, 2026"}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"image_height": 16, "image_width": 16}}
    store: Any = field(default=None, compare=False, metadata={"setting": False})

    @classmethod
    def find(cls, folder: Path | None, **options: Any) -> "Spots | None":
        store = Store.open(folder, cls.name)
        return None if store is None else replace(cls.of(options), root=store.folder, store=store)

    def available(self) -> Sequence[str]:
        return tuple(self.store.sites)

    def cases(self, site: str) -> Sequence[Case]:
        return [Case(f"{site}/{i.id}", site, i.subject, i.split) for i in self.store.sites[site].items.values()]

    def _files(self, case: Case) -> Mapping[str, Path]:
        return self.store.sites[case.site].items[case.id.partition("/")[2]].files

    def read(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        try:
            image, mask = (np.asarray(Image.open(self._files(case)[role]).convert("L")) for role in ("image", "mask"))
        except OSError as error:
            raise DataError(f"{self._files(case)['image']} cannot be read ({error}).") from error
        return image[None], (mask > 127).astype(np.uint8)

    def digest(self, case: Case) -> str:
        site = self.store.sites[case.site]
        return site.digest(case.id.partition("/")[2], "image") + site.digest(case.id.partition("/")[2], "mask")

    @classmethod
    def recognise(cls, files: Files) -> Sequence[Found]:
        found: dict[str, list[Item]] = {}
        masks = {(m[1], m[2]): file for m, file in files.match(r"(\w+)/masks/([\w ]+)\.png")}
        for m, file in files.match(r"(\w+)/images/([\w ]+)\.(?:png|PNG)"):
            if (m[1], m[2]) in masks:
                split = "test" if m[2].startswith("9") else "train"
                item = Item(m[2].rstrip("x"), m[2], {"image": file, "mask": masks[m[1], m[2]]}, split)
                found.setdefault(m[1], []).append(item)
        return [Found(site, "made up", tuple(items)) for site, items in found.items()]


def release(folder, site, names=("1", "2", "3", "9"), size=20, seed=0):
    """Write a site and return its folder."""
    rng = np.random.default_rng(seed)
    for kind in ("images", "masks"):
        (folder / site / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        mask = np.zeros((size, size), np.uint8)
        row, column = rng.integers(2, size - 8, 2)
        mask[row : row + 6, column : column + 6] = 255
        Image.fromarray(mask // 2 + rng.integers(0, 60, (size, size), np.uint8)).save(
            folder / site / "images" / f"{name}.png"
        )
        Image.fromarray(mask).save(folder / site / "masks" / f"{name}.png")
    return folder / site


def tree(*folders):
    """Return every file below the folders with its content; locks are no content."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for folder in folders
        for path in sorted(Path(folder).rglob("*"))
        if not path.name.endswith(".lock")
    }


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


def test_what_is_imported_is_found_and_read_as_it_was(tmp_path, root):
    source = release(tmp_path / "given", "North")
    imported = import_release(Spots, [tmp_path / "given"], root)
    assert imported.brought == ("North",)
    spots = Spots.find(root)
    assert [case.id for case in spots.cases("North")] == ["North/1", "North/2", "North/3", "North/9"]
    for case in spots.cases("North"):
        name = case.id.partition("/")[2]
        image, mask = spots.read(case)
        assert np.array_equal(image[0], np.asarray(Image.open(source / "images" / f"{name}.png")))
        assert np.array_equal(mask * 255, np.asarray(Image.open(source / "masks" / f"{name}.png")))
        content = (source / "images" / f"{name}.png").read_bytes()
        assert spots.digest(case).startswith(hashlib.sha256(content).hexdigest())


def test_sites_come_one_after_another_and_stand_in_the_datasets_order(tmp_path, root):
    release(tmp_path / "one", "South")
    release(tmp_path / "two", "North")
    import_release(Spots, [tmp_path / "one"], root)
    imported = import_release(Spots, [tmp_path / "two"], root)
    assert (imported.brought, imported.kept) == (("North",), ("South",))
    assert Spots.find(root).available() == ("North", "South")


def test_a_site_that_is_imported_again_is_replaced_and_its_old_files_are_gone(tmp_path, root):
    release(tmp_path / "one", "North", ("1", "2", "9"))
    release(tmp_path / "two", "North", ("4", "5", "9"), seed=1)
    import_release(Spots, [tmp_path / "one"], root)
    import_release(Spots, [tmp_path / "two"], root)
    assert [case.id for case in Spots.find(root).cases("North")] == ["North/4", "North/5", "North/9"]
    assert sorted(path.name for path in (root / "spots").rglob("*.png")) == sorted(2 * ["4.png", "5.png", "9.png"])


def test_a_run_after_the_import_decodes_nothing(tmp_path, root):
    release(tmp_path / "one", "North")
    import_release(Spots, [tmp_path / "one"], root)
    spots = Spots.find(root)
    index = {"North": tuple(spots.cases("North"))}
    asked = []
    cache = open_cache(
        spots, index, digests(spots, index["North"]), 16, 16, lambda done, total: asked.append((done, total))
    )
    assert asked == []
    assert cache.take(index["North"]).images.shape == (4, 1, 16, 16)
    assert inventory.decoded(spots)


class Stop(BaseException):
    """What Ctrl-C is: no Exception."""


def test_an_import_interrupted_at_any_moment_leaves_store_and_cache_as_they_were(tmp_path, root):
    release(tmp_path / "one", "South")
    import_release(Spots, [tmp_path / "one"], root)
    release(tmp_path / "two", "North")
    release(tmp_path / "two", "South", seed=3)
    before = tree(root, cache_folder())
    moments = []
    import_release(Spots, [tmp_path / "two"], tmp_path / "other", report=lambda *args: moments.append(args))
    before = tree(root, cache_folder())
    assert len(moments) > 20
    for last in range(len(moments)):
        seen = []

        def stop(*args, seen=seen, last=last):
            seen.append(args)
            if len(seen) > last:
                raise Stop

        with pytest.raises(Stop):
            import_release(Spots, [tmp_path / "two"], root, report=stop)
        assert tree(root, cache_folder()) == before, moments[last]


def test_what_a_killed_import_left_is_removed_by_the_next_and_never_read(tmp_path, root):
    release(tmp_path / "one", "South")
    import_release(Spots, [tmp_path / "one"], root)
    for left_over in (".incoming-0a1b2c3d", "site-North-0a1b2c3d"):  # before and after the folder was moved
        release(root / "spots" / left_over, "North")
    assert Spots.find(root).available() == ("South",)
    release(tmp_path / "two", "West")
    import_release(Spots, [tmp_path / "two"], root)
    names = sorted(path.name for path in (root / "spots").iterdir() if path.is_dir())
    assert [name.rsplit("-", 1)[0] for name in names] == ["site-South", "site-West"]


def broken(kind, folder):
    """Break a release in one way and return what must be named."""
    site = release(folder, "North")
    image, mask = site / "images" / "2.png", site / "masks" / "2.png"
    if kind == "pointer":
        image.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        return image, "git-lfs pointer"
    if kind == "empty file":
        mask.write_bytes(b"")
        return mask, "is empty"
    if kind == "truncated":
        image.write_bytes(image.read_bytes()[:100])
        return image, "cannot be read"
    if kind == "another image's mask":
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(mask)
        return Path("North/2"), "of shape"
    if kind == "no masks":
        for file in (site / "masks").iterdir():
            file.unlink()
        return folder, "nothing of spots was recognised"
    if kind == "black masks":
        for file in (site / "masks").iterdir():
            Image.fromarray(np.zeros((20, 20), np.uint8)).save(file)
        return Path("North"), "every mask of North"
    for folder_of_kind in ("images", "masks"):
        (site / folder_of_kind / "2x.png").write_bytes((site / folder_of_kind / "2.png").read_bytes())
    return image, "both case 2 of North"


@pytest.mark.parametrize(
    "kind",
    ["pointer", "empty file", "truncated", "another image's mask", "no masks", "black masks", "two of one id"],
)
def test_a_broken_release_is_named_in_one_sentence_and_changes_nothing(tmp_path, root, kind):
    release(tmp_path / "one", "South")
    import_release(Spots, [tmp_path / "one"], root)
    culprit, words = broken(kind, tmp_path / "two")
    before = tree(root, cache_folder())
    with pytest.raises(UsageError) as caught:
        import_release(Spots, [tmp_path / "two"], root)
    assert words in str(caught.value)
    assert str(culprit) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(root, cache_folder()) == before


def test_a_broken_file_of_an_archive_is_named_by_its_place_in_the_archive(tmp_path, root):
    broken("truncated", tmp_path / "two")
    archive = shutil.make_archive(str(tmp_path / "spots"), "zip", tmp_path / "two")
    with pytest.raises(DataError) as caught:
        import_release(Spots, [Path(archive)], root)
    assert str(caught.value).startswith("North/images/2.png cannot be read")


def test_a_site_in_two_sources_is_refused_naming_both(tmp_path, root):
    release(tmp_path / "one", "North")
    release(tmp_path / "two", "North")
    with pytest.raises(
        UsageError, match=r"North is in .*one and in .*two; give one of them, or choose sites with --sites"
    ):
        import_release(Spots, [tmp_path / "one", tmp_path / "two"], root)
    assert tree(root) == {str(root / "spots"): None}


def test_two_parts_of_one_release_become_one_site(tmp_path, root):
    release(tmp_path / "training", "North", ("1", "2"))
    release(tmp_path / "testing", "North", ("8", "9"), seed=2)
    import_release(Spots, [tmp_path / "training", tmp_path / "testing"], root)
    assert [case.id for case in Spots.find(root).cases("North")] == ["North/1", "North/2", "North/8", "North/9"]


def test_only_the_sites_asked_for_are_imported(tmp_path, root):
    release(tmp_path / "one", "North")
    release(tmp_path / "one", "South")
    assert import_release(Spots, [tmp_path / "one"], root, ["south"]).brought == ("South",)
    with pytest.raises(UsageError, match="no site of spots called 'Nord'; did you mean 'North'"):
        import_release(Spots, [tmp_path / "one"], root, ["Nord"])


def test_a_source_with_nothing_in_it_is_said_beside_one_that_has(tmp_path, root):
    release(tmp_path / "one", "North")
    (tmp_path / "two").mkdir()
    imported = import_release(Spots, [tmp_path / "one", tmp_path / "two"], root)
    assert imported.beside == (f"{tmp_path / 'two'} holds nothing of spots.",)


def test_two_imports_at_once_do_not_mix(tmp_path, root):
    release(tmp_path / "one", "North")
    begun, go_on = threading.Event(), threading.Event()

    def wait(*_):
        begun.set()
        assert go_on.wait(30)

    first = threading.Thread(target=import_release, args=(Spots, [tmp_path / "one"], root), kwargs={"report": wait})
    first.start()
    try:
        assert begun.wait(30)
        with pytest.raises(UsageError, match="another import"):
            import_release(Spots, [tmp_path / "one"], root)
    finally:
        go_on.set()
        first.join()
    assert Spots.find(root).available() == ("North",)


def test_a_file_that_was_touched_is_noticed_before_it_is_believed(tmp_path, root):
    release(tmp_path / "one", "North")
    import_release(Spots, [tmp_path / "one"], root)
    spots = Spots.find(root)
    case = spots.cases("North")[0]
    file = spots.store.sites["North"].files["1"]["image"].path
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(DataError, match="is not as it was imported"):
        spots.digest(case)


def test_verify_names_the_file_in_which_one_bit_has_turned(tmp_path, root):
    release(tmp_path / "one", "North")
    import_release(Spots, [tmp_path / "one"], root)
    spots = Spots.find(root)
    assert inventory.verify(spots) == inventory.Verification(8, 0, ())
    file = spots.store.sites["North"].files["2"]["mask"].path
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as bit rot does it: size and time unchanged
    (problem,) = inventory.verify(spots).problems
    assert str(file) in problem


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1, "dataset": "spots", "sites": 3}'])
def test_a_broken_index_is_named(root, content):
    (root / "spots").mkdir(parents=True)
    (root / "spots" / "index.json").write_text(content)
    with pytest.raises(DataError, match=r"index\.json.*import"):
        Spots.find(root)


def test_an_index_with_a_site_that_lacks_a_field_is_named(tmp_path, root):
    release(tmp_path / "one", "North")
    import_release(Spots, [tmp_path / "one"], root)
    index = json.loads((root / "spots" / "index.json").read_text())
    del index["sites"]["North"]["items"][0]["files"]["mask"]["sha256"]
    (root / "spots" / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="broken at North"):
        Spots.find(root)


def test_counts_are_compared_with_the_papers(tmp_path, root):
    release(tmp_path / "one", "North")
    release(tmp_path / "one", "South")
    release(tmp_path / "one", "West")
    import_release(Spots, [tmp_path / "one"], root)
    found = {site: inventory.count(Spots.find(root), site) for site in Spots.sites}
    assert [(c.here, c.paper, c.differs) for c in found.values()] == [
        ("3/1", "3/1", False),
        ("3/1", "3/2", True),
        ("3/1", "", False),
    ]


def test_a_file_given_as_data_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        inventory.owned_root(tmp_path / "file")


def test_importing_into_a_simulated_dataset_is_refused(capsys):
    assert cli.call(["data", "import", "vessel-simulated", "--from", "."]) == 2
    assert "simulated" in capsys.readouterr().err
