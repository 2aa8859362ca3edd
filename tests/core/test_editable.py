"""A plugin installed from a folder has another version as soon as a line of it is another."""

import json
from importlib.metadata import PathDistribution

import pytest

from pflbench.editable import installed_version

EDITABLE, FOLDER = {"dir_info": {"editable": True}}, {"dir_info": {}}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution of one entry point, of code that lies there already."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(value, distribution="mine", origin=EDITABLE, record=()):
        info = tmp_path / f"{distribution}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[pflbench]\n{distribution} = {value}\n")
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps({"url": "file:", **origin}))
        if record:
            (info / "RECORD").write_text("".join(f"{name},,\n" for name in (*record, f"{info.name}/RECORD")))
        [point] = PathDistribution(info).entry_points
        return point

    return make


def test_a_changed_line_is_another_version_and_changed_back_the_first_again(install, tmp_path):
    file = tmp_path / "edited_module.py"
    file.write_text("a = 1\n")
    point = install("edited_module")
    first = installed_version(point)
    assert first.startswith("1.5+")
    file.write_text("a = 2\n")
    assert installed_version(point) not in ("1.5", first)
    file.write_text("a = 1\n")
    assert installed_version(point) == first


def test_every_file_of_a_package_counts_wherever_the_entry_point_lies(install, tmp_path):
    inner = tmp_path / "edited_package" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("")
    point = install("edited_package.plugin")
    versions = {installed_version(point)}
    (inner / "formula.py").write_text("b = 1\n")
    versions.add(installed_version(point))
    (inner / "formula.py").write_text("b = 2\n")
    versions.add(installed_version(point))
    assert len(versions) == 3


def test_it_is_not_imported_for_that(install, tmp_path):
    (tmp_path / "edited_broken.py").write_text("1 / 0\n")
    assert installed_version(install("edited_broken")).startswith("1.5+")


@pytest.mark.parametrize("origin", [None, {"archive_info": {}}], ids=["index", "wheel"])
def test_a_release_has_its_own_version(install, tmp_path, origin):
    (tmp_path / "edited_not.py").write_text("a = 1\n")
    assert installed_version(install("edited_not", origin=origin, record=["edited_not.py"])) == "1.5"


@pytest.mark.parametrize("origin", [FOLDER, {"vcs_info": {"vcs": "git"}}], ids=["folder", "repository"])
def test_what_was_installed_anew_under_the_same_number_has_another_version(install, tmp_path, origin):
    record = ["copied/__init__.py", "copied/table.csv", "copied_beside.py"]
    (tmp_path / "copied").mkdir()
    for name in record:
        (tmp_path / name).write_text("")
    point = install("copied", origin=origin, record=[*record, "copied/__pycache__/__init__.pyc", "../bin/tool"])
    versions = [installed_version(point)]
    for name in record:
        (tmp_path / name).write_text("# more\n")
        versions.append(installed_version(point))
    assert len(set(versions)) == 4
    assert all(version.startswith("1.5+") for version in versions)


def test_what_the_installer_adds_does_not_count(install, tmp_path):
    (tmp_path / "copied_once.py").write_text("a = 1\n")
    point = install("copied_once", origin=FOLDER, record=["copied_once.py", "mine-1.5.dist-info/REQUESTED"])
    before = installed_version(point)
    (tmp_path / "mine-1.5.dist-info" / "REQUESTED").write_text("yes\n")
    assert installed_version(point) == before


@pytest.mark.parametrize("line", ["import side", "import os, side.deep as d", "def f():\n    from side import a"])
def test_a_module_beside_it_counts_where_it_is_imported(install, tmp_path, line):
    """Also through another one, which leads back."""
    (tmp_path / "edited_main.py").write_text("import edited_between\n")
    (tmp_path / "edited_between.py").write_text(f"import edited_main\n{line}\n")
    (tmp_path / "side").mkdir()
    (tmp_path / "side" / "__init__.py").write_text("a = 1\n")
    point = install("edited_main")
    before = installed_version(point)
    (tmp_path / "side" / "__init__.py").write_text("a = 2\n")
    assert installed_version(point) != before


def test_a_data_file_of_a_package_counts(install, tmp_path):
    (tmp_path / "edited_data").mkdir()
    (tmp_path / "edited_data" / "__init__.py").write_text("")
    point = install("edited_data")
    versions = {installed_version(point)}
    for text in ("1\n", "2\n"):
        (tmp_path / "edited_data" / "weights.csv").write_text(text)
        versions.add(installed_version(point))
    assert len(versions) == 3


def test_a_large_data_file_counts_by_its_size(install, tmp_path):
    """Reading gigabytes would delay every command."""
    (tmp_path / "edited_large").mkdir()
    (tmp_path / "edited_large" / "__init__.py").write_text("")
    point, versions = install("edited_large"), []
    for start, size in ((b"a", 2**25), (b"b", 2**25), (b"b", 2**25 + 1)):
        with open(tmp_path / "edited_large" / "weights.bin", "wb") as file:
            file.write(start)
            file.truncate(size)  # sparse
        versions.append(installed_version(point))
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize(
    "name", ["README.md", "run_all.py", "edited_apart/tests/test_it.py", "edited_apart/.hidden/a.py",
             "edited_apart/__pycache__/a.pyc", "wandb/run.json", "another/__init__.py"]
)  # fmt: skip
def test_what_it_does_not_consist_of_does_not_count(install, tmp_path, name):
    """Neither does a folder of results that a library writes under its own name, nor what that library is."""
    (tmp_path / "edited_apart").mkdir()
    (tmp_path / "edited_apart" / "__init__.py").write_text("import json, torch, pflbench.api, wandb, not_there\n")
    (tmp_path / "wandb").mkdir()
    point = install("edited_apart")
    before = installed_version(point)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("a = 1\n")
    assert installed_version(point) == before


def test_a_file_that_cannot_be_parsed_still_counts(install, tmp_path):
    (tmp_path / "edited_unparsable.py").write_text("def\n")
    point = install("edited_unparsable")
    before = installed_version(point)
    (tmp_path / "edited_unparsable.py").write_text("def f(\n")
    assert installed_version(point) != before


def test_what_pflbench_brings_has_the_version_of_pflbench(install, tmp_path):
    (tmp_path / "edited_own.py").write_text("a = 1\n")
    assert installed_version(install("edited_own", "pflbench")) == "1.5"


def test_code_that_is_gone_still_has_a_version(install):
    assert installed_version(install("edited_gone")).startswith("1.5+")
