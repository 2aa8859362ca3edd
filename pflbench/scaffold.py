"""A package of one's own, written from templates: everything is checked first, then it is there in one move."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import os
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pflbench import version
from pflbench.errors import UsageError, unknown
from pflbench.plugins import KINDS, Registry

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 30  # letters; the templates keep to 120 columns with it
_MEANT = {"all": "every method", "paper": "the paper's methods", "recipe": "the recipe"}  # on the command line
_TEMPLATES = {
    "method": ("module.py", "test.py", "README.md"),
    "dataset": ("module.py", "test.py", "README.md", "fake.py"),
    "partitioner": ("module.py", "test.py", "README.md"),
}


@dataclass(frozen=True)
class Package:
    """What a package is called, everywhere: ``fedfoo`` is in ``pflbench-fedfoo`` as ``pflbench_fedfoo.FedFoo``."""

    kind: str
    name: str

    @property
    def distribution(self) -> str:
        """The name of the folder, of the distribution and of its entry point."""
        return f"pflbench-{self.name.replace('_', '-')}"

    @property
    def module(self) -> str:
        """The name that is imported."""
        return self.distribution.replace("-", "_")

    @property
    def title(self) -> str:
        """The name in tables: FedFoo, as the field writes it, where it begins with fed or pfed."""
        return re.sub("[a-z0-9]+", lambda word: _capitals(word[0]), self.name)

    @property
    def cls(self) -> str:
        """The name of the class."""
        return re.sub("[-_]", "", self.title)

    @property
    def slug(self) -> str:
        """The name as part of a Python file's name."""
        return self.name.replace("-", "_")


def _capitals(word: str) -> str:
    for start, written in (("pfed", "PFed"), ("fed", "Fed")):
        if word.startswith(start) and len(word) > len(start):
            return written + word[len(start) :].capitalize()
    return word.capitalize()


def scaffold(kind: str, name: str, into: Path, registry: Registry) -> Path:
    """Write the package of a new plugin and return its folder, ``into/pflbench-NAME``.

    Raises UsageError where the name cannot be used, or where something lies there already; then nothing is written.
    """
    package = _checked(kind, name, registry)
    folder = into / package.distribution
    if not into.is_dir():
        raise UsageError(f"there is no folder {into} to write {package.distribution} into; make it, or choose another.")
    if os.path.lexists(folder):
        raise UsageError(f"{folder} exists already and is left as it is; choose another name, or another --into.")
    _write(files(package), folder)
    return folder


def files(package: Package) -> dict[str, str]:
    """Return path -> text of every file of a package."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pflbench"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # Python, TOML, YAML and Markdown, never HTML
    )
    facts = {"package": package, "version": version.__version__, "commands": commands(package, Path("."))}
    return {path: environment.get_template(f"{name}.jinja").render(facts) for path, name in _targets(package).items()}


def commands(package: Package, folder: Path) -> list[str]:
    """Return what to type next, seen from where the package lies in ``folder``."""
    name, here = package.name, shlex.quote(str(folder))
    script, fake, runs = (
        shlex.quote(str(folder / part)) for part in (f"tests/fake_{package.slug}.py", "fake", "fake/runs")
    )
    tried = {
        "method": [
            f"pflbench check {name}",
            f"pflbench run --methods fedavg,fedbn,{name} --dataset vessel-simulated --seeds 1",
        ],
        "dataset": [
            f"python {script} {fake}",
            # numbers of made-up files lie beside them, apart from those of patients
            f"pflbench run --methods local,fedavg --dataset {name} --data-root {fake} --preset quick --seeds 1 "
            f"--out {runs}",
        ],
        "partitioner": [
            f"pflbench check {name}",
            f"pflbench run --methods fedavg,fedbn --dataset vessel-simulated --partitioner {name} --seeds 1",
        ],
    }
    return [f"pip install --editable {here}", *tried[package.kind]]


def _targets(package: Package) -> dict[str, str]:
    """Return path in the package -> name of its template."""
    own = {
        "module.py": f"{package.module}.py",
        "test.py": f"tests/test_{package.slug}.py",
        "fake.py": f"tests/fake_{package.slug}.py",
        "README.md": "README.md",
    }
    return {
        **{own[template]: f"{package.kind}/{template}" for template in _TEMPLATES[package.kind]},
        "pyproject.toml": "common/pyproject.toml",
        ".gitignore": "common/gitignore",
        ".github/workflows/test.yml": "common/test.yml",
    }


def _checked(kind: str, name: str, registry: Registry) -> Package:
    if kind not in KINDS:
        raise unknown("kind of plugin", kind, KINDS)
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"{name!r} cannot be the name of a {kind}; write at most {_LONGEST} lower-case letters and digits, a "
            f"letter first, parts joined by - or _{_suggestion(name)}."
        )
    package = Package(kind, name)
    _refuse_taken(package, registry)
    _refuse_words_with_a_meaning(package)
    return package


def _suggestion(name: str) -> str:
    simple = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f", as in {simple}" if _NAME.fullmatch(simple) and len(simple) <= _LONGEST else ", as in fedfoo"


def _refuse_words_with_a_meaning(package: Package) -> None:
    name = package.name
    if keyword.iskeyword(name) or keyword.iskeyword(package.cls):
        raise UsageError(f"{name!r} is a word of the Python language and cannot be a {package.kind}'s name.")
    if name in _MEANT:
        raise UsageError(f"{name!r} means {_MEANT[name]} on the command line and cannot be a {package.kind}'s name.")
    tree = ast.parse(files(package)[f"{package.module}.py"])
    imports = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
    if package.cls in {alias.asname or alias.name for node in imports for alias in node.names}:
        raise UsageError(
            f"the class of {name!r} would be {package.cls}, which its own file imports from elsewhere; "
            "choose another name."
        )


def _refuse_taken(package: Package, registry: Registry) -> None:
    for kind, found in registry.found.items():
        for cls, plugin in found.values():
            if package.name in (cls.label(), *vars(cls).get("aliases", ())):  # type: ignore[attr-defined]
                raise UsageError(
                    f"{package.name!r} is the name of a {kind} of {plugin.distribution} {plugin.version}; "
                    "choose another, or uninstall that one."
                )
    if importlib.util.find_spec(package.module) is not None:
        raise UsageError(f"a module {package.module} is installed already; choose another name than {package.name!r}.")


def _write(texts: dict[str, str], folder: Path) -> None:
    """Write all files beside the folder's place, then rename: an interruption leaves nothing."""
    try:
        with tempfile.TemporaryDirectory(prefix=".pflbench-new-", dir=folder.parent) as beside:
            made = Path(beside) / folder.name
            for path, text in texts.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(text, encoding="utf-8")
            made.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}); choose another --into.") from error
