"""pflbench.api and FedAvg are the public API and nothing else; what they promise is written out in public_api.txt."""

import ast
import difflib
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import pflbench
from pflbench import api, testing
from pflbench_methods.fedavg import FedAvg

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRITTEN = HERE / "public_api.txt"
REMEDY = "if it is meant, run `python tests/core/test_public_api.py`, commit the file and say so in CHANGELOG.md"
SPECIAL = ("__init__", "__call__", "__str__")
MADE_BY_THE_HARNESS = ("Client", "Server")  # whose constructors are nobody else's business
BUILT_ON = (FedAvg,)  # the public classes of pflbench_methods
# what our pages may take from the plugins that come with pflbench: the beginning of a place -> its imports
OF_THE_METHODS = {
    "": {"from pflbench_methods.fedavg import FedAvg"},
    "examples/pflbench-fedprox-momentum/": {"from pflbench_methods.fedprox import FedProx"},
}


def described() -> str:
    """Return every public name with its signature, its fields and its functions, as the source has them."""
    beneath = {base for name in api.__all__ for base in inheritance(getattr(api, name))} - set(values(api))
    sections = {
        "pflbench.api": [entry(api, name) for name in api.__all__],
        "what these inherit": [tree(base.__name__, base) for base in sorted(beneath, key=lambda base: base.__name__)],
        "what methods are built on": [tree(cls.__name__, cls) for cls in BUILT_ON],
        "pflbench.testing": [entry(testing, name) for name in testing.__all__],
        "pflbench": [tree("run", pflbench.run)],
    }
    return "\n\n".join("\n\n".join([f"# {title}", *entries]) for title, entries in sections.items()) + "\n"


def values(module) -> list:
    return [getattr(module, name) for name in module.__all__ if inspect.isclass(getattr(module, name))]


def inheritance(thing) -> list[type]:
    own = inspect.getmro(thing) if inspect.isclass(thing) else ()
    return [cls for cls in own if cls.__module__.startswith("pflbench")]


def entry(module, name: str) -> str:
    thing = getattr(module, name)
    return tree(name, thing) if inspect.isclass(thing) or inspect.isfunction(thing) else alias(module, name)


def tree(name: str, thing) -> str:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    if isinstance(node, ast.FunctionDef):
        return signature(node)
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    head = [*(f"@{ast.unparse(each)}" for each in node.decorator_list), f"class {name}{bases}"]
    return "\n".join([*head, *(f"    {line}" for part in members(name, node) for line in part.splitlines())])


def members(name: str, node: ast.ClassDef) -> Iterator[str]:
    for part in node.body:
        if isinstance(part, ast.AnnAssign | ast.Assign) and not ast.unparse(part).startswith("_"):
            yield ast.unparse(part)
        elif isinstance(part, ast.FunctionDef):
            if part.name == "__init__" and name in MADE_BY_THE_HARNESS:
                yield from attributes(part)
            elif not part.name.startswith("_") or part.name in SPECIAL:
                yield signature(part)


def attributes(init: ast.FunctionDef) -> Iterator[str]:
    """Yield what a constructor gives its object, in the order of the source."""
    made = [node for each in ast.walk(init) if isinstance(each, ast.Assign | ast.AnnAssign) for node in ast.walk(each)]
    given = [node.attr for node in made if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    yield from (f"self.{name}" for name in given if not name.startswith("_"))


def signature(node: ast.FunctionDef) -> str:
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = "".join(f"@{ast.unparse(each)}\n" for each in node.decorator_list)
    return f"{decorators}def {node.name}({ast.unparse(node.args)}){result}"


def alias(module, name: str) -> str:
    """Return ``name = value`` as the module that makes it has it."""
    imports = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ImportFrom)]
    home = next(node.module for node in imports if name in [each.name for each in node.names])
    made = ast.parse(inspect.getsource(importlib.import_module(home))).body
    return next(ast.unparse(node) for node in made if ast.unparse(node).startswith(f"{name} = "))


def test_the_public_api_is_what_is_written_down():
    before, after = WRITTEN.read_text(encoding="utf-8").splitlines(), described().splitlines()
    changed = "\n".join(difflib.unified_diff(before, after, "public_api.txt", "the code", lineterm="", n=1))
    assert not changed, f"the public API changed; {REMEDY}:\n{changed}"


def test_every_public_name_is_written_down():
    text = WRITTEN.read_text(encoding="utf-8")
    for name in (*api.__all__, *testing.__all__, *(cls.__name__ for cls in BUILT_ON)):
        assert re.search(rf"^(?:class {name}\b|def {name}\(|{name} = )", text, re.MULTILINE), name


def test_nothing_public_is_missing_from_all():
    assert {name for name in vars(api) if not name.startswith("_")} == set(api.__all__)


@pytest.mark.parametrize("cls", [*values(api), *BUILT_ON], ids=lambda cls: cls.__name__)
def test_every_function_of_a_public_class_is_written_down(cls):
    """Counted by looking into the class, while the file is read from its source."""
    section = re.search(rf"^class {cls.__name__}\b.*\n((?:    .*\n)*)", WRITTEN.read_text(), re.MULTILINE)
    functions = [name for name, value in vars(cls).items() if not name.startswith("_") and hasattr(value, "__get__")]
    assert [name for name in functions if f"def {name}(" not in section[1]] == []


def python_blocks() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        yield from ((f"{path.relative_to(ROOT)} {number}", block) for number, block in enumerate(blocks))
    for path in sorted([*ROOT.glob("examples/**/*.py"), *ROOT.glob("pflbench/templates/**/*.py*")]):
        yield str(path.relative_to(ROOT)), path.read_text()


def test_what_we_show_imports_the_public_api_and_nothing_else():
    allowed = {"pflbench", "pflbench.api", "pflbench.testing"}
    used = {}
    for place, block in python_blocks():
        for module in re.findall(r"^\s*(?:from|import) (pflbench(?:\.[\w.]+)?)(?= |$)", block, re.MULTILINE):
            used.setdefault(module, []).append(place)
    assert "pflbench.api" in used
    assert {module: places for module, places in used.items() if module not in allowed} == {}


def test_what_we_show_builds_on_fedavg_and_on_no_other_plugin_but_where_it_says_so():
    used = {
        (place, line.strip())
        for place, block in python_blocks()
        for line in re.findall(
            r"^\s*(?:from|import) pflbench_(?:methods|datasets|reports|benchmarks)\b.*$", block, re.M
        )
    }
    allowed = {(at, line) for at, line in used for start, lines in OF_THE_METHODS.items()
               if at.startswith(start) and line in lines}  # fmt: skip
    assert used - allowed == set()
    assert {line for _, line in used} == set().union(*OF_THE_METHODS.values())  # what nobody shows is not promised


if __name__ == "__main__":
    WRITTEN.write_text(described(), encoding="utf-8")
    print(f"{WRITTEN} is written.", file=sys.stderr)
