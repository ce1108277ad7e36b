"""Convolution of stride 1 that loads a row of x once for the rows of y that it goes into.

    y[p, q, k] += x[p - top + r, q - left + s, c] w[r, s, c, k]        for each tap (r, s), each channel c

gemm.py loads a pixel anew for each of its R*S taps, and shift.py for each of R. Here a program computes a few rows of y, with
an accumulator each. A trip takes one column s of the filter and a chunk of channels: of each row of x that the taps of the
column read, it loads a tile once, and multiplies it for all the rows of y that it goes into. That makes (ROWS + R - 1) * S
loads for ROWS rows of y, and nothing is left to be shifted at the end. The gradient in x is the same, with the filter turned
around. Tiles end where rows do: this is for wide images.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import below, hinted, load_tile

from .epilogue import finish
from .gemm import hinted_taps
from .pixels import turned


@triton.jit
def conv2d_rows_kernel(
    x_ptr, w_ptr,                       # as in conv2d_gemm_kernel; channels of x lie back to back
    bias_ptr, residual_ptr, ring_ptr,
    y_ptr,
    x_size, y_size, groups,
    x_strides, w_strides, r_strides, y_strides,
    sides,
    R: tl.constexpr, S: tl.constexpr, ROWS: tl.constexpr,
    MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    EVEN: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes ROWS rows of y, BLOCK_M columns and BLOCK_N channels of each.

    Grid: groups * images * tiles of rows * tiles of columns * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, C, H, W = x_size
    K, P, Q = y_size
    C, K = C // VEC[0] * VEC[0], K // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, w_sk, w_sc, w_sr, w_ss = hinted_taps(w_strides, VEC[1], ALONG[1])
    r_strides, y_strides = hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE)
    left, top, w_ptr, w_sr, w_ss = turned(w_ptr, w_sr, w_ss, sides, R, S, MAP)

    tiles_n, tiles_q, tiles_p = tl.cdiv(K, BLOCK_N), tl.cdiv(Q, BLOCK_M), tl.cdiv(P, ROWS)
    pid = tl.program_id(0)
    offs_k = pid % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
    q = pid // tiles_n % tiles_q * BLOCK_M + tl.arange(0, BLOCK_M)
    tile = pid // tiles_n // tiles_q
    first = tile % tiles_p * ROWS
    n, group = tile // tiles_p % N, tile // tiles_p // N
    if WIDE:
        n = tl.cast(n, tl.int64)
    mask_q, mask_k = q < Q, below(offs_k, K, EVEN[1])
    x_ptr += n * x_sn + group * C * x_sc
    w_ptr += group * w_sg
    lanes = tl.arange(0, BLOCK_K)
    accs = ()
    for _ in tl.static_range(ROWS):
        accs += (tl.zeros((BLOCK_M, BLOCK_N), ACC),)
    s, c0 = 0, 0
    for _ in range(S * tl.cdiv(C, BLOCK_K)):
        w = q - left + s
        if BORDER == "constant":
            there = in_range(w, W)
        else:
            w, there = border_index(w, W, BORDER), mask_q
        mask_c = below(lanes, C - c0, EVEN[0])
        taps = ()
        for r in tl.static_range(R):
            w_block = w_ptr + (r * w_sr + s * w_ss + c0 * w_sc)
            taps += (load_tile(w_block, lanes * w_sc, offs_k * w_sk, mask_c, mask_k, ALONG[1]),)
        for i in tl.static_range(ROWS + R - 1):
            h = first - top + i
            if BORDER == "constant":
                x_row, mask_w = x_ptr + (h * x_sh + c0), there & in_range(h, H)
            else:
                x_row, mask_w = x_ptr + (border_index(h, H, BORDER) * x_sh + c0), there
            a = load_tile(x_row, w * x_sw, lanes, mask_w, mask_c, 1)
            sums = ()
            for j in tl.static_range(ROWS):
                if i - j >= 0 and i - j < R:
                    sums += (tl.dot(a, taps[i - j], accs[j], input_precision=PRECISION, out_dtype=ACC),)
                else:
                    sums += (accs[j],)
            accs = sums
        s += 1
        c0, s = tl.where(s == S, c0 + BLOCK_K, c0), tl.where(s == S, 0, s)

    for j in tl.static_range(ROWS):
        p = first + j
        finish(
            accs[j], bias_ptr, residual_ptr, ring_ptr, y_ptr, (n, p, q), group * K + offs_k, mask_q & (p < P), mask_k,
            (groups * K, P, Q), r_strides, y_strides, sides, ACTIVATION, FOLD, ALONG[2],
        )  # fmt: skip
