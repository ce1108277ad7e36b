"""Progress is kept: whatever the file holds, whoever else writes to it, and wherever nothing can be written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from torchops.course.progress import BROKEN, FILE, Progress, change, read


def _done(step: str, lesson: str = "unpooling"):  # type: ignore[no-untyped-def]
    def note(progress: Progress) -> None:
        progress.of(lesson).steps.append(step)

    return note


def test_what_is_written_is_read(tmp_path: Path) -> None:
    def note(progress: Progress) -> None:
        done = progress.of("unpooling")
        done.steps, done.hints, done.checks, done.verdict, done.hash, done.solution = (
            ["1"],
            {"1": 2},
            3,
            "ok",
            "ab",
            True,
        )
        progress.files["page.md"] = "cd"

    assert change(tmp_path, note) == ""
    done = read(tmp_path).lessons["unpooling"]
    assert (done.steps, done.hints, done.checks, done.verdict, done.hash, done.solution) == (
        ["1"], {"1": 2}, 3, "ok", "ab", True,
    )  # fmt: skip
    assert read(tmp_path).files == {"page.md": "cd"}
    assert read(tmp_path).wrong == []


def test_what_another_version_has_written_stays(tmp_path: Path) -> None:
    theirs = {"colour": "red", "lessons": {"scan": {"steps": ["1"], "stars": 5}}, "files": {}}
    (tmp_path / FILE).write_text(json.dumps(theirs))
    change(tmp_path, _done("1"))
    found = json.loads((tmp_path / FILE).read_text())
    assert found["colour"] == "red"
    assert found["lessons"]["scan"]["stars"] == 5
    assert found["lessons"]["scan"]["steps"] == ["1"]
    assert found["lessons"]["unpooling"]["steps"] == ["1"]


BY_HAND = {
    "empty": b"",
    "cut off": b'{"lessons": {"unpooling": {"steps": ["1"]',
    "a list": b"[1, 2]",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "lessons are a list": b'{"lessons": []}',
    "a lesson is a word": b'{"lessons": {"unpooling": "done"}}',
    "hints are words": b'{"lessons": {"unpooling": {"hints": {"1": "two"}}}}',
    "hints are negative": b'{"lessons": {"unpooling": {"hints": {"1": -2}}}}',
    "steps are numbers": b'{"lessons": {"unpooling": {"steps": [1]}}}',
    "files are numbers": b'{"files": {"page.md": 3}}',
}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_was_broken_by_hand_is_said_and_copied(name: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(BY_HAND[name])
    assert read(tmp_path).wrong
    said = change(tmp_path, _done("2"))
    assert FILE in said
    assert BROKEN in said
    assert (tmp_path / BROKEN).read_bytes() == BY_HAND[name]
    assert read(tmp_path).wrong == []
    assert read(tmp_path).of("unpooling").steps == ["2"]
    assert change(tmp_path, _done("3")) == ""


def test_what_is_whole_in_a_broken_file_goes_on(tmp_path: Path) -> None:
    held = {"lessons": {"unpooling": {"steps": ["1"], "checks": "many"}, "sobel": 7}, "files": {"page.md": "ab"}}
    (tmp_path / FILE).write_text(json.dumps(held))
    change(tmp_path, _done("2"))
    assert read(tmp_path).of("unpooling").steps == ["1", "2"]
    assert read(tmp_path).files == {"page.md": "ab"}


def test_no_copy_takes_the_place_of_another(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / FILE).write_text(content)
        change(tmp_path, _done("1"))
    assert sorted(path.read_text() for path in tmp_path.glob(f"{BROKEN}*")) == ["first", "second"]


WRITER = """
import sys
from pathlib import Path
from torchops.course.progress import change
for n in range(40):
    def note(progress):
        progress.of("unpooling").checks += 1
        progress.of(sys.argv[2]).checks += 1
    change(Path(sys.argv[1]), note)
"""


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("sobel", "padding")]
    assert [writer.wait() for writer in writers] == [0, 0]
    progress = read(tmp_path)
    assert [progress.of(name).checks for name in ("unpooling", "sobel", "padding")] == [80, 40, 40]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".progress.lock", FILE]


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    change(tmp_path, _done("1"))
    before = (tmp_path / FILE).read_bytes()

    def fail(progress: Progress) -> None:
        progress.of("unpooling").steps.clear()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        change(tmp_path, fail)
    assert (tmp_path / FILE).read_bytes() == before
