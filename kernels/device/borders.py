"""Border modes as index arithmetic: what a tap reads when it falls outside the image.

`zeros` is `constant` with the value 0, so kernels know four modes: replicate, reflect, circular, constant.
"""

import triton
import triton.language as tl


@triton.jit
def border_index(i, size, MODE: tl.constexpr, CLAMP: tl.constexpr = True):
    """The pixel that position i stands for; with CLAMP it lies inside [0, size), whatever i is.

    Constant borders have no such pixel: the position is clamped, and the caller masks it with `in_range`. Without CLAMP, i
    lies no further outside than the border modes reach: reflect less than size, circular no more.
    """
    if MODE == "reflect":
        i = tl.where(i < 0, -i, i)
        i = tl.where(i >= size, (size - 1) - (i - (size - 1)), i)
    elif MODE == "circular":
        # the least unsigned number of the three lies inside: a negative one is a large number, another is a period too large
        near, left, right = tl.cast(i, tl.uint32), tl.cast(i + size, tl.uint32), tl.cast(i - size, tl.uint32)
        i = tl.cast(tl.minimum(tl.minimum(near, left), right), tl.int32)
    if CLAMP or MODE == "replicate":
        i = tl.minimum(tl.maximum(i, 0), size - 1)
    return i


@triton.jit
def in_range(i, size):
    """Whether 0 <= i < size, in one comparison: a negative i is a large unsigned number."""
    return tl.cast(i, tl.uint32) < tl.cast(size, tl.uint32)
