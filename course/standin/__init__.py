"""The stand-in: Triton's language as far as the course uses it, over NumPy, where there is no Triton.

It models what a GPU program is. A launch runs programs; each computes with blocks, loads and stores elements of memory, and
knows of others only by that. Every access is looked at.

dtypes.py    types, and what comes of two that meet
tensors.py   blocks of elements, and operators
language.py  `tl.load` and its kin; arithmetic.py those that compute; vocabulary.py knows them all by name
frame.py     a kernel's body, carried out: statements; expressions.py is what stands in them
function.py  `@triton.jit`: compiled first, then launched
program.py   which program runs, where in the file, and what its launches leave
memory.py    loads and stores; races.py finds what depends on the order of programs
modules.py   what `import triton` gives
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchops.course.faults import SECONDS, Expired, fault_of, time_limit
from torchops.course.memory import Memory
from torchops.course.report import Fault, Ran

from .modules import install
from .program import Session, opened


class StandIn:
    """Kernels run by Python, a program after the other."""

    name = "the stand-in"

    def prepare(self) -> None:
        """From here on `import triton` gives the stand-in, in this process."""
        install()

    def run(self, call: Callable[[], Any], file: Path, limit: float, *, order: str = "", zeros: bool = False) -> Ran:
        now = Session(Memory(zeros), order)
        value, fault = None, None
        try:
            with opened(now), now.written, time_limit(limit):
                value = call()
        except BaseException as error:  # whatever a student's file raises
            fault = _fault(error, now, file, limit)
        unchecked = tuple(dict.fromkeys(now.unchecked))
        return Ran(value, now.fault or fault, tuple(now.launches), tuple(now.printed), unchecked, now.written)

    def far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        now = Session(Memory(), far=True)
        try:
            with opened(now), time_limit(SECONDS):
                call()
        except BaseException as error:
            fault = _fault(error, now, file, SECONDS)
            # what a function cannot do without values is no mistake
            return Fault("unchecked", fault.line, detail=fault.detail) if fault.kind == "exception" else fault
        if not now.waiting:
            return Fault("unchecked", detail="no kernel was launched")
        try:
            with opened(now), time_limit(SECONDS):
                for launch in now.waiting:
                    launch()
        except BaseException as error:
            fault = _fault(error, now, file, SECONDS)
            return Fault("unchecked", detail="it takes too long") if isinstance(error, Expired) else fault
        return None


def _fault(error: BaseException, now: Session, file: Path, limit: float) -> Fault:
    if isinstance(error, Expired) and now.program is not None:
        error.line = now.program.loop
    return fault_of(error, file, limit)
