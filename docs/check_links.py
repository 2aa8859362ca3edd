"""Check every link of a built site: pages, files and anchors must exist, addresses elsewhere must be well formed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, what it loads when it is read, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in the ids, and where links, pictures, styles and scripts point."""
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
                self.loaded += [] if tag == "a" else [value]
            elif value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)


def problems(folder: Path) -> list[str]:
    """Return a sentence for each link of the site's pages that leads nowhere."""
    site = folder.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    anchors = {path: page.anchors for path, page in pages.items()}
    links = ((path, link) for path, page in pages.items() for link in dict.fromkeys(page.links))
    found = ((path, link, _problem(path, link, anchors, site)) for path, link in links)
    return [f"{path.relative_to(site)} links to {link!r}, {what}." for path, link, what in found if what]


def _problem(page: Path, link: str, anchors: Mapping[Path, set[str]], site: Path) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return _malformed(link)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.is_relative_to(site):
        return "which is outside the site"
    if not target.is_file():
        return "which is not there"
    if parts.fragment and target in anchors and unquote(parts.fragment) not in anchors[target]:
        return "an anchor that is not there"
    return None


def _malformed(link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme in ("data", "mailto"):
        return None
    if parts.scheme not in ("http", "https"):
        return "which is no web address"
    host = parts.hostname or ""
    good = "." in host and not host.startswith(".") and not any(letter in link for letter in " <>\"'`")
    return None if good else "a malformed address"


def main(sites: Iterable[str]) -> int:
    """Print the problems of the sites; return how many there are, up to 1."""
    found = [problem for site in sites for problem in problems(Path(site))]
    print("\n".join(found) or "All links resolve.", file=sys.stderr if found else sys.stdout)
    return min(1, len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
