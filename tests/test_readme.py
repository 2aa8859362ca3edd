"""The README's code runs, and what it and its neighbours say of methods and of each other is so."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pflbench.api import Method
from pflbench.plugins import registry
from pflbench.targets import targets
from pflbench.testing import differences, method_checks, outcomes, toy_federation

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *ROOT.glob("examples/*/README.md"),
]
BUILT_IN = [cls for cls, plugin in registry().found["method"].values() if plugin.distribution == "pflbench"]
FAMILIES = {"controls": "control", "one model for everybody": "general", "a model for each client": "personalized"}


@pytest.fixture
def fedavgm():
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    [method] = names["pflbench_methods"]()
    assert issubclass(method, Method)
    return method


def test_its_method_plays_and_its_setting_matters(fedavgm):
    moving = toy_federation(fedavgm(momentum=0.9)).play().kept()
    assert differences(moving["clients"], toy_federation(fedavgm(momentum=0.0)).play().kept()["clients"])


def test_without_momentum_it_is_fedavg(fedavgm):
    from pflbench_methods.fedavg import FedAvg

    mine = toy_federation(fedavgm(momentum=0.0), rounds=1).play().kept()["clients"]["north"]["model"]
    fedavg = toy_federation(FedAvg(), rounds=1).play().kept()["clients"]["north"]["model"]
    for name, value in fedavg.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=1e-6)


def test_its_momentum_adds_the_step_before(fedavgm):
    """w1 = m1 and v1 = m1 - w0, so that w2 = m2 + momentum (m1 - w0), entry by entry."""
    model = nn.Linear(1, 1)
    server, one = SimpleNamespace(state={}, shares={"a": 1.0}, new_model=lambda: model), fedavgm(momentum=0.5)
    start = model.state_dict()["bias"].clone()
    sent = [{"weight": torch.tensor([[value]]), "bias": torch.tensor([value])} for value in (2.0, 3.0)]
    first, second = (one.server_update(server, {"a": weights})["a"]["bias"] for weights in sent)
    torch.testing.assert_close(first, torch.tensor([2.0]))
    torch.testing.assert_close(second, 3.0 + 0.5 * (2.0 - start))


def test_its_method_keeps_the_contract_and_cites_a_paper_of_its_own(tmp_path):
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    file = tmp_path / "fedavgm.py"
    file.write_text(code)
    [(_, method)] = targets(str(file))
    assert [(str(one.check), one.text) for one in outcomes(method_checks(method)) if one.state == "fails"] == []
    assert {"citation", "year"} <= set(vars(method))


def test_its_table_has_every_method_in_the_row_of_its_family():
    for title, family in FAMILIES.items():
        [row] = re.findall(rf"^\| {title} \| (.+) \|$", README, re.MULTILINE)
        named = {registry().get("method", name)[0].name for name in re.findall(r"`([a-z-]+)`", row)}
        assert named == {cls.name for cls in BUILT_IN if cls.family == family}


@pytest.mark.parametrize(("page", "words"), [("README.md", "methods"), ("docs/first-method.md", "examples")])
def test_the_number_of_methods_is_right(page, words):
    assert re.findall(rf"\b(\d+) {words}\b", (ROOT / page).read_text()) == [str(len(BUILT_IN))]


def anchors(text):
    """Return the anchors that the headings of a page have on GitHub."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page):
    """Return the links of a page to files or headings that are not there; addresses of the web are left out."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not re.match(r"[a-z]+:", link) and not (
            target.exists() and (not anchor or anchor in anchors(target.read_text()))
        ):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_beside_the_site_resolves(page):
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text(
        "# One two\n[a](#one-two) [b](#three) [c](c.md) [d](a.md) [e](a.md#x) [f](https://f.org) `[g](g)`\n"
    )
    assert broken(page) == ["#three", "c.md", "a.md#x"]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_no_line_of_prose_is_longer_than_120_columns(name):
    """A row of a table, and a picture, cannot be broken."""
    assert [line for line in (ROOT / name).read_text().splitlines() if len(line) > 120 and line[0] not in "|!"] == []


def test_the_method_is_as_short_as_the_heading_says():
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("from", "import"))]
    assert len(lines) <= 20


def test_its_commands_exist():
    from typer.testing import CliRunner

    from pflbench.cli import app

    commands = [["run"], ["report"], ["list"], ["new"], ["check"], ["compare"]]
    commands += [["data", name] for name in ("list", "status", "download", "import", "verify", "show")]
    shown = [CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output for command in commands]
    for option in set(re.findall(r"--[a-z][a-z-]+", README)) - {"--constraint", "--editable"}:
        assert any(option in text for text in shown), option
    for words in set(re.findall(r"^pflbench ([a-z]+(?: [a-z]+)?)", README, flags=re.M)):
        assert any(words.split()[: len(command)] == command for command in commands), words
