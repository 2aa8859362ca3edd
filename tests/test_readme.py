"""The README's code runs."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pflbench.api import Method
from pflbench.testing import differences, toy_federation

README = (Path(__file__).parents[1] / "README.md").read_text()


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
