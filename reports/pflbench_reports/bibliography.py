"""Citations of methods and data as BibTeX: what a citation says is taken apart, what it does not say is not added."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from pflbench.results import hash_of
from pflbench_reports.groups import Group
from pflbench_reports.latex import latex
from pflbench_reports.text import listed, visible

# Venues of this field that are conferences or workshops; no other name is taken for one.
_CONFERENCES = frozenset(
    (
        "AAAI",
        "AISTATS",
        "CVPR",
        "DCL",
        "ECCV",
        "ICCV",
        "ICLR",
        "ICML",
        "ICPR",
        "IPMI",
        "ISBI",
        "MICCAI",
        "MIDL",
        "NeurIPS",
    )
)
_JOURNAL = re.compile(r"\bJ\.|Journal|Trans\.|Transactions|^IEEE T|\bMed\. Image Anal\.")
_VOLUME = re.compile(r"^(?P<journal>.*\D) (?P<volume>\d+)(?:\((?P<number>\d+)\))?$")
_YEAR = re.compile(r"^(?P<rest>.*?),? ?\b(?P<year>(?:19|20)\d\d)$")
_URL = re.compile(r"^(?P<rest>.*?)\s*(?P<url>https?://\S+)$")
_IS_REFERENCE = re.compile(r"\b(?:19|20)\d\d\b|https?://|doi|arxiv", re.IGNORECASE)
_INITIALS = re.compile(r"^(?:[A-Z]\.[ -]?)+$")
_NEXT = re.compile(r"(?:, and |; (?:images from )?)(?=[^\W\d_][\w'-]* et al\., )")
_ABBREVIATIONS = frozenset(
    ("vs", "al", "Proc", "Trans", "Int", "Conf", "Comput", "Biol", "Med", "Biomed", "Eng", "Sci", "Lett", "Rev", "Anal")
)
_SMALL_WORDS = frozenset(
    ("a", "an", "the", "on", "of", "in", "for", "and", "to", "with", "by", "from", "towards", "toward", "is", "are")
)


@dataclass(frozen=True)
class Reference:
    """One citation as its author wrote it, and who it belongs to: methods, sites."""

    citation: str
    owners: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One BibTeX entry; ``fields`` are plain text, in the order to be printed."""

    kind: str  # inproceedings, article, misc
    key: str
    fields: Mapping[str, str]


def references(groups: Iterable[Group]) -> list[Reference]:
    """Return every citation of the trials' methods and sites once, methods first, with its owners."""
    owners: dict[str, list[str]] = {}
    found = [pair for group in groups for pair in _citations(group)]
    for citation, owner in [pair for methods, pair in sorted(found, key=lambda item: not item[0])]:
        known = owners.setdefault(citation, [])
        if owner not in known:
            known.append(owner)
    return [Reference(citation, tuple(names)) for citation, names in owners.items()]


def _citations(group: Group) -> list[tuple[bool, tuple[str, str]]]:
    """Return (is of a method, (citation, owner)) for everything that the trials cite."""
    result: list[tuple[bool, tuple[str, str]]] = []
    for trial in group.trials:
        if text := _line(trial.about.get("method_citation")):
            result.append((True, (text, group.variants[trial.id].title)))
        sites = trial.about.get("citations") or {}
        result += [(False, (_line(citation), str(site))) for site, citation in sites.items() if _line(citation)]
    return result


def _line(text: object) -> str:
    return " ".join(visible(str(text or "")).split())


def bibtex(found: Iterable[Reference]) -> str:
    """Return the entries of all citations, each below the words it was made from, and what is no publication."""
    blocks: list[str] = []
    taken: dict[str, Entry] = {}
    for reference in found:
        entries = [_apart(entry, taken) for entry in parse(reference.citation)]
        says = f"% {_line(listed(reference.owners))}: {reference.citation}".replace("@", "(at)")
        new = [entry for entry in entries if entry.key not in taken]
        taken |= {entry.key: entry for entry in new}
        blocks.append("\n".join([says if entries else f"{says} (no publication)", *map(_print, new)]))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _apart(entry: Entry, taken: Mapping[str, Entry]) -> Entry:
    """Give an entry a key of its own where another one has its key."""
    if taken.get(entry.key, entry) == entry:
        return entry
    return replace(entry, key=f"{entry.key}-{hash_of(dict(entry.fields), 4)}")


def parse(citation: str) -> list[Entry]:
    """Take a citation apart: "Authors: Title. Venue Year. URL" or "Name et al., Title, Venue, Year".

    What has another form becomes one @misc with all its words as the note; a text without a year, an address, a
    DOI or an arXiv number is no publication and gives nothing.
    """
    text = _line(citation)
    if not _IS_REFERENCE.search(text):
        return []
    return [_entry(part) for part in _NEXT.split(text)]


def _fields(text: str) -> dict[str, str] | None:
    """Return author, title, venue, year and url as far as stated; None where the form is not known."""
    with_url = _URL.match(text)
    url = with_url["url"].rstrip(".,;") if with_url else ""
    body = (with_url["rest"] if with_url else text).rstrip(" .")
    dated = _YEAR.match(body)
    if not dated:
        return None
    found = _colon(dated["rest"]) or _commas(dated["rest"])
    return {**found, "year": dated["year"], **({"url": url} if url else {})} if found else None


def _colon(text: str) -> dict[str, str] | None:
    """Read "Authors: Title. Venue"; the venue may be missing."""
    names, colon, rest = text.partition(": ")
    authors = _authors(names)
    if not colon or not authors:
        return None
    cuts = [m.start() for m in re.finditer(r"[.?!] ", f"{rest} ") if not _abbreviated(rest[: m.start()])]
    if len(cuts) != 1:  # no end of the title, or more than one that could be it
        return None
    title, venue = rest[: cuts[0] + 1].rstrip("."), rest[cuts[0] + 1 :].strip(" ,")
    return {"author": authors, "title": title, **({"venue": venue} if venue else {})}


def _abbreviated(text: str) -> bool:
    word = re.split(r"[\s(]", text)[-1]
    return word in _ABBREVIATIONS or len(word) == 1


def _commas(text: str) -> dict[str, str] | None:
    """Read "Name et al., Title, Venue"; only a venue that is surely one ends the title."""
    match = re.match(r"^(?P<names>[^,:]* et al\.), (?P<title>.+), (?P<venue>[^,]+)$", text)
    if not match or not (authors := _authors(match["names"])) or _venue(match["venue"])[0] == "misc":
        return None
    return {"author": authors, "title": match["title"], "venue": match["venue"]}


def _authors(text: str) -> str:
    """Return names as BibTeX joins them; nothing where the text is not surely a list of names."""
    others = text.endswith(" et al.")
    names = [name.strip() for name in re.split(r", (?:and )?| and | & ", text.removesuffix(" et al.").rstrip(","))]
    if any(_INITIALS.match(name) for name in names):
        pairs = list(zip(names[::2], names[1::2], strict=False))
        if len(names) % 2 or any(_INITIALS.match(a) or not _INITIALS.match(b) for a, b in pairs):
            return ""
        names = [f"{name}, {initials}" for name, initials in pairs]
    if not others and len(names) < 2:
        return ""  # one word before a colon may as well be the name of a method
    if not all(name[:1].isupper() or name.startswith(("van ", "von ", "de ", "di ")) for name in names):
        return ""
    return " and ".join([*names, *(["others"] if others else [])])


def _venue(text: str) -> tuple[str, dict[str, str]]:
    """Return the kind of entry and the fields of a venue; "misc" where it is not known for what it is."""
    if text.removeprefix("Proc. ").removeprefix("In ") in _CONFERENCES:
        return "inproceedings", {"booktitle": text.removeprefix("In ")}
    numbered = _VOLUME.match(text)
    if numbered:
        parts = {"journal": numbered["journal"].rstrip(","), "volume": numbered["volume"], "number": numbered["number"]}
        return "article", {name: value for name, value in parts.items() if value}
    if _JOURNAL.search(text):
        return "article", {"journal": text}
    return "misc", {"howpublished": text} if text else {}


def _entry(text: str) -> Entry:
    found = _fields(text)
    if found is None:
        return Entry("misc", f"cited-{hash_of(text, 8)}", {"note": text})
    kind, where = _venue(found.get("venue", ""))
    address = {"url": found["url"]} if "url" in found else {}
    fields = {"author": found["author"], "title": found["title"], **where, "year": found["year"], **address}
    return Entry(kind, _key(found), fields)


def _key(found: Mapping[str, str]) -> str:
    """Return surname, year and the title's first telling word."""
    surname = re.split(r"[ ,]", found["author"])[0]
    words = [word for word in re.findall(r"\w+", found["title"]) if word.lower() not in _SMALL_WORDS]
    return f"{_ascii(surname)}{found['year']}{_ascii(words[0] if words else '')}"


def _ascii(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]", "", folded) or "x"


def _print(entry: Entry) -> str:
    lines = [f"  {name} = {{{_value(name, text)}}}," for name, text in entry.fields.items()]
    return "\n".join([f"@{entry.kind}{{{entry.key},", *lines, "}"])


def _value(name: str, text: str) -> str:
    if name == "url":
        return re.sub(r"[{}\\%\s]", lambda match: "" if match[0] in "\\" else f"%{ord(match[0]):02X}", text)
    if name == "author":
        return " and ".join(latex(author) for author in text.split(" and "))
    return f"{{{latex(text)}}}" if name == "title" else latex(text)
