"""Colours of classes, in pictures and in masks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torchops.files.hues import OKABE_ITO

Colour = tuple[int, int, int]
"""Red, green and blue, from 0 to 255."""

_HEX = bytes.fromhex(
    f"{' '.join(OKABE_ITO).replace('#', '')} 8700f0 5a2d00 001e87 b4e196 87005a 9678ff e1004b ffb4d2"
    "b4a54b 4b693c 5a4bc3 872d87 874b00 ff7896 c3d25a b43c87 69001e 5a0069 5a00b4 7896f0 874bf0 1ee1ff 003c4b 78b469"
    "a587c3 4b960f 875a69 96e1b4 a5695a 00d21e b43cb4 a52d2d d2a5d2 692d96 5a0f2d 69d269 4b4b69 0000c3 783c4b 0000ff"
    "5a4b1e e196b4 b4874b 7887d2 7800a5 a569a5 f05a78 8700d2 6969d2 87e1e1 a5c387 785ae1 5af078 69b496 c35a87 a55a2d"
)
COLOURS: tuple[Colour, ...] = tuple(zip(_HEX[::3], _HEX[1::3], _HEX[2::3], strict=True))
"""Colours that differ for every reader: eight of M. Okabe and K. Ito (Color Universal Design, 2008); each further one is the
one of a grid that lies furthest from all before it in CIELAB, in normal sight and in protanopia, deuteranopia and tritanopia
as G. Machado, M. Oliveira and L. Fernandes simulate them (IEEE TVCG 15, 2009). Grays, and what is pale or nearly black, are
left out: those are the image's."""


def palette(count: int, given: Sequence[Sequence[int]] = ()) -> list[Colour]:
    """Colours of so many classes, all different: those given, if there are as many; else black for the first of more than two,
    which is the background, and `COLOURS` for the rest."""
    if len(given) == count:
        return [(r, g, b) for r, g, b in given]
    first = 0 if count > 2 else 1
    # multiples of an odd number run through all 2^24 colours before they repeat
    numbers = (i * 0x9E3779 % 2**24 for i in itertools.count(1))
    others = ((n >> 16, n >> 8 & 255, n & 255) for n in numbers)
    further = (colour for colour in others if colour not in COLOURS)
    return [*itertools.islice(itertools.chain(COLOURS, further), first, first + count)]
