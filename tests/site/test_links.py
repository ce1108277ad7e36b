"""The check of links finds what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from .links import check

WHOLE = '<h1 id="top">a</h1><a href="#top">b</a><a href="b/c.html#here">c</a><a href="https://example.org">d</a>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.html").write_text('<p id="here"><img src="../p.png" alt="A red square"></p>')
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "a.html").write_text(WHOLE)
    return tmp_path


def test_nothing_is_wrong_with_a_whole_site(site: Path) -> None:
    found = check(site)
    assert found.wrong == []
    assert (found.pages, found.inside, found.outside) == (2, 3, 1)


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ('<a href="gone.html">a</a>', "gone.html: there is no such file"),
        ('<a href="b/c.html#gone">a</a>', "b/c.html#gone: there is no such place on the page"),
        ('<a href="#gone">a</a>', "#gone: there is no such place on the page"),
        ('<img src="gone.png" alt="A square">', "gone.png: there is no such file"),
        ('<img src="p.png">', "p.png: the picture's alternative text is ''"),
        ('<img src="p.png" alt="assets/p.png">', "the picture's alternative text is 'assets/p.png'"),
        ('<script src="https://cdn.example.org/m.js"></script>', "loads https://cdn.example.org/m.js"),
        ('<link rel="stylesheet" href="//example.org/f.css">', "loads //example.org/f.css"),
        ("<style>@import 'https://example.org/f.css'</style>", "loads https://example.org/f.css"),
        ("<style>a { background: url(https://example.org/p.png) }</style>", "loads https://example.org/p.png"),
    ],
)
def test_what_is_wrong_is_found(site: Path, html: str, words: str) -> None:
    (site / "a.html").write_text(html)
    (wrong,) = check(site).wrong
    assert wrong.startswith("a.html: ")
    assert words in wrong


def test_a_style_sheet_loads_nothing_from_elsewhere(site: Path) -> None:
    (site / "s.css").write_text("@font-face { src: url('https://example.org/f.woff2') }")
    assert check(site).wrong == ["s.css: loads https://example.org/f.woff2"]
