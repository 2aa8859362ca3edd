"""A class that no plugin provides has another version as soon as anything that its code uses is another."""

import functools
import importlib
import os
import subprocess
import sys

import pytest

from pflbench.editable import written_version

SCRIPT = '''
import enum, functools
from dataclasses import dataclass, field
from typing import ClassVar
import numpy as np
import torch
from torch import nn
from pflbench_methods.fedavg import FedAvg

RATE = 0.1
SEEDS = 3
KERNEL = torch.tensor([1.0, 2.0])
HALF = torch.tensor(0.5, dtype=torch.bfloat16)
GRID = np.arange(3000)
KEPT = {"enc1": ("weight", "bias")}
WORDS = frozenset(["mean", "sum", "none"])
if torch.float32:
    BELOW_IF = 5
HEAD = nn.Linear(1, 1, bias=False)
with torch.no_grad():
    HEAD.weight.fill_(3.5)
CYCLE = [1]
CYCLE.append(CYCLE)

class Colour(enum.Enum):
    RED = 7

@dataclass(frozen=True)
class Plan:
    steps: int = 11

class Scale:
    def __init__(self, factor):
        self.factor = factor
    def __call__(self, value):
        return value * self.factor

TWICE = Scale(2.25)
PLAN = Plan(12)

def decorated(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

def made(power):
    return lambda value: value**power

CUBE = made(3)
PARTLY = functools.partial(max, 41)

@functools.cache
def cached():
    return 51

def rate(client, share=RATE, *, floor=0.01):
    return max(share, floor) if client in (1, 2) else back(client)

def back(client):
    return rate(client + 1)

def never_called():
    return "nowhere"

@dataclass(frozen=True)
class Base(FedAvg):
    def weights(self):
        return 61

@dataclass(frozen=True)
class Mine(Base):
    """What it is."""

    layers: ClassVar[tuple[str, ...]] = ("enc1", "enc2")
    chosen: ClassVar[frozenset] = frozenset({"a", "b", "c"})
    mu: float = 0.25
    names: tuple[str, ...] = field(default_factory=lambda: ("one", "two"))

    @property
    def strength(self):
        return 71

    @functools.cached_property
    def kept(self):
        return 72

    @staticmethod
    def still():
        return 73

    @classmethod
    def made(cls):
        return 74

    @decorated
    def wrapped(self):
        return 75

    @torch.no_grad()
    def quiet(self):
        return 76

    def __len__(self):
        return 77

    def aggregate(self, messages, server, kind="mean"):
        used = [KERNEL, HALF, GRID, KEPT, WORDS, BELOW_IF, HEAD, CYCLE, Colour.RED, PLAN, TWICE(1), CUBE(2), PARTLY(3)]
        try:
            server.fit(epochs=3)
        except ValueError:
            pass
        messages = [message for message in messages if kind in {"x", "y", "z"}]
        return [(lambda x: x + 1)(rate(message) + cached() + self.steps) for message in messages]

def main():
    return run([Mine()], seeds=3)

def run(methods, seeds):
    return methods

if __name__ == "__main__":
    print("trains")
table = run([Mine()], seeds=SEEDS)
'''
CHANGES = {
    "a number in a lambda": ("x + 1", "x + 2"),
    "an operator": ("x + 1", "x - 1"),
    "an attribute": ("self.steps", "self.mu"),
    "the name of a method": ("def aggregate(", "def receive("),
    "the name of an argument": ("self, messages, server,", "self, server, messages,"),
    "a keyword of a call": ("fit(epochs=3)", "fit(passes=3)"),
    "a default in the class": ('kind="mean"', 'kind="sum"'),
    "a field": ("mu: float = 0.25", "mu: float = 0.5"),
    "the factory of a field": ('("one", "two")', '("one", "three")'),
    "a tuple of the class": ('("enc1", "enc2")', '("enc1", "enc3")'),
    "a set of the class": ('{"a", "b", "c"}', '{"a", "b", "d"}'),
    "a set in a condition": ('{"x", "y", "z"}', '{"x", "y", "w"}'),
    "a property": ("return 71", "return 171"),
    "a cached property": ("return 72", "return 172"),
    "a static method": ("return 73", "return 173"),
    "a class method": ("return 74", "return 174"),
    "a function in a decorator": ("return 75", "return 175"),
    "a function in somebody else's decorator": ("return 76", "return 176"),
    "the decorator": ("return function(*args, **kwargs)", "return 2 * function(*args, **kwargs)"),
    "a function with underscores": ("return 77", "return 177"),
    "what is caught": ("except ValueError", "except KeyError"),
    "a function that is called": ("else back(client)", "else -back(client)"),
    "a function that this calls": ("client + 1", "client + 2"),
    "a tuple in a function": ("(1, 2)", "(1, 3)"),
    "a constant as a default": ("RATE = 0.1", "RATE = 0.2"),
    "a keyword-only default": ("floor=0.01", "floor=0.02"),
    "a cached function": ("return 51", "return 151"),
    "a tensor": ("[1.0, 2.0]", "[1.0, 2.5]"),
    "a tensor of bfloat16": ("tensor(0.5", "tensor(0.75"),
    "the type of a tensor": ("dtype=torch.bfloat16", "dtype=torch.float16"),
    "an array too long to be printed": ("np.arange(3000)", "np.arange(3000) * (np.arange(3000) != 1500)"),
    "a tuple in a dictionary": ('("weight", "bias")', '("weight",)'),
    "a frozen set": ('"mean", "sum", "none"', '"mean", "sum", "max"'),
    "a constant below an if": ("BELOW_IF = 5", "BELOW_IF = 6"),
    "the weights of a network": ("fill_(3.5)", "fill_(4.5)"),
    "a list in itself": ("CYCLE = [1]", "CYCLE = [2]"),
    "a member of an enumeration": ("RED = 7", "RED = 8"),
    "a value": ("Plan(12)", "Plan(13)"),
    "an object": ("Scale(2.25)", "Scale(2.5)"),
    "the class of an object": ("value * self.factor", "value / self.factor"),
    "what a function was made with": ("made(3)", "made(4)"),
    "what a partial function holds": ("partial(max, 41)", "partial(max, 42)"),
    "a partial function": ("partial(max, 41)", "partial(min, 41)"),
    "a class it is built on": ("return 61", "return 161"),
    "what that is built on": ("fedavg import FedAvg", "fedprox import FedProx as FedAvg"),
}  # fmt: skip
NO_CHANGES = {
    "more seeds": ("SEEDS = 3", "SEEDS = 5"),
    "more seeds in a function": ("run([Mine()], seeds=3)", "run([Mine()], seeds=5)"),
    "what is printed": ('"trains"', '"trains more"'),
    "a function that nobody calls": ('"nowhere"', '"elsewhere"'),
    "empty lines": ("\n\n", "\n\n\n"),
    "comments": ("return 71", "return 71  # as in the paper"),
    "an import of something else": ("from torch import nn", "from torch import nn, optim"),
    "where a function is written": ("def never_called", "def first():\n    pass\n\ndef never_called"),
}


def defined(tmp_path, text, name="a_script"):
    """Return the version of the class ``Mine`` in a module of this text."""
    (tmp_path / f"{name}.py").write_text(text)
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return written_version(importlib.import_module(name).Mine)


def typed(text, namespace=None):
    """Return the version of the class ``Mine`` typed at a prompt, which has no file."""
    namespace = {"__name__": "a_prompt"} if namespace is None else namespace
    exec(compile(text, "<stdin>", "exec"), namespace)
    return written_version(namespace["Mine"])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(params=["script", "prompt"])
def version(request, folder):
    return functools.partial(defined, folder) if request.param == "script" else typed


def changed(old, new):
    assert old in SCRIPT
    return SCRIPT.replace(old, new)


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_the_class_uses_counts(version, change):
    assert version(SCRIPT) == version(SCRIPT) != version(changed(*CHANGES[change]))


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_it_does_not_use_does_not_count(version, change):
    assert version(SCRIPT) == version(changed(*NO_CHANGES[change]))


def test_a_cell_run_again_and_a_helper_of_another_cell(folder):
    notebook = {"__name__": "__main__"}
    first = typed(SCRIPT, notebook)
    assert typed(SCRIPT, notebook) == first
    exec("def back(client):\n    return -client\n", notebook)
    assert written_version(notebook["Mine"]) != first


def test_using_the_method_does_not_change_its_version(folder):
    namespace = {"__name__": "a_prompt"}
    first = typed(SCRIPT, namespace)
    for _ in range(50):  # Python rewrites code that runs often
        namespace["rate"](0)
        namespace["cached"]()
    assert namespace["Mine"]().strength == 71
    assert written_version(namespace["Mine"]) == first


USES = """
import {imported}
from pflbench_methods.fedavg import FedAvg

class Mine(FedAvg):
    def aggregate(self, messages):
        {inside}
        return {call}
"""
HELPED = {
    "its name": {"imported": "lab", "inside": "", "call": "lab.formula(2)"},
    "a function of it": {"imported": "lab\nfrom lab import formula", "inside": "", "call": "formula(2)"},
    "a part of a package": {"imported": "box.lab", "inside": "", "call": "box.lab.formula(2)"},
    "an import in a function": {"imported": "torch", "inside": "from lab import formula", "call": "formula(2)"},
}


@pytest.mark.parametrize("way", HELPED)
def test_modules_of_its_own_folder_count_with_what_they_import(folder, way):
    def version(power):
        (folder / "box").mkdir(exist_ok=True)
        (folder / "box" / "__init__.py").write_text("")
        (folder / "powers.py").write_text(f"def raised(x):\n    return x**{power}\n")
        for place in (folder, folder / "box"):
            (place / "lab.py").write_text("from powers import raised\ndef formula(x):\n    return raised(x)\n")
        for name in ("lab", "box", "box.lab", "powers"):
            sys.modules.pop(name, None)
        return defined(folder, USES.format(**HELPED[way]))

    assert version(2) == version(2) != version(3)


def test_of_a_module_of_its_own_folder_only_what_is_used_counts(folder):
    def version(started):
        (folder / "lab.py").write_text(f"STARTED = {started}\ndef formula(x):\n    return x\n")
        sys.modules.pop("lab", None)
        return defined(folder, USES.format(**HELPED["its name"]))

    assert version(1) == version(2)


def test_a_file_edited_after_it_was_loaded_is_not_what_runs(folder):
    """In a notebook: the old code trains on until the module is loaded again."""
    first = defined(folder, SCRIPT)
    (folder / "a_script.py").write_text(changed("return 71", "return 171"))
    assert written_version(sys.modules["a_script"].Mine) == first


def test_a_package_that_is_installed_counts_as_code_where_no_plugin_of_it_has_a_version(folder, monkeypatch):
    site = folder / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    assert defined(site, SCRIPT, "a_library") != defined(site, changed("return 71", "return 171"), "a_library")


def test_a_script_in_another_encoding_has_a_version(folder):
    text = "# -*- coding: latin-1 -*-\nclass Mine:\n    unit = 'µm, é'\n"
    (folder / "latin.py").write_bytes(text.encode("latin-1"))
    first = written_version(importlib.import_module("latin").Mine)
    (folder / "latin_too.py").write_bytes(text.replace("µm", "mm").encode("latin-1"))
    assert written_version(importlib.import_module("latin_too").Mine) != first


def test_objects_that_cannot_be_looked_at_do_no_harm():
    class Hostile:
        __slots__ = ()

        def __repr__(self):
            raise RuntimeError("no")

        def __getattr__(self, name):
            raise OSError("no")

    def version(steps):
        return written_version(type("Mine", (), {"hostile": Hostile(), "meta": property(None), "steps": steps}))

    assert version(1) == version(1) != version(2)


def test_notes_that_later_pythons_keep_in_a_class_do_not_count():
    notes = {"__firstlineno__": 7, "__static_attributes__": ("a", "b"), "__doc__": "What it is."}
    assert written_version(type("Mine", (), {"steps": 3})) == written_version(type("Mine", (), {"steps": 3, **notes}))


def test_a_long_chain_of_functions_is_followed_to_its_end():
    def version(last):
        chain = "".join(f"def f{i}():\n    return f{i + 1}()\n" for i in range(2000))
        return typed(f"{chain}def f2000():\n    return {last}\nclass Mine:\n    start = f0\n")

    assert version(1) != version(2)


def test_two_processes_with_other_orders_of_sets_agree(folder):
    (folder / "a_script.py").write_text(SCRIPT)
    question = "from pflbench.editable import written_version; from a_script import Mine; print(written_version(Mine))"

    def asked(seed):
        surroundings = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        ran = subprocess.run(
            [sys.executable, "-c", question], env=surroundings, capture_output=True, text=True, timeout=120
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split()[-1]

    assert asked("1") == asked("2") == defined(folder, SCRIPT)  # the second reads the byte code that the first wrote
