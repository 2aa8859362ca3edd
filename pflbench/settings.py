"""Typed fields of frozen dataclasses: checked on construction, listed, and read from text."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from pflbench.errors import UsageError, unknown


def _adapters(cls: type[Settings]) -> dict[str, TypeAdapter[Any]]:
    return _adapters_of(cls)


@functools.cache
def _adapters_of(cls: type[Settings]) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(cls, include_extras=True)
    adapters = {}
    for field in dataclasses.fields(cls):
        try:
            adapters[field.name] = TypeAdapter(hints[field.name])
        except PydanticUserError as error:
            raise TypeError(f"{cls.__name__}.{field.name}: {error}") from error
    return adapters


@dataclass(frozen=True)
class Settings(ABC):  # noqa: B024 - so that the contracts built on it may have abstract steps
    """A value whose fields are all that can be set about it: printable, hashable, checked.

    Types are enforced when the value is made, by pydantic, so ``Annotated[float, Field(ge=0, le=1)]``
    refuses 1.5 wherever it comes from. Raises UsageError naming class and field. A field with
    ``metadata={"setting": False}`` (where something lies on this machine) is checked, but is no setting.
    """

    def __post_init__(self) -> None:
        for name, adapter in _adapters(type(self)).items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, adapter.validate_python(value))
            except ValidationError as error:
                reason = error.errors()[0]["msg"]
                words = self.allowed(name)
                advice = "" if _ANYTHING in words else f" It may be {words}."
                raise UsageError(f"{self.label()}.{name} = {value!r} is refused: {reason}.{advice}") from None

    @classmethod
    def label(cls) -> str:
        """Return the name under which settings are given on the command line."""
        return str(getattr(cls, "name", cls.__name__.lower()))

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Make the value from a mapping; unknown names are refused with the nearest known one."""
        known = cls.setting_names()
        for name in settings:
            if name not in known:
                raise unknown(f"setting of {cls.label()}", name, known)
        try:
            return cls(**settings)
        except TypeError as error:
            raise UsageError(f"{cls.label()}: {error}.") from error

    @classmethod
    def setting_names(cls) -> list[str]:
        """Return the names of the fields that are settings."""
        return [field.name for field in dataclasses.fields(cls) if field.metadata.get("setting", True)]

    @classmethod
    def allowed(cls, name: str) -> str:
        """Return in words what a setting may be: ``one of head, none``, ``a number from 0 to 1``."""
        try:
            return _in_words(_adapters(cls)[name].json_schema())
        except PydanticInvalidForJsonSchema:  # a type that pydantic checks, but that JSON has no word for
            return _ANYTHING

    def settings(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold."""
        adapters = _adapters(type(self))
        return {name: adapters[name].dump_python(getattr(self, name), mode="json") for name in self.setting_names()}

    def changed(self) -> dict[str, Any]:
        """Return only the fields that differ from their defaults, as plain values."""
        defaults = {
            field.name: field.default_factory() if callable(field.default_factory) else field.default
            for field in dataclasses.fields(self)
        }
        return {name: value for name, value in self.settings().items() if getattr(self, name) != defaults[name]}


_ANYTHING = "anything"
_KINDS = {"number": "a number", "integer": "an integer", "boolean": "true or false", "string": "text", "null": "none"}
_BOUNDS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "in steps of {}",
}


def _in_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_in_words(part) for part in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "const" in schema:
        return str(schema["const"])
    words = [_KINDS.get(schema.get("type", ""), _ANYTHING)]
    words += [text.format(f"{schema[bound]:g}") for bound, text in _BOUNDS.items() if bound in schema]
    return " ".join(words)
