"""Problems of more than 2^31 elements, without their memory: tensors on the device "meta", of which addresses are checked.

The first, the middle and the last programs of a launch run; what they load is 0, what they store is dropped.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from triton.runtime.jit import JITFunction
from ttsem import harness, sanitize
from ttsem.interp import Interp
from ttsem.memory import Memory, MemoryFault

from .compiler import Compiler, parse
from .places import of_callees
from .report import Fault, Program


@contextlib.contextmanager
def plan() -> Iterator[list[Any]]:
    """In the block, launches are caught and not run: what each was given."""
    caught: list[Any] = []
    run = JITFunction.run

    def catch(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        bound = harness._bind_names(self.arg_names, args, kwargs, harness._param_defaults(self))
        grid = grid(bound) if callable(grid) else grid
        harness.check_launch_grid(grid)
        caught.append(
            SimpleNamespace(fn=self, fn_name=self.__name__, args=args, kwargs=kwargs, bound=bound, grid=grid, ptrs={})
        )

    JITFunction.run = catch
    try:
        yield caught
    finally:
        JITFunction.run = run


def astray(record: Any, compiler: Compiler, file: Path) -> Fault | None:
    """The first access of a launch outside of what it was given.

    Raises:
        Exception: whatever ttsem raises for what it cannot execute.
    """
    ir = compiler(record)
    module = parse(ir)
    name = record.fn_name if record.fn_name in module.funcs else harness._entry_candidates(module, record.fn_name)[0]
    spans: dict[str, tuple[int, int]] = {}
    for n, (parameter, value) in enumerate(record.bound.items(), 1):
        if isinstance(value, Tensor):
            # so far apart that no offset leads from one to another
            spans[parameter] = (n << 44, value.untyped_storage().nbytes())
            record.ptrs[parameter] = (n << 44) + value.storage_offset() * value.element_size()
    block: Any = module.funcs[name].regions[0].blocks[0]
    values = harness._arg_values(record, harness._runtime_param_names(record), block, False)
    grid = harness._grid3(tuple(record.grid) if isinstance(record.grid, tuple | list) else (record.grid,))
    interp = Interp(module, _Nowhere(spans), grid)
    axes = [sorted({0, size // 2, size - 1}) for size in grid]
    for z, y, x in itertools.product(*reversed(axes)):
        program = x, y, z
        try:
            interp.run(name, values, program)
        except MemoryFault as error:
            with of_callees():
                line = int(sanitize._source_of(sanitize._op_of(error), ir, str(file))[1])
            return _fault(error, spans, record, program, line)
    return None


def _fault(error: MemoryFault, spans: dict[str, tuple[int, int]], record: Any, program: Program, line: int) -> Fault:
    address = int(error.addrs[0])
    buffer = min(spans, key=lambda name: abs(address - spans[name][0]))
    base, size = spans[buffer]
    # an offset of 32 bits that has wrapped around is negative
    kind = "far" if address < base else f"oob_{error.kind}"
    past = len(np.unique(error.addrs)) if address >= base + size else 0
    return Fault(
        kind, line, record.fn_name, buffer, past, element=(address - base) // error.itemsize,
        programs=(program,), both_store=error.kind == "write", detail=error.kind,
    )  # fmt: skip


class _Nowhere(Memory):
    """Memory of which there is only the size: loads give zeros, stores vanish, addresses are checked."""

    def __init__(self, spans: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.spans = spans

    def _check(self, addresses: Any, mask: Any, itemsize: int, kind: str) -> None:
        flat = np.asarray(addresses, np.int64).reshape(-1)
        if mask is not None:
            flat = flat[np.broadcast_to(np.asarray(mask, bool), np.shape(addresses)).reshape(-1)]
        inside = np.zeros(flat.shape, bool)
        for base, size in self.spans.values():
            inside |= (flat >= base) & (flat + itemsize <= base + size)
        if not inside.all():
            fault = MemoryFault(int(flat[~inside][0]), flat[~inside], itemsize)
            fault.kind = kind
            raise fault

    def load(self, addrs: Any, mask: Any, other: Any, dtype: Any) -> np.ndarray:
        self._check(addrs, mask, np.dtype(dtype).itemsize, "read")
        return np.zeros(np.shape(addrs), dtype)

    def store(self, addrs: Any, values: Any, mask: Any) -> None:
        self._check(addrs, mask, np.asarray(values).dtype.itemsize, "write")

    def atomic(self, kind: str, addrs: Any, values: Any, mask: Any, *_: Any, **__: Any) -> np.ndarray:
        dtype = np.asarray(values[1] if kind == "cas" else values).dtype
        self._check(addrs, mask, dtype.itemsize, "write")
        return np.zeros(np.shape(addrs), dtype)


def large(inputs: tuple[Any, ...]) -> bool:
    """Whether there is a tensor among the inputs whose offsets do not fit into 32 bits."""
    return any(isinstance(one, Tensor) and one.device == torch.device("meta") and one.numel() > 2**31 for one in inputs)
