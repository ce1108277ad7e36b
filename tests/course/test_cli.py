"""`torchops course` as a student meets it, and everything that can be wrong."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.shell import refused
from torchops.cli import app, console
from torchops.cli.course_check import Checked, show
from torchops.course.folder import DEFAULT, digest, file_of, lessons, start
from torchops.course.lesson import load
from torchops.course.progress import FILE, read
from torchops.course.report import Finding, Report
from torchops.course.server import Server
from torchops.course.skeleton import exercise

from .conftest import Servers
from .students import LESSON, another_triton, course, first_step_written, written

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start(tmp_path / DEFAULT)
    return tmp_path / DEFAULT


@pytest.fixture(autouse=True)
def _warm(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find a process that is warm."""
    monkeypatch.setattr("torchops.course.server.Server", lambda machine=None: nullcontext(servers(machine)))


class TestList:
    def test_says_how_to_begin(self, tmp_path: Path) -> None:
        told = course(tmp_path, "list")
        assert told.exit_code == 0
        assert "torchops course start" in told.stdout
        assert all(lesson.title.partition(" ")[0] in told.stdout for lesson in lessons())

    def test_says_what_is_done_and_what_is_next(self, root: Path) -> None:
        first_step_written(root)
        course(root, "check", 8)
        written(root, lesson="pixels")
        course(root, "check", "pixels")
        rows = {line.split()[0]: line.rstrip() for line in course(root, "list").stdout.splitlines() if line.strip()}
        assert rows["1"].endswith("class done")
        assert rows["8"].endswith("2 of 3 steps")
        assert rows["2"].endswith("next")


class TestStart:
    def test_says_how_to_go_on(self, tmp_path: Path) -> None:
        told = course(tmp_path, "start")
        assert told.exit_code == 0
        assert f"cd {DEFAULT}" in told.stdout
        assert "next: lesson 1, pixels" in told.stdout
        assert (tmp_path / DEFAULT / FILE).is_file()

    def test_in_a_folder_of_the_course_brings_that_up_to_date(self, root: Path) -> None:
        written(root, "mine")
        told = course(root / "08_unpooling", "start")
        assert "you have changed these, and they stay as they are: 08_unpooling/unpooling.py" in told.stdout
        assert not (root / "08_unpooling" / DEFAULT).exists()
        assert file_of(root, load(LESSON)).read_text() == "mine"

    def test_in_a_folder_of_ones_own(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text("mine")
        told = course(tmp_path, "start", "a b")
        assert "cd 'a b'" in told.stdout
        course(tmp_path, "start", ".")
        assert (tmp_path / "README.md").read_text() == "mine"

    def test_where_a_file_is(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("")
        refused(course(tmp_path, "start", "taken"), "taken: File exists")


class TestCheck:
    def test_a_hole(self, root: Path) -> None:
        told = course(root, "check", 8)
        assert told.exit_code == 1
        assert "Not filled in yet, line" in told.stdout
        assert "# TODO 1a" in told.stdout

    def test_the_solution(self, root: Path) -> None:
        written(root)
        told = course(root, "check", "unpooling")
        assert told.exit_code == 0
        assert "Done." in told.stdout
        assert "next: lesson" in told.stdout
        assert read(root).of(LESSON).steps == ["1", "2", "3"]

    def test_what_was_done_stays_done(self, root: Path) -> None:
        first_step_written(root)
        assert course(root, "check", 8).exit_code == 1
        assert read(root).of(LESSON).steps == ["1", "2"]
        written(root, exercise(load(LESSON)))
        assert course(root, "check", 8).exit_code == 1
        assert read(root).of(LESSON).steps == ["1", "2"]
        assert read(root).of(LESSON).checks == 2

    def test_one_step(self, root: Path) -> None:
        first_step_written(root)
        assert course(root, "check", 8, "--step", 1).exit_code == 0
        assert course(root, "check", 8, "--step", 3).exit_code == 1
        assert read(root).of(LESSON).steps == ["1"]

    def test_without_a_lesson_says_which(self, root: Path) -> None:
        assert course(root, "check").stdout.startswith("lesson 1, pixels: it is next\n")
        written(root)
        told = course(root, "check")
        assert told.stdout.startswith("lesson 8, unpooling: its file was saved last\n")
        assert told.exit_code == 0
        assert course(root, "check").stdout.startswith("lesson 1, pixels: it is next\n")

    def test_by_the_stand_in(self, root: Path) -> None:
        written(root)
        told = course(root, "check", 8, "--engine", "standin")
        assert told.exit_code == 0, told.stdout
        assert "checked by the stand-in\n" in told.stdout
        found = json.loads(course(root, "check", 8, "--engine", "standin", "--json").stdout)
        assert not found["engine"].startswith("triton")

    def test_by_the_stand_in_since_there_is_no_other(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torchops.course.server.Server", Server)
        another_triton(tmp_path, monkeypatch)
        written(root, lesson="pixels")
        told = course(root, "check", 1)
        assert told.exit_code == 0, told.stdout
        why = "ttsem 0.1.0 reads what triton 3.8.0 writes, and triton 3.7.1 is installed"
        assert f"checked by the stand-in: {why} (pip install 'torchops[course]')" in told.stdout
        refused(course(root, "check", 1, "--engine", "ttsem"), f"--engine ttsem: {why}; pip install")

    def test_from_below(self, root: Path) -> None:
        assert course(root / "01_pixels", "check", 8).exit_code == 1
        assert course(root.parent, "check", 8).exit_code == 1


class TestJson:
    def test_of_what_is_right(self, root: Path) -> None:
        file = written(root)
        course(root, "hint", 8)
        told = course(root, "check", 8, "--json")
        found = json.loads(told.stdout)
        assert told.exit_code == 0
        assert told.stdout.count("\n") == 1
        expected = {
            "lesson": LESSON, "number": 8, "step": "3", "steps": {"1": True, "2": True, "3": True}, "verdict": "ok",
            "says": "", "file": str(file), "hash": digest(file.read_bytes()), "unchecked": [],
        }  # fmt: skip
        assert {name: found[name] for name in expected} == expected
        assert 0 < found["least"] <= found["moved"]
        assert found["seconds"] > 0
        assert found["versions"]["torch"]
        assert found["engine"].startswith("triton")

    def test_of_what_is_wrong(self, root: Path) -> None:
        wrong = next(one for one in load(LESSON).wrong if one.kind == "oob_write")
        written(root, wrong.made(load(LESSON).solution))
        course(root, "hint", 8)
        told = course(root, "check", 8, "--json")
        found = json.loads(told.stdout)
        assert told.exit_code == 1
        assert (found["verdict"], found["line"]) == ("oob_write", wrong.line(load(LESSON).solution))
        assert found["case"]
        assert wrong.says in found["says"]
        assert found["hints"] == (1 if found["step"] == "1" else 0)

    def test_of_what_cannot_be_checked(self, root: Path) -> None:
        told = course(root, "check", 77, "--json")
        assert (told.exit_code, told.stdout) == (2, "")


class TestHints:
    def test_come_one_at_a_time(self, root: Path) -> None:
        hints = load(LESSON).steps[0].hints
        for n, hint in enumerate(hints, 1):
            assert f"hint {n} of {len(hints)}, step 1: {hint}\n" in course(root, "hint", 8).stdout
        told = course(root, "hint", 8).stdout
        assert f"hint {len(hints)} of {len(hints)}" in told
        assert "torchops course solution 8" in told
        assert read(root).of(LESSON).hints == {"1": len(hints)}

    def test_are_for_the_step_at_hand(self, root: Path) -> None:
        first_step_written(root)
        course(root, "check", 8)
        assert course(root, "hint", 8).stdout.startswith(f"hint 1 of {len(load(LESSON).steps[2].hints)}, step 3: ")
        written(root)
        course(root, "check", 8)
        assert course(root, "hint", 8).stdout == "lesson 8, unpooling, is done\n"

    def test_all_come_where_they_cannot_be_counted(self, root: Path) -> None:
        _take_nothing(root)
        assert course(root, "hint", 8).stdout.count("hint ") == 3


class TestSolution:
    def test_is_not_shown_unasked(self, root: Path) -> None:
        told = course(root, "solution", 8)
        refused(told, "--yes")
        assert told.stdout == ""
        assert not read(root).of(LESSON).solution

    @pytest.mark.parametrize(("answer", "shown"), [("y\n", True), ("n\n", False), ("\n", False)])
    def test_asks_first(self, answer: str, shown: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(root)
        monkeypatch.setattr("torchops.cli.course._can_be_asked", lambda: True)
        told = CliRunner().invoke(app, ["course", "solution", "8"], input=answer)
        assert told.exit_code == 0
        assert ("@triton.jit" in told.stdout) == shown
        assert read(root).of(LESSON).solution == shown
        assert f"0 of {sum(len(step.hints) for step in load(LESSON).steps)} hints" in told.stderr

    def test_is_right_as_it_is_shown(self, root: Path) -> None:
        mine = file_of(root, load(LESSON)).read_bytes()
        told = course(root, "solution", 8, "--yes")
        assert file_of(root, load(LESSON)).read_bytes() == mine
        written(root, told.stdout)
        assert course(root, "check", 8).exit_code == 0
        assert "solution shown" in course(root, "list").stdout


def test_reset_says_where_the_rest_is(root: Path) -> None:
    file = written(root, "# mine")
    told = course(root, "reset", 8)
    assert "what you had written is in unpooling.py.bak" in told.stdout
    assert file.with_name("unpooling.py.bak").read_text() == "# mine"
    assert "is as it began\n" in course(root, "reset", 8).stdout


def _take_nothing(root: Path) -> None:
    """As a folder that takes no files: what has to be written first cannot be."""
    (root / ".progress.lock").unlink()
    (root / ".progress.lock").mkdir()


class TestBadInput:
    COMMANDS = ("check", "watch", "hint", "reset")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_no_folder(self, command: str, tmp_path: Path) -> None:
        told = course(tmp_path, command, *([8] if command != "watch" else []))
        refused(told, "there is no folder of the course here or above: torchops course start makes")
        assert told.stdout == ""

    @pytest.mark.parametrize("command", ["check", "hint", "reset", "solution"])
    @pytest.mark.parametrize("asked", ["99", "unpool", "", "-1", "8.0", "[b]", "²"])
    def test_no_such_lesson(self, command: str, asked: str, root: Path) -> None:
        told = course(root, command, *(["--"] if asked.startswith("-") else []), asked)
        refused(told, rf"there is no lesson '{re.escape(asked)}'; there are 1 pixels, 2 sobel")

    def test_no_file(self, root: Path) -> None:
        file_of(root, load(LESSON)).unlink()
        refused(course(root, "check", 8), r"unpooling\.py: no such file, or torchops course reset 8 begins it again")

    def test_a_file_with_another_name(self, root: Path) -> None:
        file = file_of(root, load(LESSON))
        file.rename(file.with_name("unpool.py"))
        refused(course(root, "check", 8), r"unpool\.py lies there: give it its name back")

    def test_a_file_that_is_a_folder(self, root: Path) -> None:
        file_of(root, load(LESSON)).unlink()
        file_of(root, load(LESSON)).mkdir()
        refused(course(root, "check", 8), "unpooling.py: is a directory, not a file")

    def test_a_page_that_was_edited(self, root: Path) -> None:
        (root / "08_unpooling" / "page.md").write_text("my notes")
        assert course(root, "check", 8).exit_code == 1

    def test_no_such_step(self, root: Path) -> None:
        refused(course(root, "check", 8, "--step", "4"), "--step 4: lesson 8, unpooling, has steps 1, 2, 3")

    def test_a_folder_that_takes_no_files(self, root: Path) -> None:
        written(root)
        _take_nothing(root)
        told = course(root, "check", 8)
        assert told.exit_code == 0
        assert "Done." in told.stdout
        assert re.fullmatch(r"torchops: progress is not kept: \S+\.progress\.lock: Is a directory\n", told.stderr)
        assert read(root).of(LESSON).steps == []

    def test_progress_that_was_broken_by_hand(self, root: Path) -> None:
        (root / FILE).write_text("{broken")
        assert "progress.json is broken" in course(root, "list").stderr
        told = course(root, "check", 8)
        assert told.exit_code == 1
        assert "progress.json was broken" in told.stderr
        assert "progress.broken.json is a copy of it" in told.stderr
        assert course(root, "check", 8).stderr == ""

    @pytest.mark.parametrize(
        ("text", "verdict"),
        [
            ("def", "syntax"),
            ("import nothing_like_it", "import"),
            ("x = 1", "missing"),
            ("1 / 0", "import"),
            ("", "missing"),
        ],
    )
    def test_a_file_that_is_no_solution(self, text: str, verdict: str, root: Path) -> None:
        written(root, text)
        told = course(root, "check", 8, "--json")
        assert json.loads(told.stdout)["verdict"] == verdict
        assert told.exit_code == 1

    def test_a_file_that_is_no_text(self, root: Path) -> None:
        written(root, "").write_bytes(b"\xff\xfe\x00x")
        told = course(root, "check", 8)
        assert told.exit_code == 1
        assert told.stderr == ""
        assert "Traceback" not in told.stdout


class TestShown:
    def _checked(self, detail: str) -> Checked:
        finding = Finding("says", detail=detail)
        return Checked(load(LESSON), Report("unpooling.py", LESSON, "triton", finding=finding), "", "")

    def test_is_no_markup_and_gives_no_orders(self, capsys: pytest.CaptureFixture[str]) -> None:
        show(self._checked("[b]x[/b] :smile: \x1b[31mred"))
        assert "[b]x[/b] :smile: \\x1b[31mred" in capsys.readouterr().out

    def test_sentences_end_where_a_terminal_does_and_code_does_not(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(console.console, "_width", 30)
        monkeypatch.setattr(console.console, "_force_terminal", True)
        monkeypatch.setattr(console.console, "_color_system", None)
        show(self._checked("word " * 20 + "\n    12 | " + "code " * 20 + "\n  0       1   " + "[nan] " * 20))
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= 30 for line in lines if "word" in line)
        assert sum("word" in line for line in lines) > 2
        assert sum("code" in line for line in lines) == 1
        assert sum("nan" in line for line in lines) == 1


PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "course").glob("*.md")),
    *sorted((ROOT / "course" / "lessons").glob("*/page.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_pages_are_there(page: Path) -> None:
    """With options and lessons that there are."""
    known = typer.main.get_command(app).commands["course"].commands  # type: ignore[attr-defined]
    lines = re.findall(r"torchops course ([^\n`#&|;>]+)", page.read_text(encoding="utf-8"))
    for line in lines:
        name, *arguments = shlex.split(line.strip().rstrip(".,:)"))
        assert name in known, line
        for option in (one for one in arguments if one.startswith("--")):
            assert option in {opt for parameter in known[name].params for opt in parameter.opts}, line
        for number in (one for one in arguments if one.isdecimal()):
            assert load(number), line
