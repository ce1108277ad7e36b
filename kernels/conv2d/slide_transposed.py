"""Input gradient of a depthwise convolution of stride 2 that slides down the image, as slide.py does.

    dx[2 p - top + r, 2 q - left + s, c] += dy[p, q, c] w[r, s, c]        for each row p of dy, each q, each tap (r, s)

A row of dy goes into R rows of dx, whose sums wait in registers; then two of them are whole. Every other column of dx has the
same taps. So a program has two tiles of a row, the even columns 2 j and the odd ones 2 j + 1: they read the same few columns of
dy around j, which are loaded and widened once for all taps.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.tiles import hinted, load_tile

from .epilogue import finish
from .pixels import strip_of
from .slide import columns_of_taps, load_row


@triton.jit
def conv2d_slide_transposed_kernel(
    dy_ptr, w_ptr,                      # as in conv2d_direct_kernel; channels of dy and dx lie back to back
    bias_ptr, residual_ptr, ring_ptr,
    dx_ptr,
    dy_size, dx_size, groups,           # of one channel in and one out
    dy_strides, w_strides, r_strides, dx_strides,
    sides, rows,
    R: tl.constexpr, S: tl.constexpr, ODD: tl.constexpr, ROWS_A_TRIP: tl.constexpr,
    MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    ALONG: tl.constexpr, VEC: tl.constexpr,     # for dy, w and dx; the kernel does not use those of w
    WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program slides BLOCK_M even and as many odd columns of BLOCK_N channels down `rows` rows of dx.

    ODD is 1 where the padding at the left is odd.
    Grid: images * strips * tiles of columns * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if dy_ptr.dtype.element_ty == tl.float64 else tl.float32
    WAITING: tl.constexpr = R if R > 2 else 2  # rows of dx that a row of dy goes into; two are stored, reached or not
    COLUMNS: tl.constexpr = (S - 1 + ODD) // 2 + 1  # of dy, that columns 2 j and 2 j + 1 read
    _N, _K, P, Q = dy_size
    _C, H, W = dx_size
    channels = groups // VEC[2] * VEC[2]
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC[0], WIDE)
    w_sg, _w_sk, _w_sc, w_sr, w_ss = w_strides
    r_strides, dx_strides = hinted(r_strides, VEC[2], WIDE), hinted(dx_strides, VEC[2], WIDE)
    left, _right, top, _bottom = sides
    pid, tiles_n = tl.program_id(0), tl.cdiv(channels, BLOCK_N)
    offs_k = pid % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    n, j, first, end = strip_of(pid // tiles_n, H, tl.cdiv(W, 2), rows, WIDE, BLOCK_M)
    mask_k, mask_j = offs_k < channels, 2 * j < W
    dy_ptr += n * dy_sn
    # tap s belongs to columns 2 j + (s + ODD) % 2, which read column j + (left + ODD) // 2 - (s + ODD) // 2 for it
    before = COLUMNS - 1 - (left + ODD) // 2
    offs, inside = columns_of_taps(j, mask_j, offs_k * dy_sk, mask_k, Q, dy_sw, before, COLUMNS, 1, BORDER)
    # each thread loads the taps of its own channels, and the bias: from a block of channels they would come by shared memory
    taps = ()
    for r in tl.static_range(R):
        for s in tl.static_range(S):
            taps += (load_tile(w_ptr + (r * w_sr + s * w_ss), j * 0, offs_k * w_sg, mask_j, mask_k, 1).to(ACC),)
    start = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    if bias_ptr is not None:
        start += load_tile(bias_ptr, j * 0, offs_k, mask_j, mask_k, 1).to(ACC)
    accs = ()
    for _ in tl.static_range(2 * WAITING):
        accs += (start,)
    # from the first row of dy that goes into the strip, or row 0, to the one after which the last row of the strip is whole
    begin = tl.maximum(first + top - WAITING + 2, 0) // 2
    # a trip waits for memory once: what it loads is loaded before a row is stored, which the compiler would not move loads past
    for trip in range(begin, (end - 1 + top) // 2 + 1, ROWS_A_TRIP):
        loaded = ()
        for i in tl.static_range(ROWS_A_TRIP):
            loaded += load_row(dy_ptr, trip + i, P, dy_sh, offs, inside, None, COLUMNS, BORDER)
        for i in tl.static_range(ROWS_A_TRIP):
            # accs are those of rows h, h + 1, ... of dx, the even and the odd columns of each
            h = 2 * (trip + i) - top
            sums = ()
            for r in tl.static_range(WAITING):
                for odd in tl.static_range(2):
                    acc = accs[2 * r + odd]  # type: ignore[var-annotated]
                    for s in tl.static_range(S):
                        if r < R and (s + ODD) % 2 == odd:
                            acc += loaded[(i + 1) * COLUMNS - 1 - (s + ODD) // 2].to(ACC) * taps[r * S + s]
                    sums += (acc,)
            for r in tl.static_range(2):
                for odd in tl.static_range(2):
                    w = 2 * j + odd
                    finish(
                        sums[2 * r + odd], None, residual_ptr, ring_ptr, dx_ptr, (n, h + r, w), offs_k,
                        (w < W) & (h + r >= first) & (h + r < end), mask_k, (channels, H, W), r_strides, dx_strides, sides,
                        ACTIVATION, FOLD, ALONG[2],
                    )  # fmt: skip
            waiting = ()
            for later in tl.static_range(4, 2 * WAITING):
                waiting += (sums[later],)
            accs = waiting + (start, start, start, start)
