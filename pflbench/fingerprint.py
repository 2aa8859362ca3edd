"""A hash of a class with all that its code uses, for classes that have no version number.

It is told by byte code and values, for these are what runs; a file may have been edited since it was loaded. Followed
are the global names that functions load, but no ``getattr`` and no ``globals()``; of what is installed, the name.
"""

from __future__ import annotations

import dis
import functools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import is_dataclass
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from pflbench.sources import digest, is_installed, short, sources

_CODE = "co_code co_consts co_names co_varnames co_freevars co_cellvars co_argcount co_kwonlyargcount co_flags"
_PARTS: dict[type, tuple[str, ...]] = {
    CodeType: (*_CODE.split(), "co_exceptiontable"),
    CellType: ("cell_contents",),
    MethodType: ("__func__", "__self__"),
    classmethod: ("__func__",),
    staticmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools.partial: ("func", "args", "keywords"),
    functools.partialmethod: ("func", "args", "keywords"),
}
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_MAPPINGS = (dict, MappingProxyType)


def fingerprint(cls: type) -> str:
    """Return a hash of a class and of all that its code uses: the same in every process of one Python version."""
    return short(repr(_Walk(cls).texts()).encode())


class _Walk:
    """A class and all that it uses, numbered in the order met: what leads back to itself is told once."""

    def __init__(self, cls: type) -> None:
        self.home = cls.__module__.partition(".")[0]  # counts wherever it lies
        self.met: list[object] = [cls]  # kept, so that no two things have one id
        self.numbers = {id(cls): "#0"}

    def texts(self) -> list[str]:
        """Return what each thing met is made of; the list grows while it is walked."""
        return [_told(self._parts, thing) for thing in self.met]

    def name(self, thing: object) -> str:
        """Return a value in words without addresses, or the number under which it is told."""
        return _told(self._name, thing)

    def _name(self, thing: Any) -> str:
        if isinstance(thing, (str, bytes)):
            return repr(thing)
        for kind, parts in _PARTS.items():
            if isinstance(thing, kind):
                return f"{kind.__name__}{[self.name(getattr(thing, part)) for part in parts]}"
        if isinstance(thing, tuple):
            return f"{type(thing).__name__}{[self.name(part) for part in thing]}"
        if isinstance(thing, (set, frozenset)):  # sorted before, so that numbers are given in one order too
            return f"set{sorted(self.name(part) for part in sorted(thing, key=_shown))}"
        if isinstance(thing, (np.ndarray, torch.Tensor)):
            return self._array(thing)
        if isinstance(thing, type) and not self._own(thing.__module__):
            return f"{thing.__module__}.{thing.__qualname__}"
        if isinstance(thing, ModuleType):  # kept in a value; those that a function loads are followed by name
            return f"{thing.__name__} {digest(sources(thing.__name__))}"
        if self._is_walked(thing):
            return self._number(thing)
        wrapped = getattr(thing, "__dict__", {}).get("__wrapped__")  # functools.cache and its like
        return f"{_shown(thing)} {self.name(wrapped)}" if wrapped else _shown(thing)

    def _is_walked(self, thing: object) -> bool:
        """Return whether a thing is told by its parts, and not by its ``repr``."""
        if isinstance(thing, (type, FunctionType, list, *_MAPPINGS)):
            return True
        own = self._own(type(thing).__module__) or is_dataclass(thing) or isinstance(thing, torch.nn.Module)
        return own and hasattr(thing, "__dict__")

    def _number(self, thing: object) -> str:
        if id(thing) not in self.numbers:
            self.numbers[id(thing)] = f"#{len(self.met)}"
            self.met.append(thing)
        return self.numbers[id(thing)]

    def _parts(self, thing: Any) -> str:
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, type):
            built_on = [self.name(base) for base in (type(thing), *thing.__bases__)]
            return f"{built_on} {self._values(_written(thing))}"
        if isinstance(thing, list):
            return str([self.name(part) for part in thing])
        if isinstance(thing, _MAPPINGS):
            return str([(self.name(key), self.name(part)) for key, part in thing.items()])
        return f"{self.name(type(thing))} {self._values(vars(thing))}"

    def _values(self, values: Mapping[str, object]) -> str:
        return str([(name, self.name(values[name])) for name in sorted(values)])

    def _function(self, function: FunctionType) -> str:
        """Tell code and defaults, the global names that are loaded, and the files imported when it is called."""
        held = self.name(function.__closure__)
        known = function.__globals__
        if not self._own(known.get("__name__")):  # of a decorator's, what it holds may be one's own
            return f"{function.__module__}.{function.__qualname__} {held}"
        codes = list(_codes(function.__code__))
        steps = [(step.opname, step.argval) for code in codes for step in dis.get_instructions(code)]
        named = frozenset(name for code in codes for name in code.co_names)
        loaded = sorted({name for step, name in steps if step in _LOADS} & known.keys())
        imported = sorted({digest(sources(name)) for step, name in steps if step == "IMPORT_NAME"})
        own = [self.name(part) for part in (function.__code__, function.__defaults__, function.__kwdefaults__)]
        return f"{own} {held} {[(name, self._used(known[name], named)) for name in loaded]} {imported}"

    def _used(self, thing: object, names: Set[str]) -> str:
        """Tell a global value; of a module of one's own, what a function names."""
        if not isinstance(thing, ModuleType):
            return self.name(thing)
        if not self._own(thing.__name__):
            return thing.__name__
        values = vars(thing)
        return str([(name, self._used(values[name], names - {name})) for name in sorted(names & values.keys())])

    def _array(self, thing: Any) -> str:
        if isinstance(thing, torch.Tensor):
            flat = thing.detach().cpu().reshape(-1).contiguous()
            return f"{thing.dtype} {tuple(thing.shape)} {short(flat.view(torch.uint8).numpy().tobytes())}"
        inside = self.name(thing.tolist()).encode() if thing.dtype.hasobject else thing.tobytes()
        return f"{thing.dtype} {thing.shape} {short(inside)}"

    def _own(self, module: Any) -> bool:
        root = str(module).partition(".")[0]
        found = sys.modules.get(str(module)) or sys.modules.get(root)
        return root == self.home or not is_installed(root, getattr(found, "__file__", None))


def _told(tell: Callable[[Any], str], thing: object) -> str:
    try:
        return tell(thing)
    except Exception:  # whatever somebody's object does when it is looked at
        return _shown(thing)


def _shown(thing: object) -> str:
    """Return a value's ``repr`` without addresses, else its type."""
    try:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing))
    except Exception:
        return type(thing).__qualname__


def _written(cls: type) -> dict[str, object]:
    """Return what a class's body defines; in ``__names__`` Python keeps notes, but for functions."""
    kept = (FunctionType, classmethod, staticmethod, property)
    return {name: thing for name, thing in vars(cls).items() if isinstance(thing, kept) or name[:2] != "__"}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)
