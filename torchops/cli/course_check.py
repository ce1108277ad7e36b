"""A student's file checked, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchops.course.folder import digest, file_of
from torchops.course.lesson import Lesson
from torchops.course.machine import versions
from torchops.course.report import Report
from torchops.course.words import shown, words

from .console import say
from .course_shared import (
    AnyLessonArgument,
    EngineOption,
    chosen,
    course,
    failing,
    folder,
    named,
    note_check,
    progress_of,
    tell,
    tell_machine,
    tell_next,
)
from .networks import plain

if TYPE_CHECKING:
    from torchops.course.server import Server

_NOT_CHECKED = ("unchecked", "checker")
"""Verdicts that say nothing of a solution: exit code 2."""
_STYLES = {"✓": "green", "✗": "red"}


@dataclass(frozen=True)
class Checked:
    lesson: Lesson
    report: Report
    source: str
    hash: str

    @property
    def code(self) -> int:
        """0: done, 1: not right yet, 2: it could not be checked."""
        return 0 if self.report.verdict == "ok" else 2 if self.report.verdict in _NOT_CHECKED else 1


@course.command("check")
def check_command(
    lesson: AnyLessonArgument = None,
    step: Annotated[str | None, typer.Option(help="Check this step alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as one JSON object.")] = False,
    engine: EngineOption = None,
) -> None:
    """Check what you have written, and say what is wrong with it, and where.

    The exit code is 0 if it is right, 1 if it is not yet, 2 if it could not be checked.
    """
    with failing():
        root = folder()
        meant, why = chosen(root, lesson)
        steps = [one.name for one in meant.steps]
        if step is not None and step not in steps:
            raise ValueError(f"`step` (={step}): {named(meant)}, has steps {', '.join(steps)}")
        if why and not as_json:
            say(f"{named(meant)}: {why}", "bold")
        from torchops.course.server import Server

        with Server(plain(engine)) as server:
            checked = check(server, root, meant, step)
        if as_json:
            typer.echo(json.dumps(summary(checked, root)))
        else:
            show(checked)
            tell_machine(checked.report.engine, asked=engine is not None)
            if checked.code == 0 and step is None:
                tell_next(root, meant)
    if checked.code:
        raise typer.Exit(checked.code)


def check(server: Server, root: Path, lesson: Lesson, step: str | None = None) -> Checked:
    """Check a student's file, and keep what was found."""
    file = file_of(root, lesson)
    content = file.read_bytes()
    report = server.check(file, lesson.name, step=step)
    checked = Checked(lesson, report, content.decode(errors="replace"), digest(content))
    note_check(root, lesson, report, checked.hash, whole=step is None)
    return checked


def show(checked: Checked) -> None:
    """What was found, in words."""
    for line in shown(checked.report, checked.source).splitlines():
        tell(line, _STYLES.get(line[:1], ""))


def summary(checked: Checked, root: Path) -> dict[str, Any]:
    """What was found, for programs."""
    report, lesson, last = checked.report, checked.lesson, checked.report.last
    done = progress_of(root).of(lesson.name)
    moved = next(
        (found.traffic for one in reversed(report.steps) for found in reversed(one.findings) if found.traffic), ()
    )
    step = report.steps[-1].step if report.steps else ""
    return {
        "lesson": lesson.name,
        "number": lesson.number,
        "step": step,
        "steps": {one.step: one.done for one in report.steps},
        "verdict": report.verdict,
        "case": last.case if last else "",
        "line": last.line if last else 0,
        "mistake": last.mistake if last else "",
        "says": words(report, checked.source),
        "seconds": round(report.seconds, 3),
        "hints": done.hints.get(step, 0),
        "solution_shown": done.solution,
        "moved": sum(one.moved for one in moved),
        "least": sum(one.least for one in moved),
        "unchecked": [text for one in report.steps for found in one.findings for text in found.unchecked],
        "engine": report.engine,
        "versions": versions(),
        "file": str(file_of(root, lesson)),
        "hash": checked.hash,
    }
