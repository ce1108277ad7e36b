"""What a course needs of a machine, and whether this one has it."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .folder import DEFAULT, lessons
from .lesson import Lesson
from .machine import lacking, machine, version
from .progress import change, read
from .server import Server
from .words import words

AGAIN = "pip install 'torchops[course]'"
_NEEDED = {
    "torchops": "",
    "torch": "",
    "numpy": "",
    "matplotlib": "draw",
    "jupytext": "notebook",
    "nbformat": "notebook",
}
"""Distributions, and the command that cannot do without one; "" is all of them."""


class Looked(NamedTuple):
    """One thing that was looked at."""

    name: str
    found: str
    remedy: str = ""
    """What to do, where something is wrong."""


def examine(root: Path | None) -> Iterator[Looked]:
    """Look at this machine, and at a student's folder if there is one."""
    yield Looked("python", platform.python_version())
    yield Looked("platform", platform.platform())
    for name, command in _NEEDED.items():
        has = version(name)
        lost = f"is not installed: torchops course {command} needs it" if command else "is not installed"
        yield Looked(name, has or lost, "" if has else AGAIN)
    for name in ("triton", "ttsem"):
        yield Looked(name, version(name) or "is not installed")
    lack = lacking()
    if lack is None:
        yield Looked("engine", f"{machine().name}: what Triton's compiler makes of a kernel is executed")
    else:
        yield Looked("engine", f"{machine().name}, because {lack.why}", lack.remedy)
    yield _folder(root)
    yield _solved(lessons()[0])


def _folder(root: Path | None) -> Looked:
    if root is None:
        return Looked("folder", f"none here or above; torchops course start makes {DEFAULT}")
    wrong = read(root).wrong
    try:
        mended = change(root, lambda progress: None)
    except OSError as error:
        return Looked("folder", f"{root}: {error.strerror or error}", "make it writable: progress is not kept")
    return Looked("folder", f"{root}: {mended}" if wrong else str(root))


def _solved(lesson: Lesson) -> Looked:
    """Whether a solution is right, and how long that takes."""
    name = f"solution of lesson {lesson.number}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{lesson.name}.py"
        file.write_text(lesson.solution, encoding="utf-8")
        begun = time.perf_counter()
        with Server() as server:
            report = server.check(file, lesson.name)
        took = f"{time.perf_counter() - begun:.1f} s, {report.seconds:.1f} s of it after the start"
    if report.verdict == "ok":
        return Looked(name, f"right, {took}")
    said = words(report, lesson.solution).strip().splitlines() or [report.verdict]
    return Looked(
        name, f"not right, {took}: {said[0]}", f"{AGAIN} in a fresh environment, and show this to who teaches"
    )
