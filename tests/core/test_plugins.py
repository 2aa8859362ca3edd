"""Plugins come in by entry point; clashes are refused by name, and a broken one stops nobody else."""

import re
import textwrap
from importlib.metadata import PathDistribution

import pytest

from pflbench import plugins
from pflbench.errors import UsageError

METHOD = """
    from dataclasses import dataclass
    from typing import ClassVar
    from pflbench.api import Method, hookimpl

    @dataclass(frozen=True)
    class Made(Method):
        name: ClassVar[str] = {name!r}
        title: ClassVar[str] = "Made"
        citation: ClassVar[str] = "Somebody, 2026."
        travels: ClassVar[str] = "nothing"
        aliases: ClassVar[tuple[str, ...]] = {aliases!r}
        def client_update(self, client): return {{}}
        def server_update(self, server, inbox): return {{}}
        def client_receive(self, client, message): pass

    @hookimpl
    def pflbench_methods(): return [Made]
"""


def method(name, *aliases):
    return METHOD.format(name=name, aliases=aliases)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a distribution of one module and returns its entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))
    count = iter(range(1000))

    def make(distribution, code, point=None, version="1.0"):
        module = f"{re.sub(r'[^a-z0-9]', '_', tmp_path.name)}_{next(count)}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(code))
        info = tmp_path / f"{distribution}-{version}-{module}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[pflbench]\n{point or distribution} = {module}\n")
        return tuple(PathDistribution(info).entry_points)

    return make


def test_a_plugins_method_is_found_with_where_it_comes_from(install):
    registry = plugins.load(install("mine", method("made"), version="2.5"))
    cls, plugin = registry.get("method", "made")
    assert cls.name == "made"
    assert (plugin.name, plugin.distribution, plugin.version) == ("mine", "mine", "2.5")
    assert plugin.hooks == ("pflbench_methods",)
    assert registry.problems == []


def test_every_kind_comes_through_its_own_hook(install):
    code = """
        from dataclasses import dataclass
        from typing import ClassVar
        from pflbench.api import Dataset, Partitioner, hookimpl

        @dataclass(frozen=True)
        class Data(Dataset):
            name: ClassVar[str] = "data"
            title: ClassVar[str] = "Data"
            sites: ClassVar[tuple[str, ...]] = ()
            licence: ClassVar[dict[str, str]] = {}
            citation: ClassVar[dict[str, str]] = {}
            @classmethod
            def find(cls, folder, **options): return cls()
            def available(self): return ()
            def cases(self, site): return ()
            def read(self, case): raise KeyError(case)
            def digest(self, case): return ""

        @dataclass(frozen=True)
        class Part(Partitioner):
            name: ClassVar[str] = "part"
            title: ClassVar[str] = "Part"
            def assign(self, cases, rng): return {}

        @hookimpl
        def pflbench_datasets(): return [Data]

        @hookimpl
        def pflbench_partitioners(): return [Part]
    """
    registry = plugins.load(install("mine", code))
    assert registry.plugins[0].hooks == ("pflbench_datasets", "pflbench_partitioners")
    assert registry.dataset("data").__name__ == "Data"
    assert registry.partitioner("part").__name__ == "Part"
    assert registry.names("method") == []


def test_several_plugins_each_give_their_own(install):
    points = install("one", method("first")) + install("two", method("second"))
    registry = plugins.load(points)
    assert registry.names("method") == ["first", "second"]
    assert registry.get("method", "second")[1].distribution == "two"


def test_pflbenchs_own_come_first(install):
    points = install("aaa", method("other")) + install("pflbench", method("own"), point="zzz")
    assert plugins.load(points).names("method") == ["own", "other"]


def test_an_entry_point_name_shared_by_two_distributions_is_refused_with_both(install):
    points = install("one", method("first"), "same") + install("two", method("second"), "same")
    with pytest.raises(UsageError, match="the entry point 'same' is used by one and two"):
        plugins.load(points)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import a_library_that_is_not_there",
            "ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
        ),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("raise SystemExit('bye')", "SystemExit: bye; it is imported, not run: put what exits below if __name__ =="),
    ],
)
def test_a_plugin_that_fails_to_import_is_named_and_the_rest_works(install, code, reason):
    registry = plugins.load(install("broken", code, version="0.3") + install("good", method("made")))
    (problem,) = registry.problems
    assert problem.startswith("plugin 'broken' of broken 0.3 could not be loaded (")
    assert reason in problem
    assert re.search(r"\.py, line 1", problem)  # what to look at
    assert "\n" not in problem
    assert registry.method("made").name == "made"
    assert [plugin.name for plugin in registry.plugins] == ["broken", "good"]


def test_an_interruption_while_a_plugin_is_imported_is_one(install):
    with pytest.raises(KeyboardInterrupt):
        plugins.load(install("slow", "raise KeyboardInterrupt"))


def test_an_unknown_hook_is_named_with_the_known_ones(install):
    code = method("made").replace("pflbench_methods", "pflbench_metods")
    registry = plugins.load(install("typo", code) + install("good", method("fine")))
    (problem,) = registry.problems
    assert "'typo' of typo 1.0" in problem
    assert "implements 'pflbench_metods', which is no hook" in problem
    assert "(they are pflbench_datasets, pflbench_methods, pflbench_partitioners)" in problem
    assert "; did you mean 'pflbench_methods'?" in problem
    assert registry.names("method") == ["fine"]


def test_a_plugin_with_a_known_and_an_unknown_hook_gives_nothing(install):
    code = method("made") + "\n    @hookimpl\n    def pflbench_models(): return []\n"
    registry = plugins.load(install("typo", code))
    assert registry.names("method") == []
    assert "pflbench_models" in registry.problems[0]


@pytest.mark.parametrize("name", ["pflbench_methods", "pflbench_metods"])
def test_a_hook_that_is_not_marked_is_named(install, name):
    code = method("made").replace("@hookimpl", "").replace("pflbench_methods", name)
    problem = problem_of(install, code)
    assert f"{name}() is not marked, so nobody calls it; write @hookimpl (of pflbench.api) above it" in problem


def test_a_plugin_that_provides_nothing_is_named(install):
    problem = problem_of(install, "import pflbench_methods")
    assert "it implements no hook; " in problem
    assert "must be a module with @hookimpl above def pflbench_methods()" in problem


def test_a_hook_that_returns_a_class_is_told_to_return_a_list(install):
    problem = problem_of(install, method("made").replace("return [Made]", "return Made"))
    assert "pflbench_methods() returned <class" in problem
    assert "not a list of classes; return [Made]" in problem


def test_hooks_that_return_no_class_disable_their_plugin(install):
    problem = problem_of(install, method("made").replace("return [Made]", "return []"))
    assert "could not be loaded (its hooks return no class; return [MyClass])." in problem


def test_one_hook_of_several_may_have_nothing_to_return(install):
    code = method("made") + "\n    @hookimpl\n    def pflbench_datasets(): return []\n"
    registry = plugins.load(install("mine", code))
    assert (registry.problems, registry.names("method")) == ([], ["made"])


def test_a_hook_with_a_wrong_signature_is_named(install):
    code = method("made").replace("def pflbench_methods()", "def pflbench_methods(registry)")
    registry = plugins.load(install("wrong", code) + install("good", method("fine")))
    (problem,) = registry.problems
    assert "'wrong' of wrong 1.0" in problem
    right = "write def pflbench_methods() -> list[type[Method]]"
    assert f"pflbench_methods(registry) has a wrong signature; {right}" in problem
    assert registry.names("method") == ["fine"]


@pytest.mark.parametrize("body", ["import not_there", "raise RuntimeError('later')", "raise SystemExit", "return Made"])
def test_a_plugin_whose_hook_fails_is_named_and_the_rest_works(install, body):
    code = method("made").replace("return [Made]", body)
    registry = plugins.load(install("late", code) + install("good", method("fine")))
    (problem,) = registry.problems
    assert "'late' of late 1.0" in problem
    assert registry.names("method") == ["fine"]


def test_a_method_name_from_two_distributions_is_refused_with_both(install):
    with pytest.raises(UsageError, match="method 'made' comes from one and from two; uninstall one of them"):
        plugins.load(install("one", method("made")) + install("two", method("made")))


def test_two_methods_of_one_plugin_with_one_name_are_refused(install):
    code = method("made").replace("return [Made]", "return [Made, Made]")
    with pytest.raises(UsageError, match="method 'made' comes from mine and from mine; give one of them another name"):
        plugins.load(install("mine", code))


@pytest.mark.parametrize(
    ("first", "second"),
    [(("made", "other"), ("other",)), (("made",), ("other", "made")), (("a", "c"), ("b", "c"))],
)
def test_a_name_that_is_another_methods_other_spelling_is_refused(install, first, second):
    with pytest.raises(UsageError, match=r"one.*two"):
        plugins.load(install("one", method(*first)) + install("two", method(*second)))


def problem_of(install, code):
    """Return the one problem of a plugin, beside which another works."""
    registry = plugins.load(install("mine", code) + install("good", method("fine")))
    assert registry.names("method") == ["fine"]
    (problem,) = registry.problems
    return problem


@pytest.mark.parametrize("thing", ["object", "'fedavg'", "Made()"])
def test_what_is_no_subclass_disables_its_plugin(install, thing):
    code = method("made").replace("return [Made]", f"return [{thing}]")
    assert re.search(r"'mine' of mine .* is not a subclass of Method", problem_of(install, code))


@pytest.mark.parametrize("step", ["client_update", "server_update", "client_receive"])
def test_a_method_that_lacks_a_step_disables_its_plugin(install, step):
    lines = [line for line in method("made").splitlines() if f"def {step}" not in line]
    assert re.search(f"'mine' of mine .*Made lacks {step}", problem_of(install, "\n".join(lines)))


@pytest.mark.parametrize("name", ["Made", "", None])
def test_a_name_that_is_not_lower_case_disables_its_plugin(install, name):
    problem = problem_of(install, method(name))
    assert f"Made.name = {name!r} must be a lower-case string" in problem


def test_a_module_behind_two_entry_points_is_loaded_once(install):
    (point,) = install("mine", method("made"))
    info = point.dist._path
    (info / "entry_points.txt").write_text(f"[pflbench]\na = {point.value}\nb = {point.value}\n")
    registry = plugins.load(tuple(PathDistribution(info).entry_points))
    assert registry.names("method") == ["made"]
    assert "'b' of mine" in registry.problems[0]


@pytest.mark.parametrize("spelling", ["idle", "IDLE", " idle ", "lazy", "Lazy"])
def test_names_are_found_in_any_spelling(toys, spelling):
    assert toys.method(spelling).name == "idle"


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [("method", "idel", "idle"), ("dataset", "disc", "discs"), ("partitioner", "naturel", "natural")],
)
def test_an_unknown_name_is_refused_with_the_nearest(toys, kind, wrong, right):
    with pytest.raises(UsageError, match=f"no {kind} called '{wrong}'; did you mean '{right}'"):
        toys.get(kind, wrong)


def test_where_a_plugin_is_broken_an_unknown_name_says_so(install):
    registry = plugins.load(install("broken", "1 / 0") + install("good", method("made")))
    with pytest.raises(UsageError, match=r"no method called 'mine'.*could not be loaded.*'broken' of broken"):
        registry.method("mine")


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """Return a function that lays a package's folder into the working folder."""
    monkeypatch.chdir(tmp_path)

    def lay(folder, project):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')

    return lay


@pytest.mark.parametrize(
    ("folder", "name", "typed"),
    [
        ("pflbench-my-own", "my-own", "pip install --editable pflbench-my-own"),
        ("pflbench-my-own", "My_Own", "pip install --editable pflbench-my-own"),
        (".", "my-own", "pip install --editable ."),
    ],
)
def test_a_name_whose_package_lies_here_is_told_to_be_installed_and_nothing_else(toys, beside, folder, name, typed):
    beside(folder, "pflbench-my-own")
    with pytest.raises(UsageError) as error:
        toys.method(name)
    assert str(error.value) == f"the package pflbench-my-own is not installed here: {typed}"


def test_a_package_that_is_installed_and_broken_is_not_called_uninstalled(install, beside):
    beside("pflbench-made", "pflbench-made")
    with pytest.raises(UsageError, match=r"no method called 'made'.*'pflbench-made' of pflbench-made 1.0 could not be"):
        plugins.load(install("pflbench-made", "1 / 0")).method("made")


def test_another_package_in_a_folder_of_that_name_is_not_what_was_meant(toys, beside):
    beside("pflbench-made", "something-else")
    with pytest.raises(UsageError, match="no method called 'made'"):
        toys.method("made")


def test_the_installed_registry_has_the_papers_methods_and_no_problem():
    registry = plugins.registry()
    assert {"local", "fedavg", "fedbn", "siobn", "fedper", "resfim"} <= set(registry.names("method"))
    assert {"vessel", "vessel-simulated"} <= set(registry.names("dataset"))
    assert {"natural", "dirichlet"} <= set(registry.names("partitioner"))
    assert registry.method("silobn") is registry.method("siobn")
    assert registry.problems == []
