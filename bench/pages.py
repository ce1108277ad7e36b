"""`python -m bench.pages [--check]`: fill the figures of README, bench/README and docs from bench/results/.

A page holds a block, which this replaces by a table and a line that says where its figures come from:

    <!-- figures: NAME -->
    <!-- /figures -->

Within a line it is replaced by a sentence alone, if NAME is one. `bench/blocks.py` has the names. With --check nothing is
written; blocks that are stale, unclosed or unknown are named, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from torchops.files import replacing

from . import kept
from .blocks import BLOCKS
from .lookup import Block, Results, Source

ROOT = Path(__file__).parent.parent
MANY = 2
"""Reports of which a block tells machine, versions and commit; of more it links each."""
_BLOCK = re.compile(r"<!-- figures: (\S+) -->(.*?)<!-- /figures -->", re.DOTALL)
_MARK = re.compile(r"<!-- /?figures\b.*?-->")
_COMMIT = re.compile(r"\b[0-9a-f]{7}")
_UNITS = r"x(?!\s*[\d(])|us|ms|s|%|images/s|[KMG]i?B|points|bytes a pixel"
_FIGURE = re.compile(rf"(?<![\w.^-])(?!1(?:\.0+)?x)\d+(?:[.,]\d+)?\s?(?:{_UNITS})(?!\w)")
"""A number with a unit of something that is measured; 3 x 3 is a size, and 1x the middle of ratios."""
_EXEMPT = (
    re.compile(r"<!-- figures: \S+ -->.*?<!-- /figures -->", re.DOTALL),
    re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE),
    re.compile(r"``.+?``|`[^`\n]+`"),
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"<!--.*?-->", re.DOTALL),
)
"""Blocks, code and console examples, code in a line, where links lead, comments."""


class PageError(ValueError):
    """A page whose blocks cannot be filled."""


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that may hold figures."""
    return [root / "README.md", root / "bench" / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(page: Path, text: str, results: Results) -> str:
    """The text of a page with its blocks as they are to be.

    Raises:
        PageError: if a name is unknown, a block is not closed, or a table stands within a line.
    """

    def fill(match: re.Match[str]) -> str:
        name, old = match[1], match[2]
        if name not in BLOCKS:
            raise PageError(f"{page}: no figures are called {name!r}; there are {', '.join(BLOCKS)}")
        block = results.block(BLOCKS[name])
        if "\n" in old:
            new = f"\n{block.text}\n\n{provenance(block, page)}\n"
        elif "\n" in block.text:
            raise PageError(f"{page}: {name!r} is a table and cannot stand within a line")
        else:
            new = block.text
        return f"<!-- figures: {name} -->{new}<!-- /figures -->"

    if len(_MARK.findall(text)) != 2 * len(_BLOCK.findall(text)):
        raise PageError(f"{page}: a block of figures is not closed, or closed twice")
    return _BLOCK.sub(fill, text)


def provenance(block: Block, page: Path) -> str:
    """Where figures come from: machine, versions, commit and day of each report; where there are many, links to them."""
    by_folder: dict[Path, list[Source]] = {}
    for source in block.sources:
        by_folder.setdefault(source.folder, []).append(source)
    if len(by_folder) <= MANY:
        return f"<small>{'<br>'.join(_told(sources, page) for sources in by_folder.values())}</small>"
    links: dict[str, list[str]] = {}
    for folder, (source, *_) in by_folder.items():
        told = source.provenance
        machine = re.split(r"[,(]", re.sub(r"\((?:R|TM)\)| Processor\b", "", told["machine"]))[0].strip()
        links.setdefault(told["kind"].capitalize(), []).append(f"[{machine}, {told['date']}]({_report(folder, page)})")
    lines = [f"{kind}: {'; '.join(found)}" for kind, found in links.items()]
    return f"<small>{'<br>'.join(lines)}</small>"


def _told(sources: list[Source], page: Path) -> str:
    told, folder = sources[0].provenance, sources[0].folder
    versions = [one for one in told["versions"].split(", ") if one.startswith(("torch ", "triton "))]
    # a file may name several, and what was found at each
    commits = dict.fromkeys(one for source in sources for one in _COMMIT.findall(source.provenance["commit"]))
    transcribed = "; transcribed" if any("transcribed" in source.provenance for source in sources) else ""
    return (
        f"{told['kind'].capitalize()}: {told['machine']}; {', '.join(versions)}; commit {', '.join(commits) or 'unknown'}; "
        f"{told['date']}{transcribed}; [report]({_report(folder, page)})"
    )


def _report(folder: Path, page: Path) -> str:
    return Path(os.path.relpath(folder / "report.md", page.parent)).as_posix()


def prose_figures(text: str) -> list[str]:
    """Figures in a page that stand outside of blocks and code, with the words around them."""
    for pattern in _EXEMPT:
        text = pattern.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)
    return [" ".join(text[max(0, m.start() - 30) : m.end() + 10].split()) for m in _FIGURE.finditer(text)]


def stale(root: Path = ROOT) -> Iterator[str]:
    """What is wrong with the blocks of the pages, a line each."""
    results = Results()
    for page in pages(root):
        text = page.read_text()
        new, wrong = _tried(page, text, results)
        if wrong or new != text:
            yield wrong or f"{page}: its figures are stale; `python -m bench.pages` fills them"


def _tried(page: Path, text: str, results: Results) -> tuple[str, str]:
    """What the page is to be, or why it cannot be filled."""
    try:
        return filled(page, text, results), ""
    except (PageError, kept.BadFiguresError) as error:
        return text, str(error)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pages", description="Fill the figures of README and docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale")
    if parser.parse_args(arguments).check:
        wrong = list(stale())
        print("\n".join(wrong) if wrong else "all figures are fresh")
        return int(bool(wrong))
    results, failed = Results(), 0
    for page in pages():
        text = page.read_text()
        new, problem = _tried(page, text, results)
        if problem:
            print(problem, file=sys.stderr)
            failed = 1
        elif new != text:
            with replacing(page) as beside:
                beside.write_text(new)
            print(f"written: {page}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
