"""What must hold of a dataset's words: every site says under which licence it comes, and whom to cite."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

from pflbench.dataset import Dataset
from pflbench.testing.checks import require

_VAGUE = re.compile(r"not stated|unpublished|unknown", re.IGNORECASE)
_ASKED = {
    "licence": "write under which licence its images may be used, or who may use them",
    "citation": "give authors, title, year and link when there is a publication",
}


def licences(cls: type[Dataset]) -> str | None:
    """Look for both, site by site; return what is still asked for."""
    asked = [_asked_for(cls, what) for what in _ASKED]
    return " ".join(filter(None, asked)) if cls.sites else "its sites are whatever lies there; it names none"


def _asked_for(cls: type[Dataset], what: str) -> str:
    """Return a sentence where a text only holds a place. Raises CheckFailed where a site has none."""
    given: Mapping[str, str] = getattr(cls, what, {})
    lacking = [site for site in cls.sites if not given.get(site, "").strip()]
    require(not lacking, f"{what} says nothing of {', '.join(lacking)}; give one for every site.")
    vague: dict[str, list[str]] = defaultdict(list)
    for site in cls.sites:
        if _VAGUE.search(given[site]):
            vague[given[site]].append(site)
    return " ".join(f"{what} of {', '.join(sites)} is {text!r}: {_ASKED[what]}." for text, sites in vague.items())
