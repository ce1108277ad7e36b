"""Memory of a launch: every load and store is looked at, and kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from torchops.course import report
from torchops.course.memory import anything
from torchops.course.report import Access, Fault
from torchops.course.report import Program as Id

from .dtypes import OF_TORCH, DType, bfloat16
from .program import running, session, stop

BUDGET = 4_000_000
"""Elements of loads and stores that are kept; of more, races are not looked for."""


class Buffer:
    """The memory of a tensor that a kernel was given, from its beginning."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.name = name
        self.dtype: DType = OF_TORCH[tensor.dtype]
        self.itemsize = tensor.element_size()
        self.size = tensor.untyped_storage().nbytes() // self.itemsize
        self.address = tensor.untyped_storage().data_ptr()
        self.tensor = tensor.detach()

    @property
    def flat(self) -> np.ndarray:
        """All of it, as NumPy has it."""
        whole = torch.empty(0, dtype=self.tensor.dtype).set_(self.tensor.untyped_storage())
        return (whole.view(torch.int16) if self.dtype is bfloat16 else whole).numpy()

    def described(self) -> report.Buffer:
        one = self.tensor
        small = one.device.type == "cpu" and self.size <= report.Buffer.LARGE
        values = self.decoded(self.flat).astype(np.float64) if small else None
        return report.Buffer(tuple(one.shape), one.stride(), int(one.storage_offset()), values)

    def decoded(self, raw: np.ndarray) -> np.ndarray:
        """What stands in memory, as it is computed with."""
        if self.dtype is bfloat16:
            return torch.from_numpy(raw).view(torch.bfloat16).float().numpy()
        return raw

    def encoded(self, values: np.ndarray) -> np.ndarray:
        if self.dtype is bfloat16:
            return torch.from_numpy(np.ascontiguousarray(values)).bfloat16().view(torch.int16).numpy()
        return values


class NoMemory:
    """What a kernel sees that is only compiled: loads give zeros, stores vanish."""

    def load(self, buffer: Buffer, at: np.ndarray, mask: np.ndarray | None, other: Any) -> np.ndarray:
        """The elements `at`; `other` where the mask leaves them out, or anything if it is None."""
        self.touched(buffer, at, mask, "read")
        return np.zeros(at.shape, buffer.dtype.storage)

    def store(self, buffer: Buffer, at: np.ndarray, values: Any, mask: np.ndarray | None) -> None:
        self.touched(buffer, at, mask, "write")

    def add(self, buffer: Buffer, at: np.ndarray, values: Any, mask: np.ndarray | None) -> np.ndarray:
        """An atomic update, lane by lane. Returns what stood there."""
        self.touched(buffer, at, mask, "write")
        return np.zeros(at.shape, buffer.dtype.storage)

    def touched(self, buffer: Buffer, at: np.ndarray, mask: np.ndarray | None, verb: str) -> np.ndarray:
        """The elements that the mask does not leave out, one after the other."""
        return _lanes(at, mask)


class Addresses(NoMemory):
    """Memory that would be too large: there are addresses, and nothing behind them."""

    def touched(self, buffer: Buffer, at: np.ndarray, mask: np.ndarray | None, verb: str) -> np.ndarray:
        live = _lanes(at, mask)
        if live.size and not (live.min() >= 0 and live.max() < buffer.size):
            stop(self.outside(buffer, live[(live < 0) | (live >= buffer.size)], verb))
        return live

    def outside(self, buffer: Buffer, elements: np.ndarray, verb: str) -> Fault:
        """Elements that are not there. An offset of 32 bits that has wrapped around is negative."""
        program, first = running(), int(elements[0])
        return Fault(
            "far" if first < 0 else f"oob_{verb}", program.line, program.kernel, buffer.name,
            past=np.unique(elements).size if first >= buffer.size else 0,
            element=first, programs=(program.id,), both_store=verb == "write", detail=verb,
        )  # fmt: skip


class Entry(NamedTuple):
    """One load ("load"), store ("store") or atomic update ("update") of one program."""

    program: Id
    kind: str
    buffer: Buffer
    elements: np.ndarray
    line: int
    bits: np.ndarray | None = None
    """What a store has written, as unsigned integers."""
    silent: np.ndarray | None = None
    """Whether that stood there before."""


class Memory(Addresses):
    """The buffers of a launch, and what its programs do to them."""

    def __init__(self) -> None:
        self.log: list[Entry] | None = []
        self._kept = 0
        self._flat: dict[Buffer, np.ndarray] = {}

    def accesses(self) -> tuple[Access, ...] | None:
        if self.log is None:
            return None
        return tuple(
            Access(e.program, e.kind != "load", e.buffer.name, e.elements, e.line, e.buffer.itemsize, e.kind != "store")
            for e in self.log
        )

    def load(self, buffer: Buffer, at: np.ndarray, mask: np.ndarray | None, other: Any) -> np.ndarray:
        live = self.touched(buffer, at, mask, "read")
        self._keep("load", buffer, live)
        values = buffer.decoded(self._values(buffer)[live])
        if mask is None:
            return values.reshape(at.shape)
        found = np.empty(at.shape, buffer.dtype.storage)
        found[...] = self._otherwise(found.dtype) if other is None else other
        found[mask] = values
        return found

    def _otherwise(self, dtype: np.dtype[Any]) -> float:
        return 0.0 if session().written.zeros else anything(dtype)

    def store(self, buffer: Buffer, at: np.ndarray, values: Any, mask: np.ndarray | None) -> None:
        live, flat = self.touched(buffer, at, mask, "write"), self._values(buffer)
        raw = np.ascontiguousarray(buffer.encoded(_lanes(values, mask)))
        bits, before = (one.view(f"u{buffer.itemsize}") for one in (raw, flat[live]))
        _check_lanes(buffer, live, bits)
        flat[live] = raw
        self._keep("store", buffer, live, bits, bits == before)

    def add(self, buffer: Buffer, at: np.ndarray, values: Any, mask: np.ndarray | None) -> np.ndarray:
        live, flat = self.touched(buffer, at, mask, "read"), self._values(buffer)
        old = np.zeros(at.shape, buffer.dtype.storage)
        found = []
        for element, value in zip(live, _lanes(values, mask), strict=True):
            held = buffer.decoded(flat[element : element + 1])
            found.append(held[0])
            flat[element : element + 1] = buffer.encoded(held + value)
        old[np.ones(at.shape, bool) if mask is None else mask] = found
        self._keep("update", buffer, live)
        return old

    def outside(self, buffer: Buffer, elements: np.ndarray, verb: str) -> Fault:
        """Those on the side of the buffer that is nearer are counted."""
        past, before = np.unique(elements[elements >= buffer.size]), np.unique(elements[elements < 0])
        ahead = bool(past.size) and (not before.size or past[0] - buffer.size < -before[-1])
        program = running()
        return Fault(
            f"oob_{verb}", program.line, program.kernel, buffer.name,
            past=past.size if ahead else 0, before=0 if ahead else before.size,
            detail=f"program {program.id}",
        )  # fmt: skip

    @property
    def addresses(self) -> list[int]:
        """Of all memory that was touched."""
        return [one.address for one in self._flat]

    def _values(self, buffer: Buffer) -> np.ndarray:
        if buffer not in self._flat:
            self._flat[buffer] = buffer.flat
        return self._flat[buffer]

    def _keep(self, kind: str, buffer: Buffer, elements: np.ndarray, *stored: np.ndarray) -> None:
        if self.log is None or not elements.size:
            return
        self._kept += elements.size
        if self._kept > BUDGET:
            self.log = None
        else:
            self.log.append(Entry(running().id, kind, buffer, elements, running().line, *stored))


def _lanes(block: Any, mask: np.ndarray | None) -> np.ndarray:
    """What a block holds where the mask does not leave it out, one after the other."""
    return np.reshape(block, -1) if mask is None else np.asarray(block)[mask]


def _check_lanes(buffer: Buffer, elements: np.ndarray, bits: np.ndarray) -> None:
    """No two lanes of a store write different values to one element."""
    if (elements[1:] > elements[:-1]).all():
        return
    order = np.argsort(elements, kind="stable")
    elements, bits = elements[order], bits[order]
    clash = np.flatnonzero((elements[1:] == elements[:-1]) & (bits[1:] != bits[:-1]))
    if clash.size:
        element, program = int(elements[clash[0]]), running()
        detail = f"two lanes of one store write different values to element {element}"
        stop(Fault("lanes", program.line, program.kernel, buffer.name, element=element, detail=detail))
