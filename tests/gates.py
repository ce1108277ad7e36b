"""What holds for every kernel that the compile tier compiles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torchops.inspect.machine_code import disassembled


@contextlib.contextmanager
def no_constant_dropped() -> Iterator[None]:
    """Fail at the end of the block if ptxas dropped a constant of a kernel disassembled inside it (see kernels/canary.py).

    A kernel that is hit has to change: where sizes are no constants, as in most of ours, LLVM computes indices in 32 bits.
    """
    before = disassembled().keys()
    yield
    new = [(h[:12], code) for h, code in disassembled().items() if h not in before and code.dropped_constants]
    hit = "; ".join(f"{code.kernel} ({h}): {', '.join(code.dropped_constants)}" for h, code in new)
    assert not new, f"ptxas dropped constants of {hit}"
