"""Tiles over the windows of an image: what kernels of pooling and unpooling share.

A tensor is planes of H rows of W pixels of L interleaved channels, which are called lanes: N*C planes with L = 1 in NCHW, and N
planes with L = C in channels_last. All rows of all planes, G of them, lie under each other; a program owns a rectangle of
these, so that small images fill a program as well as large ones. A row's and a column's index arithmetic is done once, not once
an element.

A WINDOW is a `Window` of geometry.py as plain pairs, since Triton writes constants to JSON: [0] its R x S taps, [1] their
stride, [2] padding, [3] dilation. Window (p, q) covers the pixels
h = p*stride - padding + r*dilation, r < R, and w likewise. Pixel h is covered by those of the TAPS windows
p = (h + padding)//stride - i, i < TAPS, that leave no remainder. DIM is 0 for rows and 1 for columns.

The strides of a tensor are those of images, channels, rows and columns. DEPTH is the number of planes of an image, or 1, with
the stride 0 of a channel, where all planes lie at equal steps: then nothing needs to be divided.
"""

import triton
import triton.language as tl


@triton.jit
def tile(
    G, H, W, L, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """Find the rectangle of this program: for its rows, the plane and the row in it; for its columns, the pixel and the lane;
    which rows and columns there are; and their offsets in a dense tensor."""
    # a row, or its span of memory, may have 2^31 elements: it is widened before anything is multiplied
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
def store_tile(y_ptr, y, rows, cols, mask_g, mask_j):
    """Write the rectangle of this program to a dense tensor."""
    tl.store(
        y_ptr + rows[:, None] + cols[None, :], y.to(y_ptr.dtype.element_ty), mask=mask_g[:, None] & mask_j[None, :]
    )


@triton.jit
def plane_offset(plane, DEPTH, strides):
    """Where a plane begins."""
    return (plane // DEPTH).to(tl.int64) * strides[0] + (plane % DEPTH).to(tl.int64) * strides[1]


@triton.jit
def pixel_offset(h, w, strides):
    """Where pixel (h, w) lies in its plane."""
    return h.to(tl.int64) * strides[2] + w * strides[3]


@triton.jit
def tap_ptrs(x_ptr, strides, planes, h, w, lane, VEC: tl.constexpr):
    """Point to a rectangle: the elements in rows h of the planes that begin at `planes`, and in columns w and their lanes.

    A column's lanes lie back to back in units of VEC.
    """
    rows = planes + h.to(tl.int64) * strides[2]
    if VEC > 1:
        rows = tl.multiple_of(rows, VEC)
    cols = w * strides[3] + lane * strides[1]
    if VEC > 1:
        cols = tl.max_contiguous(tl.multiple_of(cols, VEC), VEC)
    return x_ptr + rows[:, None] + cols[None, :]


@triton.jit
def load_tap(x_ptr, strides, planes, h, w, lane, mask_h, mask_w, other: tl.constexpr, VEC: tl.constexpr):
    """Load the rectangle of `tap_ptrs`."""
    x_ptrs = tap_ptrs(x_ptr, strides, planes, h, w, lane, VEC)
    return tl.load(x_ptrs, mask=mask_h[:, None] & mask_w[None, :], other=other)


@triton.jit
def first_pixel(p, WINDOW: tl.constexpr, DIM: tl.constexpr):
    """The row, or column, at which window p begins; it may lie in the padding."""
    return p * WINDOW[1][DIM] - WINDOW[2][DIM]


@triton.jit
def covering(h, tap, SIZE, TAPS: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr):
    """Find the tap-th window over pixel h, from first to last: its number, which tap of it h is, and whether there is one."""
    from_start = h + WINDOW[2][DIM]
    p = from_start // WINDOW[1][DIM] - (TAPS[DIM] - 1 - tap)
    distance = from_start - p * WINDOW[1][DIM]
    r = distance // WINDOW[3][DIM]
    return p, r, (p >= 0) & (p < SIZE) & (r < WINDOW[0][DIM]) & (distance % WINDOW[3][DIM] == 0)
