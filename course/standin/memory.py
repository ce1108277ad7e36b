"""Memory of a launch: every load and store is looked at, and kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from torchops.course import report
from torchops.course.report import Access, Fault
from torchops.course.report import Program as Id

from .dtypes import OF_TORCH, DType, bfloat16
from .program import Stopped, running

BUDGET = 4_000_000
"""Elements of loads and stores that are kept; of more, races are not looked for."""


class Buffer:
    """The memory of a tensor that a kernel was given, from its beginning; none on the device "meta"."""

    def __init__(self, name: str, tensor: torch.Tensor) -> None:
        self.name = name
        self.tensor = tensor.detach()
        self.dtype: DType = OF_TORCH[tensor.dtype]
        self.itemsize = tensor.element_size()
        self.flat: np.ndarray | None = None
        self.size = tensor.untyped_storage().nbytes() // self.itemsize
        if tensor.device.type != "meta":
            whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
            self.flat = (whole.view(torch.int16) if self.dtype is bfloat16 else whole).numpy()

    def described(self) -> report.Buffer:
        values = None
        if self.flat is not None and self.size <= report.Buffer.LARGE:
            values = self.decoded(self.flat).astype(np.float64)
        one = self.tensor
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


class Memory:
    """What the programs of a launch do to its buffers."""

    def __init__(self, checks: bool = True) -> None:
        self.checks = checks
        self.log: list[Entry] | None = []
        self._kept = 0

    def accesses(self) -> tuple[Access, ...] | None:
        if self.log is None:
            return None
        return tuple(
            Access(one.program, one.kind != "load", one.buffer.name, one.elements, one.line, one.buffer.itemsize)
            for one in self.log
        )

    def load(self, buffer: Buffer, at: np.ndarray, mask: np.ndarray | None, other: Any) -> np.ndarray:
        """The elements `at`; `other` where the mask leaves them out."""
        found = np.empty(at.shape, buffer.dtype.storage)
        found[...] = other
        live = self._live(buffer, at, mask, "oob_read")
        if buffer.flat is None or not self.checks:
            return found
        self._keep(Entry(running().id, "load", buffer, live, running().line))
        values = buffer.decoded(buffer.flat[live])
        if mask is None:
            return values.reshape(at.shape)
        found[mask] = values
        return found

    def store(self, buffer: Buffer, at: np.ndarray, values: Any, mask: np.ndarray | None) -> None:
        live = self._live(buffer, at, mask, "oob_write")
        if buffer.flat is None or not self.checks or not live.size:
            return
        raw = np.ascontiguousarray(buffer.encoded(_lanes(values, mask)))
        bits, before = (one.view(f"u{buffer.itemsize}") for one in (raw, buffer.flat[live]))
        _check_lanes(buffer, live, bits)
        buffer.flat[live] = raw
        self._keep(Entry(running().id, "store", buffer, live, running().line, bits, bits == before))

    def add(self, buffer: Buffer, at: np.ndarray, values: Any, mask: np.ndarray | None) -> np.ndarray:
        """An atomic update, lane by lane. Returns what stood there."""
        live = self._live(buffer, at, mask, "oob_write")
        old = np.zeros(at.shape, buffer.dtype.storage)
        if buffer.flat is None or not self.checks:
            return old
        found = []
        for element, value in zip(live, _lanes(values, mask), strict=True):
            held = buffer.decoded(buffer.flat[element : element + 1])
            found.append(held[0])
            buffer.flat[element : element + 1] = buffer.encoded(held + value)
        old[... if mask is None else mask] = np.reshape(found, at.shape) if mask is None else found
        self._keep(Entry(running().id, "update", buffer, live, running().line))
        return old

    def _keep(self, entry: Entry) -> None:
        if self.log is None or not entry.elements.size:
            return
        self._kept += entry.elements.size
        if self._kept > BUDGET:
            self.log = None
        else:
            self.log.append(entry)

    def _live(self, buffer: Buffer, at: np.ndarray, mask: np.ndarray | None, kind: str) -> np.ndarray:
        """The elements that are touched, all of which have to be there."""
        live = _lanes(at, mask)
        if self.checks and live.size and not (live.min() >= 0 and live.max() < buffer.size):
            raise Stopped(_outside(buffer, live, kind))
        return live


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
        raise Stopped(
            Fault(
                "lanes", program.line, program.kernel, buffer.name, element=element,
                detail=f"two lanes of one store write different values to element {element}",
            )
        )  # fmt: skip


def _outside(buffer: Buffer, elements: np.ndarray, kind: str) -> Fault:
    """Elements that are not there; those on the side of the buffer that is nearer."""
    past, before = np.unique(elements[elements >= buffer.size]), np.unique(elements[elements < 0])
    ahead = bool(past.size) and (not before.size or past[0] - buffer.size < -before[-1])
    program = running()
    return Fault(
        kind, program.line, program.kernel, buffer.name, past.size if ahead else 0, 0 if ahead else before.size,
        detail=f"program {program.id}",
    )  # fmt: skip
