"""A student at work, for tests: a folder of the course, and commands given in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import Result

from tests.shell import invoke
from torchops.course.folder import file_of
from torchops.course.lesson import Lesson, load
from torchops.course.skeleton import exercise

LESSON = "unpooling"


@contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """In the block, the current directory is another."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def course(folder: Path, *arguments: object) -> Result:
    """`torchops course ...`, where a student stands."""
    with standing_in(folder):
        return invoke("course", *arguments)


def written(root: Path, text: str | None = None, lesson: str = LESSON) -> Path:
    """The student's file, with that text in it; with the solution if there is none."""
    return _saved(root, load(lesson), load(lesson).solution if text is None else text)


def first_step_written(root: Path) -> Path:
    """The student's file of the lesson, with its first step as the solution has it."""
    lesson = load(LESSON)
    head, mark, _ = lesson.solution.partition("# Step 3")
    _, _, tail = exercise(lesson).partition(mark)
    assert mark
    assert tail
    return _saved(root, lesson, head + mark + tail)


def _saved(root: Path, lesson: Lesson, text: str) -> Path:
    file = file_of(root, lesson)
    file.write_text(text, encoding="utf-8")
    return file


def another_triton(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if triton 3.7.1 were installed, here and in processes that are given this one's path."""
    described = folder / "elsewhere" / "triton-3.7.1.dist-info" / "METADATA"
    described.parent.mkdir(parents=True)
    described.write_text("Metadata-Version: 2.1\nName: triton\nVersion: 3.7.1\n")
    monkeypatch.syspath_prepend(described.parent.parent)
