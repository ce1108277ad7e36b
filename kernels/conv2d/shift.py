"""Convolution of stride 1 that reads a pixel once for all taps of a row of the filter.

    z[s][m, k] = sum over rows r and channels c of x[position(m, r), c] w[r, s, c, k]
    y[m, k]    = sum over columns s of z[s][m + shift(s), k]

gemm.py, plus the shift. gemm.py reads every pixel R*S times, which is what bounds layers of few channels. Here the columns of
the filter have an accumulator each, all fed by the same tile of pixels: R reads instead of R*S. At the end each accumulator is
shifted by as many lanes as its tap is columns away, and they are added. Lanes at both ends of a tile have neighbours in the
next one: tiles overlap by as much as the filter is wide, and store what is whole.

A tile is a run of pixels through rows and images, so the output has to be as wide as the input. With zero padding, a neighbour
beyond the border counts as 0; with a reflected or replicated border, it is another lane of the tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import below, hinted, load_tile

from .epilogue import finish
from .gemm import hinted_taps


@triton.jit
def _shifted(z, q, W, SHIFT: tl.constexpr, BORDER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """The rows of z that hold, for lanes in columns q, the column SHIFT further; 0 beyond a border of zeros."""
    lane = tl.arange(0, BLOCK_M)
    # the largest tile, 256x64x32 in 16 bits, takes 254 of 255 registers (triton 3.8, sm_90): the compile tier judges this form
    if BORDER == "constant":
        there, lane = in_range(q + SHIFT, W), lane + SHIFT
    else:
        there, lane = lane >= 0, lane + (border_index(q + SHIFT, W, BORDER, False) - q)
    lane = tl.maximum(tl.minimum(lane, BLOCK_M - 1), 0)
    z = tl.gather(z, tl.broadcast_to(lane[:, None], (BLOCK_M, BLOCK_N)), 0)
    return tl.where(there[:, None], z, 0.0)


@triton.jit
def conv2d_shift_kernel(
    x_ptr, w_ptr,                       # as in conv2d_gemm_kernel; channels of x lie back to back
    bias_ptr, residual_ptr, ring_ptr,
    y_ptr,
    x_size, y_size, groups,             # Q = W
    x_strides, w_strides, r_strides, y_strides,
    sides, step,
    R: tl.constexpr, S: tl.constexpr,
    DILATION: tl.constexpr, BEFORE: tl.constexpr,   # columns from a tap to the next, and from the leftmost to the pixel
    MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    EVEN: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M - (S - 1) * DILATION pixels of BLOCK_N channels.

    Grid: groups * tiles of pixels * tiles of channels, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    SPAN: tl.constexpr = (S - 1) * DILATION
    N, C, H, W = x_size
    K, P, Q = y_size
    C, K = C // VEC[0] * VEC[0], K // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, w_sk, w_sc, w_sr, w_ss = hinted_taps(w_strides, VEC[1], ALONG[1])
    r_strides, y_strides = hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE)
    _left, _right, top, _bottom = sides
    step_h, _step_w = step
    every_pixel = N * P * Q
    if WIDE:
        every_pixel = tl.cast(N, tl.int64) * P * Q

    tiles_n, tiles_m = tl.cdiv(K, BLOCK_N), tl.cdiv(every_pixel, BLOCK_M - SPAN)
    pid = tl.program_id(0)
    pid_n, pid_m, group = pid % tiles_n, pid // tiles_n % tiles_m, pid // tiles_n // tiles_m
    lanes_m = tl.arange(0, BLOCK_M)
    m = pid_m * (BLOCK_M - SPAN) - BEFORE + lanes_m
    whole = (lanes_m >= BEFORE) & (lanes_m < BLOCK_M - SPAN + BEFORE) & (m < every_pixel)
    m = tl.maximum(tl.minimum(m, every_pixel - 1), 0)
    row, q = m // Q, (m % Q).to(tl.int32)
    n, p = row // P, (row % P).to(tl.int32)
    h0 = p + top if MAP == "transposed" else p - top
    x_ptr += group * C * x_sc
    w_ptr += group * w_sg
    image = n * x_sn + q * x_sw
    pixels = image + h0 * x_sh
    inside = 0
    for r in tl.static_range(R):
        inside |= in_range(h0 + r * step_h, H).to(tl.int32) << r
    offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = below(offs_k, K, EVEN[1])
    lanes = tl.arange(0, BLOCK_K)
    accs = ()
    for _ in tl.static_range(S):
        accs += (tl.zeros((BLOCK_M, BLOCK_N), ACC),)
    t_h, c0 = 0, 0
    for _ in range(R * tl.cdiv(C, BLOCK_K)):
        if BORDER == "constant":
            x_block, offs, there = x_ptr + (t_h * step_h * x_sh + c0), pixels, inside & (1 << t_h) != 0
        else:
            h = border_index(h0 + t_h * step_h, H, BORDER, False)
            x_block, offs, there = x_ptr + c0, image + h * x_sh, tl.full((BLOCK_M,), True, tl.int1)
        mask_c = below(lanes, C - c0, EVEN[0])
        a = load_tile(x_block, offs, lanes, there, mask_c, 1)
        sums = ()
        for s in tl.static_range(S):
            w_block = w_ptr + (t_h * w_sr + s * w_ss + c0 * w_sc)
            b = load_tile(w_block, lanes * w_sc, offs_k * w_sk, mask_c, mask_k, ALONG[1])
            sums += (tl.dot(a, b, accs[s], input_precision=PRECISION, out_dtype=ACC),)
        accs = sums
        t_h += 1
        c0, t_h = tl.where(t_h == R, c0 + BLOCK_K, c0), tl.where(t_h == R, 0, t_h)

    # taps of a transposed row come from the right
    FIRST: tl.constexpr = SPAN - BEFORE if MAP == "transposed" else -BEFORE
    NEXT: tl.constexpr = -DILATION if MAP == "transposed" else DILATION
    acc = _shifted(accs[0], q, W, FIRST, BORDER, BLOCK_M, BLOCK_N)
    for s in tl.static_range(1, S):
        acc += _shifted(accs[s], q, W, FIRST + s * NEXT, BORDER, BLOCK_M, BLOCK_N)
    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, (n, p, q), group * K + offs_k, whole, mask_k, (groups * K, P, Q),
        r_strides, y_strides, sides, ACTIVATION, FOLD, ALONG[2],
    )  # fmt: skip
