"""Windows of adaptive pools, which are given by how many there are, and tiles for kernels that reduce large ones.

Output p of `size` covers the inputs from floor(p*size_in/size) to ceil((p + 1)*size_in/size), this one left out. Windows
overlap where the sizes do not divide. Input h lies in the windows from floor(h*size/size_in) to ceil((h + 1)*size/size_in):
the same formula with the sizes swapped. So the gradient of a pool reads the windows of the pool the other way.

Small windows are gathered, with the tiles of windows.py. Of a large one, as the whole image of a classifier's last pool, the
pixels would come one after another; there a program owns one window of some planes, and reads many pixels at once.

DEPTH and strides are those of windows.py. LONG says that products of sizes need 64 bits.
"""

import triton
import triton.language as tl

from .windows import plane_offset


@triton.jit
def first_of(p, size, size_in, LONG: tl.constexpr):
    """The first input of output p."""
    return (p.to(tl.int64) if LONG else p) * size_in // size


@triton.jit
def end_of(p, size, size_in, LONG: tl.constexpr):
    """One more than the last input of output p."""
    return (((p + 1).to(tl.int64) if LONG else p + 1) * size_in + size - 1) // size


@triton.jit
def share_of(p, size, size_in, LONG: tl.constexpr, ACC: tl.constexpr):
    """1 over the number of inputs of output p."""
    return 1 / (end_of(p, size, size_in, LONG) - first_of(p, size, size_in, LONG)).to(ACC)


@triton.jit
def bounds_of(p, size, size_in, LONG: tl.constexpr, VEC_IN: tl.constexpr):
    """The first input of output p, and one more than its last; VEC_IN neighbours share both."""
    first, end = first_of(p, size, size_in, LONG), end_of(p, size, size_in, LONG)
    return (tl.max_constancy(first, VEC_IN), tl.max_constancy(end, VEC_IN)) if VEC_IN > 1 else (first, end)


@triton.jit
def window_tile(
    planes, DEPTH, H, W, P, Q, x_strides,
    LONG: tl.constexpr, VEC_PLANES: tl.constexpr, BLOCK_PLANES: tl.constexpr,
):  # fmt: skip
    """Find the window of this program: its planes, where they begin, which of them there are; its row and column among the
    windows; and the first input and the end of both."""
    pid = tl.program_id(0)
    q, p = pid % Q, pid // Q % P
    plane = (pid // Q // P).to(tl.int64) * BLOCK_PLANES + tl.arange(0, BLOCK_PLANES)  # [BLOCK_PLANES]
    # channels are a multiple of VEC_PLANES, which the compiler cannot know
    mask = plane // VEC_PLANES < planes // VEC_PLANES
    offs = plane_offset(plane, DEPTH, x_strides)
    if VEC_PLANES > 1:
        offs = tl.max_contiguous(tl.multiple_of(offs, VEC_PLANES), VEC_PLANES)
    h0, h1 = first_of(p, P, H, LONG), end_of(p, P, H, LONG)
    w0, w1 = first_of(q, Q, W, LONG), end_of(q, Q, W, LONG)
    return plane, offs, mask, p, q, h0, h1, w0, w1


@triton.jit
def window_cols(w, w1, VEC_COLS: tl.constexpr, WIDE: tl.constexpr, BLOCK_COLS: tl.constexpr):
    """Columns from w on, and which of them lie in the window, that ends before w1."""
    offs = tl.arange(0, BLOCK_COLS)
    cols = w + offs  # [BLOCK_COLS]
    # windows begin and end at a multiple of VEC_COLS, which the compiler cannot know
    mask = offs // VEC_COLS < (w1 - w) // VEC_COLS
    if VEC_COLS > 1:
        cols = tl.max_contiguous(tl.multiple_of(cols, VEC_COLS), VEC_COLS)
    return cols.to(tl.int64) if WIDE else cols, mask
