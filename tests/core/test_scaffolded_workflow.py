"""The workflow that `pflbench new` writes runs on a machine that has no pflbench, once a line is filled in."""

import re
from pathlib import Path

import pytest

from pflbench.plugins import KINDS
from pflbench.scaffold import Package, files

yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra docs")
PATH = ".github/workflows/test.yml"
EXAMPLE = Path(__file__).parents[2] / "examples/pflbench-fedprox-momentum"
WORKFLOW = files(Package("method", "fedfoo"))[PATH]


def typed(text):
    """Return what the steps of a workflow type, in order."""
    return [step["run"] for step in yaml.safe_load(text)["jobs"]["test"]["steps"] if "run" in step]


def test_it_is_the_same_for_every_kind_of_plugin_and_for_the_example():
    assert {files(Package(kind, "fedfoo"))[PATH] for kind in KINDS} == {WORKFLOW}
    assert (EXAMPLE / PATH).read_text() == WORKFLOW


def test_pflbench_comes_before_the_package_once_its_lines_are_filled_in():
    own = typed(WORKFLOW)
    filled = typed(WORKFLOW.replace("# - run:", "- run:"))
    assert own == ['pip install --editable ".[test]"', "python -m pytest"]
    assert filled[2:] == own
    assert [re.match(r'pip install "?(\w+)', command)[1] for command in filled[:2]] == ["torch", "pflbench"]


def test_where_it_comes_from_is_left_to_fill_in():
    """There is no public address yet, and a made-up one would be somebody else's."""
    [address] = re.findall(r'"pflbench @ (\S+)"', WORKFLOW)
    assert address == "git+https://HOST/OWNER/pflbench@COMMIT"


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_says_what_to_fill_in(kind):
    assert PATH in files(Package(kind, "fedfoo"))["README.md"]
