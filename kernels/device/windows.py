"""Tiles over the windows of an image: what kernels of pooling and unpooling share.

A tensor is planes of H rows of W pixels of L interleaved channels, which are called lanes: N*C planes with L = 1 in NCHW, and N
planes with L = C in channels_last. All rows of all planes, G of them, lie under each other; a program owns a rectangle of
these, so that small images fill a program as well as large ones. A row's and a column's index arithmetic is done once, not once
an element.

    The output of a pool, 2 images of P = 3 rows, Q = 4 columns and 2 channels in channels_last, is 2 planes of L = 2 lanes.
    It is G x (Q*L) = 6 x 8 elements, of which a program owns BLOCK_ROWS x BLOCK_COLS, here 2 x 4:

                  q   0   0   1   1   2   2   3   3
               lane   0   1   0   1   0   1   0   1
                  e   0   1   2   3   4   5   6   7        g = plane*P + p, e = q*L + lane: in a dense tensor
        plane  p  g                                        the element lies at g*Q*L + e.
          0    0  0   .   .   .   .   .   .   .   .
          0    1  1   .   .   .   .   .   .   .   .        # Program 3: rectangles are counted row by row.
                                    +---------------+      `tile` finds its planes 0 and 1 and their rows
          0    2  2   .   .   .   . | #   #   #   # |      p = 2 and 0, a plane and a row for each g; and
          1    0  3   .   .   .   . | #   #   #   # |      q = 2, 2, 3, 3 with lanes 0, 1, 0, 1, a pixel
                                    +---------------+      and a lane for each e.
          1    1  4   .   .   .   .   .   .   .   .
          1    2  5   .   .   .   .   .   .   .   .

Where windows overlap, a program may go down a strip instead: it owns a row of BLOCK_COLS columns in each of BLOCK_ROWS planes,
and after it the next (see `strip_tile`). A row of the input is then loaded once for all windows that it lies in.

A WINDOW is a `Window` of geometry.py as plain pairs, since Triton writes constants to JSON: [0] its R x S taps, [1] their
stride, [2] padding, [3] dilation. Window (p, q) covers the pixels
h = p*stride - padding + r*dilation, r < R, and w likewise. Pixel h is covered by those of the TAPS windows
p = (h + padding)//stride - i, i < TAPS, that exist and of which h is a tap. DIM is 0 for rows and 1 for columns.

The strides of a tensor are those of images, channels, rows and columns. DEPTH is the number of planes of an image, or 1, with
the stride 0 of a channel, where all planes lie at equal steps: then nothing needs to be divided.
"""

import triton
import triton.language as tl

from .borders import in_range


@triton.jit
def tile(
    G, H, W, L, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """Find the rectangle of this program: for its rows, the plane and the row in it; for its columns, the pixel and the lane;
    which of its rows and columns there are; and their offsets in a dense tensor."""
    # a row, or its span of memory, may have 2^31 elements: it is widened before anything is multiplied
    row = (tl.cast(W, tl.int64) if WIDE else W) * L
    pid = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    blocks = tl.cdiv(row, BLOCK_COLS)
    g = pid // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # [BLOCK_ROWS]
    w, lane, mask_e, e = _columns(pid % blocks, row, L, VEC, VEC_IN, BLOCK_COLS)
    offs_g = g.to(tl.int64) * row
    if VEC > 1:
        offs_g = tl.multiple_of(offs_g, VEC)
    return g // H, (g % H).to(tl.int32), w, lane, g < G, mask_e, offs_g, e


@triton.jit
def strip_tile(
    PLANES, H, W, L, strip, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """Find the strips of this program, which goes down `strip` rows, H of a plane, in each of BLOCK_ROWS planes at once: the
    planes; the first row and the one beyond the last; for its columns, the pixel and the lane; which of its planes and columns
    there are; where row 0 lies in a dense tensor, and how far it is from a row to the next."""
    row = (tl.cast(W, tl.int64) if WIDE else W) * L
    pid = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    blocks, strips = tl.cdiv(row, BLOCK_COLS), tl.cdiv(H, strip)
    w, lane, mask_e, e = _columns(pid % blocks, row, L, VEC, VEC_IN, BLOCK_COLS)
    first = (pid // blocks % strips).to(tl.int32) * strip
    plane = pid // blocks // strips * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # [BLOCK_ROWS]
    # which the compiler cannot know of a row, either
    row = row.to(tl.int64) // VEC * VEC
    offs = (plane.to(tl.int64) * H * row)[:, None] + e[None, :]
    return plane, first, tl.minimum(first + strip, H), w, lane, plane < PLANES, mask_e, offs, row


@triton.jit
def _columns(block, row, L, VEC: tl.constexpr, VEC_IN: tl.constexpr, BLOCK_COLS: tl.constexpr):
    """For the columns of a block of them: the pixel, the lane, whether it is there, and which of a row it is."""
    e = block * BLOCK_COLS + tl.arange(0, BLOCK_COLS)  # [BLOCK_COLS]
    w = e // L
    if VEC_IN > 1:
        # neighbours are lanes of one pixel, and share what becomes of it: masks, above all
        w = tl.max_constancy(w, VEC_IN)
    # a row is a multiple of VEC, which the compiler cannot know
    return w, e % L, e // VEC < row // VEC, e


@triton.jit
def store_rectangle(y_ptr, y, offs_g, offs_e, mask_g, mask_e):
    """Write the rectangle of this program to a dense tensor."""
    tl.store(
        y_ptr + offs_g[:, None] + offs_e[None, :], y.to(y_ptr.dtype.element_ty), mask=mask_g[:, None] & mask_e[None, :]
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
    offs_h = planes + h.to(tl.int64) * strides[2]
    if VEC > 1:
        offs_h = tl.multiple_of(offs_h, VEC)
    offs_w = w * strides[3] + lane * strides[1]
    if VEC > 1:
        offs_w = tl.max_contiguous(tl.multiple_of(offs_w, VEC), VEC)
    return x_ptr + offs_h[:, None] + offs_w[None, :]


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
def is_better(x, best, SMALLEST: tl.constexpr = False):
    """Whether x comes to stand for a window of which `best` is the best so far: a NaN always does."""
    return ((x < best) if SMALLEST else (x > best)) | (x != x)


@triton.jit
def covering(h, number, SIZE, TAPS: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr):
    """Find the window of this number, 0 to TAPS - 1, of those that may lie over pixel h, from first to last: its row or column
    p among all windows, which tap of it h is, and whether it exists and h is a tap of it."""
    from_start = h + WINDOW[2][DIM]
    p = from_start // WINDOW[1][DIM] - (TAPS[DIM] - 1 - number)
    distance = from_start - p * WINDOW[1][DIM]
    r = distance // WINDOW[3][DIM]
    return p, r, (p >= 0) & (p < SIZE) & (r < WINDOW[0][DIM]) & (distance % WINDOW[3][DIM] == 0)


@triton.jit
def window_taps(
    x_ptr, strides, planes, q, lane, W, mask_g, mask_e, WINDOW: tl.constexpr, VEC: tl.constexpr
):  # fmt: skip
    """For each column of windows q: pointers to it in row 0 of the planes, and whether it lies in the image."""
    S: tl.constexpr = WINDOW[0][1]
    ptrs, inside = (), ()
    for s in tl.static_range(S):
        w = first_pixel(q, WINDOW, 1) + s
        ptrs += (tap_ptrs(x_ptr, strides, planes, tl.zeros_like(planes), w, lane, VEC),)
        inside += (mask_g[:, None] & (mask_e & in_range(w, W))[None, :],)
    return ptrs, inside


@triton.jit
def covering_taps(
    x_ptr, strides, planes, w, lane, Q, mask_g, mask_e, TAPS: tl.constexpr, WINDOW: tl.constexpr, VEC: tl.constexpr
):  # fmt: skip
    """For each column of windows that may lie over pixels w, from first to last: pointers to it in row 0 of the planes, whether
    it exists and does, its number, and which tap of it w is."""
    COVER: tl.constexpr = TAPS[1]
    ptrs, inside, numbers, taps = (), (), (), ()
    for i in tl.static_range(COVER):
        q, s, mask_q = covering(w, i, Q, TAPS, WINDOW, 1)
        ptrs += (tap_ptrs(x_ptr, strides, planes, tl.zeros_like(planes), q, lane, VEC),)
        inside += (mask_g[:, None] & (mask_e & mask_q)[None, :],)
        numbers += (q,)
        taps += (s.to(tl.int32),)
    return ptrs, inside, numbers, taps
