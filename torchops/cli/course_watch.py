"""Files of the course checked whenever they are saved."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from torchops.course.folder import at_hand, file_of, lessons, missing
from torchops.course.lesson import Lesson

from .console import console, say, warn
from .course import lessons_table
from .course_check import check, show
from .course_shared import (
    EngineOption,
    course,
    failing,
    folder,
    named,
    progress_of,
    tell,
    tell_hint,
    tell_machine,
    tell_next,
)
from .keys import Wait, keys
from .networks import plain

if TYPE_CHECKING:
    from torchops.course.server import Server

POLL = 0.1
"""Seconds between two looks at the files."""
_Stamp = tuple[int, int] | None


@course.command()
def watch(engine: EngineOption = None) -> None:
    """Check a file whenever it is saved. The key h gives a hint, n the next lesson, c checks again, l lists, q quits."""
    with failing():
        root = folder()
        from torchops.course.server import Server

        with Server(plain(engine)) as server, keys() as wait:
            _Watch(root, server, wait, engine is not None).run()


class _Watch:
    """What is looked at and said.

    Args:
        root: the student's folder.
        server: checks.
        wait: waits for a key; None where there are none.
        asked: whether somebody has said which engine.
    """

    def __init__(self, root: Path, server: Server, wait: Wait | None, asked: bool) -> None:
        self.root, self.server, self.wait, self.asked = root, server, wait, asked
        self.lessons = lessons()
        self.before = self.checked = self.stamps()
        self.lesson, self.why = at_hand(root, progress_of(root))

    def run(self) -> None:
        say(f"{named(self.lesson)}: {self.why}", "bold")
        mine = file_of(self.root, self.lesson).relative_to(self.root).as_posix()
        tell(f"open {self.lesson.folder.name}/page.md and {mine}, which is checked when you save it")
        if self.why.startswith("its file"):
            self.check(self.lesson)
        self.tell_keys()
        while (key := self.key()) != "q":
            if key == "h":
                tell_hint(self.root, self.lesson)
            elif key == "n":
                self.lesson = tell_next(self.root, self.lesson) or self.lesson
            elif key == "c":
                self.check(self.lesson)
            elif key == "l":
                console.print(lessons_table(self.root))
            elif key == "?":
                self.tell_keys()
            for lesson in self.saved():
                self.check(lesson)

    def key(self) -> str:
        if self.wait is not None:
            return self.wait(POLL).lower()
        time.sleep(POLL)
        return ""

    def tell_keys(self) -> None:
        if self.wait is None:
            say("there are no keys here: Ctrl-C ends it", "dim")
        else:
            say("h hint   n next lesson   c check again   l list   q quit", "dim")

    def stamps(self) -> dict[str, _Stamp]:
        """When each file was written last, and how long it is; None if it is not there."""
        return {lesson.name: _stamp(file_of(self.root, lesson)) for lesson in self.lessons}

    def saved(self) -> list[Lesson]:
        """The lessons whose files have changed and stay as they are: some editors write a file twice, or take it away first."""
        now = self.stamps()
        settled = [
            lesson
            for lesson in self.lessons
            if (stamp := now[lesson.name]) is not None
            and stamp == self.before[lesson.name] != self.checked[lesson.name]
        ]
        self.before = now
        self.checked = {**self.checked, **{lesson.name: now[lesson.name] for lesson in settled}}
        return settled

    def check(self, lesson: Lesson) -> None:
        self.lesson = lesson
        say(f"\n{time.strftime('%H:%M:%S')}  {named(lesson)}"[1:], "bold")
        if reason := missing(self.root, lesson):
            warn(reason)
            return
        checked = check(self.server, self.root, lesson)
        show(checked)
        tell_machine(checked.report.engine, asked=self.asked)
        if checked.code == 0:
            tell_next(self.root, lesson)
            if self.wait is not None:
                say("press n to go there", "dim")
        console.print()


def _stamp(file: Path) -> _Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
