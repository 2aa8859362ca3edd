"""A plugin installed with --editable has another version as soon as a line of it is another."""

import json
from importlib.metadata import PathDistribution

import pytest

from pflbench.editable import installed_version


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution of one entry point, of code that lies there already."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(value, distribution="mine", editable=True):
        info = tmp_path / f"{distribution}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[pflbench]\n{distribution} = {value}\n")
        if editable is not None:
            (info / "direct_url.json").write_text(json.dumps({"url": "file:", "dir_info": {"editable": editable}}))
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


@pytest.mark.parametrize("editable", [False, None])
def test_what_cannot_be_edited_has_its_own_version(install, tmp_path, editable):
    (tmp_path / "edited_not.py").write_text("a = 1\n")
    assert installed_version(install("edited_not", editable=editable)) == "1.5"


def test_what_pflbench_brings_has_the_version_of_pflbench(install, tmp_path):
    (tmp_path / "edited_own.py").write_text("a = 1\n")
    assert installed_version(install("edited_own", "pflbench")) == "1.5"


def test_code_that_is_gone_still_has_a_version(install):
    assert installed_version(install("edited_gone")).startswith("1.5+")
