"""Words and numbers as a reader sees them: escaping for Markdown, units, ordinals, file names."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

MISSING = "–"
_MARKDOWN = re.compile(r"([\\`*_|\[\]~#$])")


def markdown(text: str) -> str:
    """Return user text as Markdown that shows it literally, on one line, in a table cell too."""
    line = " ".join(visible(str(text)).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", line)


def visible(text: str) -> str:
    """Return text with its unseen characters named: controls, and marks that turn the direction of what follows."""
    return "".join(f"[U+{ord(c):04X}]" if c not in _SPACES and _unseen(c) else c for c in text)


_SPACES = "\t\n\r"


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in _TURNS


_TURNS = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def fenced(text: str) -> str:
    """Return a Markdown code block that no run of backticks within the text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def percent(value: float, sign: bool = False) -> str:
    """Return two decimals, rounded half away from zero from the unrounded value; a dash where there is none."""
    if not math.isfinite(value):
        return MISSING
    rounded = Decimal(repr(round(float(value), 9))).quantize(Decimal("0.01"), ROUND_HALF_UP)  # 77.195 is not just below
    rounded = rounded or abs(rounded)  # no -0.00
    return f"{rounded:+}" if sign else f"{rounded}"


def size(count: float) -> str:
    """Return a number of bytes with a binary unit: 1536 is "1.50 KiB"."""
    if not math.isfinite(count):
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"


def number(value: float, digits: int = 0) -> str:
    """Return a number with thousands grouped; a dash where there is none."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else MISSING


_QUANTITY = re.compile(
    r"^<? ?(?P<number>[+-]?\d[\d,]*(?:\.\d+)?)(?: ?(?P<unit>B|KiB|MiB|GiB|TiB))?(?: %| of \d+| \(.*\)| to .*)?$"
)


def quantity(text: str) -> float | None:
    """Return the number that a table shows, bytes without their unit; None where the text is no number."""
    match = _QUANTITY.match(text)
    if not match:
        return None
    power = ("B", "KiB", "MiB", "GiB", "TiB").index(match["unit"] or "B")
    return float(match["number"].replace(",", "")) * 1024.0**power


def ordinal(place: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, ..., 11th, ..."""
    if place % 100 in (11, 12, 13):
        return f"{place}th"
    return str(place) + {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")


def several(count: int, noun: str) -> str:
    """Return "1 seed", "2 seeds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(words: Sequence[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def slug(text: str) -> str:
    """Return text as a part of a file name: lower-case ASCII letters, digits and single hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")[:40] or "x"


def plain(value: object) -> str:
    """Return a setting as its author would write it: strings bare, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def assignments(settings: Mapping[str, Any]) -> str:
    """Return "delta=0.1, alpha=0.5"; "none" where there are no settings."""
    return ", ".join(f"{key}={plain(value)}" for key, value in settings.items()) or "none"


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            result |= flat(item, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = item
    return result
