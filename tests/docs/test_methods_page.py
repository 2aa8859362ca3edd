"""docs/methods.md is what the code says, and what a round costs is what the literature says."""

import importlib.util
import sys
from pathlib import Path

import pytest

from pflbench.testing.cost import cost_of

DOCS = Path(__file__).parents[2] / "docs"


def loaded():
    spec = importlib.util.spec_from_file_location("make_methods", DOCS / "make_methods.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_methods"] = module
    spec.loader.exec_module(module)
    return module


MAKE = loaded()
METHODS = MAKE.methods()
SIZES = MAKE.counts()


@pytest.mark.slow
def test_the_page_is_not_stale():
    assert MAKE.PAGE.read_text() == MAKE.page(), "run `make docs` and commit docs/methods.md"


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.name)
def test_every_method_and_each_of_its_settings_stands_in_it(cls):
    page = MAKE.PAGE.read_text()
    assert f"### {cls.title} (`{cls.name}`" in page
    for name in cls.setting_names():
        assert f"| `{cls.name}.{name}` |" in page
    assert cls.travels in page


def test_the_letters_are_the_paper_s_counts():
    # methods.md, section 1.2: 3,876,737 parameters, 2,816 of them of batch norm, 65 of the head
    assert SIZES == {"P": 3_876_737, "B": 2_816, "h": 65, "a": 2_816}


def test_a_count_is_written_in_letters_where_it_is_a_sum_of_them():
    P, B, h = SIZES["P"], SIZES["B"], SIZES["h"]
    assert MAKE.in_letters(P + B, SIZES) == "P + B"
    assert MAKE.in_letters(P - h + B, SIZES) == "P - h + B"
    assert MAKE.in_letters(P + 1, SIZES) == "P + 1"
    assert MAKE.in_letters(12345, SIZES) == "12,345"


def test_bytes_are_those_of_the_numbers_and_a_short_header():
    for name in ("fedavg", "resfim"):
        cls = next(cls for cls in METHODS if cls.name == name)
        sent = cost_of(cls()).up
        payload = 4 * sent.numbers + -(-sent.bits // 8)
        assert payload <= sent.size < payload + 5_000
