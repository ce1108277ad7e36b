"""`python -m bench.course`: the picture of the course in the README, and what the checker says of a mistake; both from runs."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from torchops.course import draw
from torchops.course.engine import check
from torchops.course.lesson import load
from torchops.course.machine import machine
from torchops.course.scene import scenes
from torchops.course.words import shown
from torchops.files.plots import paint, save_drawing, style

FILE = Path(__file__).parent.parent / "assets" / "course.png"
NIGHT, TEXT, GOOD, BAD = "#1e2731", "#dde5ec", "#8fd3a8", "#ff8f8f"
"""Of a terminal: the ground, a text, what is right in it and what is wrong."""
LINE, CHARACTER = 0.165, 0.0669
"""Of the text, in inches: a line's height and a character's width at 8 points."""


@style()
def picture(file: Path = FILE) -> Path:
    """The gather of lesson 8, and below it what is said of one that looks at one window a pixel."""
    lesson, by = load("unpooling"), machine("ttsem")
    found, _ = scenes(lesson.folder / "solution.py", lesson, by)
    gather = next(scene for scene in found if scene.name == "gather")
    said = words()
    above, below = paint(draw.Drawing(gather).figure), paint(_console(said))
    width = max(above.width, below.width)
    whole = Image.new("RGB", (width, above.height + below.height), "white")
    whole.paste(above, ((width - above.width) // 2, 0))
    whole.paste(below, ((width - below.width) // 2, above.height))
    return save_drawing(whole, f"{said}\n{draw.content(gather)}", file)


def words() -> str:
    """What a student sees whose gather looks at one window a pixel."""
    lesson = load("unpooling")
    wrong = next(one for one in lesson.wrong if one.name == "gather_one_window")
    source = wrong.made(lesson.solution)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "unpooling.py"
        file.write_text(source, encoding="utf-8")
        told = shown(check(file, lesson, machine("ttsem"), step="3"), source)
    return "$ torchops course check 8\n" + re.sub(r", \d+\.\d s\b", "", told)


def _console(said: str) -> Figure:
    """A text as a terminal shows it, with what is wrong in red."""
    lines = said.splitlines()
    width, height = CHARACTER * max(map(len, lines)) + 0.6, LINE * len(lines) + 0.5
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(
        FancyBboxPatch((0.1, 0.05), width - 0.2, height - 0.2, boxstyle=style, facecolor=NIGHT, edgecolor="none")
    )
    for n, line in enumerate(lines):
        for match in re.finditer(r"\[[\d.]+\]|\S+(?: \S+)*", line):
            colour = BAD if match[0][0] in "[✗" else GOOD if match[0][0] in "✓$" else TEXT
            at = 0.3 + CHARACTER * match.start(), 0.27 + LINE * n
            axes.text(*at, match[0], family="monospace", fontsize=8, color=colour, va="center")
    return figure


if __name__ == "__main__":
    print(f"written: {picture()}")
