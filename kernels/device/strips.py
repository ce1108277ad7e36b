"""Tiles for kernels that slide down an image: a program owns a block of columns in a strip of rows.

An image is P planes of H rows of W pixels of L interleaved lanes: P = N*C, L = 1 for NCHW, and P = N, L = C for
channels_last. Both are rows of W*L contiguous outputs in which the left neighbour lies L to the left.
"""

import triton
import triton.language as tl


@triton.jit
def strip_tile(H, ROW, L, rows, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """The tile of this program: plane, first and last row, first column, and its columns as pixels and lanes."""
    blocks = tl.cdiv(ROW, BLOCK)
    strips = tl.cdiv(H, rows)
    pid = tl.program_id(0)
    plane = (pid // (blocks * strips)).to(tl.int64)
    h0 = (pid // blocks % strips) * rows
    q0 = (pid % blocks) * BLOCK
    j = q0 % L + tl.arange(0, BLOCK)
    w = q0 // L + j // L  # [BLOCK]
    # in a row that spans 2^31 elements of memory, a column times its stride needs 64 bits
    w = w.to(tl.int64) if WIDE else w
    return plane, h0, tl.minimum(h0 + rows, H), q0, w, j % L


@triton.jit
def plane_ptr(ptr, plane, C, sn, sc):
    """Where a plane begins, of images of C planes each."""
    return ptr + (plane // C) * sn + (plane % C) * sc
