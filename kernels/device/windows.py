"""Tiles over the windows of an image: what kernels of pooling and unpooling share.

An image is P planes of H rows of W pixels of L interleaved lanes: P = N*C, L = 1 for NCHW, and P = N, L = C for
channels_last. All rows of all planes, G = P*H, lie under each other; a program owns a rectangle of them, so that small images
fill a program as well as large ones. A row's and a column's index arithmetic is done once, not once an element.

Window (p, q) covers the pixels h = p*stride - padding + r*dilation, r < R, and w likewise. Pixel h is covered by those of the
TAPS windows p = (h + padding)//stride - i that leave no remainder.
"""

import triton
import triton.language as tl


@triton.jit
def tile(
    G, H, W, L, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """The rectangle of this program, as rows and columns: plane and row in it; pixel and lane; what lies in the image; offsets
    in a dense tensor."""
    # rows, or a row's span of memory, of 2^31 elements: widen before anything is multiplied
    row = (tl.cast(W, tl.int64) if WIDE else W) * L
    pid = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    blocks = tl.cdiv(row, BLOCK_COLS)
    g = pid // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # [BLOCK_ROWS]
    j = pid % blocks * BLOCK_COLS + tl.arange(0, BLOCK_COLS)  # [BLOCK_COLS]
    mask_g = g < G
    # a row is a multiple of VEC, which the compiler cannot know
    mask_j = j // VEC < row // VEC
    rows = g.to(tl.int64) * row
    w, lane = j // L, j % L
    if VEC > 1:
        rows = tl.multiple_of(rows, VEC)
    if VEC_IN > 1:
        # neighbours are lanes of one pixel, and share what becomes of it: masks, above all
        w = tl.max_constancy(w, VEC_IN)
    return g // H, (g % H).to(tl.int32), w, lane, mask_g, mask_j, rows, j


@triton.jit
def plane_offset(plane, C, sn, sc):
    """Where a plane begins; C planes an image (1 where lanes are channels)."""
    return (plane // C).to(tl.int64) * sn + (plane % C).to(tl.int64) * sc


@triton.jit
def row_offset(planes, h, sh, VEC: tl.constexpr):
    offs = planes + h.to(tl.int64) * sh
    return tl.multiple_of(offs, VEC) if VEC > 1 else offs


@triton.jit
def col_offset(w, lane, sw, sc, VEC: tl.constexpr):
    """Offsets of pixels and lanes in a row, back to back in units of VEC."""
    offs = w * sw + lane * sc
    return tl.max_contiguous(tl.multiple_of(offs, VEC), VEC) if VEC > 1 else offs


@triton.jit
def covering(
    h, tap, SIZE, TAPS: tl.constexpr, R: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr
):  # fmt: skip
    """The tap-th of the windows over pixel h, first to last: its number, which tap of it h is, and whether there is one."""
    p = (h + PADDING) // STRIDE - (TAPS - 1 - tap)
    distance = h + PADDING - p * STRIDE
    r = distance // DILATION
    return p, r, (p >= 0) & (p < SIZE) & (r < R) & (distance % DILATION == 0)
