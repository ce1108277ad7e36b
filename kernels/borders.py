"""Border modes as index arithmetic: what a tap reads when it falls outside the image.

`zeros` is `constant` with the value 0, so kernels know four modes: replicate, reflect, circular, constant.
"""

import triton
import triton.language as tl


@triton.jit
def border_index(i, size, MODE: tl.constexpr):
    """The pixel that position i stands for; always inside [0, size), whatever i is.

    Constant borders have no such pixel: the position is clamped, and the caller masks it with `in_range`.
    """
    if MODE == "reflect":
        i = tl.where(i < 0, -i, i)
        i = tl.where(i >= size, (size - 1) - (i - (size - 1)), i)
    elif MODE == "circular":
        i = tl.where(i < 0, i + size, i)
        i = tl.where(i >= size, i - size, i)
    return tl.minimum(tl.maximum(i, 0), size - 1)


@triton.jit
def in_range(i, size):
    return (i >= 0) & (i < size)
