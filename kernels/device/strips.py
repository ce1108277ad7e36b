"""Tiles for kernels that slide down an image: a program owns a block of columns in a strip of rows.

A tensor is planes of H rows of W pixels of L interleaved lanes: N*C planes with L = 1 in NCHW, and N planes with L = C in
channels_last. Both are rows of W*L contiguous outputs in which the left neighbour lies L to the left.
"""

import triton
import triton.language as tl


@triton.jit
def strip_tile(H, ROW, L, rows, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The tile of this program: its plane, its first row and one past the last, its first element e0 of a row of W*L, and the
    pixel and the lane of each of its elements."""
    blocks = tl.cdiv(ROW, BLOCK)
    strips = tl.cdiv(H, rows)
    pid = tl.program_id(0)
    plane = (pid // (blocks * strips)).to(tl.int64)
    h0 = (pid // blocks % strips) * rows
    e0 = (pid % blocks) * BLOCK
    # counted from the first lane of a pixel
    e = e0 % L + tl.arange(0, BLOCK)
    w = e0 // L + e // L  # [BLOCK]
    # in a row that spans 2^31 elements of memory, a column times its stride needs 64 bits
    w = w.to(tl.int64) if WIDE else w
    return plane, h0, tl.minimum(h0 + rows, H), e0, w, e % L


@triton.jit
def plane_ptr(ptr, plane, DEPTH, sn, sc):
    """Where a plane begins, of images of DEPTH planes each."""
    return ptr + (plane // DEPTH) * sn + (plane % DEPTH) * sc
