"""What the hand-written pages and the README tell a reader to type works, and prints what they show."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from laid_down import lay_down, own_folders, own_list
from walkthrough import NOT_TYPED, Block, Walk, blocks, commands, shortened, shows, unwanted

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/first-method.md",
    "docs/how-a-round-works.md",
    "docs/hooks/methods.md",
    "docs/hooks/datasets.md",
    "docs/hooks/partitioners.md",
    "docs/own-data.md",
    "docs/reproduce-the-paper.md",
    "docs/reading-the-report.md",
]


def page(name):
    return blocks(name, (ROOT / name).read_text())


@pytest.fixture
def environment(tmp_path_factory):
    """Return the variables of a new virtual environment that sees all that is installed here.

    One for each page: two of them install a method called fedfoo.
    """
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    here, [there] = sysconfig.get_paths()["purelib"], folder.glob("lib/python*/site-packages")
    # `addsitedir`, so that what is installed editable here is seen too
    (there / "all-of-here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name, call in {"pip": "pip", "pflbench": "pflbench"}.items():
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {call} "$@"\n')
        script.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}/bin{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "200",
        "CUDA_VISIBLE_DEVICES": "",  # what the pages show is what a reader without a GPU sees
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "HOME": str(folder),
        "PFLBENCH_DATA": str(folder / "data"),
        "PFLBENCH_CACHE": str(folder / "cache"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_works_from_top_to_bottom(name, environment, tmp_path):
    lay_down(name, "".join(block.text for block in page(name)), tmp_path)
    walk = Walk(tmp_path, {**environment, "PFLBENCH_DATA": str(tmp_path / "data")})
    for block in page(name):
        walk.do(block)


@pytest.mark.parametrize("name", PAGES)
def test_few_blocks_are_not_done_and_each_says_why(name):
    skipped = [block for block in page(name) if block.order == "skip"]
    assert len(skipped) <= 2, [block.place for block in skipped]
    assert all(len(block.argument.split()) > 2 for block in skipped)


def test_few_commands_are_not_typed():
    typed = [command for name in PAGES for block in page(name) if block.language in ("sh", "")
             for command in commands(block.text)]  # fmt: skip
    left_out = {command for command in typed if unwanted(command)}
    assert len(left_out) < len(set(typed)) / 4, left_out
    assert len(typed) > 20
    for start in NOT_TYPED:
        assert any(f"{command}  ".startswith(start) for command in typed), f"no page says {start!r}"


@pytest.mark.parametrize("name", PAGES)
def test_pytest_is_installed_before_it_is_typed(name):
    """The walk's environment has what the developers' has, and would not miss it."""
    typed = [line for block in page(name) if block.language in ("sh", "") for line in block.text.splitlines()]
    for place, line in enumerate(typed):
        if line.startswith("python -m pytest"):
            assert any(re.match(r"pip install.*(\[test\]|\bpytest\b)", before) for before in typed[:place]), line


def test_the_data_of_a_reader_lies_as_the_page_draws_it(tmp_path):
    own_folders(tmp_path)
    own_list(tmp_path)
    drawn, listed = (block.text for block in page("docs/own-data.md") if block.order == "skip")
    there = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")]
    names = re.findall(r"[\w/]+/\w+\.(?:png|jpg|nii\.gz)\b", drawn)
    assert len(names) == 6
    assert [name for name in names if not any(path.endswith(name) for path in there)] == []
    assert set(listed.splitlines()) <= set((tmp_path / "own.csv").read_text().splitlines())


TIME_OF_A_CHECK = "under a minute"


@pytest.mark.parametrize("name", ["README.md", "docs/first-method.md"])
def test_how_long_a_check_takes_is_said_in_one_way(name):
    said = re.findall(r"(?:under|about|half) (?:a|half a) minute|takes seconds", (ROOT / name).read_text())
    assert said == [TIME_OF_A_CHECK]


# the reader itself


def test_a_comment_goes_with_the_block_below_it():
    text = "a\n<!-- test: file b/c.py -->\n```python\nx = 1\n```\n\n```\nls\n```\n"
    one, two = blocks("p", text)
    assert (one.order, one.argument, one.language, one.text, one.place) == (
        "file",
        "b/c.py",
        "python",
        "x = 1\n",
        "p:3",
    )
    assert (two.order, two.language, two.text, two.place) == ("", "", "ls\n", "p:7")


def test_a_comment_above_no_block_is_refused():
    with pytest.raises(ValueError, match="above no fenced block"):
        blocks("p", "<!-- test: skip because -->\n\ntext\n\n```sh\nls\n```\n")


def test_a_run_gets_a_tiny_recipe_and_keeps_what_else_is_set():
    words = shortened("pflbench run --preset paper --set recipe.rounds=100 --set resfim.delta=0.2  # hours").split()
    assert "recipe.rounds=100" not in words
    assert "recipe.rounds=1" in words
    assert "resfim.delta=0.2" in words
    assert words.count("--set") == 6
    assert "hours" not in words


@pytest.mark.parametrize("command", ["pflbench run --preset paper --plan", "pflbench report runs --out report", "ls"])
def test_other_commands_are_typed_as_they_stand(command):
    assert shortened(command) == command


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("FedAvg 63.49", "┃ FedAvg │ 12.30 ┃"),
        ("about 11 s", "about 2 h"),
        ("a\n...\nc", "a\nb\nb\nc"),
        ("a\n...\nc", "a\nc"),
        ("...\nb\nc\n...", "a\nb\nb\nc\nd"),
        ("a\n\nb", "a\n───\nb\n"),
        ("SIMULATED DATA: ...", "SIMULATED DATA: no real data"),
        ("vessel_seed0_863eae0044: begins", "vessel_seed0_aaaaaaaaaa: begins"),
    ],
)
def test_what_is_shown_is_printed_but_for_what_differs_between_machines(shown, printed):
    assert shows(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [("FedBN 1.00", "FedAvg 1.00"), ("a\nb", "b\na"), ("6 trials", "5 trials"), ("a", "ab"), ("gone", "")],
)
def test_what_is_shown_and_not_printed_is_found(shown, printed):
    assert shows(shown, printed) is not None


@pytest.mark.parametrize(
    ("shown", "printed", "where"),
    [
        ("b\n...", "a\nb\nc", "b"),
        ("a\nc", "a\nb\nc", "c"),
        ("...\na ...\nc", "a\na 1\nb\nc", "c"),
        ("a\nb", "a\nb\nc", "the end"),
        ("...", "a", None),
        ("", "a", "the end"),
    ],
)
def test_a_line_left_out_needs_dots(shown, printed, where):
    assert shows(shown, printed) == where


def test_a_page_that_is_wrong_is_found(tmp_path):
    walk = Walk(tmp_path, os.environ)
    with pytest.raises(AssertionError, match="p:1: false"):
        walk.do(Block("p", 1, "sh", "", "", "false\n"))
    with pytest.raises(AssertionError, match="exit 0"):
        walk.do(Block("p", 1, "sh", "fails", "", "true\n"))
    walk.do(Block("p", 1, "text", "file", "a.txt", "one\ntwo\n"))
    walk.do(Block("p", 1, "diff", "edit", "a.txt", " one\n-two\n+three\n"))
    walk.do(Block("p", 1, "sh", "", "", "cat a.txt\n"))
    walk.do(Block("p", 1, "text", "", "", "one\nthree\n"))
    with pytest.raises(AssertionError, match=r"not in a\.txt once"):
        walk.do(Block("p", 1, "diff", "edit", "a.txt", "-two\n+three\n"))
    with pytest.raises(AssertionError, match="'two' is not what was printed there"):
        walk.do(Block("p", 1, "text", "", "", "two\n"))
