"""The stand-in: Triton's language as far as the course uses it, over NumPy, where there is no Triton.

It models what a GPU program is. A launch runs programs; each computes with blocks, loads and stores elements of memory, and
knows of others only by that. Every access is looked at.

dtypes.py    types, and what comes of two that meet
tensors.py   blocks of elements, and operators
language.py  `tl.load` and its kin; arithmetic.py those that compute; vocabulary.py knows them all by name
frame.py     a kernel's body, carried out: statements; expressions.py is what stands in them
function.py  `@triton.jit`: compiled first, then launched
program.py   which program runs, and where in the file; session.py keeps what launches leave
memory.py    loads and stores; races.py finds what depends on the order of programs
modules.py   what `import triton` gives
"""

from __future__ import annotations

import _thread
import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torchops.course.engine import line_in
from torchops.course.lesson import Complaint
from torchops.course.memory import uninitialised
from torchops.course.report import Fault, Ran

from .modules import install
from .program import Stopped
from .session import Session, opened


class StandIn:
    """Kernels run by Python, a program after the other."""

    name = "the stand-in"

    def prepare(self) -> None:
        """From here on `import triton` gives the stand-in, in this process."""
        install()

    def run(self, call: Callable[[], Any], file: Path, limit: float, *, order: str = "") -> Ran:
        value, fault = None, None
        with uninitialised(), opened(order) as kept:
            try:
                with _time(limit):
                    value = call()
            except (Exception, Expired) as error:  # whatever a student's file raises
                fault = _fault(error, kept, file, limit)
        many = [one.kernel for one in kept.launches if one.accesses is None]
        unchecked = tuple(f"{kernel} makes more accesses than are kept: races were not looked for" for kernel in many)
        return Ran(value, fault, tuple(kept.launches), tuple(kept.printed), unchecked)

    def far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        fault = self.run(call, file, _FAR).fault
        if fault is not None and fault.kind in ("oob_read", "oob_write"):
            return dataclasses.replace(fault, kind="far")
        return fault


_FAR = 60.0
"""Seconds that programs far away may take; they are few."""


class Expired(BaseException):
    """The time of a case is over."""


@contextlib.contextmanager
def _time(limit: float) -> Iterator[None]:
    """The block is interrupted after `limit` seconds, as by Ctrl-C: that there is on every platform."""
    over = threading.Event()

    def interrupt() -> None:
        over.set()
        _thread.interrupt_main()

    def interrupted(*_: Any) -> None:
        raise Expired if over.is_set() else KeyboardInterrupt

    timer = threading.Timer(limit, interrupt)
    timer.daemon = True
    before = signal.signal(signal.SIGINT, interrupted)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)


def _fault(error: BaseException, kept: Session, file: Path, limit: float) -> Fault:
    if isinstance(error, Stopped):
        return error.fault
    if isinstance(error, Expired):
        program = kept.program
        line = line_in(error, file) if program is None else (*program.loops, program.line)[0]
        return Fault("timeout", line, detail=f"{limit:g}")
    if isinstance(error, Complaint):
        return Fault("says", line_in(error, file), detail=str(error))
    return Fault("exception", line_in(error, file), detail=f"{type(error).__name__}: {error}")
