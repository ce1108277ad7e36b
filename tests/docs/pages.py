"""The pages for users, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


def _of_docs() -> list[str]:
    """The pages of the site, without what building it leaves there."""
    files = (path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md"))
    return sorted(str(file) for file in files if not any(part.startswith(("_", ".")) for part in file.parts))


PAGES = ("README.md", "bench/README.md", *_of_docs())
"""Those whose commands and examples are run."""

LINKING = (
    *PAGES, "CONTRIBUTING.md", "course/INSTRUCTOR.md", "course/README.md", "kernels/README.md", "kernels/conv2d/README.md",
    "torchops/ops/cpu/README.md",
)  # fmt: skip
"""Those whose links are followed."""

_FENCE = re.compile(r"^(?P<marks>`{3,}|~{3,})(?P<kind>[^\n`]*)\n(?P<body>.*?)^(?P=marks)[ \t]*$", re.M | re.S)


class Fence(NamedTuple):
    """A block of code."""

    line: int
    """Of the page, where its body begins; the first is 1."""
    kind: str
    body: str


class Command(NamedTuple):
    """A line of a console that a reader types, without the prompt and the comment."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: $ {self.text}"


def text(page: str) -> str:
    return (ROOT / page).read_text()


def fences(page: str) -> Iterator[Fence]:
    content = text(page)
    for found in _FENCE.finditer(content):
        yield Fence(content.count("\n", 0, found.start("body")) + 1, found["kind"].strip(), found["body"])


def prose(page: str) -> str:
    """The page without its blocks of code."""
    return _FENCE.sub("", text(page))


def spans(page: str) -> list[str]:
    """Code within sentences and tables."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: str) -> list[Command]:
    """What a reader is told to type; a line that ends in a backslash goes on in the next."""
    found = []
    for fence in fences(page):
        body = fence.body.replace("\\\n", "  ")
        for number, line in enumerate(body.splitlines()):
            if line.startswith("$ "):
                typed = re.sub(r"\s#\s.*$", "", line.removeprefix("$ "))
                found.append(Command(page, fence.line + number, re.sub(r"\s+", " ", typed).strip()))
    return found


def links(page: str) -> list[tuple[str, str]]:
    """Where the page leads within the project: files and anchors."""
    found = re.findall(r"\]\(([^()\s#]*)#?([^()\s]*)\)", prose(page))
    return [(target, anchor) for target, anchor in found if "://" not in target and not target.startswith("mailto:")]


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub does it; and what it names itself."""
    content = _FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.+)$", content, re.M)
    named = re.findall(r"^\(([\w-]+)\)=$|<a (?:id|name)=\"([\w-]+)\"", content, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings} | {
        name for pair in named for name in pair if name
    }
