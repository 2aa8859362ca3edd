"""A file is a plugin: loaded by its path, known by its content, and the same in every process."""

import os
import sys
import textwrap
from dataclasses import replace

import pytest

from pflbench import plugins
from pflbench.errors import UsageError
from pflbench.listing import listing
from pflbench.opening import open_spec
from pflbench.plan import Request, make_plan
from pflbench.plugin_files import PluginFile

METHOD = """
    from __future__ import annotations
    from dataclasses import dataclass
    from typing import ClassVar
    from pflbench.api import Method
    from pflbench_methods.fedavg import FedAvg

    @dataclass(frozen=True)
    class Made(FedAvg):
        name: ClassVar[str] = "made"
        title: ClassVar[str] = "Made"
        strength: float = 0.5
"""
HOOK = """
    from pflbench.api import hookimpl

    @hookimpl
    def pflbench_methods(): return [Made]
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file of some code and returns its path."""

    def make(code=METHOD, name="mine.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(code))
        return path

    return make


def test_a_method_in_a_file_is_found_beside_what_is_installed(write):
    registry = plugins.with_files([write()])
    cls, plugin = registry.get("method", "made")
    assert cls().strength == 0.5
    assert (plugin.name, plugin.distribution, plugin.hooks) == ("mine", "file", ())
    assert registry.names("method") == [*plugins.registry().names("method"), "made"]


def test_what_is_installed_does_not_learn_of_files(write):
    plugins.with_files([write()])
    assert "made" not in plugins.registry().names("method")
    assert "made" not in plugins.with_files([]).names("method")


def test_a_file_alone_gives_only_its_own(write):
    assert plugins.from_file(write()).names("method") == ["made"]


def test_a_file_may_use_hooks_as_any_plugin(write):
    hidden = """
    @dataclass(frozen=True)
    class Hidden(FedAvg):
        name: ClassVar[str] = "hidden"
        title: ClassVar[str] = "Hidden"
    """
    registry = plugins.from_file(write(METHOD + hidden + HOOK))
    assert registry.names("method") == ["made"]
    assert registry.plugins[0].hooks == ("pflbench_methods",)


def test_a_file_may_give_a_dataset_and_a_partitioner_too(write):
    more = """
    from pflbench_datasets.partitioners import Natural
    from pflbench_datasets.simulated import SimulatedVessel

    @dataclass(frozen=True)
    class Halves(Natural):
        name: ClassVar[str] = "halves"
        title: ClassVar[str] = "Halves"

    @dataclass(frozen=True)
    class Small(SimulatedVessel):
        name: ClassVar[str] = "small"
        title: ClassVar[str] = "Small"
    """
    registry = plugins.from_file(write(METHOD + more))
    assert [registry.names(kind) for kind in plugins.KINDS] == [["made"], ["small"], ["halves"]]


def test_a_class_that_others_are_built_on_is_not_provided(write):
    child = """
    @dataclass(frozen=True)
    class Base(FedAvg):
        depth: int = 1

    @dataclass(frozen=True)
    class Child(Base):
        name: ClassVar[str] = "child"
        title: ClassVar[str] = "Child"
    """
    assert plugins.from_file(write(METHOD + child)).names("method") == ["made", "child"]


def test_several_files_of_one_name_do_not_clash(write):
    other = METHOD.replace("made", "other").replace("0.5", "0.7")
    registry = plugins.with_files([write(), write(other, "elsewhere/mine.py")])
    assert (registry.method("made")().strength, registry.method("other")().strength) == (0.5, 0.7)


def test_a_file_named_twice_is_loaded_once(write):
    path = write()
    found = plugins.with_files([path, os.path.relpath(path)])
    assert found.names("method").count("made") == 1
    assert found.method("made") is plugins.with_files([path]).method("made")


def test_a_file_may_have_the_name_of_an_installed_module(write):
    import torch

    assert plugins.from_file(write(name="torch.py")).names("method") == ["made"]
    assert sys.modules["torch"] is torch


def test_the_version_is_a_hash_of_the_content(write):
    first = plugins.from_file(write()).plugins[0].version
    again = plugins.from_file(write(name="other/mine.py")).plugins[0].version
    changed = plugins.from_file(write(METHOD.replace("0.5", "0.6"))).plugins[0].version
    assert first == again != changed


def test_an_edited_file_is_loaded_anew(write):
    assert plugins.from_file(write()).method("made")().strength == 0.5
    assert plugins.from_file(write(METHOD.replace("0.5", "0.6"))).method("made")().strength == 0.6


def test_nothing_is_written_beside_the_file(write):
    path = write()
    plugins.from_file(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import nothing_of_this_name",
            r"mine.py could not be loaded: ModuleNotFoundError: .*mine.py, line 1: import no",
        ),
        ("def broken(:", r"mine.py could not be loaded: SyntaxError: .*mine.py, line 1"),
        ("x = 1\n1 / 0", r"mine.py could not be loaded: ZeroDivisionError: .*\(.*mine.py, line 2: 1 / 0\)\.$"),
        ("raise SystemExit", r"mine.py could not be loaded: SystemExit; it is imported, .*mine.py, line 1: raise Sys"),
        (METHOD + HOOK.replace("[Made]", "[]"), r"mine.py: its hooks return no class; return \[MyClass\]\.$"),
        (METHOD + HOOK.replace("return [Made]", "raise SystemExit"), r"mine.py: SystemExit; it is imported, not run"),
        ("x = 1", r"mine.py: it provides nothing; define a subclass of Method, Dataset or Partitioner in it\.$"),
        (
            METHOD + HOOK.replace("methods", "metods"),
            r"mine.py: it implements 'pflbench_metods', which is no hook .*; did you mean .*\?$",
        ),
        (
            METHOD.replace('"made"', '"fedavg"'),
            "'fedavg' comes from pflbench and from the file mine.py; give yours ano",
        ),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused_with_its_line(write, code, sentence):
    with pytest.raises(UsageError, match=sentence):
        plugins.with_files([write(code)])


@pytest.mark.parametrize(
    ("neighbour", "line", "sentence"),
    [
        ("neighbour_of_mine.py", "import neighbour_of_mine", "; neighbour_of_mine.py lies beside it, but "),
        ("neighbours/one.py", "from neighbours.one import x", "; neighbours/ lies beside it, but "),
        ("neighbour_of_mine.py", "from .neighbour_of_mine import x", "relative import .*; "),
        ("neighbour_of_mine.py", "from . import neighbour_of_mine", "relative import .*; "),
    ],
)
def test_a_file_that_leans_on_its_neighbour_is_told_to_become_a_package(write, neighbour, line, sentence):
    write("x = 1", neighbour)
    advice = rf"{sentence}a plugin file stands alone: make a package of the two \(pflbench new .*\) \(.*line 1: "
    with pytest.raises(UsageError, match=advice):
        plugins.from_file(write(line))


@pytest.mark.parametrize("line", ["import results_of_mine", "import nothing_of_this_name", "from pflbench import noth"])
def test_what_is_no_code_beside_the_file_is_no_neighbour(write, line):
    write("a table, no code", "results_of_mine/table.csv")
    with pytest.raises(UsageError, match=r"ImportError|ModuleNotFoundError") as error:
        plugins.from_file(write(line))
    assert "stands alone" not in str(error.value)


def test_an_interruption_while_a_file_is_loaded_is_one(write):
    with pytest.raises(KeyboardInterrupt):
        plugins.from_file(write("raise KeyboardInterrupt"))


def test_a_file_that_failed_is_loaded_when_it_is_mended(write):
    with pytest.raises(UsageError):
        plugins.from_file(write("1 / 0"))
    assert plugins.from_file(write()).names("method") == ["made"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("absent.py", "the plugin file .*absent.py cannot be read .*; give the path of a file"),
        ("notes.txt", "notes.txt is no Python file; a plugin file is one module and ends with .py"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path, path, sentence):
    with pytest.raises(UsageError, match=sentence):
        plugins.with_files([tmp_path / path])


def test_lists_name_the_file(write):
    found = plugins.with_files([write()])
    (row,) = [row for row in listing("methods", found) if row["name"] == "made"]
    assert row["from"] == f"file {found.files[0].digest}"
    assert listing("plugins", found)[-1]["plugin"] == "mine"
    assert "made" not in [row["name"] for row in listing("methods")]


def planned(path, **settings):
    request = Request(methods=("made",), dataset="vessel-simulated", seeds=(0,), settings={"recipe.rounds": 1})
    return make_plan(replace(request, **settings), plugins.with_files([path]))


def test_the_content_is_part_of_the_trial(write):
    first = planned(write()).trials[0]
    assert first.registered
    assert first.spec["method"]["distribution"] == "file"
    assert first.spec["method"]["version"] == PluginFile.at(write()).digest
    assert planned(write()).trials[0].name == first.name
    assert planned(write(METHOD + "\n    # another thought\n")).trials[0].name != first.name


def test_another_process_opens_the_same_method(write):
    plan = planned(write())
    files = [PluginFile.of(file.plain()) for file in plan.plugins]
    method, _ = open_spec(plan.trials[0].spec, None, None, files)
    assert method == plan.trials[0].method


def test_a_file_that_has_changed_since_it_was_planned_is_refused(write):
    plan = planned(write())
    file = plan.plugins[0]
    write(METHOD.replace("0.5", "0.9"))
    unseen = replace(file, digest=PluginFile.at(file.path).digest[::-1])  # this process has not loaded it yet
    with pytest.raises(UsageError, match=r"mine.py has changed since this command read it.*run the command again"):
        open_spec(plan.trials[0].spec, None, None, [unseen])


DATASET = """
    from dataclasses import dataclass
    from typing import ClassVar
    from pflbench_datasets.simulated import SimulatedVessel

    @dataclass(frozen=True)
    class Dim(SimulatedVessel):
        name: ClassVar[str] = "dim"
        title: ClassVar[str] = "Dim"

        def read(self, case):
            image, mask = super().read(case)
            return image // 2, mask
"""


def dimmed(path):
    """Return the one trial of a dataset in a file, as this process plans it and as a worker opens it."""
    request = {"methods": ("fedavg",), "dataset": "dim", "sites": ("sim-CHASEDB1", "sim-LES-AV")}
    recipe = {"recipe.image_height": 16, "recipe.image_width": 16, "recipe.base_width": 4, "dim.size": 64}
    plan = planned(path, **request, settings=recipe)
    (trial,) = plan.trials
    return trial, open_spec(trial.spec, None, None, plan.plugins)[1]


def test_a_line_of_a_dataset_changed_gives_another_trial_and_other_pixels(write):
    trial, task = dimmed(write(DATASET))
    again, _ = dimmed(write(DATASET))
    path = write(DATASET.replace("// 2", "// 4"))
    other, darker = dimmed(path)
    assert trial.name == again.name != other.name
    assert trial.spec["dataset"]["digest"] == other.spec["dataset"]["digest"]  # the cases are what they were
    assert trial.spec["dataset"]["distribution"] == "file"
    assert trial.spec["dataset"]["version"] != other.spec["dataset"]["version"] == PluginFile.at(path).digest
    for client, data in task.clients.items():
        before, after = (one.training.images.float().mean() for one in (data, darker.clients[client]))
        assert before == pytest.approx(2 * after, abs=1)  # rounded down, to half and to a quarter
