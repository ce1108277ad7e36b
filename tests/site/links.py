"""What the pages of a built site link to, load and show."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "embed": "src",
    "object": "data",
}
"""The attribute by which an element loads something. A link does, or not, by its `rel`."""
_LOADED = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "manifest"}
_FILE_NAME = re.compile(r"[\w./-]+\.(png|jpe?g|svg|gif|webp)", re.I)
_IN_STYLE = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)", re.I)


@dataclass
class Page(HTMLParser):
    """One page, as far as it points elsewhere."""

    path: Path
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    """(source, alternative text) of each."""
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        text = self.path.read_text(encoding="utf-8")
        self.loads += _IN_STYLE.findall(text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append((given.get("src", ""), given.get("alt", "")))
        if given.get(_LOADS.get(tag, "")):
            self.loads.append(given[_LOADS[tag]])
        if tag == "link" and _LOADED & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))


@dataclass(frozen=True)
class Found:
    """What is wrong with a site, in lines, and how much was looked at."""

    wrong: list[str]
    pages: int
    inside: int
    """Links and pictures that lead to the site itself."""
    outside: int
    """Links to elsewhere, which nobody follows."""


def check(site: Path) -> Found:
    """Look at all pages of a site: whether links and pictures lead somewhere, and nothing is loaded from elsewhere.

    Args:
        site: the folder of the built site.
    """
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    wrong: list[str] = []
    inside = outside = 0
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for target in [*page.links, *page.loads]:
            parts = urlsplit(target)
            if parts.scheme in ("data", "javascript"):
                continue
            if parts.scheme or parts.netloc:
                outside += target in page.links
                if target in page.loads:
                    wrong.append(f"{name}: loads {target}")
                continue
            inside += 1
            wrong += [f"{name}: {target}: {reason}" for reason in _dead(pages, page, parts.path, parts.fragment)]
        for source, alt in page.pictures:
            if not alt.strip() or _FILE_NAME.fullmatch(alt.strip()):
                wrong.append(f"{name}: {source}: the picture's alternative text is {alt!r}, which says nothing of it")
    wrong += [
        f"{path.relative_to(site).as_posix()}: loads {target}"
        for path in sorted(site.rglob("*.css"))
        for target in _IN_STYLE.findall(path.read_text(encoding="utf-8"))
    ]
    return Found(wrong, len(pages), inside, outside)


def _dead(pages: dict[Path, Page], page: Page, target: str, anchor: str) -> list[str]:
    """Why a link leads nowhere."""
    file = Path(os.path.normpath(page.path.parent / unquote(target))) if target else page.path
    if file.is_dir():
        file /= "index.html"
    if not file.is_file():
        return ["there is no such file"]
    if anchor and file in pages and unquote(anchor) not in pages[file].anchors:
        return ["there is no such place on the page"]
    return []
