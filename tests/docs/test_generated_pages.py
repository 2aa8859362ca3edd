"""The pages that are written from the code are what the code says today."""

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SCRIPTS = sorted(path.stem for path in DOCS.glob("make_*.py"))
QUICK = [name for name in SCRIPTS if name != "make_methods"]  # whose costs take a minute: test_methods_page.py
STALE = "run `make docs` and commit docs/{}"


def test_there_is_a_script_for_every_list_of_the_code():
    assert {"make_api", "make_cli", "make_datasets", "make_methods", "make_partitioners", "make_recipe"} <= set(SCRIPTS)


@pytest.mark.parametrize("script", QUICK)
def test_the_page_is_not_stale(script):
    module = importlib.import_module(script)
    assert (DOCS / module.NAME).read_text(encoding="utf-8") == module.page(), STALE.format(module.NAME)


def test_what_the_page_of_methods_says_of_each_is_not_stale():
    module = importlib.import_module("make_methods")
    written = module.PAGE.read_text(encoding="utf-8")
    assert written.endswith("\n".join(module.families()).rstrip() + "\n"), STALE.format("methods.md")


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_page_depends_on_where_it_was_written(script):
    module = importlib.import_module(script)
    text = (DOCS / getattr(module, "NAME", "methods.md")).read_text(encoding="utf-8")
    assert not re.findall(r"0x[0-9a-f]{6,}|<(?:function|class|object)|" + re.escape(str(Path.home())) + "/", text)
    assert text.startswith("<!-- Written by `make docs`")


def test_a_literal_block_of_a_docstring_becomes_a_fenced_one():
    def documented():
        """Say so::

            a  b
              c

        And ``go`` on: https://example.org/a.
        """

    prose = importlib.import_module("from_code").prose(documented)
    assert prose == "Say so:\n\n```text\na  b\n  c\n```\n\nAnd `go` on: <https://example.org/a>."


def test_addresses_in_code_are_left_alone():
    linked = importlib.import_module("from_code").linked
    assert (
        linked("`git clone https://a.org/b` (https://a.org/c).") == "`git clone https://a.org/b` (<https://a.org/c>)."
    )


def test_defaults_are_written_as_one_types_them():
    typed = importlib.import_module("from_code").typed
    assert [typed(value) for value in (None, True, 0.5, "kept", "")] == ["none", "true", "0.5", "kept", '""']
