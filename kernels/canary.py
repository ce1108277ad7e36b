"""A canary for ptxas, NVIDIA's assembler: a kernel whose result tells whether constants are dropped.

    y = x - 5, as the lower half of a packed addition of two 16-bit numbers

Where only one half of `add.s16x2 t, x, constant` is used, a faulty ptxas assembles `VIADD.16x2 t, x, 0x0`, and the result is x.
Those of CUDA 12.6, 12.8, 12.9 and 13.0 are faulty (12.6.85, 12.8.93, 12.9.86, 13.0.88, at -O1 and above), those of 13.1 and
newer are not (13.1.115, 13.2.86, 13.3.33); triton 3.6 has 12.8 for GPUs before sm_100 and 12.9 for the others, triton 3.8 has
12.9 and 13.3. sm_80 and sm_89 have no such instruction.

No kernel asks for it: LLVM packs index arithmetic of small constant range into such additions, and what comes of that, nothing
above the machine code can see. It is why PyTorch's own Triton convolution gave wrong values on an H100 (pytorch#173068). The
compile tier looks for it in every kernel it compiles, unless its PTX has no 16-bit addition that could be packed.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .launch import launch
from .planning.protocol import Cost

_NUMBERS = 32


@triton.jit
def canary_kernel(x_ptr, y_ptr, BLOCK: tl.constexpr):
    """The only program takes 5 from BLOCK numbers of 16 bits, each in an int32 (grid: 1)."""
    offs = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs)
    # 65531 is -5 in the lower half, and 0 in the upper
    y = tl.inline_asm_elementwise(
        "{ .reg .b32 c, t; mov.b32 c, 65531; add.s16x2 t, $1, c; cvt.s32.s16 $0, t; }",
        "=r,r",
        [x],
        dtype=tl.int32,
        is_pure=True,
        pack=1,
    )
    tl.store(y_ptr + offs, y)


def values(device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a GPU of sm_90 or newer computes, and what is right: two int32 tensors (32,) on `device`.

    They are equal unless the ptxas that assembled the kernel is faulty.
    """
    x = torch.arange(_NUMBERS, dtype=torch.int32, device=device)
    y = torch.zeros_like(x)
    size = 2 * x.numel() * x.element_size()
    launch(canary_kernel, 1, x, y, config=None, cost=lambda: Cost(size, size, 1), num_warps=1, BLOCK=_NUMBERS)
    return y, x - 5
