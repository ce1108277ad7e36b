"""Text in figures: nothing in it is taken for a formula, and every character is drawn by some font or spelt out."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

from .names import printable


def label(text: object, most: int = 24) -> str:
    """Text that any call of matplotlib draws as it is written, as the name of a class; see :func:`choose`.

    Characters that no installed font has, and those that no font can have, as line ends, become escapes. What is longer than
    `most` characters loses its middle.
    """
    pieces = [c if _is_drawn(c) else ascii(c)[1:-1] for c in str(text)]
    if sum(map(len, pieces)) > most:
        start, end = _first(pieces, most // 2), _first(pieces[::-1], (most - 1) // 2)
        pieces = [*start, "…", *reversed(end)]
    shown = "".join(pieces)
    # a line whose name begins with _ would have no place in a legend
    return (" " if shown.startswith("_") else "") + shown.replace("$", r"\$")


def _first(pieces: Sequence[str], most: int) -> Sequence[str]:
    """As many as have `most` characters; no escape is cut in two."""
    lengths = itertools.accumulate(map(len, pieces))
    return pieces[: sum(length <= most for length in lengths)]


def _is_drawn(character: str) -> bool:
    return printable(character) == character and (_has(_default(), character) or bool(_fonts_with(character)))


def choose(figure: Figure) -> None:
    """Give all texts of a figure the fonts that have their characters; the usual one draws what it has."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # makes their texts, which drawing would make
            axis.get_ticklabels(which="both")
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    more = _families({c for text in texts for c in text.get_text() if not c.isspace()})
    if more:
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *more])
        for axes in figure.axes:
            axes.tick_params(labelfontfamily=[*FontProperties().get_family(), *more])


def _families(characters: Iterable[str]) -> list[str]:
    """Few families that have, together, what the usual font lacks and any font has."""
    lacking = {c: _fonts_with(c) for c in characters if not _has(_default(), c)}
    lacking = {c: fonts for c, fonts in lacking.items() if fonts}
    found: list[str] = []
    while lacking:
        counts: dict[str, int] = {}
        for fonts in lacking.values():
            for font in fonts:
                counts[font] = counts.get(font, 0) + 1
        found.append(min(counts, key=lambda font: (-counts[font], font)))
        lacking = {c: fonts for c, fonts in lacking.items() if found[-1] not in fonts}
    return found


def _default() -> str:
    return str(findfont(FontProperties()))


@functools.cache
def _characters(file: str) -> frozenset[int]:
    return frozenset(get_font(file).get_charmap())


def _has(file: str, character: str) -> bool:
    return ord(character) in _characters(file)


@functools.cache
def _installed() -> dict[str, str]:
    """Files of upright fonts by family; without the one that comes with matplotlib and has a box for every character."""
    return {
        font.name: font.fname
        for font in fontManager.ttflist
        if font.style == "normal" and font.weight in (400, "normal", "regular") and "Last Resort" not in font.name
    }


@functools.cache
def _fonts_with(character: str) -> frozenset[str]:
    return frozenset(family for family, file in _installed().items() if _has(file, character))
