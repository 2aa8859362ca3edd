"""The site builds without a warning, and no link of it leads nowhere."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROBLEMS = importlib.import_module("check_links").problems


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--fresh-env"]
    built = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(DOCS), str(folder / "html")], capture_output=True, text=True
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return folder / "html"


@pytest.mark.slow
def test_every_page_of_docs_is_a_page_of_the_site(site):
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]
    assert len(pages) > 15
    assert [str(page) for page in pages if not (site / page).is_file()] == []


@pytest.mark.slow
def test_every_link_of_the_site_resolves(site):
    assert PROBLEMS(site) == []


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    """It can be read without a network, and tells nobody who reads it."""
    page = importlib.import_module("check_links").Page
    parsed = [page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")]
    assert {link for found in parsed for link in found.loaded if "//" in link} == set()


def written(folder, **pages):
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(body)
    return PROBLEMS(folder)


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ("b.html", None),
        ("b.html#here", None),
        ("#top", None),
        ("https://example.org/a?b=c#d", None),
        ("mailto:a@example.org", None),
        ("c.html", "which is not there"),
        ("b.html#there", "an anchor that is not there"),
        ("#bottom", "an anchor that is not there"),
        ("../a.html", "which is outside the site"),
        ("https://example", "a malformed address"),
        ("https://exa mple.org", "a malformed address"),
        ("javascript:alert(1)", "which is no web address"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(tmp_path, link, what):
    found = written(tmp_path, a=f'<p id="top"><a href="{link}">x</a>', b='<a name="here"></a>')
    assert found == ([f"a.html links to {link!r}, {what}."] if what else [])


def test_a_missing_picture_is_named(tmp_path):
    assert written(tmp_path, a='<img src="images/x.png">') == ["a.html links to 'images/x.png', which is not there."]
