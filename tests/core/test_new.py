"""`pflbench new` writes a package that works as it is, refuses names that would not, and touches nothing else."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from itertools import pairwise
from pathlib import Path

import pytest

from pflbench import plugins
from pflbench.cli import call
from pflbench.errors import UsageError
from pflbench.scaffold import Package, commands, scaffold
from pflbench.testing import differences, toy_federation

ROOT = Path(__file__).parents[2]
NAMES = {"method": "fedfoo", "dataset": "polyps", "partitioner": "departments"}
MARK = "# <- change this line"
LONGEST = 30 * "w"  # the widest letter there may be most of


def new(kind, name, into):
    return scaffold(kind, name, into, plugins.registry())


@pytest.fixture(params=NAMES)
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    return new(kind, NAMES[kind], tmp_path)


@pytest.fixture
def provided(monkeypatch):
    """Return a function that loads a package by its entry point and returns the one class it provides."""
    loaded = set(sys.modules)

    def load(folder):
        monkeypatch.syspath_prepend(str(folder))
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        points = [EntryPoint(*item, "pflbench") for item in project["entry-points"]["pflbench"].items()]
        registry = plugins.load(tuple(points))
        assert registry.problems == []
        [(cls, _)] = [entry for found in registry.found.values() for entry in found.values()]
        return cls

    importlib.invalidate_caches()
    yield load
    for name in set(sys.modules) - loaded:
        if name.startswith("pflbench_"):
            del sys.modules[name]


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_method_is_six_files_and_nothing_else(tmp_path):
    folder = new("method", "fedfoo", tmp_path)
    assert folder == tmp_path / "pflbench-fedfoo"
    assert list(tmp_path.iterdir()) == [folder]
    assert written(folder) == [
        ".github/workflows/test.yml",
        ".gitignore",
        "README.md",
        "pflbench_fedfoo.py",
        "pyproject.toml",
        "tests/test_fedfoo.py",
    ]


def test_a_dataset_brings_made_up_data_besides(tmp_path):
    assert "tests/fake_polyps.py" in written(new("dataset", "polyps", tmp_path))


def test_what_is_trained_on_made_up_files_is_quick_and_lies_beside_them(tmp_path, provided):
    folder = new("dataset", "polyps", tmp_path)
    assert provided(folder).default_preset == "paper"  # as that of every dataset of real images
    [run] = [command for command in commands(Package("dataset", "polyps"), folder) if "pflbench run" in command]
    words = shlex.split(run)
    given = dict(pairwise(words))
    assert given["--preset"] == "quick"
    assert given["--out"] == f"{given['--data-root']}/runs" == str(folder / "fake" / "runs")
    assert "/fake/" in (folder / ".gitignore").read_text().splitlines()


def test_its_entry_point_has_the_name_of_its_distribution(folder):
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == folder.name
    assert project["entry-points"] == {"pflbench": {folder.name: folder.name.replace("-", "_")}}


@pytest.mark.parametrize("name", ["fed", "two-words", "two_words", LONGEST])
def test_its_entry_point_provides_one_class_under_the_name(kind, name, tmp_path, provided):
    cls = provided(new(kind, name, tmp_path))
    assert issubclass(cls, plugins.KINDS[kind])
    assert cls.name == cls.title.lower() == name


@pytest.mark.parametrize(
    ("name", "title", "cls"),
    [
        ("fedfoo", "FedFoo", "FedFoo"),
        ("pfedfoo", "PFedFoo", "PFedFoo"),
        ("fedprox-momentum", "FedProx-Momentum", "FedProxMomentum"),
        ("fed", "Fed", "Fed"),
        ("two_words2", "Two_Words2", "TwoWords2"),
    ],
)
def test_titles_are_written_as_the_field_writes_them(name, title, cls):
    package = Package("method", name)
    assert (package.title, package.cls) == (title, cls)


def test_exactly_one_line_is_marked(folder):
    assert sum(path.read_text().count(MARK) for path in folder.rglob("*.py")) == 1


def test_the_test_of_a_method_is_three_lines_beside_its_imports(tmp_path):
    [file] = new("method", "fedfoo", tmp_path).rglob("test_*.py")
    _docstring, *body = ast.parse(file.read_text()).body
    code = [ast.unparse(node) for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    assert len("\n".join(code).splitlines()) == 3


def test_a_method_is_fedavg_to_the_last_bit_until_the_line_is_changed(tmp_path, provided):
    from pflbench_methods.fedavg import FedAvg

    def clients(method):
        return toy_federation(method).play().kept()["clients"]

    fedfoo = provided(new("method", "fedfoo", tmp_path))
    assert differences(clients(fedfoo()), clients(FedAvg())) == []
    assert differences(clients(fedfoo(pull=0.5)), clients(FedAvg()))


def test_a_method_changes_with_the_line_as_its_comment_proposes(tmp_path, provided):
    from pflbench_methods.fedavg import FedAvg

    folder = new("method", "fedbar", tmp_path)
    file = folder / "pflbench_fedbar.py"
    [line] = [line for line in file.read_text().splitlines() if MARK in line]
    proposed = line.partition("; try ")[2]
    file.write_text(file.read_text().replace(line, f"        return {proposed}"))
    changed = toy_federation(provided(folder)()).play().kept()["clients"]
    assert differences(changed, toy_federation(FedAvg()).play().kept()["clients"])


@pytest.mark.parametrize("name", ["fed", "two-words", "two_words", LONGEST])
def test_every_file_passes_the_linter_and_the_formatter_of_pflbench(kind, name, tmp_path):
    pytest.importorskip("ruff", reason="ruff comes with the extra dev")
    folder = new(kind, name, tmp_path)
    for command in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(ROOT / "pyproject.toml"), "."]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
def test_it_passes_its_own_tests_without_a_warning_or_an_avoidable_skip(folder):
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error"]
    surroundings = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=surroundings)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    # how much there is of a dataset, only its author knows
    allowed = re.compile("CUDA|it says of no site how much there is")
    assert not [line for line in ran.stdout.splitlines() if line.startswith("SKIPPED") and not allowed.search(line)]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("FedFoo", "'FedFoo' cannot be the name of a method; .* as in fedfoo"),
        ("fed foo", "as in fed-foo"),
        ("Fed.Foo/", "as in fed-foo"),
        ("", "as in fedfoo"),
        ("-fed", "as in fed"),
        ("fed-", "as in fed"),
        ("fed--foo", "as in fed-foo"),
        ("../fed", "as in fed"),
        ("2fed", "a letter first"),
        ("fédé", "lower-case letters"),
        (31 * "w", "at most 30"),
        ("lambda", "'lambda' is a word of the Python language"),
        ("none", "'none' is a word of the Python language"),
        ("all", "'all' means every method on the command line"),
        ("recipe", "'recipe' means the recipe on the command line"),
        ("client", "class of 'client' would be Client, which its own file imports"),
        ("fedavg", "'fedavg' is the name of a method of pflbench"),
        ("silobn", "'silobn' is the name of a method of pflbench"),
        ("vessel", "'vessel' is the name of a dataset of pflbench"),
        ("natural", "'natural' is the name of a partitioner of pflbench"),
        ("reports", "a module pflbench_reports is installed already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_a_sentence_and_nothing_is_written(name, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        new("method", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_refused_whatever_kind_has_it_already(kind, tmp_path):
    with pytest.raises(UsageError, match="'fedbn' is the name of a method"):
        new(kind, "fedbn", tmp_path)


def test_an_unknown_kind_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="no kind of plugin called 'methods'; did you mean 'method'"):
        new("methods", "fedfoo", tmp_path)


@pytest.mark.parametrize("what", ["folder", "empty folder", "file", "dangling link"])
def test_what_lies_there_already_is_left_as_it_is(what, tmp_path):
    there = tmp_path / "pflbench-fedfoo"
    if "folder" in what:
        there.mkdir()
    if what == "folder":
        (there / "mine.txt").write_text("mine")
    if what == "file":
        there.write_text("mine")
    if what == "dangling link":
        there.symlink_to(tmp_path / "nowhere")
    before = [(path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")]
    with pytest.raises(UsageError, match=r"pflbench-fedfoo exists already and is left as it is"):
        new("method", "fedfoo", tmp_path)
    assert [(path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")] == before


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(UsageError, match=r"there is no folder .*elsewhere"):
        new("method", "fedfoo", tmp_path / "elsewhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("file", [1, 3, 6])
def test_an_interruption_leaves_nothing(error, file, tmp_path, monkeypatch):
    count, write_text = iter(range(1, 100)), Path.write_text

    def write(path, *args, **options):
        if next(count) == file:
            raise error
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises((KeyboardInterrupt, UsageError), match=r"^$|No space left on device"):
        new("method", "fedfoo", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_is_written_and_what_to_type_next(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my plugins").mkdir()
    assert call(["new", kind, NAMES[kind], "--into", "my plugins"]) == 0
    folder = Path("my plugins") / f"pflbench-{NAMES[kind]}"
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.strip() for line in lines if line.startswith(f"  {folder}/")) == sorted(
        str(folder / path) for path in written(folder)
    )
    typed = [line.strip() for line in lines[-3:]]
    assert typed == commands(Package(kind, NAMES[kind]), folder)
    assert typed[0] == f"pip install --editable '{folder}'"
    assert all(command.startswith(("pip ", "pflbench ", "python ")) for command in typed)


def test_its_readme_has_the_same_commands_from_inside(kind, folder):
    readme = (folder / "README.md").read_text()
    install, *others = commands(Package(kind, NAMES[kind]), Path("."))
    assert install == "pip install --editable ."
    assert 'pip install --editable ".[test]"' in readme
    assert all(f"\n{command}\n" in readme for command in others)


def test_a_refusal_is_one_sentence_and_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call(["new", "method", "FedFoo"]) == 2
    assert capsys.readouterr().err.startswith("pflbench: 'FedFoo' cannot be the name of a method; ")


@pytest.mark.parametrize(
    "typed",
    [
        ["run", "--plan", "--methods", "fedavg,fedfoo"],
        ["check", "fedfoo"],
        ["check", "pflbench-fedfoo"],
        ["check", "pflbench_fedfoo:FedFoo"],
    ],
)
def test_whoever_forgets_to_install_it_is_told_what_to_type_and_nothing_else(typed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    new("method", "fedfoo", Path())
    assert call(typed) == 2
    install, *_ = commands(Package("method", "fedfoo"), Path("pflbench-fedfoo"))
    assert capsys.readouterr().err == f"pflbench: the package pflbench-fedfoo is not installed here: {install}\n"
