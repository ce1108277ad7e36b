"""Triton's own compiler, and the package ttsem, which executes what it compiles to on the CPU."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from triton.runtime.jit import JITFunction
from ttsem import harness, sanitize
from ttsem._fakedriver import unstub_torch_cuda
from ttsem.memory import ACCESS_BUDGET
from ttsem.values import Poison

from . import virtual
from .compiler import CAPABILITY, Compiler, complaint, parse, told_of_a_gpu
from .faults import SECONDS, Expired, Stopped, fault_of, line_in, time_limit
from .memory import Memory, anything
from .places import of_callees
from .report import Access, Buffer, Fault, Launch, Program, Ran


class Semantics:
    """Kernels as Triton's compiler makes them, executed by ttsem."""

    def __init__(self) -> None:
        self.name = f"triton {importlib.metadata.version('triton')}, ttsem {importlib.metadata.version('ttsem')}"
        self._compiler = Compiler()
        self.kept = self._compiler.kept

    def prepare(self) -> None:
        """Triton is what it is."""

    def run(self, call: Callable[[], Any], file: Path, limit: float, *, order: str = "", zeros: bool = False) -> Ran:
        memory = Memory(zeros)
        run = _Run(memory, self._compiler, file)
        races = "record" if order else "raise"
        value, fault = None, None
        try:
            with (
                told_of_a_gpu(),
                _order(order),
                memory,
                sanitize.session(
                    CAPABILITY, cuda_is_cpu=False, races=races, on_stop=run.stop, on_unchecked=run.unchecked
                ),
                run.watching(),
                time_limit(limit),
            ):
                # Triton is told of a GPU, and torch is not: torch.compile asks it
                unstub_torch_cuda()
                value = call()
        except BaseException as error:  # whatever a student's file raises
            fault = _fault(error, file, limit)
        # an exception of ttsem that a student's file, or torch, has caught
        fault = run.stopped if run.stopped is not None else fault
        launches = tuple(one.launch for one in run.kept if one.launch is not None)
        printed = tuple(str(line) for one in run.kept for line in getattr(one.interp, "output", []))
        return Ran(value, fault, launches, printed, tuple(dict.fromkeys(run.notes)), memory)

    def far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        with told_of_a_gpu():
            return self._far(call, file)

    def _far(self, call: Callable[[], Any], file: Path) -> Fault | None:
        try:
            with time_limit(SECONDS), virtual.plan() as launches:
                call()
        except BaseException as error:
            fault = _fault(error, file, SECONDS)
            # what a function cannot do without values, or what takes it long, is no mistake
            why = {"exception": fault.detail, "timeout": _LONG}.get(fault.kind)
            return fault if why is None else Fault("unchecked", fault.line, detail=why)
        if not launches:
            return Fault("unchecked", detail="no kernel was launched")
        try:
            with time_limit(SECONDS):
                faults = (virtual.astray(record, self._compiler, file) for record in launches)
                return next((fault for fault in faults if fault is not None), None)
        except Exception as error:
            # what Triton cannot compile, or ttsem not execute
            return complaint(error, file) or Fault("unchecked", detail=f"{type(error).__name__}: {error}")
        except Expired:
            return Fault("unchecked", detail=_LONG)


@contextlib.contextmanager
def _order(order: str) -> Iterator[None]:
    """The order in which ttsem runs the programs of a launch."""
    before = os.environ.get("TTSEM_GRID_ORDER", "")
    os.environ["TTSEM_GRID_ORDER"] = "reverse" if order == "backward" else ""
    try:
        yield
    finally:
        os.environ["TTSEM_GRID_ORDER"] = before


class _Kept:
    """A launch as it runs: what ttsem knows of it."""

    def __init__(self, interp: Any) -> None:
        self.interp = interp
        self.launch: Launch | None = None
        self.blank: Fault | None = None


class _Run:
    """One call: its launches as they run, and what stops it."""

    def __init__(self, memory: Memory, compiler: Compiler, file: Path) -> None:
        self.memory, self.compiler, self.file = memory, compiler, file
        self.kept: list[_Kept] = []
        self.notes: list[str] = []
        self.stopped: Fault | None = None

    def stop(self, error: sanitize.KernelFault | sanitize.Unjudged) -> None:
        """What ttsem raises next; a student's file may catch it."""
        if self.stopped is None:
            self.stopped = _fault(error, self.file, 0)

    def unchecked(self) -> None:
        """Called for a launch in which races cannot be ruled out."""
        self.notes.append(f"races: {_MANY}")

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keep what every launch in the block touches and prints, one program or many, and look for loads of blank memory."""
        execute, interp, run = harness.execute, harness.Interp, JITFunction.run
        kept, file, zeros = self.kept, self.file, self.memory.zeros

        class Watched(interp):  # type: ignore[misc, valid-type]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.loop = ""
                kept.append(_Kept(self))

            def eval_op(self, op: Any) -> None:
                try:
                    super().eval_op(op)
                except Expired:
                    # of the loops that it is in, the innermost; before one over a range, which ends, one that need not
                    if (op.name == "scf.while" and "scf.while" not in self.loop) or (
                        op.name == "scf.for" and not self.loop
                    ):
                        self.loop = op.text
                    raise

        class Given(harness.Memory):
            def load(self, addresses: Any, mask: Any, other: Any, dtype: Any) -> Any:
                if other is None and mask is not None and not zeros:
                    other = anything(np.dtype(dtype))
                return super().load(addresses, mask, other, dtype)

        def watched(record: Any, ir: str, **options: Any) -> Any:
            try:
                done = execute(record, ir, **{**options, "trace_access": True})
            except Poison as error:
                error.args = (_placed(str(error), record),)
                raise
            except Expired as error:
                error.line = int(sanitize._source_of(kept[-1].interp.loop, ir, str(file))[1]) if kept else 0
                raise
            if done.memory is not None:
                kept[-1].launch = _launch(record, done.memory, ir, file)
                kept[-1].blank = self._blank(record, kept[-1].launch)
            return done

        def launched(function: Any, *args: Any, **kwargs: Any) -> Any:
            n = len(kept)
            done = run(function, *args, **kwargs)
            for one in kept[n:]:
                if one.blank is not None:
                    raise Stopped(one.blank)
            return done

        with (
            mock.patch.multiple(harness, execute=watched, Interp=Watched, Memory=Given, ir_for_launch=self.compiler),
            mock.patch.object(harness.mlir, "parse", parse),
            mock.patch.object(JITFunction, "run", launched),
            of_callees(),
        ):
            yield

    def _blank(self, record: Any, launch: Launch) -> Fault | None:
        """The first load of what nobody has stored; what the launch stores is noted."""
        if launch.accesses is None:
            self.notes.append(f"loads of what nobody has written: {_MANY}")
            for address in record.bases.values():
                self.memory.forget(address)
            return None
        for access in launch.accesses:
            address = record.bases[access.buffer]
            if access.loads:
                missing = self.memory.missing(address, access.elements, access.itemsize)
                if missing.size:
                    element = int(missing[0])
                    return Fault(
                        "uninitialised",
                        access.line,
                        launch.kernel,
                        access.buffer,
                        element=element,
                        programs=(access.program,),
                    )
            if access.stores:
                self.memory.stored(address, access.elements, access.itemsize)
        return None


_LONG = f"that takes more than {SECONDS:g} s"
_MANY = f"a kernel makes more than {ACCESS_BUDGET:,} accesses, of which none is kept"


def _grid(grid: Any) -> Program:
    x, y, z, *_ = (*(int(n) for n in grid), 1, 1)
    return x, y, z


def _launch(record: Any, memory: Any, ir: str, file: Path) -> Launch:
    log, after = memory.access_log, memory.buffers()
    tensors = {name: value for name, value in record.bound.items() if isinstance(value, Tensor)}
    buffers = {
        name: Buffer(tuple(t.shape), t.stride(), int(t.storage_offset()), _values(t, after.get(record.bases.get(name))))
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
            accesses.append(Access(_grid(program), kind != "r", inside, elements, line(op), itemsize, kind in "ra"))
    return Launch(record.fn_name, _grid(record.grid), buffers, None if log is None else tuple(accesses))


def _placed(said: str, record: Any) -> str:
    """What ttsem says of an address, said of an element."""
    found = re.search(r"address 0x([0-9a-f]+)", said)
    address = int(found[1], 16) if found else -1
    for name, base in record.bases.items():
        values = record.pre[name]
        if found and base <= address < base + values.nbytes:
            return said.replace(found[0], f"element {(address - base) // values.itemsize} of `{name}`")
    return said


def _values(tensor: Tensor, memory: np.ndarray | None) -> np.ndarray | None:
    """The memory of a tensor in float64, if it is small; NumPy has no bfloat16, and holds it as other numbers of its size."""
    if memory is None or memory.size > Buffer.LARGE:
        return None
    return np.asarray(torch.from_numpy(memory).view(tensor.dtype).double().numpy())


def _fault(error: BaseException, file: Path, limit: float) -> Fault:
    if isinstance(error, sanitize.KernelFault):
        return _kernel_fault(error.fault)
    if isinstance(error, sanitize.Unjudged):
        return Fault("unchecked", int(sanitize._source_of(str(error))[1]) or line_in(error, file), detail=str(error))
    said = complaint(error, file) if isinstance(error, Exception) else None
    return fault_of(error, file, limit) if said is None else said


_KINDS = {"oob_read": "oob_read", "oob_write": "oob_write", "race": "race"}


def _kernel_fault(fault: sanitize.Fault) -> Fault:
    kind = _KINDS.get(fault.kind) or ("lanes" if re.search("different|lanes", fault.detail) else "undefined")
    programs = tuple(
        _grid(map(int, found.split(","))) for found in re.findall(r"\((\d+, \d+, \d+)\)", fault.detail)[:2]
    )
    element = re.search(r"element (\d+)(?: of `(\w+)`)?", fault.detail)
    return Fault(
        kind, fault.source_line, fault.kernel, fault.buffer or (element and element[2]) or "",
        past=fault.elements_past_end or 0,
        before=fault.elements_before_start or 0,
        element=int(element[1]) if element else None,
        programs=programs if kind == "race" else (),
        both_store=fault.detail.count("stores to") > 1,
        detail=fault.detail,
    )  # fmt: skip
