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
from .machine import lacking, version
from .progress import change, read
from .server import Server
from .words import words

AGAIN = "pip install 'torchops[course]'"
_NEEDED = {
    "torchops": "the course", "torch": "the course", "numpy": "the course", "matplotlib": "torchops course draw",
    "jupytext": "torchops course notebook", "scikit-learn": "lesson 12",
}  # fmt: skip
"""Distributions, and what cannot do without one."""


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
    for name, what in _NEEDED.items():
        has = version(name)
        yield Looked(name, has or f"is not installed: {what} needs it", "" if has else AGAIN)
    for name in ("triton", "ttsem"):
        yield Looked(name, version(name) or "is not installed")
    yield _folder(root)
    yield from _solved(lessons()[0])


def _folder(root: Path | None) -> Looked:
    if root is None:
        return Looked("folder", f"none here or above; torchops course start makes {DEFAULT}")
    wrong = read(root).wrong
    try:
        mended = change(root, lambda progress: None)
    except OSError as error:
        return Looked("folder", f"{root}: {error.strerror or error}", "make it writable: progress is not kept")
    return Looked("folder", f"{root}: {mended}" if wrong else str(root))


def _solved(lesson: Lesson) -> Iterator[Looked]:
    """What runs kernels, whether a solution is right there, and how long that takes."""
    lack = lacking()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        file = Path(folder) / f"{lesson.name}.py"
        file.write_text(lesson.solution, encoding="utf-8")
        yield Looked("engine", server.engine + (f", because {lack.why}" if lack else ""), lack.remedy if lack else "")
        report = server.check(file, lesson.name)
        took = f"{time.perf_counter() - begun:.1f} s, {report.seconds:.1f} s of it after the start"
    name = f"solution of lesson {lesson.number}"
    if report.verdict == "ok":
        yield Looked(name, f"right, {took}")
        return
    said = words(report, lesson.solution).strip().splitlines() or [report.verdict]
    yield Looked(name, f"not right, {took}: {said[0]}", f"{AGAIN} in a fresh environment, and show this to who teaches")
