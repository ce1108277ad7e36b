"""`torchops course look`, `draw` and `notebook`: what they show, where they write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.shell import refused
from torchops.course.folder import DEFAULT, file_of, start
from torchops.course.lesson import Lesson, load
from torchops.course.look import MEANS, NotChecked

from .students import course, written

PICTURES = [one.name for one in load("sobel").pictures]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start(tmp_path / DEFAULT)
    return tmp_path / DEFAULT


def test_look_shows_what_a_gpu_would_make_of_it(root: Path) -> None:
    written(root, lesson="unpooling")
    told = course(root, "look", 8)
    assert told.exit_code == 0, told.stderr
    rows = {line.split()[0]: line.split() for line in told.stdout.splitlines() if line.strip()}
    assert rows["kernel"][2] == "registers"
    assert {"scatter_kernel", "gather_kernel"} <= rows.keys()
    assert all(f"{name}: {means}" in told.stdout for name, means in MEANS.items())


def test_look_says_what_it_cannot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(file: Path, lesson: Lesson) -> None:
        raise NotChecked(f"not checked: {file.name} of lesson {lesson.number}")

    monkeypatch.setattr("torchops.course.look.look", look)
    refused(course(root, "look", 8), "not checked: unpooling.py of lesson 8")
    refused(course(root, "look", 99), "there is no lesson '99'")


def test_draw_leaves_the_pictures_of_the_page_alone(root: Path) -> None:
    file = written(root, lesson="sobel")
    before = {path: path.read_bytes() for path in file.parent.glob("*.png")}
    told = course(root, "draw", 2)
    assert told.exit_code == 0, told.stderr
    drawn = [file.parent / "drawn" / f"{name}.png" for name in PICTURES]
    assert told.stdout == "".join(f"{path}\n" for path in drawn)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    assert {path: path.read_bytes() for path in before} == before
    course(root, "draw", 2, "--out", root / "mine")
    assert sorted(path.name for path in (root / "mine").iterdir()) == sorted(path.name for path in drawn)


def test_draw_says_what_it_cannot(root: Path) -> None:
    refused(course(root, "draw", 2), "sobel: step 1 is not filled in yet")
    assert not (root / "02_sobel" / "drawn").exists()


def test_a_notebook_holds_what_the_student_has_written(root: Path) -> None:
    written(root, "# mine\n", lesson="sobel")
    told = course(root, "notebook")
    path = file_of(root, load("sobel")).with_suffix(".ipynb")
    assert told.stdout == f"lesson 2, sobel: its file was saved last\n{path}\n"
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    assert any(cell.startswith("%%writefile sobel.py\n# mine") for cell in cells)


def test_a_notebook_is_not_written_over(root: Path) -> None:
    course(root, "notebook", 2)
    path = file_of(root, load("sobel")).with_suffix(".ipynb")
    path.write_text("mine")
    refused(
        course(root, "notebook", 2),
        "sobel.ipynb: is there already, and may hold what you have written: --out names another",
    )
    assert path.read_text() == "mine"
    course(root, "notebook", 2, "--out", path.with_name("another.ipynb"))
    assert path.with_name("another.ipynb").exists()
