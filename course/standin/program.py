"""A program of a launch, as it runs: which one it is, what it may touch, and where in the file it stands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torchops.course.report import Fault
from torchops.course.report import Program as Id

if TYPE_CHECKING:
    from .memory import Memory


@dataclass
class Program:
    kernel: str
    id: Id
    grid: Id
    memory: Memory
    printed: list[str]
    compiling: bool = False
    """Whether only types are looked at: every branch is taken, every loop run through once, and memory is none."""
    line: int = 0
    """Of the expression that is being computed."""
    loops: list[int] = field(default_factory=list)
    """The lines of the loops and branches that it is in, outermost first."""


class Stopped(Exception):  # noqa: N818 (it is what has happened)
    """A program did what it must not do."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


class Undefined(Exception):  # noqa: N818 (it is a result)
    """The result of an operation is undefined."""


_running: list[Program] = []


def running() -> Program:
    """The program that runs.

    Raises:
        ValueError: if none does: a function of the language has been called by Python.
    """
    if not _running:
        raise ValueError(
            "Did you forget to add @triton.jit ? (`_semantic` argument must be provided outside of JIT functions.)"
        )
    return _running[-1]


@contextlib.contextmanager
def run(program: Program) -> Iterator[None]:
    _running.append(program)
    try:
        yield
    finally:
        _running.pop()
