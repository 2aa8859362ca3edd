"""Importing releases that were damaged at random: a store that can be read whole, or one sentence and no change."""

import importlib.util
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pflbench.errors import UsageError
from pflbench.importing import import_release
from pflbench.pixels import cache_folder
from pflbench_datasets.gland import Gland
from pflbench_datasets.prostate import Prostate
from pflbench_datasets.vessel import Vessel


def made_by(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", Path(__file__).parents[1] / f"data/{name}/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Small releases in the real layouts: LES-AV, two prostate sites, eight patients of MGD-1K."""
    base = tmp_path_factory.mktemp("whole")
    made_by("vessel").les_av(base / "vessel" / "LES-AV")
    made_by("prostate").make(base / "prostate", {"BIDMC": 3, "BMC": 2}, (24, 24, 4), quirks=False)
    made_by("gland").write(base / "gland", patients=8)
    return base


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def damage(folder, kind, which, at):
    """Damage one file of a release in place."""
    files = files_of(folder)
    file, other = files[which % len(files)], files[(which * 7 + 3) % len(files)]
    content = file.read_bytes()
    place = at % max(1, len(content))
    if kind == "cut":
        file.write_bytes(content[:place])
    elif kind == "flip":
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << at % 8)]) + content[place + 1 :])
    elif kind == "noise":
        file.write_bytes(content[:place] + content[place:][::-1])
    elif kind == "lose":
        file.unlink()
    elif kind == "swap":
        file.write_bytes(other.read_bytes())
    elif kind == "twice":
        shutil.copy(file, file.with_name(file.stem + "x" + file.suffix))
    elif kind == "move":
        file.rename(folder / file.name)
    elif kind == "pointer":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    else:
        file.write_bytes(b"")


def tree(folder):
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(".lock")
    }


def refusal(cls, given, root):
    try:
        import_release(cls, [given], root)
    except UsageError as error:
        return str(error)
    return None


KINDS = ["cut", "flip", "noise", "lose", "swap", "twice", "move", "pointer", "empty"]
DAMAGES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 500), st.integers(0, 10**6)), min_size=1, max_size=3
)


@pytest.mark.slow
@pytest.mark.parametrize("cls", [Vessel, Prostate, Gland], ids=lambda cls: cls.name)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example([("cut", 0, 0)])
@example([("pointer", 30, 0), ("lose", 1, 0)])
@example([("swap", 4, 0)])
@given(damages=DAMAGES)
def test_a_damaged_release_gives_a_whole_store_or_one_sentence(releases, monkeypatch, cls, damages):
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        monkeypatch.setenv("PFLBENCH_CACHE", str(base / "cache"))
        shutil.copytree(releases / cls.name, base / "given")
        for kind, which, at in damages:
            damage(base / "given", kind, which, at)
        (base / "data" / cls.name).mkdir(parents=True)
        before = tree(base / "data")
        sentence = refusal(cls, base / "given", base / "data")
        if sentence is not None:
            assert sentence.strip()
            assert "\n" not in sentence
            assert ".incoming" not in sentence
            assert tree(base / "data") == before
            assert not cache_folder().exists() or tree(cache_folder()) == {}
        else:
            found = cls.find(base / "data")
            cases = [case for site in found.available() for case in found.cases(site)]
            assert cases
            assert all(found.read(case)[1].max() <= 1 for case in cases)
