"""Settings are checked on construction, listed as plain values, and read by name."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field

from pflbench.errors import UsageError, unknown
from pflbench.settings import Settings


@dataclass(frozen=True)
class Toy(Settings):
    """A settings class with one field of each kind."""

    name: ClassVar[str] = "toy"

    share: Annotated[float, Field(ge=0, le=1)] = 0.1
    count: Annotated[int, Field(ge=1)] | None = None
    how: Literal["max", "raw"] = "max"
    layers: tuple[str, ...] = ()
    folder: Path | None = field(default=None, metadata={"setting": False})
    weights: tuple[float, ...] = field(default_factory=lambda: (1.0, 2.0))


def test_values_are_turned_into_the_fields_types():
    toy = Toy(share=1, layers=["a", "b"], folder="somewhere")
    assert type(toy.share) is float
    assert toy.layers == ("a", "b")
    assert toy.folder == Path("somewhere")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("share", 1.5, "less than or equal to 1"),
        ("share", "much", "valid number"),
        ("share", None, "valid number"),
        ("count", 0, "greater than or equal to 1"),
        ("count", 1.5, "valid integer"),
        ("how", "mean", "'max' or 'raw'"),
        ("layers", "enc1", "valid tuple"),
    ],
)
def test_a_refusal_names_class_field_value_and_reason(name, value, reason):
    for make in (lambda: Toy(**{name: value}), lambda: Toy.of({name: value})):
        with pytest.raises(UsageError) as error:
            make()
        assert str(error.value).startswith(f"toy.{name} = {value!r} is refused: ")
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", ["shares", "Share", "shaer"])
def test_an_unknown_setting_is_refused_with_the_nearest(wrong):
    with pytest.raises(UsageError, match=f"no setting of toy called '{wrong}'; did you mean 'share'"):
        Toy.of({wrong: 1})


def test_a_setting_that_is_near_nothing_is_refused_with_all():
    with pytest.raises(UsageError, match="known: count, how, layers, share, weights"):
        Toy.of({"zzzzzz": 1})


def test_a_place_on_this_machine_is_no_setting():
    assert Toy.setting_names() == ["share", "count", "how", "layers", "weights"]
    assert "folder" not in Toy(folder=Path("x")).settings()
    with pytest.raises(UsageError, match="'folder'"):
        Toy.of({"folder": "x"})


def test_settings_are_plain_values_that_json_gives_back():
    toy = Toy(share=0.3, layers=("a",), count=2)
    assert Toy.of(json.loads(json.dumps(toy.settings()))) == toy


def test_only_what_differs_from_the_default_is_changed():
    assert Toy().changed() == {}
    assert Toy(share=0.1, how="max", weights=[1, 2]).changed() == {}
    assert Toy(share=0.2, layers=["a"]).changed() == {"share": 0.2, "layers": ["a"]}


def test_a_class_without_a_name_is_labelled_by_its_own():
    @dataclass(frozen=True)
    class Nameless(Settings):
        depth: int = 1

    with pytest.raises(UsageError, match=r"nameless\.depth = 'deep' is refused"):
        Nameless(depth="deep")


def test_a_required_field_that_is_missing_is_named():
    @dataclass(frozen=True)
    class Needy(Settings):
        name: ClassVar[str] = "needy"
        depth: int

    with pytest.raises(UsageError, match=r"needy: .*'depth'"):
        Needy.of({})


def test_a_field_of_a_type_that_cannot_be_checked_is_the_authors_error():
    class Opaque:
        pass

    Strange = dataclass(frozen=True)(type("Strange", (Settings,), {"__annotations__": {"it": Opaque}}))
    with pytest.raises(TypeError, match=r"Strange\.it"):
        Strange(it=Opaque())


def test_settings_work_as_keys():
    assert {Toy(share=0.5): "half"}[Toy(share=0.5)] == "half"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("fedavgg", "did you mean 'fedavg'?"),
        ("FEDBN", "did you mean 'fedbn'?"),
        ("xyz", "known: fedavg, fedbn."),
    ],
)
def test_the_sentence_for_an_unknown_name(name, hint):
    assert str(unknown("method", name, ["fedbn", "fedavg"])) == f"no method called {name!r}; {hint}"


def test_a_name_of_another_case_is_near_and_given_as_it_is_written():
    assert "did you mean 'CHASEDB1'?" in str(unknown("site", "chasedb", ["CHASEDB1", "HRF"]))


def test_an_unknown_name_among_none():
    assert str(unknown("dataset", "vessel", [])) == "no dataset called 'vessel'; known: none."
