"""What a student's kernels do, shown: on a GPU that is not there, in pictures, in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchops.course.folder import file_of

from .console import fail, say
from .course_shared import AnyLessonArgument, EngineOption, chosen, course, failing, folder, named
from .networks import plain

DRAWN = "drawn"
"""A folder within that of the lesson, whose own pictures stay as they are."""


@course.command()
def look(lesson: AnyLessonArgument = None) -> None:
    """Show what an H100 would make of your kernels: registers, spills, loads and stores, matrix instructions.

    It is compiled for that GPU, and needs none.
    """
    with failing():
        root = folder()
        meant, why = chosen(root, lesson)
        from torchops.course.look import NotChecked, shown
        from torchops.course.look import look as look_at

        if why:
            say(f"{named(meant)}: {why}", "bold")
        try:
            rows = look_at(file_of(root, meant), meant)
        except NotChecked as reason:
            fail(reason)
        for line in shown(rows).splitlines():
            say(line)


@course.command()
def draw(
    lesson: AnyLessonArgument = None,
    out: Annotated[
        Path | None, typer.Option(help=f"The folder of the pictures; by default {DRAWN} in the folder of the lesson.")
    ] = None,
    engine: EngineOption = None,
) -> None:
    """Draw which elements the programs of your kernels load and store, from a run of yours."""
    with failing():
        root = folder()
        meant, why = chosen(root, lesson)
        from torchops.course.draw import draw as draw_from
        from torchops.course.machine import machine

        if why:
            say(f"{named(meant)}: {why}", "bold")
        file = file_of(root, meant)
        target = out or file.parent / DRAWN
        target.mkdir(parents=True, exist_ok=True)
        try:
            for picture in draw_from(file, meant, target, machine(plain(engine)), say):
                say(picture)
        finally:
            if not any(target.iterdir()):
                target.rmdir()


@course.command()
def notebook(
    lesson: AnyLessonArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The notebook to write; by default it lies beside the page.", metavar="FILE.ipynb"),
    ] = None,
) -> None:
    """Write the page of a lesson as a notebook: its cells write your file and check it."""
    with failing():
        root = folder()
        meant, why = chosen(root, lesson)
        from torchops.course.notebook import notebook as write

        if why:
            say(f"{named(meant)}: {why}", "bold")
        file = file_of(root, meant)
        target = out or file.with_suffix(".ipynb")
        if target.exists():
            fail(f"{target}: is there already, and may hold what you have written: --out names another")
        say(write(meant, target, file.read_text(encoding="utf-8")))
