"""The README's code runs."""

import re
from pathlib import Path

import pytest

from pflbench.api import Method
from pflbench.testing import differences, toy_federation

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture
def fedprox():
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    [method] = names["pflbench_methods"]()
    assert issubclass(method, Method)
    return method


def test_its_method_plays_and_its_setting_matters(fedprox):
    pulled = toy_federation(fedprox(mu=10.0)).play().kept()
    assert differences(pulled["clients"], toy_federation(fedprox(mu=0.0)).play().kept()["clients"])


def test_without_the_pull_it_is_fedavg(fedprox):
    from pflbench_methods.fedavg import FedAvg

    mine, fedavg = toy_federation(fedprox(mu=0.0)).play().kept(), toy_federation(FedAvg()).play().kept()
    assert differences(mine["clients"], fedavg["clients"]) == []


def test_the_method_is_as_short_as_the_heading_says():
    [code] = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith(("from", "import"))]
    assert len(lines) <= 20


def test_its_commands_exist():
    from typer.testing import CliRunner

    from pflbench.cli import app

    commands = [["run"], ["report"], ["list"]]
    commands += [["data", name] for name in ("list", "status", "download", "import", "verify", "show")]
    shown = [CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output for command in commands]
    for option in set(re.findall(r"--[a-z][a-z-]+", README)) - {"--constraint", "--editable"}:
        assert any(option in text for text in shown), option
    for words in set(re.findall(r"^pflbench ([a-z]+(?: [a-z]+)?)", README, flags=re.M)):
        assert any(words.split()[: len(command)] == command for command in commands), words
