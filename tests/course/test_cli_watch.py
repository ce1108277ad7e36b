"""`torchops course watch`, in a terminal and without: what is saved is checked, keys are obeyed, the terminal is given back."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tiers import clean_environment
from torchops.course.folder import DEFAULT, file_of, start
from torchops.course.lesson import load
from torchops.course.progress import read
from torchops.course.skeleton import exercise

from .students import LESSON, first_step_written, written
from .terminals import Terminal

PATIENCE = 60.0
"""Seconds after which nothing will come any more."""
KEYS = "q quit"


class Watching:
    """`torchops course watch`, in a terminal or not.

    Args:
        root: where a student stands.
        terminal: whether there is one.
        columns: how wide it is.
    """

    def __init__(self, root: Path, *, terminal: bool = True, columns: int = 100) -> None:
        self.told = ""
        environment = {**clean_environment(), "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
        options: dict[str, Any] = {"cwd": root, "env": environment}
        arguments = ["-u", "-m", "torchops", "course", "watch"]
        if terminal:
            self.terminal = Terminal()
            self.outer, self.inner = self.terminal.outer, self.terminal.inner
            self.process = self.terminal.python(*arguments, stdout=self.inner, stderr=self.inner, **options)
        else:
            self.outer, self.inner = os.pipe()
            options |= {"stdin": subprocess.DEVNULL, "start_new_session": True}
            self.process = subprocess.Popen(
                [sys.executable, *arguments], stdout=self.inner, stderr=self.inner, **options
            )

    def wait_for(self, text: str) -> str:
        """What is said up to a text, since the last one."""
        end = time.monotonic() + PATIENCE
        while text not in self.told:
            assert time.monotonic() < end, f"{text!r} has not come:\n{self.told}"
            if select.select([self.outer], [], [], 0.1)[0]:
                self.told += os.read(self.outer, 65536).decode().replace("\r\n", "\n")
            else:
                assert self.process.poll() is None, f"it has ended:\n{self.told}"
        said, _, self.told = self.told.partition(text)
        return said + text

    def end(self) -> int:
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.outer)
        os.close(self.inner)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    start(tmp_path / DEFAULT)
    return tmp_path / DEFAULT


@pytest.fixture
def watching(root: Path) -> Iterator[Watching]:
    one = Watching(root)
    yield one
    one.close()


def test_a_lesson_is_worked_on(root: Path, watching: Watching) -> None:
    """One sitting: nothing is written yet, a step, a slip, a hint, the solution, the next lesson."""
    assert "lesson 1, pixels: it is next" in watching.wait_for(KEYS)
    first_step_written(root)
    said = watching.wait_for("# TODO 3a")
    assert "lesson 8, unpooling" in said
    assert "✓ step 1" in said
    watching.terminal.press("h")
    hint = f"hint 1 of {len(load(LESSON).steps[2].hints)}, step 3"
    assert f"{hint}: Which windows lie over pixel h?" in watching.wait_for(hint) + watching.wait_for("?")
    written(root, "def")
    assert "Python cannot read the file" in watching.wait_for("Python cannot read the file")
    # as editors do that write beside a file and move it
    file = file_of(root, load(LESSON))
    beside = file.with_suffix(".swp")
    beside.write_text(load(LESSON).solution)
    beside.replace(file)
    assert "✓ step 3" in watching.wait_for("Done.")
    watching.wait_for("press n to go there")
    assert read(root).of(LESSON).steps == ["1", "2", "3"]
    watching.terminal.press("n")
    following = re.search(r"lesson (\d+), (\w+)", watching.wait_for("page.md"))
    assert following is not None
    watching.terminal.press("c")
    assert f"lesson {following[1]}, {following[2]}" in watching.wait_for("Not filled in yet")
    watching.terminal.press("l")
    assert "done" in watching.wait_for("minutes, ")
    watching.terminal.press("\x1b[C?")  # an arrow is no c
    assert "Not filled in yet" not in watching.wait_for(KEYS)
    watching.terminal.press("q")
    assert watching.end() == 0
    assert watching.terminal.is_as_before


def test_without_a_terminal(root: Path) -> None:
    """Nothing can be pressed; what is saved is checked. The file that was being worked on is checked at once."""
    written(root, exercise(load(LESSON)) + "\n# begun\n")
    watching = Watching(root, terminal=False)
    try:
        said = watching.wait_for("Ctrl-C ends it")
        assert "lesson 8, unpooling: its file was saved last" in said
        assert "Not filled in yet" in said
        file_of(root, load(LESSON)).unlink()
        written(root)
        watching.wait_for("Done.")
        watching.process.send_signal(signal.SIGINT)
        watching.wait_for("torchops: stopped")
        assert watching.end() == 130
    finally:
        watching.close()
