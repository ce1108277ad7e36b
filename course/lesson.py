"""What a lesson consists of: steps, their cases, and mistakes that are known by name."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parent / "lessons"


class Complaint(Exception):  # noqa: N818 (it is what a lesson says)
    """Raised by a lesson's own check: what is wrong, in words for the student."""


@dataclass(frozen=True)
class Case:
    """One call of the student's function."""

    name: str
    inputs: Callable[[], tuple[Any, ...]]
    """Makes the arguments; randomness is seeded before. Floats are float32 (or what the lesson teaches)."""
    why: str = ""
    """What this case is there for; shown where it fails."""
    block: int | None = None
    """Given to the student's function as `block=`, and not to the reference."""


@dataclass(frozen=True)
class Mistake:
    """A wrong formula: a result that equals it is told so."""

    name: str
    formula: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Step:
    """Something to write, and how it is checked."""

    name: str
    """ "1", "2", ...: holes are marked with it and a letter, "1a"."""
    title: str
    minutes: int
    function: str
    """Of the student's file."""
    reference: Callable[..., Any]
    """The specification, of `torchops.reference`; it is given the inputs in float64. A tensor, or a tuple of them."""
    cases: tuple[Case, ...]
    mistakes: tuple[Mistake, ...] = ()
    hints: tuple[str, ...] = ()
    explain: Callable[[tuple[Any, ...], tuple[int, ...], float, float], str] | None = None
    """Words for one wrong element, of (inputs, its index, got, expected)."""
    expect: str = "ok"
    """The kind of finding that an experiment is to show, "race" say."""
    seen: str = ""
    """What an experiment has shown."""
    call: Callable[..., Any] | None = None
    """(the student's function, *inputs): how a case is computed where that is not `function(*inputs)`. It may raise
    :class:`Complaint`."""
    far: Callable[[], tuple[Any, ...]] | None = None
    """Arguments on the device "meta" with more than 2^31 elements, at which offsets are checked."""
    mirror: Callable[..., Any] | None = None
    """The same by torchops's own operator, whose kernel the solution mirrors; tests compare both."""
    kernels: bool = True
    """Whether the result has to be written by a kernel of the student's."""
    after: Callable[..., None] | None = None
    """(the launches of a case, *inputs), once its values are right; it may raise :class:`Complaint`: of the bytes that were
    moved, say."""
    look: tuple[Case, ...] = ()
    """Calls at sizes and blocks as they are in earnest; they are compiled for a GPU that need not be there, and not run."""


@dataclass(frozen=True)
class Picture:
    """Which elements some programs of a step load and store, drawn from a run; the page shows it as `name`.png."""

    name: str
    title: str
    step: str
    inputs: Callable[[], tuple[Any, ...]]
    loads: dict[str, str]
    """Parameters of the kernel, and what stands above their grids."""
    stores: dict[str, str]
    programs: tuple[tuple[int, int, int], ...]
    block: int | None = None
    launch: int = -1
    """Which launch of the call, of several."""


@dataclass(frozen=True)
class Wrong:
    """A wrong solution: the right one with some lines swapped; and what a student who has written it must be told."""

    name: str
    kind: str
    says: str
    """A phrase of what is told."""
    swaps: tuple[tuple[str, str], ...]
    """Texts that stand in the solution once, and what stands there instead."""
    at: str = ""
    """A text in the line that must be named; where it is "", no line is asked for."""

    def made(self, solution: str) -> str:
        """The student's file.

        Raises:
            ValueError: if a text does not stand in the solution exactly once.
        """
        for old, new in self.swaps:
            if solution.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} stands {solution.count(old)} times in the solution")
            solution = solution.replace(old, new)
        return solution

    def line(self, solution: str) -> int:
        """The line that must be named; 0 where none is asked for."""
        lines = self.made(solution).splitlines()
        return next(n for n, line in enumerate(lines, 1) if self.at in line) if self.at else 0


@dataclass(frozen=True)
class Lesson:
    title: str
    minutes: int
    in_class: bool
    """Whether it belongs to the three hours of the class."""
    mirrors: tuple[str, ...]
    """The files of kernels/ that the solution mirrors."""
    steps: tuple[Step, ...]
    pictures: tuple[Picture, ...] = ()
    prepare: Callable[[], None] | None = None
    """What takes long, but once a process: called before anything is timed, and by a server before it forks."""
    folder: Path = field(default=Path())
    """Set when it is loaded."""

    @property
    def number(self) -> int:
        return int(self.folder.name.partition("_")[0])

    @property
    def name(self) -> str:
        return self.folder.name.partition("_")[2]

    @property
    def solution(self) -> str:
        return (self.folder / "solution.py").read_text(encoding="utf-8")

    @property
    def wrong(self) -> tuple[Wrong, ...]:
        """Of the file wrong.py."""
        return module(self.folder / "wrong.py", f"torchops_course_{self.name}_wrong").WRONG


def folders() -> list[Path]:
    return sorted(path for path in FOLDER.glob("[0-9][0-9]_*") if (path / "lesson.py").is_file())


def load(asked: str | int | Path) -> Lesson:
    """A lesson by its number or its name, or by the folder in which it lies.

    Raises:
        KeyError: if there is none; the message names those that there are.
    """
    if isinstance(asked, Path):
        return _loaded(asked)
    text = str(asked).strip().lower()
    for folder in folders():
        number, _, name = folder.name.partition("_")
        if text in (name, folder.name) or (text.isdecimal() and int(text) == int(number)):
            return _loaded(folder)
    known = ", ".join(f"{int(number)} {name}" for number, _, name in (path.name.partition("_") for path in folders()))
    raise KeyError(f"there is no lesson {text!r}; there are {known}")


@functools.cache
def _loaded(folder: Path) -> Lesson:
    name = folder.name.partition("_")[2]
    lesson: Lesson = module(folder / "lesson.py", f"torchops_course_{name}").LESSON
    object.__setattr__(lesson, "folder", folder)
    return lesson


def module(file: Path, name: str) -> ModuleType:
    """A Python file as a module of that name, run anew."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made
