"""Skeletons are made of solutions, and each of their holes is found at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchops.course.lesson import Lesson, folders, load
from torchops.course.skeleton import MARK, exercise, skeleton
from torchops.course.source import holes, holes_of, holes_outside
from torchops.course.words import shown

from .conftest import Servers

LESSONS = [load(folder) for folder in folders()]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_exercise_is_made_of_the_solution(lesson: Lesson) -> None:
    made = exercise(lesson)
    assert (lesson.folder / "exercise.py").read_text(encoding="utf-8") == made, "python -m torchops.course.skeleton"
    assert not MARK.search(made)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_every_hole_is_found(servers: Servers, lesson: Lesson, tmp_path: Path) -> None:
    """Each is left alone while all others are filled in."""
    file = tmp_path / "student.py"
    marks = {n: mark[1] for n, line in enumerate(lesson.solution.splitlines(), 1) if (mark := MARK.search(line))}
    assert marks
    for n, name in marks.items():
        source = skeleton(lesson.solution, n)
        line = next(k for k, text in enumerate(source.splitlines(), 1) if f"# TODO {name}" in text)
        file.write_text(source, encoding="utf-8")
        report = servers("ttsem").check(file, lesson.folder, name.rstrip("abcdefgh"))
        assert report.verdict == "hole", f"{name}, line {n}: {shown(report, source)}"
        assert report.last is not None
        assert report.last.line == line
        assert f"Not filled in yet, line {line}:\n    {line} | " in shown(report, source)


SOLUTION = '''"""A solution."""

@jit
def kernel(
    x_ptr,  # in
    BLOCK,
):  # fmt: skip
    i = pid * BLOCK  #: 1a which?
    mask = (
        # of those
        i < 3
    )  #: 1b
    store(
        x_ptr + i, load(x_ptr, mask=mask), mask=(i < 3)
    )  #: 2a é and the mask
    total += é(i) * 2  #: 2b


def launch(x):  #: 3
    """Launches."""
    y = x
    return y


def size(x):
    return (
        x + 1
    )  #: 4a how large?
'''


def test_what_is_left_out() -> None:
    assert skeleton(SOLUTION) == (
        '"""A solution."""\n\n@jit\ndef kernel(\n    x_ptr,  # in\n    BLOCK,\n):  # fmt: skip\n'
        "    i = ...  # TODO 1a: which?\n    mask = ...  # TODO 1b\n"
        "    store(\n        x_ptr + i, load(x_ptr, mask=mask), mask=(...)\n    )  # TODO 2a: é and the mask\n"
        "    total += ...  # TODO 2b\n\n\n"
        'def launch(x):\n    """Launches."""\n    ...  # TODO 3\n\n\n'
        "def size(x):\n    return ...  # TODO 4a: how large?\n"
    )


@pytest.mark.parametrize(
    "wrong", ["if x:  #: 1a\n    pass\n", "pass  #: 1a\n", "f()  #: 1a\n", "# alone\n#: 1a\n", "return  #: 1a\n"]
)
def test_rejects_a_mark_where_nothing_can_be_left_out(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^line [12]: "):
        skeleton(wrong)


FILE = """
N = ...
def helper(x):
    return ...
def other(x):
    return ...  # TODO 2a
def first(x):
    return helper(x)[..., 0]
def second(x) -> tuple[int, ...]:
    return other(x)
"""


def test_holes_belong_to_steps() -> None:
    first, second = (type("Step", (), {"name": n, "function": f}) for n, f in (("1", "first"), ("2", "second")))
    assert holes(FILE) == [(2, ""), (4, ""), (6, "2")]
    assert holes_of(FILE, first) == [2, 4]
    assert holes_of(FILE, second) == [2, 6]
    assert holes_outside(FILE) == [2]


def test_a_hole_outside_of_functions_comes_before_what_it_breaks(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "pixels.py"
    file.write_text("SIZE = ...\nBLOCK = SIZE * 2\n")
    report = servers("ttsem").check(file, LESSONS[0].folder)
    assert (report.verdict, report.last and report.last.line) == ("hole", 1)
