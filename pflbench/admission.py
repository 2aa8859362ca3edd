"""What a plugin's class must be, checked as it is loaded: what is wrong is said before anything is trained."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pflbench.errors import UsageError
from pflbench.faults import described
from pflbench.settings import Settings

_RESERVED = ("all", "paper", "recipe", "none")  # words of the command line
_ALIKE = 0.85  # names at least so similar are taken for misspelt
_MEANINGS = {
    "title": "its name in tables",
    "citation": "authors, title, year, link",
    "travels": "what leaves a hospital, in words",
    "sites": "its sites, in the order of tables",
    "licence": "site -> licence",
}


def admit(expected: type[Settings], cls: Any) -> None:
    """Raise UsageError with the first thing that is wrong with a class that is to be a subclass of ``expected``."""
    if not (inspect.isclass(cls) and issubclass(cls, expected)):
        advice = f"; list the class {type(cls).__name__}, not a value of it" if isinstance(cls, expected) else ""
        raise UsageError(f"{cls!r} is not a subclass of {expected.__name__}{advice}")
    check_functions(expected, cls)
    _check_name(cls)
    _check_constants(expected, cls)
    _check_fields(cls)


def check_functions(expected: type[Settings], cls: type[Settings]) -> None:
    """Raise UsageError where a class would not do what its author wrote: a lost setting, a function nobody calls."""
    for base in _own(expected, cls):
        _check_decorated(base)
        _check_typed(expected, base)
        _check_spelling(expected, base)
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise UsageError(f"{cls.__name__} lacks {', '.join(lacking)}; write def {_call(expected, lacking[0])}")
    _check_signatures(expected, cls)


def _own(expected: type[Settings], cls: type) -> list[type[Settings]]:
    """Return the class and what it is built on, down to the contract; plain mixins are left alone."""
    return [base for base in cls.__mro__ if issubclass(base, Settings) and base not in expected.__mro__]


@functools.cache
def _constants(expected: type[Settings]) -> Mapping[str, TypeAdapter[Any]]:
    """Return the class constants of a contract: name -> what checks their type."""
    hints = get_type_hints(expected, include_extras=True)
    return {name: TypeAdapter(get_args(hint)[0]) for name, hint in hints.items() if get_origin(hint) is ClassVar}


@functools.cache
def _steps(expected: type[Settings]) -> Mapping[str, Callable[..., Any]]:
    """Return the functions of a contract: name -> function."""
    found = {name: getattr(value, "__func__", value) for name, value in vars(expected).items() if name[0] != "_"}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


def _check_decorated(cls: type) -> None:
    if "__dataclass_params__" not in vars(cls):
        fields = [name for name, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)]
        lost = f", so {' and '.join(fields)} cannot be set" if fields else ""
        raise UsageError(f"{cls.__name__} is no dataclass{lost}; write @dataclass(frozen=True) above it")


def _check_typed(expected: type[Settings], cls: type) -> None:
    """Refuse ``mu = 0.1`` without a type: it looks like a setting and is none."""
    annotated = {name for base in cls.__mro__ for name in inspect.get_annotations(base)}
    fields = {field.name for base in cls.__mro__[1:] if dataclasses.is_dataclass(base) for field in _fields(base)}
    for name, value in vars(cls).items():
        plain = isinstance(value, (bool, int, float, str)) and name.islower() and name[0] != "_"
        known = name in annotated - fields or name in inspect.get_annotations(cls)
        if plain and not known and name not in {**_constants(expected), **_steps(expected)}:
            effect = "its parent's value stays" if name in fields else "it is no setting"
            kind = type(value).__name__
            raise UsageError(
                f"{cls.__name__}.{name} = {value!r} has no type, so {effect}; write {name}: {kind} = {value!r}, "
                f"or {name}: ClassVar[{kind}] where nobody is to set it"
            )


def _fields(cls: Any) -> tuple[Any, ...]:
    return dataclasses.fields(cls)


def _check_spelling(expected: type[Settings], cls: type) -> None:
    """Refuse a function whose name is almost one that would be called: its parent's would be, silently."""
    inherited = {
        name
        for base in cls.__mro__[1:]
        if base not in Settings.__mro__
        for name, value in vars(base).items()
        if name[0] != "_" and callable(getattr(value, "__func__", value))
    }
    for name, value in vars(cls).items():
        if name[0] == "_" or name in inherited or not inspect.isfunction(getattr(value, "__func__", value)):
            continue
        if near := difflib.get_close_matches(name, sorted(inherited), n=1, cutoff=_ALIKE):
            raise UsageError(
                f"nobody calls {cls.__name__}.{name}; did you mean {near[0]!r}? "
                "If not, begin its name with an underscore"
            )


def _check_name(cls: type) -> None:
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", name):
        raise UsageError(
            f"{cls.__name__}.name = {name!r} must be a lower-case string of letters, digits, - and _; "
            f"write name: ClassVar[str] = {_suggested(cls)!r}"
        )
    if name in _RESERVED:
        raise UsageError(f"{cls.__name__}.name = {name!r} has a meaning on the command line; choose another")
    for constant in ("name", "title"):
        if constant not in vars(cls) and hasattr(cls, constant):
            raise UsageError(
                f"{cls.__name__} has no {constant} of its own and would pass for {getattr(cls, constant)!r}; "
                f"write {constant}: ClassVar[str] = {_suggested(cls)!r}"
            )


def _suggested(cls: type) -> str:
    return cls.__name__.lower()


def _check_constants(expected: type[Settings], cls: type) -> None:
    fields = {field.name for field in _fields(cls)}
    for name, kind in _constants(expected).items():
        written = str(inspect.get_annotations(expected)[name])
        meaning = f" ({_MEANINGS[name]})" if name in _MEANINGS else ""
        if name in fields:
            raise UsageError(f"{cls.__name__}.{name} is written as a setting; write {name}: {written} instead")
        if not hasattr(cls, name):
            raise UsageError(f"{cls.__name__} lacks {name}{meaning}; write {name}: {written}")
        value = getattr(cls, name)
        try:
            kind.validate_python(value, strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UsageError(
                f"{cls.__name__}.{name} = {value!r} is refused: {reason}; write {name}: {written}"
            ) from None
        if value == "":
            raise UsageError(f"{cls.__name__}.{name} is empty; say there{meaning or ' what a reader must know'}")


def _check_signatures(expected: type[Settings], cls: type) -> None:
    for name, step in _steps(expected).items():
        written = inspect.getattr_static(cls, name)
        agreed = inspect.getattr_static(expected, name)
        if type(agreed) is classmethod and type(written) is not classmethod:
            raise UsageError(f"{cls.__name__}.{name} is called before there is a value; write @classmethod above it")
        function = getattr(written, "__func__", written)
        if not callable(function):
            raise UsageError(f"{cls.__name__}.{name} is no function; write def {_call(expected, name)}")
        if function is not step and not _takes(function, _positional(step)):
            shown = inspect.signature(function, follow_wrapped=True)
            names = ", ".join(str(parameter).partition(":")[0] for parameter in shown.parameters.values())
            raise UsageError(f"{cls.__name__}.{name}({names}) has a wrong signature; write def {_call(expected, name)}")


def _takes(function: Callable[..., Any], names: list[str]) -> bool:
    """Say whether a function can be called with so many arguments, and does not name them in another order."""
    signature = inspect.signature(function)
    try:
        signature.bind(*names)
    except TypeError:
        return False
    shared = [name for name in _positional(function) if name in names]
    return shared == sorted(shared, key=names.index)


def _positional(function: Callable[..., Any]) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in inspect.signature(function).parameters.items() if parameter.kind in kinds]


def _call(expected: type[Settings], name: str) -> str:
    return f"{name}({', '.join(_positional(_steps(expected)[name]))})"


def _check_fields(cls: type[Settings]) -> None:
    """Refuse settings without a default, of a type that nothing can be read into, or that can change."""
    for field in _fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{cls.__name__}.{field.name} has no default; give every setting one")
    try:
        value = cls()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{cls.__name__}() fails: {described(error, cls)}".rstrip(".")) from error
    for field in _fields(cls):
        content = getattr(value, field.name)
        if field.compare and not _constant(content):
            raise UsageError(
                f"{cls.__name__}.{field.name} is a {type(content).__name__}, which can change; settings never do: "
                f"write a tuple, as in {field.name}: tuple[float, ...] = ()"
            )


def _constant(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
