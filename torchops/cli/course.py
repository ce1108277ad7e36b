"""The lessons of the course: which there are, where they are, hints and solutions."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from torchops.course.folder import DEFAULT, file_of, find, following, is_done, lessons
from torchops.course.folder import reset as begin_again
from torchops.course.folder import start as copy_to
from torchops.course.lesson import Lesson
from torchops.course.progress import Done, Progress

from .console import console, fail, say, table
from .course_shared import (
    AnyLessonArgument,
    LessonArgument,
    chosen,
    course,
    failing,
    folder,
    kept,
    lesson_of,
    named,
    progress_of,
    tell_hint,
    tell_next,
)


@course.command("list")
def list_command() -> None:
    """Show the lessons, how long they take, what is done and what is next."""
    with failing():
        root = find(Path.cwd())
        console.print(lessons_table(root))
        if root is None:
            say("begin: torchops course start")


def lessons_table(root: Path | None) -> Table:
    """All lessons, and what is done of them in a student's folder."""
    progress = Progress() if root is None else progress_of(root)
    following_one = None if root is None else following(progress)
    minutes = sum(lesson.minutes for lesson in lessons())
    in_class = sum(lesson.minutes for lesson in lessons() if lesson.in_class)
    shown = table("", caption=f"{minutes} minutes, {in_class} of them in class")
    for heading in ("", "lesson", "minutes", "class", "state"):
        shown.add_column(heading, justify="right" if heading in ("", "minutes") else "left")
    for lesson in lessons():
        done, is_next = progress.of(lesson.name), lesson is following_one
        style = "green" if is_done(lesson, done) else "bold" if is_next else ""
        place = "class" if lesson.in_class else ""
        cells = (str(lesson.number), lesson.title, str(lesson.minutes), place, _state(lesson, done, is_next))
        shown.add_row(*(Text(cell, style) for cell in cells))
    return shown


def _state(lesson: Lesson, done: Done, is_next: bool) -> str:
    right = sum(step.name in done.steps for step in lesson.steps)
    parts = (
        "done" if right == len(lesson.steps) else f"{right} of {len(lesson.steps)} steps" if right else "",
        "next" if is_next else "",
        "solution shown" if done.solution else "",
    )
    return ", ".join(filter(None, parts))


@course.command()
def start(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", help=f"The folder to make; by default {DEFAULT}, or the one that is here already."
        ),
    ] = None,
) -> None:
    """Copy pages, pictures and skeletons to a folder, where you write your kernels.

    Nothing that you have changed is overwritten: what is newer is put beside it.
    """
    with failing():
        root = path or find(Path.cwd()) or Path(DEFAULT)
        there = (root / "progress.json").exists()
        copied = copy_to(root)
        for names, what in (
            (copied.kept if there else [], "you have changed these, and they stay as they are"),
            (copied.newer, "these are newer now"),
            (copied.beside, "these are newer than yours, and lie beside them"),
            (copied.new if there else [], "these are new"),
        ):
            if names:
                say(f"{what}: {', '.join(names)}")
        if not there and copied.kept:
            say(f"these were there, and stay as they are: {', '.join(copied.kept)}")
        say(f"{len(lessons())} lessons are in {root}", "bold")
        if root.resolve() != Path.cwd():
            say(f"cd {shlex.quote(os.fspath(root))}")
        say("torchops course watch      checks what you write whenever you save it")
        tell_next(root)


@course.command()
def hint(lesson: AnyLessonArgument = None) -> None:
    """Give a hint for the step that you are at, one at a time."""
    with failing():
        root = folder()
        meant, why = chosen(root, lesson)
        if why:
            say(f"{named(meant)}: {why}", "bold")
        tell_hint(root, meant)


@course.command()
def solution(
    lesson: LessonArgument, yes: Annotated[bool, typer.Option("--yes", help="Show it without asking.")] = False
) -> None:
    """Show how it can be written, after asking whether you want that. Your own file stays as it is."""
    with failing():
        meant = lesson_of(lesson)
        root = find(Path.cwd())
        hints = sum(len(step.hints) for step in meant.steps)
        had = 0 if root is None else sum(progress_of(root).of(meant.name).hints.values())
        if not yes and not _wants(f"The solution of {named(meant)}? You have had {had} of {hints} hints."):
            return

        def note(progress: Progress) -> None:
            progress.of(meant.name).solution = True

        if root is not None:
            kept(root, note)
        # its marks are the numbers of what was to be filled in
        typer.echo(re.sub(r"#: (\d)", r"# \1", meant.solution), nl=False)


def _wants(question: str) -> bool:
    if not _can_be_asked():
        fail("nobody can be asked here: --yes shows the solution without asking")
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None


def _can_be_asked() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@course.command()
def reset(lesson: LessonArgument) -> None:
    """Begin the file of a lesson again; what you have written is kept beside it."""
    with failing():
        root, meant = folder(), lesson_of(lesson)
        copy = begin_again(root, meant)
        file = file_of(root, meant)
        say(f"{file} is as it began" + ("" if copy is None else f"; what you had written is in {copy.name}"))


@course.command()
def doctor() -> None:
    """Look at this machine: versions, what runs the kernels and why, and whether a solution is right.

    The exit code is 1 if something is to be done.
    """
    with failing():
        from torchops.course.doctor import examine

        wrong = 0
        for one in examine(find(Path.cwd())):
            say(f"{one.name:<22} {one.found}", "red" if one.remedy else "")
            if one.remedy:
                wrong += 1
                say(f"{'':<22} {one.remedy}", "bold")
    if wrong:
        raise typer.Exit(1)
