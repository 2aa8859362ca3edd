"""`pflbench check`: what a target may be, what is printed, and the exit code."""

import json
import re
import sys
import textwrap
from pathlib import Path

import pytest

from pflbench.cli import call
from pflbench.errors import UsageError
from pflbench.targets import targets
from pflbench.testing import CheckFailed, fresh, partitioner_checks

BY_SITE = """
    from dataclasses import dataclass
    from typing import ClassVar
    from pflbench.api import Partitioner

    @dataclass(frozen=True)
    class {cls}(Partitioner):
        \"\"\"Each site is a client, or so it seems.\"\"\"

        name: ClassVar[str] = "{name}"
        title: ClassVar[str] = "as it seems"
        skipped: int = 0

        def assign(self, cases, rng):
            sites = dict.fromkeys(case.site for case in cases)
            return {{site: [case for case in cases[self.skipped:] if case.site == site]{more} for site in sites}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder of one's own with a partitioner that keeps its contract and one that does not."""
    monkeypatch.chdir(tmp_path)
    good = BY_SITE.format(cls="Good", name="good", more="")
    bad = BY_SITE.format(cls="Bad", name="bad", more=" + [cases[0]]")
    (tmp_path / "seeming.py").write_text(textwrap.dedent(good) + textwrap.dedent(bad))
    return tmp_path


def test_what_holds_is_a_line_each_and_a_sum(folder, capsys):
    assert call(["check", "seeming.py:Good"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "good, a partitioner: seeming.py:Good"
    assert "✓ No subject is in two clients or two splits, and every client can train." in printed
    assert "    3 clients: north, south, west" in printed
    assert printed[-1].startswith("12 of 12 hold (")


def test_what_fails_is_marked_with_its_reason(folder, capsys):
    assert call(["check", "seeming.py:Bad"]) == 1
    printed = capsys.readouterr().out
    assert (
        "✗ Every case is given out at most once, and none is invented.\n    'north/0-0' is given out twice." in printed
    )
    assert "of 12 hold, 3 fail (" in printed.splitlines()[-1]


def test_a_file_is_checked_whole(folder, capsys):
    assert call(["check", "seeming.py", "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {name: one["passed"] for name, one in found.items()} == {"good": True, "bad": False}
    assert found["good"]["class"] == "seeming.py:Good"
    once = next(check for check in found["bad"]["checks"] if check["check"] == "once")
    assert (once["state"], once["text"]) == ("fails", "'north/0-0' is given out twice.")
    assert {"check", "sentence", "state", "text", "seconds"} == set(once)


def test_nothing_is_written_beside_a_file_that_is_checked(folder, monkeypatch):
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    assert call(["check", "seeming.py:Good"]) == 0
    assert list(folder.iterdir()) == [folder / "seeming.py"]


def fresh_process(folder):
    """Return the check of the good partitioner that starts a process."""
    ((_, cls),) = targets(str(folder / "seeming.py") + ":Good")
    return next(check for check in partitioner_checks(cls) if check.name == "fresh-process")


def test_a_file_that_is_saved_while_it_is_checked_is_not_taken_for_what_it_was(folder):
    check = fresh_process(folder)
    check()
    (folder / "seeming.py").write_text((folder / "seeming.py").read_text() + "\n")
    with pytest.raises(CheckFailed, match=r"^in a fresh process: seeming.py has changed since this command read it"):
        check()


def test_a_process_that_does_not_end_is_a_sentence(folder, monkeypatch):
    monkeypatch.setattr(fresh, "_PATIENCE", 0.01)
    with pytest.raises(CheckFailed, match=r"^in a fresh process it had not ended after 0.01 seconds; see what waits"):
        fresh_process(folder)()


def test_settings_are_checked_with(folder, capsys):
    assert call(["check", "seeming.py:Good", "--set", "good.skipped=150"]) == 1
    assert "'north', 'south' is given no case" in capsys.readouterr().out


def test_a_class_of_a_module_in_the_working_folder_is_found(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    ((kind, cls),) = targets("seeming:Good")
    assert (kind, cls.__module__, cls.name) == ("partitioner", "seeming", "good")


def test_the_working_folder_is_put_on_the_path_once(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = list(sys.path)
    targets("seeming:Good")
    targets("seeming:Bad")
    assert sys.path == ["", *before]


def test_a_registered_name_is_found_in_any_spelling():
    (target,) = targets("FedAvg")
    assert (target[0], target[1].name) == ("method", "fedavg")
    assert [(kind, cls.name) for kind, cls in targets("natural")] == [("partitioner", "natural")]


@pytest.mark.parametrize("target", ["pflbench", "PFLbench", "package"])
def test_a_distribution_or_its_folder_is_all_that_it_provides(tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "pyproject.toml").write_text('[project]\nname = "PflBench"\n')
    found = {(kind, cls.name) for kind, cls in targets(target)}
    assert {("method", "fedavg"), ("dataset", "vessel"), ("partitioner", "natural")} <= found


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("[project]\nname = 'not-here'\n", "the package not-here is not installed here: pip install --editable pac"),
        ("[tool.ruff]\n", "names no project: KeyError: 'project'"),
        ("[project\n", "cannot be read, or names no project: TOMLDecodeError"),
    ],
)
def test_a_folder_that_is_no_installed_package_is_refused(tmp_path, monkeypatch, written, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "pyproject.toml").write_text(written)
    with pytest.raises(UsageError, match=re.escape(sentence)):
        targets("package")


def test_a_folder_that_is_not_installed_is_told_so_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my package").mkdir()
    (tmp_path / "my package" / "pyproject.toml").write_text('[project]\nname = "not-here"\n')
    with pytest.raises(UsageError) as error:
        targets("my package")
    assert str(error.value) == "the package not-here is not installed here: pip install --editable 'my package'"


def test_a_project_file_that_cannot_be_read_is_a_sentence(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "pyproject.toml").write_text('[project]\nname = "not-here"\n')
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UsageError, match=r"pyproject.toml cannot be read, or names no project: PermissionError"):
        targets(str(tmp_path))


def test_a_name_too_long_for_a_file_is_a_name_that_is_not_there():
    with pytest.raises(UsageError, match="no method, dataset or partitioner called 'wwww"):
        targets(300 * "w")


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("fedavgg", r"no method, dataset or partitioner called 'fedavgg'; did you mean 'fedavg'\? .*module:Class"),
        ("seeming:God", r"no method, dataset or partitioner in seeming called 'God'; did you mean 'Good'\?"),
        ("seeming.py:God", r"no class of seeming.py called 'God'; did you mean 'Good'\?"),
        ("there_is_no_such_module:X", "there_is_no_such_module cannot be imported: ModuleNotFoundError"),
        ("./seeming:Good", r"'./seeming' is no module; write its dotted name, as in mine.fedfoo:Class, or FILE.py:Cl"),
        (":Good", "'' is no module; write its dotted name"),
        ("leaving:X", r"leaving cannot be imported: SystemExit: bye; it is imported, not run"),
        ("leaving.py", r"leaving.py could not be loaded: SystemExit: bye; .*\(leaving.py, line 1: raise SystemExit"),
        ("empty.py", r"empty.py: its hooks return no class; return \[MyClass\]"),
        ("empty.py:Good", r"empty.py: its hooks return no class; return \[MyClass\]"),
        ("nowhere.py", "the plugin file nowhere.py cannot be read"),
    ],
)
def test_a_target_that_is_not_there_is_refused_with_the_nearest(folder, target, sentence):
    (folder / "leaving.py").write_text("raise SystemExit('bye')\n")
    hook = "from pflbench.api import hookimpl\n@hookimpl\ndef pflbench_partitioners():\n    return []\n"
    (folder / "empty.py").write_text((folder / "seeming.py").read_text() + hook)
    with pytest.raises(UsageError, match=sentence):
        targets(target)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--set", "goood.skipped=1"], "goood.skipped is set, but goood is not what is checked."),
        (["--set", "good.skiped=1"], "no setting of good called 'skiped'; did you mean 'skipped'?"),
        (["--set", "good.skipped=many"], "good.skipped = 'many' is refused"),
    ],
)
def test_a_setting_that_is_not_there_is_refused(folder, capsys, options, sentence):
    assert call(["check", "seeming.py:Good", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_real_dataset_that_is_not_here_is_checked_as_far_as_it_goes(capsys):
    assert call(["check", "vessel"]) == 0
    printed = capsys.readouterr().out
    assert "✓ Licence and citation of every site are given." in printed
    assert (
        "- It is found, and its cases are listed.\n    not tried: no vessel data is here; give its folder." in printed
    )
    assert "not tried (" in printed.splitlines()[-1]


def test_a_dataset_is_checked_with_its_settings(capsys):
    assert call(["check", "vessel-simulated", "--set", "vessel-simulated.size=64"]) == 0
    assert "    vessel-simulated.seed=0, vessel-simulated.size=64\n" in capsys.readouterr().out


def test_a_setting_of_a_dataset_that_is_not_here_is_refused(capsys):
    assert call(["check", "vessel", "--set", "vessel.les_av_seed=1"]) == 2
    assert "no vessel data is here to try a setting with; give its folder with --data-root." in capsys.readouterr().err


def test_a_data_folder_that_is_not_there_is_refused(folder, capsys):
    assert call(["check", "vessel", "--data-root", "nowhere"]) == 2
    assert "nowhere does not exist; give the folder of vessel with --data-root." in capsys.readouterr().err


@pytest.mark.slow
def test_a_built_in_method_holds(capsys):
    assert call(["check", "fedbn"]) == 0
    printed = capsys.readouterr().out
    assert "✗" not in printed
    assert "x the model) per client and round" in printed
