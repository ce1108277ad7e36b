"""What the pictures of lessons and explanations are drawn of, and what such a picture shows.

Rows go down, and a cell is one high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from torchops.files import hues
from torchops.files.hues import INK, PALE
from torchops.files.plots import paint, save_drawing, style

RING, MARK = hues.pale(hues.ORANGE, 0.7), hues.RED
HUES = hues.PROGRAMS[:4]

Point = tuple[float, float]
ASSETS = Path(__file__).parent.parent / "assets"


def write(pictures: Mapping[str, Callable[[], Figure]], folder: Path = ASSETS) -> list[Path]:
    """Draw pictures by their names in the style of the project; each file's description is its :func:`content`."""
    files = []
    with style():
        for name, make in pictures.items():
            drawn = make()
            files.append(save_drawing(paint(drawn), content(drawn), folder / f"{name}.png"))
    return files


def label(
    axes: Axes, x: float, y: float, text: str, align: str = "center", colour: str = INK, size: float = 8.5
) -> None:  # fmt: skip
    axes.text(x, y, text, ha=align, va="center", fontsize=size, color=colour)


def cell(
    axes: Axes, x: float, y: float, text: str = "", colour: str = PALE, size: float = 8.5, width: float = 1
) -> None:  # fmt: skip
    axes.add_patch(Rectangle((x, y), width, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    label(axes, x + width / 2, y + 0.5, text, size=size)


def outline(axes: Axes, x: float, y: float, width: float, height: float, colour: str, line: float) -> None:
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=line))


def bracket(axes: Axes, left: float, right: float, y: float, ends: float) -> None:
    """A line at y whose ends turn to y + ends."""
    axes.plot((left, left, right, right), (y + ends, y, y, y + ends), color=MARK, linewidth=1.3)


def arrow(axes: Axes, start: Point, end: Point, colour: str = INK, line: str = "-") -> None:
    how = {"arrowstyle": "-|>", "mutation_scale": 8, "linewidth": 1.1, "color": colour, "linestyle": line}
    axes.annotate("", end, start, arrowprops=how, zorder=2)


def frame(axes: Axes, left: float, right: float, top: float, bottom: float, title: str) -> None:
    """Show so much of the cells, square and without axes."""
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=9.5, color=INK)


def content(drawn: Figure) -> str:
    """What a figure shows, whatever font draws it: its texts, cells, lines and arrows, with their colours and places."""
    return "\n".join(line for axes in drawn.axes for line in _content(axes))


def _content(axes: Axes) -> Iterator[str]:
    yield f"title {axes.get_title()!r} {_numbers(axes.get_xlim(), axes.get_ylim())}"
    for path in axes.lines:
        yield f"line {path.get_color()} {_numbers(*path.get_xydata())}"
    for patch in axes.patches:
        corners = patch.get_patch_transform().transform([(0, 0), (1, 1)])
        yield f"cell {to_hex(patch.get_facecolor(), True)} {to_hex(patch.get_edgecolor())} {_numbers(*corners)}"
    for text in axes.texts:
        if isinstance(text, Annotation) and text.arrow_patch is not None:
            line = text.arrow_patch
            yield f"arrow {to_hex(line.get_edgecolor())} {line.get_linestyle()} {_numbers(text.get_position(), text.xy)}"
        elif text.get_text():
            yield f"text {text.get_text()!r} {text.get_color()} {_numbers(text.get_position())}"


def _numbers(*points: Iterable[float]) -> str:
    return " ".join(f"{number:.2f}" for point in points for number in point)
