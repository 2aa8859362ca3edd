"""What a page is made of: prose, tables, figures, facts, code and what folds away, told apart by their kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pflbench_reports.canvas import Picture
from pflbench_reports.display import Table
from pflbench_reports.protocol import Card, Facts
from pflbench_reports.text import slug


@dataclass(frozen=True)
class Prose:
    """Sentences in one paragraph; the tone says how loud."""

    kind: ClassVar[str] = "prose"
    sentences: Sequence[str]
    tone: Literal["plain", "title", "verdict", "note", "warning", "simulated"] = "plain"


@dataclass(frozen=True)
class Grid:
    """A table and the name of its LaTeX file; ``look`` is a class of the style sheet."""

    kind: ClassVar[str] = "grid"
    table: Table
    name: str  # unique within the section
    look: Literal["", "small", "words", "words status"] = ""


@dataclass(frozen=True)
class Drawing:
    """A figure."""

    kind: ClassVar[str] = "drawing"
    picture: Picture


@dataclass(frozen=True)
class FactSheet:
    """Names and values, one below the other."""

    kind: ClassVar[str] = "facts"
    title: str
    pairs: Facts


@dataclass(frozen=True)
class Cards:
    """Cards beside one another."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is: commands, BibTeX, or words for a paper."""

    kind: ClassVar[str] = "code"
    title: str
    text: str
    look: Literal["", "readable"] = ""


@dataclass(frozen=True)
class Fold:
    """Detail that is closed until asked for."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence[Block]


Block = Prose | Grid | Drawing | FactSheet | Cards | Code | Fold


@dataclass(frozen=True)
class Part:
    """A titled piece of a section, an entry of the table of contents."""

    title: str
    blocks: Sequence[Block]

    @property
    def slug(self) -> str:
        """Return the title as a part of an anchor."""
        return slug(self.title)


def every(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield each block and what is folded within it."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from every(block.blocks)
