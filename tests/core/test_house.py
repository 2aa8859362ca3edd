"""The house rules: who imports whom, what is public, and what ships."""

import ast
import inspect
import tomllib
from pathlib import Path

import pytest

from pflbench import api, hookspecs

ROOT = Path(__file__).parents[2]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "packages"
]
CORE = sorted((ROOT / "pflbench").rglob("*.py"))
PLUGINS = ("pflbench_methods", "pflbench_datasets", "pflbench_reports", "pflbench_benchmarks")


def named(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Yield every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)} imports relatively"
            yield node.module


def roots(path):
    return {module.partition(".")[0] for module in imported(path)}


@pytest.mark.parametrize("folder", ["methods", "datasets", "reports", "benchmarks", "tests"])
def test_the_outer_folders_are_no_packages(folder):
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_the_wheel_holds_the_core_and_the_built_ins():
    names = {Path(package).name for package in PACKAGES}
    assert {"pflbench", "pflbench_methods", "pflbench_datasets", "pflbench_reports"} <= names
    assert names <= {"pflbench", *PLUGINS}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package):
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()


def test_the_core_imports_no_plugin_and_no_report():
    assert len(CORE) > 30
    assert {named(path): found for path in CORE if (found := roots(path) & set(PLUGINS))} == {}


@pytest.mark.parametrize("package", ["methods/pflbench_methods", "datasets/pflbench_datasets"])
def test_plugins_import_of_the_core_only_the_public_api(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        core = {module for module in imported(path) if module.partition(".")[0] == "pflbench"}
        assert core <= {"pflbench.api"}, named(path)


def test_reports_import_of_the_core_only_results_and_the_names_of_metrics():
    for path in sorted((ROOT / "reports/pflbench_reports").rglob("*.py")):
        core = {module for module in imported(path) if module.partition(".")[0] == "pflbench"}
        assert core <= {"pflbench.results", "pflbench.metrics"}, named(path)
        assert "torch" not in roots(path), named(path)


def calls(path):
    """Return ``owner.function`` for every call of that form in a file."""
    return {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    }


def test_nothing_is_ever_unpickled():
    modules = {"pickle", "cloudpickle", "dill", "shelve", "joblib", "marshal"}
    assert {named(path): found for path in CORE if (found := roots(path) & modules)} == {}
    functions = {"torch.load", "torch.save", "connection.recv", "connection.send"}
    assert {named(path): found for path in CORE if (found := calls(path) & functions)} == {}


def test_only_the_initial_weights_use_torchs_global_generator():
    """They fork it; whatever else is drawn comes from a generator of its own role."""
    assert [named(path) for path in CORE if "torch.manual_seed" in calls(path)] == ["pflbench/sites.py"]


def test_every_file_says_what_it_is_for():
    assert [named(path) for path in CORE if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_the_public_api_is_this():
    assert api.__all__ == [
        "Batch",
        "Case",
        "Client",
        "DataError",
        "Dataset",
        "Download",
        "Family",
        "Files",
        "Found",
        "Inbox",
        "Item",
        "Loss",
        "Message",
        "Method",
        "Objective",
        "Outbox",
        "Partitioner",
        "Penalty",
        "Pixels",
        "Recipe",
        "Server",
        "Store",
        "StoredFile",
        "StoredSite",
        "TaskCard",
        "UNet",
        "UsageError",
        "Weights",
        "head_keys",
        "hookimpl",
        "keys",
        "layer",
        "load",
        "module_keys",
        "norm_keys",
        "overlay",
        "parameter_keys",
        "pick",
        "scale_of_statistics",
        "statistics_keys",
        "weighted_mean",
    ]


@pytest.mark.parametrize("name", api.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(api, name)
    if inspect.isfunction(thing) or (inspect.isclass(thing) and thing.__module__.startswith("pflbench")):
        assert inspect.getdoc(thing)


def test_the_hooks_are_three_and_documented():
    hooks = {
        name: hook for name, hook in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("pflbench_")
    }
    assert sorted(hooks) == ["pflbench_datasets", "pflbench_methods", "pflbench_partitioners"]
    assert all(inspect.getdoc(hook) for hook in hooks.values())
    assert all("return" in inspect.get_annotations(hook) for hook in hooks.values())


def test_the_package_itself_offers_run_and_its_version():
    import pflbench

    assert pflbench.__all__ == ["__version__", "run"]
    assert callable(pflbench.run)
    with pytest.raises(AttributeError, match="has no attribute 'walk'"):
        pflbench.walk  # noqa: B018
