"""Triton's own compiler, and the package ttsem, which executes what it compiles to on the CPU."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from ttsem import harness, sanitize

from .engine import line_in
from .lesson import Complaint
from .memory import uninitialised
from .places import of_callees
from .report import Access, Buffer, Fault, Launch, Program, Ran


class Expired(Exception):  # noqa: N818 (it is what has happened)
    """The time of a case is over; ttsem takes it for an op that it cannot judge, and says where that stands."""


class Semantics:
    """Kernels as Triton's compiler makes them, executed by ttsem."""

    def __init__(self) -> None:
        self.name = f"triton {importlib.metadata.version('triton')}, ttsem {importlib.metadata.version('ttsem')}"

    def prepare(self) -> None:
        """Triton is what it is."""

    def run(self, call: Callable[[], Any], file: Path, limit: float, *, order: str = "") -> Ran:
        kept: list[_Kept] = []
        value, fault = None, None
        races = "record" if order else "raise"
        with uninitialised(), _order(order):
            try:
                with _time(limit), _watching(kept, file), sanitize.session(cuda_is_cpu=False, races=races):
                    value = call()
            except Exception as error:  # whatever a student's file raises
                fault = _fault(error, file, limit)
        launches = tuple(one.launch for one in kept if one.launch is not None)
        printed = tuple(str(line) for one in kept for line in getattr(one.interp, "output", []))
        many = [one.launch.kernel for one in kept if one.launch is not None and one.launch.accesses is None]
        unchecked = tuple(f"{kernel} makes more accesses than are kept: races were not looked for" for kernel in many)
        return Ran(value, fault, launches, printed, unchecked)

    def far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        return Fault("unchecked", detail="offsets beyond 2^31 were not looked at")


@contextlib.contextmanager
def _order(order: str) -> Iterator[None]:
    """The order in which ttsem runs the programs of a launch."""
    before = os.environ.get("TTSEM_GRID_ORDER", "")
    os.environ["TTSEM_GRID_ORDER"] = "reverse" if order == "backward" else ""
    try:
        yield
    finally:
        os.environ["TTSEM_GRID_ORDER"] = before


@contextlib.contextmanager
def _time(limit: float) -> Iterator[None]:
    def expire(*_: Any) -> None:
        raise Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Kept:
    """A launch as it runs: what ttsem knows of it."""

    def __init__(self, interp: Any) -> None:
        self.interp = interp
        self.launch: Launch | None = None


@contextlib.contextmanager
def _watching(kept: list[_Kept], file: Path) -> Iterator[None]:
    """Keep what every launch in the block touches and prints, one program or many."""
    execute, interp = harness.execute, harness.Interp

    class Watched(interp):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            kept.append(_Kept(self))

    def watched(record: Any, ir: str, **options: Any) -> Any:
        harness.Interp = Watched
        try:
            done = execute(record, ir, **{**options, "trace_access": True})
        finally:
            harness.Interp = interp
        if done.memory is not None:
            kept[-1].launch = _launch(record, done.memory, ir, file)
        return done

    harness.execute = watched
    try:
        with of_callees():
            yield
    finally:
        harness.execute = execute


def _grid(grid: Any) -> Program:
    x, y, z, *_ = (*(int(n) for n in grid), 1, 1)
    return x, y, z


def _launch(record: Any, memory: Any, ir: str, file: Path) -> Launch:
    log, after = memory.access_log, memory.buffers()
    tensors = {name: value for name, value in record.bound.items() if isinstance(value, Tensor)}
    buffers = {
        name: Buffer(tuple(t.shape), t.stride(), t.storage_offset(), _values(t, after.get(record.bases.get(name))))
        for name, t in tensors.items()
    }
    spans = {name: (base, base + record.pre[name].nbytes) for name, base in record.bases.items()}

    @functools.cache
    def line(op: str) -> int:
        return int(sanitize._source_of(op, ir, str(file))[1])

    accesses: list[Access] = []
    for program, kind, op, addresses, itemsize, _raw in log or ():
        inside = next(
            (n for n, (start, end) in spans.items() if addresses.size and start <= addresses.min() < end), None
        )
        if inside is not None:
            elements = (np.asarray(addresses, np.int64) - spans[inside][0]) // itemsize
            accesses.append(Access(_grid(program), kind != "r", inside, elements, line(op), itemsize))
    return Launch(record.fn_name, _grid(record.grid), buffers, None if log is None else tuple(accesses))


def _values(tensor: Tensor, memory: np.ndarray | None) -> np.ndarray | None:
    """The memory of a tensor in float64, if it is small; NumPy has no bfloat16, and holds it as other numbers of its size."""
    if memory is None or memory.size > Buffer.LARGE:
        return None
    return np.asarray(torch.from_numpy(memory).view(tensor.dtype).double().numpy())


def _fault(error: Exception, file: Path, limit: float) -> Fault:
    if isinstance(error, sanitize.KernelFault):
        return _kernel_fault(error.fault)
    if isinstance(error, sanitize.Unjudged):
        places = re.findall(rf'loc\("{re.escape(str(file))}":(\d+)', str(error))
        line = int(places[-1]) if places else line_in(error, file)
        if "Expired" in str(error):
            return Fault("timeout", line, detail=f"{limit:g}")
        return Fault("unchecked", line, detail=str(error))
    if isinstance(error, Expired):
        return Fault("timeout", line_in(error, file), detail=f"{limit:g}")
    if isinstance(error, triton.CompilationError):
        line, words = _compile_line(error, file)
        return Fault("compile", line, detail=words)
    if isinstance(error, Complaint):
        return Fault("says", line_in(error, file), detail=str(error))
    return Fault("exception", line_in(error, file), detail=f"{type(error).__name__}: {error}")


_KINDS = {"oob_read": "oob_read", "oob_write": "oob_write", "race": "race"}


def _kernel_fault(fault: sanitize.Fault) -> Fault:
    kind = _KINDS.get(fault.kind) or ("lanes" if re.search("different|lanes", fault.detail) else "undefined")
    programs = tuple(
        _grid(map(int, found.split(","))) for found in re.findall(r"\((\d+, \d+, \d+)\)", fault.detail)[:2]
    )
    element = re.search(r"element (\d+)", fault.detail)
    return Fault(
        kind, fault.source_line, fault.kernel, fault.buffer or "", fault.elements_past_end or 0, fault.elements_before_start or 0,
        int(element[1]) if element else None, programs if kind == "race" else (), fault.detail.count("stores to") > 1, fault.detail,
    )  # fmt: skip


def _compile_line(error: triton.CompilationError, file: Path) -> tuple[int, str]:
    """The line of the file that Triton cannot compile, and why; it counts lines from where a kernel begins."""
    while isinstance(error.__cause__, triton.CompilationError):
        error = error.__cause__
    source = file.read_text(encoding="utf-8").splitlines()
    first = (error.src or "").splitlines()[:1]
    start = next((i for i, line in enumerate(source) if first and line.strip() == first[0].strip()), 0)
    words = error.error_message or str(error.__cause__ or error).strip().splitlines()[-1]
    return start + getattr(error.node, "lineno", 0), re.sub(r"^\w+Error\(['\"](.*)['\"]\)$", r"\1", words)
