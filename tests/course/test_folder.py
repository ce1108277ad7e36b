"""The student's folder: made, brought up to date, found, begun again, and nothing of the student's is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from torchops.course import folder
from torchops.course.folder import (
    DEFAULT,
    Copied,
    at_hand,
    digest,
    file_of,
    find,
    following,
    lessons,
    missing,
    reset,
    start,
)
from torchops.course.lesson import load
from torchops.course.progress import Progress, change, read
from torchops.course.skeleton import exercise

from .students import LESSON, written

PAGE = "08_unpooling/page.md"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start(tmp_path / DEFAULT)
    return tmp_path / DEFAULT


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], None]:
    """Another version of the course, in which a file is another."""

    def use(name: str, content: bytes) -> None:
        sources = dict(folder._sources()) | {name: content}
        monkeypatch.setattr(folder, "_sources", lambda: iter(sources.items()))

    return use


def test_every_lesson_is_there(root: Path) -> None:
    for lesson in lessons():
        here = file_of(root, lesson)
        assert here.read_text() == exercise(lesson)
        assert {path.name for path in here.parent.iterdir()} == {
            here.name,
            *(path.name for path in lesson.folder.iterdir() if path.is_file() and path.suffix != ".py"),
        }
    assert not list(root.rglob("solution.py"))


def test_a_second_start_changes_nothing(root: Path) -> None:
    written(root, "mine")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert start(root) == Copied(kept=["08_unpooling/unpooling.py"])
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_what_is_missing_comes_back(root: Path) -> None:
    (root / PAGE).unlink()
    assert start(root).new == [PAGE]
    assert (root / PAGE).read_bytes() == (load(LESSON).folder / "page.md").read_bytes()


def test_a_newer_page_takes_the_place_of_one_that_nobody_has_changed(
    root: Path, newer: Callable[[str, bytes], None]
) -> None:
    newer(PAGE, b"newer")
    assert start(root) == Copied(newer=[PAGE])
    assert (root / PAGE).read_bytes() == b"newer"


def test_a_newer_page_lies_beside_one_that_was_changed(root: Path, newer: Callable[[str, bytes], None]) -> None:
    (root / PAGE).write_text("my notes")
    newer(PAGE, b"newer")
    beside = "08_unpooling/page.new.md"
    assert start(root) == Copied(kept=[PAGE], beside=[beside])
    assert (root / PAGE).read_text() == "my notes"
    assert (root / beside).read_bytes() == b"newer"
    # it may have notes as well
    (root / beside).write_text("my notes, too")
    newer(PAGE, b"newest")
    start(root)
    assert (root / beside).read_text() == "my notes, too"
    assert (root / "08_unpooling/page.new.new.md").read_bytes() == b"newest"


def test_a_page_that_was_changed_has_nothing_beside_it_unless_there_is_a_newer_one(root: Path) -> None:
    (root / PAGE).write_text("my notes")
    assert start(root) == Copied(kept=[PAGE])
    assert not (root / "08_unpooling/page.new.md").exists()


def test_without_progress_every_file_is_the_students(root: Path) -> None:
    file = written(root, "mine")
    (root / "progress.json").unlink()
    (root / PAGE).write_text("my notes")
    found = start(root)
    assert found.new == found.newer == []
    assert found.beside == ["08_unpooling/page.new.md"]
    assert file.read_text() == "mine"
    assert (root / PAGE).read_text() == "my notes"


def test_is_found_from_below_within_and_above(root: Path) -> None:
    for here in (root, root / "08_unpooling", root.parent):
        assert find(here) == root
    assert find(root.parent.parent) is None


def test_another_progress_is_not_the_courses(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text("{}")
    assert find(tmp_path) is None


class TestWhichLesson:
    def test_is_next(self, root: Path) -> None:
        first, second = lessons()[:2]
        assert at_hand(root, read(root)) == (first, "it is next")
        change(root, lambda progress: progress.of(first.name).steps.extend(step.name for step in first.steps))
        assert at_hand(root, read(root)) == (second, "it is next")
        assert following(read(root), load(LESSON)) == next((one for one in lessons() if one.number > 8), second)

    def test_was_saved_last(self, root: Path) -> None:
        for n, lesson in enumerate((lessons()[1], lessons()[0], load(LESSON))):
            os.utime(written(root, "# mine", lesson.name), ns=(n, n))
            assert at_hand(root, read(root)) == (lesson, "its file was saved last")

    def test_is_not_one_that_is_right_as_it_is(self, root: Path) -> None:
        file = written(root)

        def note(progress: Progress) -> None:
            done = progress.of(LESSON)
            done.verdict, done.hash = "ok", digest(file.read_bytes())

        change(root, note)
        assert at_hand(root, read(root))[1] == "it is next"
        file.write_text("# another\n")
        assert at_hand(root, read(root)) == (load(LESSON), "its file was saved last")

    def test_is_the_last_where_all_are_done(self, root: Path) -> None:
        def note(progress: Progress) -> None:
            for lesson in lessons():
                progress.of(lesson.name).steps = [step.name for step in lesson.steps]

        change(root, note)
        assert following(read(root)) is None
        assert at_hand(root, read(root))[0] == lessons()[-1]


class TestReset:
    def test_keeps_every_copy(self, root: Path) -> None:
        lesson = load(LESSON)
        for n, name in enumerate(("unpooling.py.bak", "unpooling.py.bak2", "unpooling.py.bak3")):
            file = written(root, f"# {n}")
            assert reset(root, lesson) == file.with_name(name)
            assert file.read_text() == exercise(lesson)
        assert [path.read_text() for path in sorted(file.parent.glob("*.bak*"))] == ["# 0", "# 1", "# 2"]

    def test_of_what_is_as_it_began_keeps_nothing(self, root: Path) -> None:
        assert reset(root, load(LESSON)) is None
        assert not list(root.rglob("*.bak"))

    def test_begins_the_lesson_again(self, root: Path) -> None:
        def note(progress: Progress) -> None:
            progress.of(LESSON).steps, progress.of(LESSON).hints = ["1"], {"1": 2}

        change(root, note)
        written(root, "").unlink()
        assert reset(root, load(LESSON)) is None
        assert file_of(root, load(LESSON)).is_file()
        assert read(root).of(LESSON).steps == []
        assert read(root).of(LESSON).hints == {"1": 2}


def test_a_file_with_another_name_is_named(root: Path) -> None:
    lesson, file = load(LESSON), file_of(root, load(LESSON))
    assert missing(root, lesson) == ""
    file.rename(file.with_name("mine.py"))
    assert "mine.py" in missing(root, lesson)
    file.with_name("mine.py").unlink()
    assert "torchops course reset 8" in missing(root, lesson)
