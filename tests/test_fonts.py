"""Names in figures are drawn as they are written: no formulas, no boxes, no warnings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from torchops.files import fonts
from torchops.files.plots import figure, label, save

CAT = "\u732b"


@pytest.fixture
def _caches() -> Iterator[None]:
    fonts._fonts_with.cache_clear()
    yield
    fonts._fonts_with.cache_clear()


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("cat", "cat"),
        ("größer, déjà vu, кот", "größer, déjà vu, кот"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\udc80", r"\udc80"),
        ("\u200d", r"\u200d"),
        ("x" * 30, "x" * 12 + "…" + "x" * 11),
        ("\n" * 20, r"\n\n\n\n\n\n…\n\n\n\n\n"),
        ("", ""),
    ],
)
def test_what_is_drawn(name: str, drawn: str) -> None:
    assert label(name) == drawn


@pytest.mark.usefixtures("_caches")
def test_characters_that_no_font_has_are_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_installed", dict)
    assert label(f"{CAT}, \u0915, \U0001f9ff", 40) == r"\u732b, \u0915, \U0001f9ff"


def _image(name: str, tmp_path: Path, **options: Any) -> np.ndarray:
    drawn = figure(4, 1)
    drawn.text(0.1, 0.4, name, **options)
    return np.array(Image.open(save(drawn, tmp_path / "text.png")))


@pytest.mark.parametrize("name", ["$5 and $6", r"a\$b$", "$", "$x^2$", r"$\frac$", "100% & #_{}~^"])
def test_formulas_are_not_read(name: str, tmp_path: Path) -> None:
    assert (_image(label(name), tmp_path) == _image(name, tmp_path, parse_math=False)).all()


@pytest.mark.usefixtures("_caches")
def test_a_font_that_has_the_characters_draws_them(tmp_path: Path) -> None:
    # STIX, which comes with matplotlib, has letters of mathematics that DejaVu Sans lacks
    lacking = next(
        c for c in map(chr, range(0x1D400, 0x1D800)) if not fonts._has(fonts._default(), c) and label(c) == c
    )
    name = f"a {lacking}"
    drawn = figure(5, 3)
    axes = drawn.subplots()
    axes.plot([1, 10], [1, 10], label=label(name))
    axes.set_yscale("log")
    axes.set_xticks([2, 4], [label(name), label("plain")])
    axes.set_title(label(name))
    axes.legend()
    save(drawn, tmp_path / "figure.png")
    texts = [text for text in drawn.findobj(Text) if isinstance(text, Text) and lacking in text.get_text()]
    # a tick has a text on either side
    assert len(texts) == 4
    for text in texts:
        first, *others = text.get_fontfamily()
        assert first == "sans-serif"
        assert fonts._fonts_with(lacking) & set(others)


def test_few_families_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {"a": {"One", "Two"}, "b": {"Two"}, "c": {"Three", "Two"}, "d": {"Four"}, "e": set(), "z": {"Usual"}}
    monkeypatch.setattr(fonts, "_fonts_with", lambda c: frozenset(has[c]))
    monkeypatch.setattr(fonts, "_has", lambda file, c: c == "z")
    assert fonts._families("abcdez") == ["Two", "Four"]
    assert fonts._families("ze") == []


def test_a_font_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_installed", lambda: {"Kana": "kana.ttf", "Usual": fonts._default()})
    original = fonts._characters
    monkeypatch.setattr(fonts, "_characters", lambda file: {ord(CAT)} if file == "kana.ttf" else original(file))
    fonts._fonts_with.cache_clear()
    try:
        assert label(CAT) == CAT
        assert fonts._families(f"a{CAT}") == ["Kana"]
    finally:
        fonts._fonts_with.cache_clear()


def test_names_that_begin_with_a_line_have_their_place_in_a_legend(tmp_path: Path) -> None:
    drawn = figure(3, 2)
    axes = drawn.subplots()
    axes.plot([0, 1], label=label("_hidden"))
    assert [text.get_text().strip() for text in axes.legend().get_texts()] == ["_hidden"]
    save(drawn, tmp_path / "figure.png")
