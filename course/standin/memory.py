"""Memory of a launch: every load and store is looked at, and kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from .. import report
from ..report import Access, Fault
from ..report import Program as Id
from .dtypes import OF_TORCH, DType, bfloat16
from .program import Stopped, running
from .tensors import Tensor

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
        if tensor.device.type == "meta":
            # its last element is the last one there is
            reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
            self.size = tensor.storage_offset() + reach + 1 if tensor.numel() else 0
        else:
            whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
            self.flat = (whole.view(torch.int16) if self.dtype is bfloat16 else whole).numpy()
            self.size = len(self.flat)

    def described(self) -> report.Buffer:
        values = None
        if self.flat is not None and self.size <= report.Buffer.LARGE:
            values = self.decoded(self.flat).astype(np.float64)
        one = self.tensor
        return report.Buffer(tuple(one.shape), one.stride(), one.storage_offset(), values)

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

    def load(self, at: Tensor, mask: np.ndarray | None, other: np.ndarray | None) -> np.ndarray:
        buffer = at.buffer
        assert buffer is not None
        found = np.zeros(at.shape, buffer.dtype.storage)
        if other is not None:
            found[...] = other
        live = self._live(at, mask, "oob_read")
        if buffer.flat is None or not self.checks:
            return found
        values = buffer.decoded(buffer.flat[live])
        self._keep(Entry(running().id, "load", buffer, live, running().line))
        if mask is None:
            return values.reshape(at.shape)
        found[mask] = values
        return found

    def store(self, at: Tensor, values: np.ndarray, mask: np.ndarray | None) -> None:
        buffer = at.buffer
        assert buffer is not None
        live = self._live(at, mask, "oob_write")
        if buffer.flat is None or not self.checks or not live.size:
            return
        raw = np.ascontiguousarray(buffer.encoded(values.reshape(-1) if mask is None else values[mask]))
        bits, before = (one.view(f"u{buffer.itemsize}") for one in (raw, buffer.flat[live]))
        self._check_lanes(buffer, live, bits)
        buffer.flat[live] = raw
        self._keep(Entry(running().id, "store", buffer, live, running().line, bits, bits == before))

    def add(self, at: Tensor, values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """An atomic update: lanes one by one. Returns what stood there."""
        buffer = at.buffer
        assert buffer is not None
        live = self._live(at, mask, "oob_write")
        old = np.zeros(at.shape, buffer.dtype.storage)
        if buffer.flat is None or not self.checks:
            return old
        lanes = np.ones(at.shape, bool) if mask is None else mask
        found = []
        for element, value in zip(live, values[lanes], strict=True):
            held = buffer.decoded(buffer.flat[element : element + 1])
            found.append(held[0])
            buffer.flat[element : element + 1] = buffer.encoded(held + value)
        old[lanes] = found
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

    def _live(self, at: Tensor, mask: np.ndarray | None, kind: str) -> np.ndarray:
        """The elements that are touched; all of them are there."""
        data = np.asarray(at.data)
        live = data.reshape(-1) if mask is None else data[mask]
        assert at.buffer is not None
        if self.checks and live.size and not (live.min() >= 0 and live.max() < at.buffer.size):
            raise Stopped(_outside(at.buffer, live, kind))
        return live

    def _check_lanes(self, buffer: Buffer, elements: np.ndarray, bits: np.ndarray) -> None:
        if (elements[1:] > elements[:-1]).all():
            return
        order = np.argsort(elements, kind="stable")
        elements, bits = elements[order], bits[order]
        clash = np.flatnonzero((elements[1:] == elements[:-1]) & (bits[1:] != bits[:-1]))
        if clash.size:
            element = int(elements[clash[0]])
            program = running()
            raise Stopped(
                Fault(
                    "lanes", program.line, program.kernel, buffer.name, element=element,
                    detail=f"two lanes of one store wrote element {element} with different values",
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
