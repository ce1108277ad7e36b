"""Every page as a notebook, executed with the solution in the place of the student's file."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import torchops
from tests.course.students import standing_in
from torchops.course import notebook as notebooks
from torchops.course.lesson import Lesson, folders, load
from torchops.course.notebook import check, notebook, with_file
from torchops.course.skeleton import exercise

LESSONS = [load(folder.name) for folder in folders()]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The code cells of every lesson, after all have run in one process: what they import is imported once."""
    cells = {}
    for lesson in LESSONS:
        folder = tmp_path_factory.mktemp(lesson.name)
        for picture in lesson.folder.glob("*.png"):
            shutil.copy(picture, folder)
        made = nbformat.read(notebook(lesson, folder / f"{lesson.name}.ipynb", lesson.solution), as_version=4)
        nbformat.validate(made)
        begin = nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}", id=f"{lesson.name}-begin")
        cells[lesson.name] = [begin, *(cell for cell in made.cells if cell.cell_type == "code")]
    whole = nbformat.v4.new_notebook(cells=[cell for found in cells.values() for cell in found])
    sources = {**os.environ, "PYTHONPATH": str(Path(torchops.__file__).parents[1])}
    NotebookClient(whole, timeout=120, allow_errors=True).execute(env=sources)
    return cells


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_page_runs_as_a_notebook(lesson: Lesson, executed: dict[str, list[Any]]) -> None:
    outputs = [out for cell in executed[lesson.name] for out in cell.outputs]
    assert [out.evalue for out in outputs if out.output_type == "error"] == []
    printed = "".join(out.get("text", "") for out in outputs)
    assert re.findall(r"^✓ step (\w+) ", printed, re.MULTILINE) == [step.name for step in lesson.steps], printed
    assert "✗" not in printed


def test_a_file_is_written_once_and_checked_after_every_step() -> None:
    lesson = load("unpooling")
    page = (lesson.folder / "page.md").read_text(encoding="utf-8")
    text = with_file(page, lesson, "print(1)\n")
    assert text.count("%%writefile unpooling.py\nprint(1)\n```") == 1
    assert text.index("%%writefile") < text.index("## Step 1")
    places = [text.index(f'check("unpooling", step="{step.name}")') for step in lesson.steps]
    headings = [text.index(f"## Step {step.name}:") for step in lesson.steps]
    ends = [*headings[1:], text.index("## Look inside")]
    assert all(start < place < end for start, place, end in zip(headings, places, ends, strict=True))
    added = re.sub(r"## Your file\n.*?(?=## Step 1)", "", text, flags=re.DOTALL)
    added = re.sub(r"```python\nfrom torchops.course.notebook import check\n.*?```\n\n", "", added, flags=re.DOTALL)
    assert added == page


def test_headings_in_code_are_no_headings() -> None:
    lesson = load("unpooling")
    page = "```python\n## Step 1: a comment\n```\n\n## Step 1: scatter (10 minutes)\n"
    assert with_file(page, lesson, "pass").startswith("```python\n## Step 1: a comment\n```\n\n## Your file\n")


def test_a_notebook_is_the_same_every_time(tmp_path: Path) -> None:
    lesson = load("pixels")
    first, again = (notebook(lesson, tmp_path / name).read_bytes() for name in ("1.ipynb", "2.ipynb"))
    assert first == again


def test_the_skeleton_is_what_a_student_gets(tmp_path: Path) -> None:
    lesson = load("pixels")
    made = nbformat.read(notebook(lesson, tmp_path / "pixels.ipynb"), as_version=4)
    assert [cell for cell in made.cells if cell.source == f"%%writefile pixels.py\n{exercise(lesson).rstrip()}"]


def test_a_file_that_is_there_is_taken_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pixels.py").write_text("mine = 1\n", encoding="utf-8")
    with standing_in(tmp_path):
        notebooks.main(["1", "sobel"])
    assert capsys.readouterr().out == "pixels.ipynb\nsobel.ipynb\n"
    texts = [nbformat.read(tmp_path / f"{name}.ipynb", as_version=4).cells for name in ("pixels", "sobel")]
    assert [sum("mine = 1" in cell.source for cell in cells) for cells in texts] == [1, 0]


def test_a_check_without_a_file_says_so(tmp_path: Path) -> None:
    with standing_in(tmp_path), pytest.raises(FileNotFoundError, match=r"there is no pixels\.py in .*: run the cell"):
        check("pixels")
    with standing_in(tmp_path), pytest.raises(KeyError, match="there is no lesson 'poxels'"):
        check("poxels")
