"""What holds for every kernel that the compile tier compiles."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from torchops.inspect import report
from torchops.inspect.machine_code import adds_halves, disassembled, resources
from torchops.inspect.reports import compile_launch
from torchops.kernels.launch import Launch

_MATRIX = re.compile(r"\b(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma)\b")


def assert_fits(launch: Launch, multiplies: bool = False) -> None:
    """No spill, no stack, no more shared memory than there is; products on matrix units, where a kernel `multiplies`.

    Disassembling takes as long as compiling. It is left out where the other tools and PTX tell as much: what spills lies on the
    stack, and without additions of 16 bits no constant can be dropped.
    """
    compiled = compile_launch(launch)
    ptx = compiled.asm.get("ptx")
    if ptx is None or adds_halves(ptx):
        r = report(launch)
        assert (r.spills, r.stack_bytes) == (0, 0), r
        assert r.matrix_instructions > 0 or not multiplies, r
    else:
        registers, stack_bytes = resources(compiled)
        what = f"{launch.name} on {launch.device.arch} with {launch.config}, of {registers} registers"
        assert stack_bytes == 0, f"{what} spills to {stack_bytes} bytes of stack"
        assert _MATRIX.search(ptx) or not multiplies, f"{what} multiplies without matrix units"
    assert compiled.metadata.shared <= launch.device.shared_bytes, launch


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
