"""The colours of all pictures, by what they mean. Nothing else writes down a colour of a plot."""

from __future__ import annotations

OKABE_ITO = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Eight colours that all readers tell apart: M. Okabe and K. Ito, Color Universal Design, 2008."""
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = OKABE_ITO
RED = "#c1121f"
"""Of what is wrong, slow or to be looked at. No picture tells it from vermilion by colour alone."""
INK, SOFT, GRAY, LINE, PALE, PAPER = "#26323d", "#5b6874", "#8c959d", "#c3ccd4", "#e9eef2", "#ffffff"
"""Of texts and axes, of notes, of what others do, of lines between cells, of cells that nothing is said of, of the ground."""

OURS, OTHERS = BLUE, GRAY
"""What torchops does, and what is there without it."""
LOSS, WIN, EVEN = RED, BLUE, GRAY
"""What a comparison came to. A measured point is filled, a modelled one hollow."""
TRAINED, HELD_OUT = ORANGE, BLUE
"""Figures of the data that a network is trained on, and of those that it is not."""
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY, INK)
"""Of lines and points that mean nothing of these."""


def pale(colour: str, white: float = 0.38) -> str:
    """A colour, as "#0072b2", with so much white in it that dark text is read on it."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * white):02x}" for part in parts)


PROGRAMS = tuple(pale(colour) for colour in (SKY, ORANGE, GREEN, PURPLE, YELLOW, BLUE, VERMILION))
"""Of cells with a text in them, as those that a program of a kernel stores."""
