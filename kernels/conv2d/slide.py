"""Depthwise convolution that slides down the image: a row is read once for all the rows of y that it goes into.

    y[p, q, c] += x[h, q stride - left + s, c] w[h - (p stride - top), s, c]        for each row h of x, each tap s, each p

direct.py loads and widens a pixel anew for each of its R*S taps. Here a program goes down a strip: of each row of x it loads
the S columns that its taps read, and multiplies them for the R / stride rows of y that they go into, whose sums wait in
registers as the taps do. The gradient in x of a convolution of stride 1 is the same, with the filter turned around.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import hinted, load_tile

from .epilogue import finish
from .pixels import strip_of, turned


@triton.jit
def columns_of_taps(
    q, mask_q, offs_c, mask_c, W, x_sw, left, S: tl.constexpr, STRIDE: tl.constexpr, BORDER: tl.constexpr
):
    """What the S taps of columns q read in a row of x: a tile [columns, channels] of offsets and one of masks for each."""
    offs, inside = (), ()
    for s in tl.static_range(S):
        w, there = q * STRIDE - left + s, mask_q
        if BORDER == "constant":
            there = there & in_range(w, W)
        else:
            w = border_index(w, W, BORDER)  # clamped: columns beyond the last output lie anywhere
        offs += (w[:, None] * x_sw + offs_c[None, :],)
        inside += (there[:, None] & mask_c[None, :],)
    return offs, inside


@triton.jit
def load_row(x_ptr, h, H, x_sh, offs, inside, pad_ptr, S: tl.constexpr, BORDER: tl.constexpr):
    """Row h of an image as S taps read it: 0 beyond a constant border, or its value if there is a pad_ptr."""
    row = x_ptr + border_index(h, H, BORDER) * x_sh  # clamped: the last rows of a strip may go into no row of y
    beyond = 0.0
    if pad_ptr is not None:
        beyond = tl.load(pad_ptr)
    found = ()
    for s in tl.static_range(S):
        mask = inside[s]
        if BORDER == "constant":
            mask = mask & in_range(h, H)
        found += (tl.load(row + offs[s], mask=mask, other=beyond),)
    return found


@triton.jit
def conv2d_slide_kernel(
    x_ptr, w_ptr,                       # as in conv2d_direct_kernel; channels of x and y lie back to back
    bias_ptr, residual_ptr, ring_ptr,
    pad_ptr,
    y_ptr,
    x_size, y_size, groups,             # of one channel in and one out
    x_strides, w_strides, r_strides, y_strides,
    sides, rows,
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, ROWS_A_TRIP: tl.constexpr,
    MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    ALONG: tl.constexpr, VEC: tl.constexpr,     # for x, w and y; the kernel does not use those of w
    WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program slides BLOCK_M columns of BLOCK_N channels down `rows` rows of y.

    Grid: images * strips * tiles of columns * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    WAITING: tl.constexpr = (R + STRIDE - 1) // STRIDE  # rows of y that a row of x goes into
    _N, _C, H, W = x_size
    _K, P, Q = y_size
    channels = groups // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, _w_sk, _w_sc, w_sr, w_ss = w_strides
    r_strides, y_strides = hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE)
    left, top, w_ptr, w_sr, w_ss = turned(w_ptr, w_sr, w_ss, sides, R, S, MAP)
    pid, tiles_n = tl.program_id(0), tl.cdiv(channels, BLOCK_N)
    offs_k = pid % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    n, q, first, end = strip_of(pid // tiles_n, P, Q, rows, WIDE, BLOCK_M)
    mask_k, mask_q = offs_k < channels, q < Q
    x_ptr += n * x_sn
    offs, inside = columns_of_taps(q, mask_q, offs_k * x_sc, mask_k, W, x_sw, left, S, STRIDE, BORDER)
    # each thread loads the taps of its own channels, and the bias: from a block of channels they would come by shared memory
    taps = ()
    for r in tl.static_range(R):
        for s in tl.static_range(S):
            taps += (load_tile(w_ptr + (r * w_sr + s * w_ss), q * 0, offs_k * w_sg, mask_q, mask_k, 1).to(ACC),)
    start = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    if bias_ptr is not None:
        start += load_tile(bias_ptr, q * 0, offs_k, mask_q, mask_k, 1).to(ACC)
    accs = ()
    for _ in tl.static_range(WAITING):
        accs += (start,)
    # a trip waits for memory once: what it loads is loaded before a row is stored, which the compiler would not move loads past
    for trip in range(first, end + WAITING - 1, ROWS_A_TRIP):
        loaded = ()
        for i in tl.static_range(ROWS_A_TRIP * STRIDE):
            loaded += load_row(x_ptr, trip * STRIDE - top + i, H, x_sh, offs, inside, pad_ptr, S, BORDER)
        for j in tl.static_range(ROWS_A_TRIP):
            # the first of accs is that of row trip + j of y, the last that of row p, which is whole
            for i in tl.static_range(STRIDE):
                sums = ()
                for age in tl.static_range(WAITING):
                    acc = accs[age]  # type: ignore[var-annotated]
                    if i + STRIDE * age < R:
                        for s in tl.static_range(S):
                            acc += loaded[(j * STRIDE + i) * S + s].to(ACC) * taps[(i + STRIDE * age) * S + s]
                    sums += (acc,)
                accs = sums
            p = trip + j - (WAITING - 1)
            finish(
                accs[WAITING - 1], None, residual_ptr, ring_ptr, y_ptr, (n, p, q), offs_k, mask_q & (p >= first) & (p < end),
                mask_k, (channels, P, Q), r_strides, y_strides, sides, ACTIVATION, FOLD, ALONG[2],
            )  # fmt: skip
            sums = (start,)
            for age in tl.static_range(WAITING - 1):
                sums += (accs[age],)
            accs = sums
