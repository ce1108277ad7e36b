"""What a check finds, as data: launches and their accesses, faults, findings and reports."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .memory import Memory

Program = tuple[int, int, int]


@dataclass(frozen=True)
class Access:
    """One load or store of one program."""

    program: Program
    stores: bool
    """Whether it writes; an atomic update does."""
    buffer: str
    """The kernel's parameter."""
    elements: np.ndarray
    """Elements of the buffer, counted from where its memory begins; those of lanes that are masked off are not among them."""
    line: int
    itemsize: int
    loads: bool = False
    """Whether it reads; an atomic update does both."""


@dataclass(frozen=True)
class Buffer:
    """A tensor that a kernel was given."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    """The element of its memory at which the tensor begins."""
    values: np.ndarray | None = None
    """All of its memory after the launch, as float64; None where it is large, or has none."""

    LARGE = 4096
    """Elements whose values are not kept."""


@dataclass(frozen=True)
class Launch:
    """One launch, after it has run."""

    kernel: str
    grid: Program
    buffers: dict[str, Buffer]
    accesses: tuple[Access, ...] | None
    """In the order in which they were made; None if there were too many to keep."""


@dataclass(frozen=True)
class Fault:
    """What stopped a run.

    Kinds: "compile", "oob_read", "oob_write", "race" (two programs), "lanes" (two lanes of one store), "undefined" (a division
    by zero, say), "uninitialised" (a load of what nobody has stored), "far" (an offset beyond 2^31 that went wrong),
    "timeout", "exception", "exit", "says" (a lesson's own complaint), "unchecked" (the machine cannot tell).
    """

    kind: str
    line: int = 0
    kernel: str = ""
    buffer: str = ""
    past: int = 0
    """Elements behind the end of the buffer."""
    before: int = 0
    """Elements before its start."""
    element: int | None = None
    programs: tuple[Program, ...] = ()
    both_store: bool = False
    """Of a race: whether both programs store; otherwise one of them loads."""
    detail: str = ""


@dataclass(frozen=True)
class Ran:
    """A call of a student's function, and what its kernels did."""

    value: Any
    fault: Fault | None
    launches: tuple[Launch, ...]
    printed: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    """What could not be looked at, in words: each is said, and none of it counts as passed."""
    memory: Memory | None = None
    """Which elements of what the function has made are written, where the machine keeps count."""


@dataclass(frozen=True)
class Traffic:
    """Bytes that the programs of a launch touch, an element once a program; and the least, each element once."""

    kernel: str
    programs: int
    moved: int
    least: int


@dataclass(frozen=True)
class Patch:
    """Got and expected around the first wrong element."""

    row: int
    col: int
    got: list[list[float]]
    want: list[list[float]]
    bad: list[list[bool]]


@dataclass(frozen=True)
class Finding:
    """What came of one case. Kinds: "ok", those of a :class:`Fault`, and "hole", "syntax", "import", "missing" (a file or a
    function), "shape", "unwritten", "values", "input" (a kernel wrote to its input), "nokernel", "unseen" (an experiment that
    has not shown what it is to show); of the process: "crash", "exit", "killed", "checker" (the checker itself is wrong)."""

    kind: str
    case: str = ""
    why: str = ""
    fault: Fault | None = None
    line: int = 0
    detail: str = ""
    output: str = ""
    """Which of several results is meant."""
    wrong: int = 0
    of: int = 0
    first: tuple[int, ...] = ()
    got: float = 0.0
    want: float = 0.0
    patch: Patch | None = None
    mistake: str = ""
    """The name of the mistake that it is known to be."""
    says: str = ""
    explained: str = ""
    printed: tuple[str, ...] = ()
    traffic: tuple[Traffic, ...] = ()
    unchecked: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepReport:
    step: str
    title: str
    done: bool
    seconds: float
    findings: tuple[Finding, ...]
    """A case each; the last one is what is told, if the step is not done, or if it is an experiment."""
    seen: str = ""
    """What an experiment has shown."""


@dataclass(frozen=True)
class Report:
    file: str
    lesson: str
    engine: str
    steps: tuple[StepReport, ...] = ()
    finding: Finding | None = None
    """What is wrong with the file as a whole, or became of its process."""
    seconds: float = 0.0
    printed: tuple[str, ...] = ()
    """Lines that the student's file has printed, on the host."""

    @property
    def last(self) -> Finding | None:
        """What is to be told."""
        return self.finding if self.finding is not None else self.steps[-1].findings[-1] if self.steps else None

    @property
    def verdict(self) -> str:
        """ "ok", or the kind of what is told."""
        if self.finding is not None:
            return self.finding.kind
        undone = [step for step in self.steps if not step.done]
        return undone[0].findings[-1].kind if undone else "ok"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it, which has no NaN and no infinity: they are texts."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        return _made(cls, data)


_NESTED: dict[str, Any] = {
    "fault": Fault, "patch": Patch, "finding": Finding, "findings": Finding, "steps": StepReport, "traffic": Traffic,
}  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


_NUMBERS = ("got", "want")


def _numbers(value: Any) -> Any:
    return [_numbers(one) for one in value] if isinstance(value, list | tuple) else float(value)


def _made(kind: Any, data: dict[str, Any]) -> Any:
    def value(name: str, given: Any) -> Any:
        if name in _NESTED and given is not None:
            return (
                tuple(_made(_NESTED[name], one) for one in given)
                if isinstance(given, list | tuple)
                else _made(_NESTED[name], given)
            )
        if name in _NUMBERS:
            return _numbers(given)
        if name == "programs" and isinstance(given, list | tuple):
            return tuple(tuple(one) for one in given)
        return tuple(given) if isinstance(given, list) and name != "bad" else given

    return kind(**{name: value(name, given) for name, given in data.items()})
