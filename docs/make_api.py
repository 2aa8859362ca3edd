"""Write docs/api.md from pflbench.api and FedAvg: every public name with its signature and its docstring."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from from_code import WRITTEN, comment, joined, linked, prose, table, write

import pflbench
import pflbench.testing
from pflbench import api, hookspecs
from pflbench.settings import Settings
from pflbench_methods.fedavg import FedAvg

NAME = "api.md"
WIDTH = 88
INTRODUCTION = f"""{WRITTEN}

# API reference

`pflbench.api` is the public API: a plugin imports from it and from no other module of pflbench, and its tests from
[`pflbench.testing`](#for-tests). One class more is public, because most methods are built on it:
[`FedAvg`](#built-on) of `pflbench_methods`; the other methods follow their papers and may change. What stands here
changes only with a note in the changelog.

```python
from pflbench.api import Client, Message, Method, hookimpl
```
"""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Contracts": ("Method", "Family", "TaskCard", "Dataset", "Partitioner", "Recipe"),
    "What a method sees": ("Client", "Server", "Batch", "Loss", "Objective", "Penalty"),
    "What travels": ("Message", "Inbox", "Outbox"),
    "The model and its entries": (
        *("UNet", "Weights", "keys", "parameter_keys", "norm_keys", "statistics_keys", "head_keys", "module_keys"),
        *("scale_of_statistics", "layer", "pick", "load", "weighted_mean", "overlay"),
    ),
    "Cases": ("Case", "Pixels"),
    "Releases, and the store they are imported into": (
        *("Files", "Found", "Item", "Download", "Store", "StoredSite", "StoredFile"),
    ),
    "Errors": ("UsageError", "DataError"),
    "The door": ("hookimpl",),
}
MADE_BY_THE_HARNESS = ("Client", "Server")
FIELDS_OF_THE_RECIPE = "Its fields have a page of their own: [The recipe](recipe.md).\n"
BUILT_ON = """<a id="built-on"></a>

## What methods are built on: `pflbench_methods.fedavg`

```python
from pflbench_methods.fedavg import FedAvg
```

A method that is FedAvg but for one thing subclasses it and overrides that; `name`, `title`, `citation`, `family`,
`year` and `travels` are to be its own. Of `pflbench_methods` this class alone is public.
"""
HOOKIMPL = """Marks a function of a plugin as the implementation of a hook. There are three, and each has a page:
[methods](hooks/methods.md), [datasets](hooks/datasets.md), [partitioners](hooks/partitioners.md)."""


def page() -> str:
    """Return the page as Markdown. Raises ValueError for a public name that stands in no group."""
    grouped = [name for names in GROUPS.values() for name in names]
    if sorted(grouped) != sorted(api.__all__):
        raise ValueError(f"GROUPS of docs/make_api.py lacks or repeats {set(grouped) ^ set(api.__all__)}")
    lines = [INTRODUCTION]
    for title, names in GROUPS.items():
        lines += [f"## {title}\n", *(line for name in names for line in _entry(name))]
        lines += _common() if title == "Contracts" else _hooks() if "hookimpl" in names else ()
    return joined([*lines, *_built_on(), *_in_python(), *_for_tests()])


def _entry(name: str) -> Iterator[str]:
    thing = getattr(api, name)
    yield f"### `{name}`\n"
    if inspect.isclass(thing):
        yield from _class(name, thing)
    elif inspect.isfunction(thing):
        yield from _function(name, thing)
    else:
        yield from _alias(name)


def _class(name: str, cls: type) -> Iterator[str]:
    if "__init__" in vars(cls) and not dataclasses.is_dataclass(cls) and name not in MADE_BY_THE_HARNESS:
        yield _code(signature(cls, name))
    yield f"{prose(cls)}\n"
    yield from [FIELDS_OF_THE_RECIPE] if name == "Recipe" else _declared(cls)
    yield from _members(name, cls)


def _declared(cls: type) -> Iterator[str]:
    """Yield what a class declares: its constants and fields in their order, with the comments beside them."""
    declared = {name: _written(annotation) for name, annotation in inspect.get_annotations(cls).items()}
    yield from table(
        ["field", "type", "default", ""],
        (
            [f"`{name}`", f"`{annotation}`", _default(cls, name), linked(comment(cls, name))]
            for name, annotation in declared.items()
            if not name.startswith("_")
        ),
    )


def _default(cls: type, name: str) -> str:
    """Return a default as it is in code; empty where a value must be given."""
    field = getattr(cls, "__dataclass_fields__", {}).get(name)
    if field is not None and callable(field.default_factory):
        return f"`{_value(field.default_factory())}`"
    return f"`{_value(vars(cls)[name])}`" if name in vars(cls) else ""


def _value(value: object) -> str:
    """Return a default as one writes it, a function by its name."""
    if callable(value):
        return str(getattr(value, "__name__", value))
    return json.dumps(value) if isinstance(value, str) else repr(value).replace("'", '"')


def _members(name: str, cls: type) -> Iterator[str]:
    for own, member in vars(cls).items():
        if own.startswith("_") or own == "forward":
            continue
        if isinstance(member, property):
            returned = inspect.get_annotations(member.fget)["return"] if member.fget else ""
            yield from _described(f"{name}.{own}", f"{own}: {_written(returned)}", member)
        elif isinstance(member, classmethod):
            yield from _described(f"{name}.{own}", f"@classmethod\n{signature(member.__func__, own)}", member.__func__)
        elif inspect.isfunction(member):
            yield from _function(f"{name}.{own}", member)


def _function(name: str, function: Callable[..., Any]) -> Iterator[str]:
    yield from _described(name, signature(function, name.rpartition(".")[2]), function)


def _described(name: str, code: str, documented: object) -> Iterator[str]:
    if "." in name:
        yield f'<a id="{name}"></a>\n'
    yield _code(code)
    yield f"{prose(documented)}\n"


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def signature(function: Callable[..., Any], name: str) -> str:
    """Return ``name(parameters) -> result`` with annotations as written, broken where it is long."""
    found = inspect.signature(function)
    parameters = [p for p in found.parameters.values() if p.name not in ("self", "cls")]
    texts = [str(p.replace(annotation=p.empty, default=p.empty)) + _typed_default(p) for p in parameters]
    star = next((at for at, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if star is not None:
        texts.insert(star, "*")
    result = "" if found.return_annotation is found.empty else f" -> {_written(found.return_annotation)}"
    result = "" if inspect.isclass(function) else result
    line = f"{name}({', '.join(texts)}){result}"
    return line if len(line) <= WIDTH else "\n    ".join([f"{name}(", *(f"{text}," for text in texts)]) + f"\n){result}"


def _typed_default(parameter: inspect.Parameter) -> str:
    typed = "" if parameter.annotation is parameter.empty else f": {_written(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return typed
    return f"{typed} = {_value(parameter.default)}"


def _written(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("'", '"')


def _alias(name: str) -> Iterator[str]:
    """Yield a type, or another value, as the module that makes it has it."""
    imports = [node for node in ast.parse(inspect.getsource(api)).body if isinstance(node, ast.ImportFrom)]
    module = next(str(node.module) for node in imports if name in [alias.name for alias in node.names])
    source = inspect.getsource(sys.modules[module])
    found = re.search(rf"((?:^# .+\n)*)^{name} = ([^#\n]+?)(?: +# (.+))?$", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"{module} has no line {name} = ... that docs/make_api.py can read")
    yield _code(f"{name} = {found[2]}")
    above = " ".join(line.strip("# ") for line in found[1].splitlines())
    yield f"{HOOKIMPL if name == 'hookimpl' else '; '.join(part for part in (above, found[3]) if part)}\n"


def _common() -> Iterator[str]:
    yield "### What every value with settings has\n"
    yield f"`Method`, `Dataset`, `Partitioner` and `Recipe` share this. {prose(Settings)}\n"
    yield from _members("Settings", Settings)


def _hooks() -> Iterator[str]:
    for name, hook in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("pflbench_"):
            yield f"### `{name}`\n"
            yield from _function(name, hook)


def _built_on() -> Iterator[str]:
    yield BUILT_ON
    yield "### `FedAvg`\n"
    yield from _class("FedAvg", FedAvg)


def _in_python() -> Iterator[str]:
    yield "## In Python\n"
    yield from _function("pflbench.run", pflbench.run)


def _for_tests() -> Iterator[str]:
    yield '<a id="for-tests"></a>\n\n## For tests: `pflbench.testing`\n'
    for name in pflbench.testing.__all__:
        thing = getattr(pflbench.testing, name)
        yield f"### `testing.{name}`\n"
        yield from _class(name, thing) if inspect.isclass(thing) else _function(name, thing)


if __name__ == "__main__":
    write(NAME, page())
