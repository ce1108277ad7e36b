"""What the commands of the course share: the student's folder, the lesson that is meant, and what is kept of it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from torchops.course.folder import DEFAULT, at_hand, find, following, missing
from torchops.course.lesson import Lesson, Step, load
from torchops.course.machine import MACHINES, lacking
from torchops.course.progress import Done, Progress, change, read
from torchops.course.report import Report
from torchops.files.names import printable

from .console import App, app, choices, console, fail, one_line_errors, warn

course = App(help="Write the kernels yourself, on a laptop without a GPU: lessons, and what checks them.")
app.add_typer(course, name="course")

Engine = choices("Engine", MACHINES)
EngineOption = Annotated[
    Engine | None,  # type: ignore[valid-type]
    typer.Option(
        help="What runs the kernels: Triton's compiler and ttsem, or the stand-in; the first that can run here."
    ),
]
NUMBER = "The lesson, by its number or its name"
LessonArgument = Annotated[str, typer.Argument(metavar="N", help=f"{NUMBER}.")]
AnyLessonArgument = Annotated[
    str | None,
    typer.Argument(metavar="N", help=f"{NUMBER}; by default the one whose file was saved last, or the next."),
]


@contextmanager
def failing(stopped: str = "stopped") -> Iterator[None]:
    """One line for what a student can get wrong, and `stopped` for Ctrl-C."""
    # the course compiles kernels: nobody who has set it for something else wants them interpreted here
    os.environ.pop("TRITON_INTERPRET", None)
    with one_line_errors(stopped, lacking="the course needs {0}: pip install 'torchops[course]'"):
        yield


def folder() -> Path:
    """The student's folder: where one stands, or above."""
    root = find(Path.cwd())
    if root is None:
        fail(f"there is no folder of the course here or above: torchops course start makes {DEFAULT}")
    return root


def lesson_of(asked: str) -> Lesson:
    try:
        return load(asked)
    except KeyError as error:
        fail(error.args[0])


def chosen(root: Path, asked: str | None) -> tuple[Lesson, str]:
    """The lesson that is meant, and why it is that one; "" where it was asked for. Its file is there."""
    lesson, why = (lesson_of(asked), "") if asked is not None else at_hand(root, read(root))
    if reason := missing(root, lesson):
        fail(reason)
    return lesson, why


_ALIGNED = re.compile(r" {3}| +[\d|]")
"""How lines of tables and code begin."""


def tell(line: str, style: str = "") -> None:
    """Print a line; a sentence is wrapped at words where a terminal ends."""
    aligned = not console.is_terminal or _ALIGNED.match(line) is not None
    console.print(Text(printable(line), style), soft_wrap=aligned)


def named(lesson: Lesson) -> str:
    return f"lesson {lesson.number}, {lesson.name}"


def kept(root: Path, what: Callable[[Progress], None]) -> bool:
    """Change what is done; whether that could be kept. It is said where it could not, once."""
    try:
        said = change(root, what)
    except OSError as error:
        _warn_once(f"progress is not kept: {error.filename or root}: {error.strerror or error}")
        return False
    if said:
        warn(said)
    return True


_warn_once = functools.cache(warn)


def progress_of(root: Path) -> Progress:
    """What is done, to be shown; it is said what cannot be read."""
    progress = read(root)
    if progress.wrong:
        _warn_once(f"progress.json is broken: {progress.wrong[0]}")
    return progress


def step_at_hand(lesson: Lesson, done: Done) -> Step | None:
    """The first step that was never right."""
    return next((step for step in lesson.steps if step.name not in done.steps), None)


def tell_hint(root: Path, lesson: Lesson) -> None:
    """The next hint of the step at hand."""
    done = read(root).of(lesson.name)
    step = step_at_hand(lesson, done)
    if step is None:
        tell(f"{named(lesson)}, is done")
        return
    if not step.hints:
        tell(f"step {step.name} has no hints: {lesson.folder.name}/page.md says what to look for")
        return
    shown = min(done.hints.get(step.name, 0) + 1, len(step.hints))

    def count(progress: Progress) -> None:
        progress.of(lesson.name).hints[step.name] = shown

    # where nothing can be counted, the others would never come
    for n in [shown] if kept(root, count) else range(1, len(step.hints) + 1):
        tell(f"hint {n} of {len(step.hints)}, step {step.name}: {step.hints[n - 1]}")
    if shown == len(step.hints):
        tell(f"that is all; torchops course solution {lesson.number} shows the solution", "dim")


def tell_next(root: Path, after: Lesson | None = None) -> Lesson | None:
    """Which lesson is next, and where it is."""
    lesson = following(read(root), after)
    if lesson is None:
        tell("all lessons are done", "green")
    else:
        tell(f"next: {named(lesson)}, {lesson.minutes} minutes: {lesson.folder.name}/page.md")
    return lesson


def tell_machine(engine: str, *, asked: bool) -> None:
    """That the stand-in has run the kernels, and why, unless somebody has asked for it."""
    if engine.startswith("triton"):
        return
    lack = None if asked else lacking()
    why = "" if lack is None else f": {lack.why}" + (f" ({lack.remedy})" if lack.remedy else "")
    tell(f"checked by the stand-in{why}", "yellow")


def note_check(root: Path, lesson: Lesson, report: Report, held: str, *, whole: bool) -> None:
    """Keep what a check has found.

    Args:
        root: the student's folder.
        lesson: the lesson.
        report: what was found.
        held: the sum of the file.
        whole: whether all steps were asked for.
    """

    def note(progress: Progress) -> None:
        done = progress.of(lesson.name)
        done.checks += 1
        done.steps += [one.step for one in report.steps if one.done and one.step not in done.steps]
        if whole:
            done.verdict, done.hash = report.verdict, held

    kept(root, note)
