"""What a user can type, set or import stands on a page of docs/."""

import inspect
import re
from pathlib import Path

import pytest

from pflbench import api, cli, hookspecs
from pflbench.dataset import Dataset
from pflbench.method import Method
from pflbench.partition import Partitioner
from pflbench.plugins import registry
from pflbench.recipe import Recipe

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOOKS = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("pflbench_")]
CONTRACTS = {"methods": Method, "datasets": Dataset, "partitioners": Partitioner}


def page(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def builtin(kind):
    return [cls for cls, plugin in registry().found[kind].values() if plugin.distribution == "pflbench"]


def commands(app, name="pflbench"):
    """Yield the words of every command, as typer has registered them."""
    for command in app.registered_commands:
        yield f"{name} {command.name or command.callback.__name__}"
    for group in app.registered_groups:
        yield f"{name} {group.name}"
        yield from commands(group.typer_instance, f"{name} {group.name}")


def options(command, monkeypatch, capsys):
    """Return the options that a command lists after --help, each at the start of a row."""
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.call([*command.split()[1:], "--help"]) == 0
    rows = [re.split(r"\s{2,}|,", line.strip("│* ")) for line in capsys.readouterr().out.splitlines()]
    return {cell for row in rows for cell in row[:2] if re.fullmatch(r"--[a-z][a-z-]*", cell)}


@pytest.mark.parametrize("command", ["pflbench", *commands(cli.app)])
def test_every_command_and_each_of_its_options_stands_on_the_page(command, monkeypatch, capsys):
    section = page("cli").partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    listed = options(command, monkeypatch, capsys)
    assert "--help" in listed
    assert {option for option in listed if not re.search(rf"^  .*{option}(?![\w-])", section, re.MULTILINE)} == set()


def test_the_options_are_read_from_the_help(monkeypatch, capsys):
    assert options("pflbench run", monkeypatch, capsys) >= {"--methods", "--set", "--pictures", "--no-pictures"}
    assert options("pflbench data import", monkeypatch, capsys) == {"--from", "--sites", "--data-root", "--help"}


def test_the_commands_are_those_that_the_command_line_has():
    assert sorted(re.findall(r"^## (.+)$", page("cli"), re.MULTILINE)) == sorted(["pflbench", *commands(cli.app)])


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_page_with_an_implementation(hook):
    text = page(f"hooks/{hook.removeprefix('pflbench_')}")
    assert "@hookimpl" in text
    assert f"def {hook}()" in text


@pytest.mark.parametrize(
    ("kind", "function"),
    [(kind, name) for kind, cls in CONTRACTS.items() for name, _ in inspect.getmembers(cls, inspect.isroutine)
     if name in vars(cls) and not name.startswith("_")],
)  # fmt: skip
def test_every_function_of_a_contract_stands_on_the_page_of_its_hook(kind, function):
    assert re.search(rf"\b{function}\b", page(f"hooks/{kind}"))


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_constant_of_a_contract_stands_on_a_page_for_its_authors(name):
    constants = inspect.get_annotations(CONTRACTS[name])
    text = (
        page(f"hooks/{name}") + page("api").partition(f"### `{CONTRACTS[name].__name__}`\n")[2].partition("\n### ")[0]
    )
    assert constants
    assert [constant for constant in constants if f"`{constant}`" not in text] == []


@pytest.mark.parametrize(
    ("kind", "name"), [("method", "methods"), ("dataset", "datasets"), ("partitioner", "partitioners")]
)
def test_every_built_in_has_a_section_with_each_of_its_settings(kind, name):
    text = page(name)
    assert len(builtin(kind)) > 5
    for cls in builtin(kind):
        section = text.partition(f'<a id="{cls.name}"></a>\n')[2].partition("<a id=")[0]
        assert re.search(rf"^##.*`{cls.name}`", section, re.MULTILINE), cls.name
        assert [name for name in cls.setting_names() if f"| `{cls.name}.{name}` |" not in section] == []


@pytest.mark.parametrize("cls", builtin("dataset"), ids=lambda cls: cls.name)
def test_every_site_stands_with_its_licence_citation_and_source(cls):
    section = page("datasets").partition(f'<a id="{cls.name}"></a>\n')[2].partition("<a id=")[0]
    rows = {row.split(" | ")[0].strip("| []").partition("]")[0]: row for row in section.splitlines() if row[:1] == "|"}
    for site in cls.sites:
        assert cls.licence[site] in rows[site]
        assert cls.citation[site] in rows[site]
        assert cls.addresses.get(site, "") in rows[site]
        assert not cls.expected or " | {} / {} | ".format(*cls.expected[site]) in rows[site]


@pytest.mark.parametrize("field", Recipe.setting_names())
def test_every_field_of_the_recipe_stands_on_its_page(field):
    assert f"| `recipe.{field}` |" in page("recipe")


@pytest.mark.parametrize("name", api.__all__)
def test_every_public_name_has_an_entry_that_says_something(name):
    entry = page("api").partition(f"\n### `{name}`\n")[2].partition("\n##")[0]
    said = re.sub(r"```.*?```|<a id=.*", "", entry, flags=re.DOTALL).strip()
    assert len(said) > 10


@pytest.mark.parametrize("name", [name for name in api.__all__ if inspect.isclass(getattr(api, name))])
def test_every_function_of_a_public_class_stands_in_its_entry(name):
    entry = page("api").partition(f"\n### `{name}`\n")[2].partition("\n##")[0]
    own = [each for each in vars(getattr(api, name)) if not each.startswith("_") and each != "forward"]
    functions = [each for each in own if inspect.isroutine(inspect.getattr_static(getattr(api, name), each))]
    assert [each for each in functions if f"\n{each}(" not in entry] == []


def test_fedavg_on_which_methods_are_built_stands_on_both_pages_with_what_it_adds_to_a_method():
    entry = page("api").partition("\n### `FedAvg`\n")[2].partition("\n##")[0]
    assert "\nshared(" in entry
    assert "`pflbench_methods.fedavg.FedAvg`" in page("hooks/methods")
    assert "shared(model)" in page("hooks/methods")


def test_every_file_that_a_method_s_author_is_sent_to_is_there():
    section = page("hooks/methods").partition("\n## What to read\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    named = {name for row in rows for name in re.findall(r"`([\w/-]+\.py)`", row)}
    assert all(re.search(r"\.py`", row) for row in rows)
    assert len(rows) > 8
    folders = {name: ROOT if "/" in name else ROOT / "methods/pflbench_methods" for name in named}
    assert [name for name, folder in folders.items() if not (folder / name).is_file()] == []
