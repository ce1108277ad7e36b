"""What is told of a kernel's machine code, of an H100 that nobody has; and lesson 7, which is about it."""

from __future__ import annotations

import dataclasses
import re
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from torchops.course.lesson import Lesson, folders, load
from torchops.course.look import MEANS, NotChecked, Row, look, rows, shown
from torchops.course.trial import load as load_file
from torchops.course.trial import moved

MACHINE = load("machine")
LOOKED = [lesson for lesson in (load(folder.name) for folder in folders()) if any(step.look for step in lesson.steps)]
REPO = Path(__file__).parents[2]


PINNED = re.findall(r"^triton==(.*)$", (REPO / "constraints.txt").read_text(), re.MULTILINE)


@pytest.mark.parametrize("lesson", LOOKED, ids=lambda lesson: lesson.name)
def test_kernels_of_a_solution_compile_to_what_the_page_says(lesson: Lesson) -> None:
    """They store something, and spill nothing. Lesson 7 shows what spilling is."""
    found = list(rows(lesson.folder / "solution.py", lesson))
    assert {row.step for row in found} == {step.name for step in lesson.steps if step.look}
    for row in found:
        assert 0 < row.registers <= 255
        assert row.stores
        assert row.spills == 0 or lesson.name == "machine"
    page = (lesson.folder / "page.md").read_text(encoding="utf-8")
    tables = re.findall(rf"^\$ torchops course look {lesson.number}\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    if [version("triton")] == PINNED:  # another compiler makes other numbers
        assert tables in ([], [shown(found).partition("\n\n")[0]])


def test_page_of_lesson_7_says_whose_numbers_it_has() -> None:
    page = (MACHINE.folder / "page.md").read_text(encoding="utf-8")
    assert re.findall(r"compiled\s+for\s+an\s+H100\s+\(sm_90\)\s+by\s+triton\s+([\d.]+\d)", page) == PINNED
    assert "$ torchops course look 7\n" in page


def test_a_process_of_its_own_finds_the_same() -> None:
    lesson = load("unpooling")
    assert look(lesson.folder / "solution.py", lesson) == list(rows(lesson.folder / "solution.py", lesson))


def test_matrix_units_are_seen() -> None:
    """A product of tiles takes them, and shared memory."""
    lesson = load("matrix_product")
    assert any(row.matrix and row.shared for row in rows(lesson.folder / "solution.py", lesson))


def test_table_explains_its_columns() -> None:
    row = Row("1", "copy_kernel", "64x64", 20, 0, {128: 2}, {32: 4, 128: 1}, 0, 0)
    table = shown([row])
    head, line, _, *means = table.splitlines()
    assert line == "copy_kernel  64x64          20       0  2 x 128       4 x 32, 1 x 128       0       0"
    assert [one.partition(":")[0] for one in means] == list(MEANS)
    assert all(name in head for name in MEANS)


def test_nothing_is_checked_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PathFinder, "find_spec", lambda name: None)
    with pytest.raises(NotChecked, match="not checked: there is no Triton here"):
        look(MACHINE.folder / "solution.py", MACHINE)


def test_compilers_that_take_too_long_are_ended() -> None:
    with pytest.raises(NotChecked, match=r"not checked: Triton was not done after 0\.01 s"):
        look(MACHINE.folder / "solution.py", MACHINE, seconds=0.01)


def _edited(folder: Path, old: str, new: str) -> Path:
    """The solution of lesson 7, with another text."""
    file = folder / "machine.py"
    assert old in MACHINE.solution
    file.write_text(MACHINE.solution.replace(old, new, 1), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("import triton\n", "import triton\nimport os\nos._exit(3)\n", r"the compiling process ended \(it ended with 3\)"),
        ("import triton\n", "import triton(\n", r"not checked: machine.py cannot be run \(SyntaxError"),
    ],
    ids=["exit", "syntax"],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said(old: str, new: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(NotChecked, match=says):
        look(_edited(tmp_path, old, new), MACHINE)


def test_what_triton_says_of_a_kernel_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(NotChecked, match=r"step 2 does not get as far as machine code .*nothing"):
        list(rows(_edited(tmp_path, "mask = (p < P)", "mask = (p < nothing)"), MACHINE))


def test_a_function_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotChecked, match="the file has no function `mean`"):
        list(rows(_edited(tmp_path, "def mean(", "def average("), MACHINE))


def test_a_hole_outside_of_functions_leaves_nothing(tmp_path: Path) -> None:
    assert not list(rows(_edited(tmp_path, "def mean(", "...\n\n\ndef mean("), MACHINE))


def test_exercises_are_not_filled_in_yet() -> None:
    with pytest.raises(NotChecked, match="no step that launches a kernel is filled in yet"):
        look(MACHINE.folder / "exercise.py", MACHINE)


def test_lessons_that_have_nothing_to_look_at_say_so() -> None:
    steps = tuple(dataclasses.replace(step, look=()) for step in MACHINE.steps)
    with pytest.raises(NotChecked, match="lesson 7 has nothing to look at"):
        look(MACHINE.folder / "solution.py", dataclasses.replace(MACHINE, steps=steps))


def test_numbers_of_the_experiment_are_those_of_the_page() -> None:
    page = (MACHINE.folder / "page.md").read_text(encoding="utf-8")
    mine, x = load_file(MACHINE.folder / "solution.py"), torch.rand(1, 1, 66, 66)
    (told,) = re.findall(r"^(\d\.\d\d, .*) of the least\.", page, re.MULTILINE)
    found = [moved(mine.mean_rows, x, block)[0] for block in (8, 16, 32, 64)]
    assert re.findall(r"\d\.\d\d", told) == [f"{one.moved / one.least:.2f}" for one in found]


def test_a_tile_moves_what_lesson_7_allows_and_no_less() -> None:
    """Otherwise a kernel that moves more would pass."""
    from torchops_course_machine import bytes_of_tiles  # type: ignore[import-not-found]

    mine: Any = load_file(MACHINE.folder / "solution.py")
    for h, w, tile in ((7, 11, (2, 4)), (9, 20, (4, 16)), (40, 70, (16, 32))):
        (launch,) = moved(mine.mean, torch.rand(1, 1, h, w), *tile)
        assert (launch.moved, launch.least) == bytes_of_tiles(h - 2, w - 2, *tile)
