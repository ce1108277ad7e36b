"""`python -m torchops.course.draw`: the pictures of all lessons, in their folders. Needs matplotlib.

Nothing in them is drawn by hand: they show what the programs of a run load and store.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrow, Rectangle

from torchops.files.hues import INK, LINE, PAPER, PROGRAMS, SOFT
from torchops.files.hues import RED as MARK
from torchops.files.plots import paint, save_drawing, style

from .lesson import Lesson, folders, load
from .machine import Machine, machine
from .scene import Cell, Grid, Plane, Scene, scenes

LARGEST, READABLE, SMALLEST = 0.42, 0.26, 0.07
"""A cell's side, in inches; values are easily read in those that are so large."""
WIDE, TALL = 8.4, 5.6
"""What cells may take of a picture, in inches."""
NUMBERS, APART, BESIDE, BELOW = 0.3, 0.22, 0.45, 0.4
"""Room for the numbers of rows, between planes, between tensors, and between rows of tensors, in inches."""


def draw(
    file: Path, lesson: Lesson, out: Path, by: Machine | None = None, tell: Callable[[str], object] = lambda why: None
) -> list[Path]:
    """Run the steps of a file that a lesson has pictures of, and write these to a folder.

    Args:
        file: the student's, or the solution.
        lesson: whose pictures they are.
        out: the folder.
        by: the machine that runs the kernels; the first that can run here if not given.
        tell: called with words for each picture that cannot be drawn, if others can.

    Raises:
        ValueError: if there is none to be drawn; the message says why.
    """
    shown, undrawn = scenes(file, lesson, by or machine())
    if not shown:
        raise ValueError("; ".join(undrawn) or f"lesson {lesson.number} has no pictures")
    for why in undrawn:
        tell(why)
    return [write(one, out / f"{one.name}.png") for one in shown]


@style()
def write(scene: Scene, path: Path) -> Path:
    """Draw a scene; the file's description is the scene as JSON."""
    return save_drawing(paint(Drawing(scene).figure), content(scene), path)


def content(scene: Scene) -> str:
    """All that a scene shows, whatever draws it."""
    return json.dumps(dataclasses.asdict(scene), separators=(",", ":"))


class Drawing:
    """A scene on paper: tensors beside each other, cells of one size; all positions are in inches, down from the top."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.side, rows = self._layout()
        heights = [max(self._height(grid) for grid in row) for row in rows]
        width = max(6.4, max(self._row_width(row) for row in rows) + 0.5)
        legend = self._legend(width)
        size = 11 if len(scene.title) * 0.092 < width else 9.5
        title = textwrap.wrap(scene.title[:1].upper() + scene.title[1:], int(width / 0.0084 / size)) or [""]
        top = 0.35 + 0.2 * len(title)
        height = top + sum(heights) + BELOW * (len(rows) - 1) + 0.2 + 0.24 * len(legend) + 0.32
        self.figure = Figure(figsize=(width, height))
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        for n, line in enumerate(title):
            self._text(width / 2, 0.27 + 0.2 * n, line, size, INK, weight="bold")
        for n, (row, tall) in enumerate(zip(rows, heights, strict=True)):
            if n:
                self._arrow(width / 2, top - BELOW, 0, 0.26)
            self._row(row, top, tall, width)
            top += tall + BELOW
        top -= BELOW - 0.2
        for entries in legend:
            self._legend_line(entries, top + 0.1, width)
            top += 0.24
        self._text(width / 2, height - 0.18, scene.caption, 8.5, SOFT)

    def _layout(self) -> tuple[float, list[list[Grid]]]:
        """How large cells are, and which tensors stand in a row: all, or those that are loaded and those that are stored,
        where that makes small cells larger."""
        one = [list(self.scene.grids)]
        two = [[grid for grid in self.scene.grids if grid.stores is stores] for stores in (False, True)]
        found = [(self._largest(rows), rows) for rows in (one, two) if all(rows)]
        return found[0] if found[0][0] >= READABLE else max(found, key=lambda side_rows: side_rows[0])

    def _largest(self, rows: list[list[Grid]]) -> float:
        """The largest side of cells with which these rows have room."""
        for self.side in _sides():  # what the next lines measure is of this side
            tall = sum(max(map(self._height, row)) for row in rows)
            if max(map(self._row_width, rows)) <= WIDE and tall <= TALL:
                break
        return self.side

    def _plane_lines(self, grid: Grid) -> list[list[Plane]]:
        """Planes beside each other, in as few lines of equal length as there is room for."""
        for count in range(1, len(grid.planes) + 1):
            per = -(-len(grid.planes) // count)
            lines = [list(grid.planes[i : i + per]) for i in range(0, len(grid.planes), per)]
            if max(map(self._line_width, lines)) <= WIDE * 0.6:
                break
        return lines

    def _line_width(self, planes: Sequence[Plane]) -> float:
        return NUMBERS + sum(self.side * _columns(plane) for plane in planes) + APART * (len(planes) - 1)

    def _width(self, grid: Grid) -> float:
        return max(map(self._line_width, self._plane_lines(grid)))

    def _title(self, grid: Grid) -> list[str]:
        return textwrap.wrap(grid.title, max(16, int(self._width(grid) / 0.075))) or [""]

    def _line_height(self, planes: Sequence[Plane]) -> float:
        return max(self.side * len(plane.cells) for plane in planes) + (0.38 if planes[0].label else 0.2)

    def _height(self, grid: Grid) -> float:
        lines = self._plane_lines(grid)
        return 0.18 * len(self._title(grid)) + sum(map(self._line_height, lines)) + 0.1 * (len(lines) - 1)

    def _row_width(self, row: Sequence[Grid]) -> float:
        return sum(map(self._width, row)) + BESIDE * (len(row) - 1)

    def _row(self, row: Sequence[Grid], top: float, tall: float, width: float) -> None:
        left = (width - self._row_width(row)) / 2 - 0.1
        for n, grid in enumerate(row):
            if n and grid.stores and not row[n - 1].stores:
                self._arrow(left - 0.34, top + tall / 2, 0.26, 0)
            self._grid(grid, left, top + (tall - self._height(grid)) / 2)
            left += self._width(grid) + BESIDE

    def _arrow(self, x: float, y: float, right: float, down: float) -> None:
        shape: dict[str, Any] = {"width": 0.035, "head_width": 0.14, "head_length": 0.12, "length_includes_head": True}
        self.axes.add_patch(FancyArrow(x, y, right, down, color=SOFT, lw=0, **shape))

    def _grid(self, grid: Grid, left: float, top: float) -> None:
        across = left + NUMBERS + (self._width(grid) - NUMBERS) / 2
        for title in self._title(grid):
            self._text(across, top + 0.06, title, 9.5, INK)
            top += 0.18
        for line in self._plane_lines(grid):
            begin = left + NUMBERS
            for n, plane in enumerate(line):
                self._plane(plane, grid.stores, begin, top + (0.18 if plane.label else 0), n == 0)
                begin += self.side * _columns(plane) + APART
            top += self._line_height(line) + 0.1

    def _plane(self, plane: Plane, stores: bool, left: float, top: float, first: bool) -> None:
        side, columns = self.side, _columns(plane)
        if plane.label:
            self._text(left + side * columns / 2, top - 0.1, plane.label, 8.5, SOFT)
        top += 0.17
        every = next(n for n in (1, 2, 4, 8, 16, 32, 64) if n * side >= 0.2 or n == 64)
        for w in range(0, columns, every):
            self._text(left + side * (w + 0.5), top - 0.08, str(w), 7.5, SOFT)
        for h in range(0, len(plane.cells) if first else 0, every):
            self._text(left - 0.06, top + side * (h + 0.5), str(plane.rows[h]), 7.5, SOFT, ha="right")
        longest = max((len(cell.text) for row in plane.cells for cell in row), default=0)
        size = min(9.0, side * 72 * 0.46, side * 72 * 0.86 / (0.62 * max(1, longest)))
        for h, row in enumerate(plane.cells):
            for w, cell in enumerate(row):
                self._cell(cell, left + side * w, top + side * h, size)
        for h, row in enumerate(plane.cells):
            for w, cell in enumerate(row):
                if stores and len(cell.programs) > 1:
                    self._box(left + side * w, top + side * h, side, side, "none", MARK, 2.4)

    def _cell(self, cell: Cell, x: float, y: float, size: float) -> None:
        side, count = self.side, len(cell.programs)
        for n, program in enumerate(cell.programs):
            self._box(x + side * n / count, y, side / count, side, PROGRAMS[program % len(PROGRAMS)], "none", 0)
        self._box(x, y, side, side, "none" if count else PAPER, LINE, 0.7)
        if cell.text and size >= (6 if cell.text == "0" else 4.2):  # small zeros would hide the rest
            self._text(x + side / 2, y + side / 2, cell.text, size, INK if cell.text != "0" or count else LINE)

    def _box(self, x: float, y: float, w: float, h: float, face: object, edge: str, line: float) -> None:
        self.axes.add_patch(Rectangle((x, y), w, h, facecolor=face, edgecolor=edge, linewidth=line))

    def _text(
        self, x: float, y: float, text: str, size: float, colour: str, ha: str = "center", weight: str = "normal"
    ) -> None:
        self.axes.text(x, y, text.replace("$", r"\$"), fontsize=size, color=colour, ha=ha, va="center", weight=weight)

    def _legend(self, width: float) -> list[list[tuple[str, int]]]:
        """Lines of entries: a text, and the number of a program, -1 for what two store, or -2 for what several load."""
        entries = [(name, n) for n, name in enumerate(self.scene.programs)]
        if self._shared(True):
            entries.append(("stored by two programs: a race", -1))
        if self._shared(False):
            entries.append(("loaded by several", -2))
        lines: list[list[tuple[str, int]]] = [[]]
        for entry in entries:
            if lines[-1] and sum(map(_entry_width, [*lines[-1], entry])) > width - 0.3:
                lines.append([])
            lines[-1].append(entry)
        return lines

    def _shared(self, stores: bool) -> bool:
        planes = (plane for grid in self.scene.grids if grid.stores is stores for plane in grid.planes)
        return any(len(cell.programs) > 1 for cell in _cells(planes))

    def _legend_line(self, line: Sequence[tuple[str, int]], y: float, width: float) -> None:
        left = (width - sum(map(_entry_width, line))) / 2
        for text, n in line:
            if n == -1:
                self._box(left, y - 0.07, 0.14, 0.14, "none", MARK, 2)
            elif n == -2:
                self._box(left, y - 0.07, 0.07, 0.14, PROGRAMS[0], "none", 0)
                self._box(left + 0.07, y - 0.07, 0.07, 0.14, PROGRAMS[1], "none", 0)
            else:
                self._box(left, y - 0.07, 0.14, 0.14, PROGRAMS[n % len(PROGRAMS)], "none", 0)
            self._text(left + 0.2, y, text, 9, INK, ha="left")
            left += _entry_width((text, n))


def _sides() -> Iterable[float]:
    """Sides of a cell, from the largest."""
    side = LARGEST
    while side > SMALLEST:
        yield side
        side *= 0.94
    yield SMALLEST


def _columns(plane: Plane) -> int:
    return max((len(row) for row in plane.cells), default=0)


def _cells(planes: Iterable[Plane]) -> Iterable[Cell]:
    return (cell for plane in planes for row in plane.cells for cell in row)


def _entry_width(entry: tuple[str, int]) -> float:
    return 0.2 + 0.068 * len(entry[0]) + 0.25


if __name__ == "__main__":
    for folder in folders():
        lesson = load(folder.name)
        if lesson.pictures:
            for path in draw(folder / "solution.py", lesson, folder):
                print(f"written: {path}")
