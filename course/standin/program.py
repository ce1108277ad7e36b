"""A program of a launch, as it runs; and the session in which launches are made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from torchops.course.faults import Stopped
from torchops.course.memory import Memory as Written
from torchops.course.report import Fault, Launch
from torchops.course.report import Program as Id

if TYPE_CHECKING:
    from .memory import NoMemory


class Undefined(Exception):  # noqa: N818 (it is a result)
    """The result of an operation is undefined."""


@dataclass
class Program:
    """Which one it is, what it may touch, and where in the file it stands."""

    kernel: str
    id: Id
    grid: Id
    memory: NoMemory
    compiling: bool = False
    """Whether only types are looked at: every branch is taken, and every loop gone through once."""
    line: int = 0
    """Of the expression that is being computed."""
    loops: list[tuple[int, bool]] = field(default_factory=list)
    """The lines of the loops that it is in, outermost first, and whether they are `while` loops, which need not end."""

    @property
    def loop(self) -> int:
        """The line of the loop that is to blame where a program does not end; 0 if it is in none."""
        endless = [line for line, while_ in self.loops if while_]
        return (endless or [line for line, _ in self.loops] or [0])[-1]


@dataclass
class Session:
    """One call of a student's function: how its launches run, and what they leave."""

    written: Written
    """Which memory has been written to."""
    order: str = ""
    """In which programs run, "forward" or "backward"; where it is given, a race does not stop them."""
    far: bool = False
    """Whether launches wait until the call is over, and then run without memory."""
    waiting: list[Callable[[], None]] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """What could not be looked at."""
    fault: Fault | None = None
    """What has stopped it; a student's file may have caught that."""
    program: Program | None = None
    """The one that runs."""


_sessions: list[Session] = []


def session() -> Session:
    """The one that is open.

    Raises:
        RuntimeError: if none is: a kernel has been launched by a file that is only imported.
    """
    if not _sessions:
        raise RuntimeError("kernels run here only while a function of the file is checked")
    return _sessions[-1]


def running() -> Program:
    """The program that runs.

    Raises:
        ValueError: if none does: a function of the language has been called by Python.
    """
    program = _sessions[-1].program if _sessions else None
    if program is None:
        raise ValueError(
            "Did you forget to add @triton.jit ? (`_semantic` argument must be provided outside of JIT functions.)"
        )
    return program


@contextlib.contextmanager
def opened(one: Session) -> Iterator[Session]:
    """In the block, kernels can be launched."""
    _sessions.append(one)
    try:
        yield one
    finally:
        _sessions.pop()


@contextlib.contextmanager
def run(program: Program) -> Iterator[None]:
    """In the block, functions of the language are called by this program. Where it is left by an exception, it stays known."""
    session().program = program
    with np.errstate(all="ignore"):
        yield
    session().program = None


def stop(fault: Fault) -> NoReturn:
    """The session ends here."""
    now = session()
    now.fault = now.fault or fault
    raise Stopped(fault)
