"""What lies beside the code, on the site: pages that are included, and files that pages link to.

A page here may consist of an `include` of one that lies elsewhere, as kernels/README.md. Its links, and those of all pages, are
written as they hold in the repository, where GitHub follows them; here they lead to the page that includes what they name, or
to the text of the file.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)

INCLUDE = re.compile(r"^```\{include\} (\S+)\n(?::relative-(?:docs|images):.*\n)*```\n", re.M)
"""What MyST would do with links by those options is done here for all pages."""
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.S)
_FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1`*$", re.M | re.S)
_CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\n).)*?(?<!`)\1(?!`)", re.S)
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_SCHEME = "source:"
_FOLDER = "sources"
_SHOWN = {
    ".cff": "yaml", ".cpp": "cpp", ".json": "json", ".jsonl": "json", ".md": "markdown", ".py": "python", ".toml": "toml",
    ".txt": "text", ".yaml": "yaml", ".yml": "yaml", "": "text",
}  # fmt: skip
"""What the text of a file is highlighted as, by its suffix. Other files are no text, and may be downloaded."""
_LARGEST = 200_000
"""In bytes, of a file whose text is shown."""


class Tree:
    """The repository around the folder of the pages, and the pages that include what lies in it."""

    def __init__(self, pages: Path) -> None:
        self.pages, self.root = pages, pages.parent
        self.included = {self.root / "README.md": "index"}
        for page in sorted(pages.rglob("*.md")):
            for target in INCLUDE.findall(page.read_text(encoding="utf-8")):
                name = page.relative_to(pages).with_suffix("").as_posix()
                self.included.setdefault(Path(os.path.normpath(page.parent / target)), name)

    def rewritten(self, text: str, origin: Path, page: Path) -> str:
        """The text of a file, whose links become those of a page that shows it."""

        def link(found: re.Match[str]) -> str:
            return f"]({self._target(found[1], origin, page)})"

        return _outside(_FENCE, text, lambda prose: _outside(_CODE, prose, lambda words: _LINK.sub(link, words)))

    def _target(self, target: str, origin: Path, page: Path) -> str:
        path, _, anchor = target.partition("#")
        if not path or re.match(r"\w+:", path):
            return target
        there = Path(os.path.normpath(origin.parent / path))
        known = self.included.get(there) or self.included.get(there / "README.md")
        after = f"#{anchor}" if anchor else ""
        if known is not None:
            # the landing page has none of the README's headings
            return _relative(self.pages / f"{known}.md", page) + ("" if known == "index" else after)
        shown = there.is_dir() or (there.suffix in _SHOWN and there.is_file() and there.stat().st_size <= _LARGEST)
        if shown and not there.is_relative_to(self.pages):
            return f"{_SCHEME}{there.relative_to(self.root).as_posix()}{after}"
        return _relative(there, page) + after


def _outside(code: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """The text, changed where it is no code."""
    parts, end = [], 0
    for found in code.finditer(text):
        parts += [change(text[end : found.start()]), found[0]]
        end = found.end()
    return "".join((*parts, change(text[end:])))


def _relative(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def _read(app: Sphinx, name: str, content: list[str]) -> None:
    """Put in what a page includes, and turn its links."""
    page = Path(app.env.doc2path(name))
    if page.suffix != ".md":
        return
    tree: Tree = app.beside_tree  # type: ignore[attr-defined]

    def included(found: re.Match[str]) -> str:
        origin = Path(os.path.normpath(page.parent / found[1]))
        app.env.note_dependency(str(origin))
        if not origin.is_file():
            _log.warning("there is no file %s to include", found[1], location=name)
            return ""
        return tree.rewritten(_FRONT_MATTER.sub("", origin.read_text(encoding="utf-8")), origin, page)

    parts, end = [], 0
    for found in INCLUDE.finditer(content[0]):
        parts += [tree.rewritten(content[0][end : found.start()], page, page), included(found)]
        end = found.end()
    content[0] = "".join((*parts, tree.rewritten(content[0][end:], page, page)))


def _resolved(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Links to files become links to the pages of their texts, which are asked for."""
    for node in doctree.findall(nodes.reference):
        uri = node.get("refuri", "")
        if uri.startswith(_SCHEME):
            path, _, anchor = uri.removeprefix(_SCHEME).partition("#")
            app.beside_asked[path] = None  # type: ignore[attr-defined]
            node["refuri"] = app.builder.get_relative_uri(name, _name(app, path)) + (f"#{anchor}" if anchor else "")


def _name(app: Sphinx, path: str) -> str:
    folder = (app.beside_tree.root / path).is_dir()  # type: ignore[attr-defined]
    return posixpath.join(_FOLDER, path, "index") if folder else posixpath.join(_FOLDER, path)


def _texts(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The pages of the files that are linked to, and of what lies in the folders among them."""
    root: Path = app.beside_tree.root  # type: ignore[attr-defined]
    asked = list(app.beside_asked)  # type: ignore[attr-defined]
    seen: set[str] = set()
    while asked:
        path = asked.pop()
        if path in seen:
            continue
        seen.add(path)
        file, name = root / path, _name(app, path)
        if file.is_dir():
            inside = [each for each in sorted(file.iterdir()) if _is_shown(each)]
            asked += [each.relative_to(root).as_posix() for each in inside]
            uris = [
                app.builder.get_relative_uri(name, _name(app, each.relative_to(root).as_posix())) for each in inside
            ]
            links = [
                f'<li><a href="{uri}"><code>{each.name}</code></a></li>' for uri, each in zip(uris, inside, strict=True)
            ]
            body = "\n".join(("<ul>", *links, "</ul>"))
        else:
            language = _SHOWN[file.suffix]
            text = file.read_text(encoding="utf-8")
            body = app.builder.highlighter.highlight_block(text, language, linespans="L")  # type: ignore[attr-defined]
        body = f'<h1><code>{path}</code></h1>\n<div class="file">{body}</div>'
        yield name, {"title": path, "body": body, "parents": []}, "page.html"


def _is_shown(path: Path) -> bool:
    if path.name.startswith((".", "__pycache__")) or path.is_symlink():
        return False
    return path.is_dir() or (path.suffix in _SHOWN and path.stat().st_size <= _LARGEST)


def _begin(app: Sphinx) -> None:
    app.beside_tree, app.beside_asked = Tree(Path(app.srcdir)), {}  # type: ignore[attr-defined]


def setup(app: Sphinx) -> dict[str, Any]:
    """Take part in reading pages, resolving their links, and writing what they link to."""
    app.connect("builder-inited", _begin)
    app.connect("source-read", _read)
    app.connect("doctree-resolved", _resolved)
    app.connect("html-collect-pages", _texts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
