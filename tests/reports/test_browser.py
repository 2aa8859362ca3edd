"""report.html in headless Chromium: quiet, alone, sortable, legible, at the width of a phone and of a desk."""

from __future__ import annotations

import re

import pytest
from devtools import Chromium, browser_path

from pflbench.results import write_table
from pflbench_reports import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium is installed (Debian: apt-get install chromium)"),
]
HOSTILE = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
# as numbers 99 > 65.2 > 30 > 9.5; as words "99.00" > "9.50" > "65.20" > "30.00"
SCORES = {"Nine": 0.095, "Most": 0.99, "Sixty": 0.652, HOSTILE: 0.3}
MAIN = "document.querySelector('table.sortable')"
FIRST_CELLS = f"[...{MAIN}.tBodies[0].rows].map(row => row.cells[0].textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def page(trials_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    trial = trials_in(folder / "runs")
    for index, (title, dice) in enumerate(SCORES.items()):
        made = trial(
            {"A": dice, "B": dice, "a client with a rather long name of its own": 0.5},
            method={"name": f"m{index}", "title": title},
            dataset={"simulated": True},
        )
    rows = [[r, c, f"mask_rate/{layer}", 0.1 * r] for r in (1, 2) for c in "AB" for layer in ("enc1.0", "final")]
    write_table(made.folder, "logs", rows)
    write_report([folder / "runs"], folder / "out")
    return folder / "out/report.html"


def complaints(browser):
    """Return what the console would show."""
    kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
    return [event["params"] for event in browser.events if event["method"] in kinds]


def requests(browser):
    sent = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def test_the_console_is_empty_and_nothing_is_requested(browser, page):
    browser.open(page, 1440)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    browser.evaluate("document.querySelectorAll('button').forEach(b => b.textContent === 'Enlarge' || b.click())")
    assert complaints(browser) == []
    assert requests(browser) == [page.as_uri()]


def test_another_script_is_stopped_by_the_page(browser, page):
    foreign = page.with_name("foreign.html")
    foreign.write_text(page.read_text().replace("</main>", "</main><script>window.ran = 1</script>"))
    browser.open(foreign, 1440)
    assert browser.evaluate("window.ran === undefined")
    assert any("Content Security Policy" in str(event) for event in complaints(browser))


def test_a_click_sorts_by_number_down_and_then_up(browser, page):
    browser.open(page, 1440)
    names = [title for title, _ in sorted(SCORES.items(), key=lambda item: item[1])]
    button = f"{MAIN}.tHead.rows[0].cells[2].querySelector('button')"
    assert browser.evaluate(f"{button}.textContent") == "A"
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate(FIRST_CELLS) == names[::-1]
    assert browser.evaluate(f"{button}.parentElement.getAttribute('aria-sort')") == "descending"
    browser.evaluate(f"{button}.click()")
    assert browser.evaluate(FIRST_CELLS) == names
    assert browser.evaluate(f"{button}.parentElement.getAttribute('aria-sort')") == "ascending"
    assert browser.evaluate(f"[...{MAIN}.tHead.rows[0].cells].filter(h => h.ariaSort !== 'none').length") == 1


def test_the_enter_key_sorts_words_by_the_alphabet(browser, page):
    browser.open(page, 1440)
    browser.evaluate(f"{MAIN}.tHead.rows[0].cells[0].querySelector('button').focus()")
    browser.press("Enter", 13)
    assert browser.evaluate(FIRST_CELLS) == [HOSTILE, "Most", "Nine", "Sixty"]


def test_what_is_missing_stays_below_whichever_the_direction(browser, page):
    browser.open(page, 1440)
    cell = f"{MAIN}.tBodies[0].rows[1].cells[2]"
    name = browser.evaluate(f"{cell}.parentElement.cells[0].textContent")
    browser.evaluate(f"(cell => {{ delete cell.dataset.value; cell.textContent = '–' }})({cell})")
    for _ in range(2):
        browser.evaluate(f"{MAIN}.tHead.rows[0].cells[2].querySelector('button').click()")
        assert browser.evaluate(FIRST_CELLS)[-1] == name


def test_every_image_has_a_size_and_a_text(browser, page):
    browser.open(page, 1440)
    images = browser.evaluate(
        "[...document.querySelectorAll('svg, img')].map(image => {"
        " const box = image.getBoundingClientRect();"
        " return [box.width, box.height, image.getAttribute('aria-label') || image.alt || ''] })"
    )
    assert len(images) >= 4
    assert all(width > 100 and height > 50 and len(text) > 20 for width, height, text in images)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_page_is_never_wider_than_the_window(browser, page, width, scheme):
    browser.open(page, width, scheme)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    outside = browser.evaluate(
        "[...document.body.querySelectorAll('*')].filter(e => !e.closest('.scroll')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"
    )
    assert outside == []


def luminance(colour):
    """Return the relative luminance of WCAG 2.2 of "rgb(r, g, b)"."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, page, scheme):
    browser.open(page, 1440, scheme)
    pairs = browser.evaluate(
        "['body', 'td', '.note', 'dt', 'a', '.simulated strong', '.made-up', 'th button', 'summary', 'pre'].map(s => {"
        " let e = document.querySelector(s); const ink = getComputedStyle(e).color;"
        " while (e && getComputedStyle(e).backgroundColor.endsWith(', 0)')) e = e.parentElement;"
        " return [s, ink, getComputedStyle(e).backgroundColor] })"
    )
    for selector, ink, ground in pairs:
        light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (selector, ink, ground)  # WCAG 2.2, level AA
    body = luminance(pairs[0][2])
    assert body < 0.05 if scheme == "dark" else body > 0.9


@pytest.mark.parametrize("way", ["click", "enter"])
def test_a_figure_opens_large_and_escape_closes_it(browser, page, way):
    browser.open(page, 1440)
    width = "document.querySelector('svg').getBoundingClientRect().width"
    before = browser.evaluate(width)
    if way == "click":
        browser.evaluate("document.querySelector('.picture').click()")
    else:
        browser.evaluate("document.querySelector('.picture').focus()")
        browser.press("Enter", 13)
    assert browser.evaluate("document.querySelector('dialog').open")
    assert browser.evaluate("document.querySelector('dialog svg').getBoundingClientRect().width") > 1.3 * before
    browser.press("Escape", 27)
    assert not browser.evaluate("document.querySelector('dialog').open")
    assert browser.evaluate("document.querySelectorAll('dialog svg').length") == 0
    assert browser.evaluate(width) == before
    assert complaints(browser) == []


def test_the_page_is_whole_without_scripts(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page, 1440)
        nodes = browser.call("DOM.getDocument", depth=-1, pierce=True)
        markup = browser.call("DOM.getOuterHTML", nodeId=nodes["root"]["nodeId"])["outerHTML"]
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "<button" not in markup
    assert markup.count("<table") >= 5
    assert "65.20" in markup
