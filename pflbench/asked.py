"""Settings, values and seeds as a user writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pflbench.errors import UsageError

_MANY = 10_000  # seeds


def settings_by_owner(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return "resfim.delta" -> value as {"resfim": {"delta": value}}."""
    owners: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        owner, dot, name = key.partition(".")
        if not dot or not owner or not name:
            raise UsageError(f"{key!r} names no setting; write OWNER.NAME=VALUE, as in resfim.delta=0.2.")
        owners.setdefault(owner.lower(), {})[name] = value
    return owners


def parse_value(text: str) -> Any:
    """Return a number, boolean, None or list for text that reads as one in JSON, else the text."""
    lowered = text.strip().lower()
    if lowered in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[lowered]
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def setting(text: str) -> tuple[str, str]:
    """Return name and text of ``OWNER.NAME=VALUE``. Raises UsageError."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text!r} sets nothing; write OWNER.NAME=VALUE, as in resfim.delta=0.2.")
    return key.strip(), value


def parsed_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return name -> value of texts ``OWNER.NAME=VALUE``. Raises UsageError."""
    return {key: parse_value(value) for key, value in map(setting, texts)}


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of "3" (0, 1, 2) or "4,7" (4 and 7). Raises UsageError."""
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*,?\s*", text):
        raise UsageError(f"--seeds {text!r} is neither a number of seeds, as 3, nor a list, as 0,4,7.")
    values = tuple(int(part) for part in text.split(",") if part.strip())
    return numbered_seeds(values[0]) if "," not in text else _distinct(values)


def numbered_seeds(count: int) -> tuple[int, ...]:
    """Return the seeds 0 .. count-1. Raises UsageError below one."""
    if not 1 <= count <= _MANY:
        raise UsageError(f"{count} seeds are asked for; take 1 to {_MANY}.")
    return tuple(range(count))


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"the seeds {', '.join(map(str, seeds))} name one twice.")
    return seeds
