"""Convolution of few channels, or of narrow groups, that slides down the image: flat.py, which reads a row of x once.

    y[p, q, k] += sum over j = (s, c) of x[h, q stride - left + s, c] w[h - (p stride - top), s, c, k]      for each row h of x

flat.py loads an element anew for each of the R*S taps that reach it, from an address of its own. Here a program goes down a
strip: of each row of x it loads what the S taps of its columns read, a tile [columns, (s, c)], and multiplies it with one row
of the filter for each of the R / stride rows of y that it goes into, whose sums wait in registers. So elements are loaded
R / stride times less often, and where they lie in a row is computed once. The gradient in x of a convolution of stride 1 is the
same, with the filter turned around.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import hinted, load_tile, load_where

from .epilogue import finish
from .pixels import strip_of, turned


@triton.jit
def row_of_taps(
    q, mask_q, W, x_sc, x_sw, left,
    C: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, BORDER: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """What the S taps of columns q read of C channels in a row of x, as tiles [columns, (s, c)]: offsets, which elements there
    should be, and which of them lie inside the row."""
    j = tl.arange(0, BLOCK_K)
    w, wanted = q[:, None] * STRIDE - left + (j // C)[None, :], mask_q[:, None] & (j < S * C)[None, :]
    inside = wanted
    if BORDER == "constant":
        inside = wanted & in_range(w, W)
    else:
        w = border_index(w, W, BORDER)  # clamped: columns beyond the last output lie anywhere
    return w * x_sw + (j % C * x_sc)[None, :], wanted, inside


@triton.jit
def load_row_of_taps(x_ptr, h, H, x_sh, offs, wanted, inside, pad_ptr, BORDER: tl.constexpr, ALONG: tl.constexpr):
    """Row h of an image as `row_of_taps` found it: 0 beyond a constant border, or its value if there is a pad_ptr."""
    mask = inside
    if BORDER == "constant":
        mask = mask & in_range(h, H)
    x_ptr += border_index(h, H, BORDER) * x_sh  # clamped: the last rows of a strip may go into no row of y
    row = load_where(x_ptr, offs, mask, ALONG)
    if pad_ptr is not None:
        row = tl.where(wanted & ~mask, tl.load(pad_ptr), row)
    return row


@triton.jit
def conv2d_flat_slide_kernel(
    x_ptr, w_ptr,                       # as in conv2d_gemm_kernel
    bias_ptr, residual_ptr, ring_ptr,
    pad_ptr,
    y_ptr,
    x_size, y_size, groups,
    x_strides, w_strides, r_strides, y_strides,
    sides, rows,
    C: tl.constexpr,                    # input channels of a group: dividing by a constant is cheap
    R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, ROWS_A_TRIP: tl.constexpr,
    MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    ALONG: tl.constexpr, VEC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program slides BLOCK_M columns of BLOCK_N channels down `rows` rows of y; BLOCK_K columns hold S*C.

    Grid: images * strips * tiles of columns * groups * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    WAITING: tl.constexpr = (R + STRIDE - 1) // STRIDE  # rows of y that a row of x goes into
    _N, _C, H, W = x_size
    K, P, Q = y_size
    K = K // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, w_sk, w_sc, w_sr, w_ss = w_strides
    r_strides, y_strides = hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE)
    left, top, w_ptr, w_sr, w_ss = turned(w_ptr, w_sr, w_ss, sides, R, S, MAP)
    pid, tiles_n = tl.program_id(0), tl.cdiv(K, BLOCK_N)
    offs_k, group = pid % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N), pid // tiles_n % groups
    n, q, first, end = strip_of(pid // tiles_n // groups, P, Q, rows, WIDE, BLOCK_M)
    mask_k, mask_q = offs_k < K, q < Q
    offs, wanted, inside = row_of_taps(q, mask_q, W, x_sc, x_sw, left, C, S, STRIDE, BORDER, BLOCK_K)
    x_ptr += n * x_sn + group * C * x_sc
    w_ptr += group * w_sg
    of_group = group * K + offs_k
    j = tl.arange(0, BLOCK_K)
    taps = ()
    for r in tl.static_range(R):
        of_j = j // C * w_ss + j % C * w_sc
        taps += (load_tile(w_ptr + r * w_sr, of_j, offs_k * w_sk, j < S * C, mask_k, ALONG[1]),)
    start = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    if bias_ptr is not None:
        start += tl.load(bias_ptr + of_group, mask=mask_k, other=0).to(ACC)[None, :]
    accs = ()
    for _ in tl.static_range(WAITING):
        accs += (start,)
    # a trip waits for memory once: what it loads is loaded before a row is stored, which the compiler would not move loads past
    for trip in range(first, end + WAITING - 1, ROWS_A_TRIP):
        loaded = ()
        for i in tl.static_range(ROWS_A_TRIP * STRIDE):
            h = trip * STRIDE - top + i
            loaded += (load_row_of_taps(x_ptr, h, H, x_sh, offs, wanted, inside, pad_ptr, BORDER, ALONG[0]),)
        for a in tl.static_range(ROWS_A_TRIP):
            # the first of accs is that of row trip + a of y, the last that of row p, which is whole
            for i in tl.static_range(STRIDE):
                sums = ()
                for age in tl.static_range(WAITING):
                    acc = accs[age]  # type: ignore[var-annotated]
                    if i + STRIDE * age < R:
                        row = loaded[a * STRIDE + i]  # type: ignore[var-annotated]
                        tap = taps[i + STRIDE * age]  # type: ignore[var-annotated]
                        acc = tl.dot(row, tap, acc, input_precision=PRECISION, out_dtype=ACC)
                    sums += (acc,)
                accs = sums
            p = trip + a - (WAITING - 1)
            finish(
                accs[WAITING - 1], None, residual_ptr, ring_ptr, y_ptr, (n, p, q), of_group, mask_q & (p >= first) & (p < end),
                mask_k, (groups * K, P, Q), r_strides, y_strides, sides, ACTIVATION, FOLD, ALONG[2],
            )  # fmt: skip
            sums = (start,)
            for age in tl.static_range(WAITING - 1):
                sums += (accs[age],)
            accs = sums
