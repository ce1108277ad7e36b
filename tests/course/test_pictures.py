"""The pictures of the lessons are drawn anew, by both machines."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.image import imread
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

import bench.course
from torchops.course.draw import content, draw, write
from torchops.course.lesson import Lesson, Picture, folders, load
from torchops.course.machine import machine
from torchops.course.report import Access, Buffer, Launch
from torchops.course.scene import LONG, MOST_PLANES, Cell, Scene, scene, scenes, text

DRAWN = [lesson for lesson in (load(folder.name) for folder in folders()) if lesson.pictures]
each = pytest.mark.parametrize("lesson", DRAWN, ids=lambda lesson: lesson.name)


def _coarse(file: Path) -> Tensor:
    """The mean colours of squares of 20 x 20 pixels."""
    return F.avg_pool2d(torch.from_numpy(imread(file)[..., :3].copy()).movedim(-1, 0), 20)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pictures, a folder a lesson, drawn by a process of its own, as a student's are."""
    folder = tmp_path_factory.mktemp("pictures")
    ask = (
        "import sys\n"
        "from pathlib import Path\n"
        "from torchops.course import draw, lesson, machine\n"
        "by = machine.machine('ttsem')\n"
        "for folder in lesson.folders():\n"
        "    out = Path(sys.argv[1]) / folder.name\n"
        "    out.mkdir()\n"
        "    draw.draw(folder / 'solution.py', lesson.load(folder.name), out, by)\n"
    )
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", ask, folder], env=os.environ | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@each
def test_pictures_are_those_that_are_committed(lesson: Lesson, drawn: Path) -> None:
    """What they show is the same, and their pixels are nearly so: fonts differ by less than the colour of a cell."""
    files = sorted((drawn / lesson.folder.name).iterdir())
    assert [file.stem for file in files] == sorted(picture.name for picture in lesson.pictures)
    assert {file.name for file in files} == {file.name for file in lesson.folder.glob("*.png")}
    page = (lesson.folder / "page.md").read_text(encoding="utf-8")
    for file in files:
        committed = lesson.folder / file.name
        assert f"]({file.name})" in page
        assert PngImageFile(committed).text == PngImageFile(file).text
        assert (_coarse(committed) - _coarse(file)).abs().max() < 0.08
        assert committed.stat().st_size <= 60_000


def test_the_stand_in_draws_the_same() -> None:
    """In a process of its own, since `import triton` gives the stand-in from then on."""
    ask = (
        "from torchops.course import draw, lesson, machine, scene\n"
        "lessons = [lesson.load(folder.name) for folder in lesson.folders()]\n"
        "[one.prepare() for one in lessons if one.prepare is not None]\n"
        "by = machine.machine('standin')\n"
        "for one in lessons:\n"
        "    shown, undrawn = scene.scenes(one.folder / 'solution.py', one, by)\n"
        "    assert not undrawn, undrawn\n"
        "    for found in shown:\n"
        "        print(draw.content(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    committed = [
        PngImageFile(lesson.folder / f"{picture.name}.png").text["Description"]
        for lesson in DRAWN
        for picture in lesson.pictures
    ]
    assert done.stdout.splitlines() == committed


def _of_lesson(name: str) -> dict[str, Scene]:
    lesson = load(name)
    shown, undrawn = scenes(lesson.folder / "solution.py", lesson, machine("ttsem"))
    assert not undrawn
    return {one.name: one for one in shown}


def _cells(shown: Scene, stores: bool) -> list[Cell]:
    planes = [plane for grid in shown.grids if grid.stores is stores for plane in grid.planes]
    return [cell for plane in planes for row in plane.cells for cell in row]


def test_what_two_programs_store_is_seen() -> None:
    """Of the scatter of lesson 8; its gather has no such pixel."""
    shown = _of_lesson("unpooling")
    assert [len(cell.programs) for cell in _cells(shown["scatter"], True) if cell.programs].count(2) == 1
    assert max(len(cell.programs) for cell in _cells(shown["gather"], True)) == 1


def test_a_tile_loads_its_rim() -> None:
    """Of lesson 7: a tile of 2x4 pixels loads 4x6, and stores itself."""
    shown = _of_lesson("machine")["tiles"]
    for program in range(3):
        assert sum(program in cell.programs for cell in _cells(shown, False)) == 4 * 6
        assert sum(program in cell.programs for cell in _cells(shown, True)) == 2 * 4


def _launched(*shape: int, strides: tuple[int, ...] | None = None, touched: tuple[int, ...] = ()) -> Launch:
    """A launch of one program, which stores these elements of a buffer whose elements hold their numbers."""
    strides = torch.empty(shape).stride() if strides is None else strides
    size = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    buffer = Buffer(shape, strides, 0, np.arange(float(size)))
    access = Access((0, 0, 0), True, "y_ptr", np.array(touched, int), 1, 4)
    return Launch("kernel", (1, 1, 1), {"y_ptr": buffer}, (access,))


def _shown(launch: Launch) -> Scene:
    return scene(Picture("name", "title", "1", tuple, {}, {"y_ptr": "y"}, ((0, 0, 0),)), launch)


def test_planes_that_are_touched_are_shown_if_there_are_many() -> None:
    (grid,) = _shown(_launched(2, 8, 2, 3, touched=(6 * 15 + 1,))).grids
    assert len(grid.planes) == MOST_PLANES
    assert [plane.label for plane in grid.planes] == ["[0, 0]", "[0, 1]", "[0, 2]", "[0, 3]", "[0, 4]", "[1, 7]"]
    assert grid.planes[-1].cells[0][1] == Cell("91", (0,))


def test_strides_say_which_element_a_cell_is() -> None:
    (grid,) = _shown(_launched(2, 3, strides=(1, 2), touched=(4,))).grids
    assert [[cell.text for cell in row] for row in grid.planes[0].cells] == [["0", "2", "4"], ["1", "3", "5"]]
    assert grid.planes[0].cells[0][2].programs == (0,)


@pytest.mark.parametrize(("length", "rows"), [(1, [1]), (LONG, [LONG]), (LONG + 3, [LONG // 2, LONG // 2, 3])], ids=str)
def test_long_rows_go_on_in_the_next_line(length: int, rows: list[int], tmp_path: Path) -> None:
    shown = _shown(_launched(length))
    (plane,) = shown.grids[0].planes
    assert [len(row) for row in plane.cells] == rows
    assert [row[0].text for row in plane.cells] == [str(n) for n in plane.rows]
    write(shown, tmp_path / "long.png")
    assert PngImageFile(tmp_path / "long.png").text["Description"] == content(shown)


@pytest.mark.parametrize("shape", [(40, 3), (3, 60), (2, 3, 5, 4), (30, 33), ()], ids=str)
def test_any_shape_has_room(shape: tuple[int, ...], tmp_path: Path) -> None:
    """No cell, title or number lies outside of the paper, and it is no larger than a page."""
    with PngImageFile(write(_shown(_launched(*shape)), tmp_path / "shape.png")) as picture:
        assert picture.width <= 1100
        assert picture.height <= 900
        edge = np.asarray(picture.convert("L"))
    assert (edge[[0, -1]] == 255).all()
    assert (edge[:, [0, -1]] == 255).all()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(float("nan"), ""), (3.0, "3"), (-0.0, "0"), (1 / 3, "0.33"), (12345.0, "1.2e+04"), (float("inf"), "inf")],
    ids=str,
)
def test_values_are_short(value: float, shown: str) -> None:
    assert text(value) == shown


def test_a_parameter_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="kernel has no parameter `x_ptr`"):
        scene(Picture("name", "title", "1", tuple, {"x_ptr": "x"}, {}, ()), _launched(3))


def _swapped(old: str, new: str) -> Callable[[str], str]:
    return lambda source: source.replace(old, new)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_swapped("import triton\n", "import triton(\n"), r"unpooling.py cannot be run \(SyntaxError"),
        (_swapped("import triton\n", "raise SystemExit\n"), r"unpooling.py cannot be run \(SystemExit"),
        (_swapped("def unpool", "def pool"), "scatter: the file has no function `unpool_scatter`"),
        (_swapped("y, mask=w < W)", "y)"), r"gather: step 3 does not run to its end \(oob_write, line \d+\): check it first"),
        (_swapped("    scatter_kernel[", "    return y\n    scatter_kernel["), "scatter: step 2 launches 0 kernels"),
    ],
    ids=["syntax", "exit", "missing", "outside", "no-launch"],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said(edit: Callable[[str], str], says: str, tmp_path: Path) -> None:
    lesson = load("unpooling")
    file = tmp_path / "unpooling.py"
    file.write_text(edit(lesson.solution), encoding="utf-8")
    _, undrawn = scenes(file, lesson, machine("ttsem"))
    assert re.match(says, undrawn[0])


def test_what_is_not_filled_in_is_not_drawn(tmp_path: Path) -> None:
    lesson = load("unpooling")
    with pytest.raises(ValueError, match="scatter: step 2 is not filled in yet; gather: step 3 is not filled in yet"):
        draw(lesson.folder / "exercise.py", lesson, tmp_path, machine("ttsem"))
    assert not list(tmp_path.iterdir())


def test_pictures_that_can_be_drawn_are(tmp_path: Path) -> None:
    lesson, file = load("unpooling"), tmp_path / "unpooling.py"
    file.write_text(lesson.solution.replace("def unpool(", "def pool("), encoding="utf-8")
    told: list[str] = []
    assert draw(file, lesson, tmp_path, machine("ttsem"), told.append) == [tmp_path / "scatter.png"]
    assert told == ["gather: the file has no function `unpool`"]


def test_a_lesson_without_pictures_says_so(tmp_path: Path) -> None:
    lesson = dataclasses.replace(load("unpooling"), pictures=())
    with pytest.raises(ValueError, match="lesson 8 has no pictures"):
        draw(lesson.folder / "solution.py", lesson, tmp_path, machine("ttsem"))


def test_a_description_is_json() -> None:
    """So that what a picture shows can be read without looking."""
    (picture, *_) = sorted(load("unpooling").folder.glob("*.png"))
    assert json.loads(PngImageFile(picture).text["Description"])["programs"] == ["program 0", "program 2", "program 4"]


def test_picture_of_the_readme_is_the_one_that_is_committed(tmp_path: Path) -> None:
    """With what the checker says now."""
    committed = Path(bench.course.FILE)
    drawn = bench.course.picture(tmp_path / committed.name)
    assert PngImageFile(committed).text == PngImageFile(drawn).text
    assert (_coarse(committed) - _coarse(drawn)).abs().max() < 0.08
    assert f"](../assets/{committed.name})" in (committed.parents[1] / "docs" / "course.md").read_text(encoding="utf-8")
