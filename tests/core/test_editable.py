"""A plugin installed with --editable has another version as soon as a line of it is another."""

import importlib
import json
import sys
from importlib.metadata import PathDistribution

import pytest

from pflbench.editable import installed_version, written_version


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


SCRIPT = """
from pflbench_methods.fedavg import FedAvg
RATE = 0.1

def rate():
    return RATE

class Mine(FedAvg):
    steps = 3

    def aggregate(self, messages, server):
        return [(lambda x: x + 1)(self.steps) for _ in messages]

if __name__ == "__main__":
    print("trains")
table = print("seeds=3")
"""


def defined(tmp_path, text):
    """Return the version of the class ``Mine`` in a module of this text."""
    (tmp_path / "a_script.py").write_text(text)
    sys.modules.pop("a_script", None)
    importlib.invalidate_caches()
    return written_version(importlib.import_module("a_script").Mine)


def typed(text):
    """Return the version of the class ``Mine`` typed at a prompt, which has no file."""
    namespace = {"__name__": "a_prompt"}
    exec(compile(text, "<stdin>", "exec"), namespace)
    return written_version(namespace["Mine"])


@pytest.fixture
def version(request, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    return (lambda text: defined(tmp_path, text)) if request.param == "script" else typed


@pytest.mark.parametrize("version", ["script", "prompt"], indirect=True)
@pytest.mark.parametrize(("old", "new"), [("x + 1", "x + 2"), ("x + 1", "x - 1"), ("steps = 3", "steps = 4"),
                                          ("aggregate(", "receive("), ("self.steps", "self.name")])  # fmt: skip
def test_a_changed_class_is_another_version_wherever_it_was_written(version, old, new):
    assert version(SCRIPT) == version(SCRIPT) != version(SCRIPT.replace(old, new))


@pytest.mark.parametrize("version", ["script"], indirect=True)
@pytest.mark.parametrize("old", ["RATE = 0.1", "return RATE", "import FedAvg"])
def test_what_a_class_uses_of_its_script_counts(version, old):
    assert version(SCRIPT) != version(
        SCRIPT.replace(old, f"{old} + 1" if "import" not in old else f"{old}, FedAvg as F")
    )


@pytest.mark.parametrize("version", ["script", "prompt"], indirect=True)
@pytest.mark.parametrize(("old", "new"), [("seeds=3", "seeds=5"), ('"trains"', '"trains more"'), ("\n\n", "\n\n\n")])
def test_what_a_script_does_with_it_does_not_count(version, old, new):
    assert version(SCRIPT) == version(SCRIPT.replace(old, new))


@pytest.mark.parametrize("version", ["script", "prompt"], indirect=True)
def test_a_class_it_is_built_on_counts_too(version):
    base = SCRIPT.replace("class Mine(", "class Base(") + "\nclass Mine(Base):\n    more = 1\n"
    assert version(base) != version(base.replace("steps = 3", "steps = 4"))
