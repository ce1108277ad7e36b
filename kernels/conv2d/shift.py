"""Convolution of stride 1 that reads a pixel once for all taps of a row of the filter.

    z[s][m, o] = sum over rows r and channels i of x[pixel(m, r), i] w[r, s, i, o]
    y[m, o]    = sum over columns s of z[s][m + shift(s), o]

The gather of gemm.py reads every pixel R*S times, which is what bounds layers of few channels. Here the columns of the
filter have an accumulator each, all fed by the same tile of pixels: R reads instead of R*S. At the end each accumulator is
shifted by as many lanes as its tap is columns away, and they are added. Lanes at both ends of a tile have neighbours in
the next one: tiles overlap by as much as the filter is wide, and store what is whole.

A tile is a run of pixels through rows and images, so the output has to be as wide as the input. A neighbour beyond the
border is none of zero padding; of a reflected or replicated border it is another lane of the tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import border_index, in_range
from torchops.kernels.device.tiles import load_tile, widened

from .epilogue import finish


@triton.jit
def _shifted(z, c, W, SHIFT: tl.constexpr, MODE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """The rows of z that hold, for lanes in columns c, the column SHIFT further; 0 beyond a border of zeros."""
    lane = tl.arange(0, BLOCK_M)
    # 254 registers of 255: the compiler test is the judge of how this is put
    if MODE == "constant":
        there, lane = in_range(c + SHIFT, W), lane + SHIFT
    else:
        there, lane = lane >= 0, lane + (border_index(c + SHIFT, W, MODE, False) - c)
    lane = tl.maximum(tl.minimum(lane, BLOCK_M - 1), 0)
    z = tl.gather(z, tl.broadcast_to(lane[:, None], (BLOCK_M, BLOCK_N)), 0)
    return tl.where(there[:, None], z, 0.0)


@triton.jit
def conv2d_shift_kernel(
    x_ptr, w_ptr,                       # as of conv2d_gemm_kernel, whose signature it shares; channels of x lie back to back
    bias_ptr, residual_ptr, ring_ptr,
    pad_ptr,
    y_ptr,
    N, I, H, W, O, P, Q, groups,        # Q = W
    x_sn, x_sc, x_sh, x_sw,
    w_sg, w_so, w_si, w_sr, w_ss,
    r_sn, r_sc, r_sh, r_sw,
    y_sn, y_sc, y_sh, y_sw,
    stride_h, stride_w, top, bottom, left, right, dil_h, dil_w,     # strides of 1
    step_h, step_w, jump_h, jump_w,
    R: tl.constexpr, S: tl.constexpr,
    DILATION: tl.constexpr, BEFORE: tl.constexpr,   # columns from a tap to the next, and from the leftmost to the pixel
    MODE: tl.constexpr, ACTIVATION: tl.constexpr, TRANSPOSED: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, FOLD: tl.constexpr,
    EVEN_I: tl.constexpr, EVEN_O: tl.constexpr, W_ALONG: tl.constexpr, Y_ALONG: tl.constexpr,
    VEC_I: tl.constexpr, VEC_W: tl.constexpr, VEC_O: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M - (S - 1) * DILATION pixels of BLOCK_N channels.

    Grid: groups * tiles of pixels * tiles of channels, the last fastest.
    """
    SPAN: tl.constexpr = (S - 1) * DILATION
    I, O = I // VEC_I * VEC_I, O // VEC_O * VEC_O
    x_sn, x_sh, x_sw = x_sn // VEC_I * VEC_I, x_sh // VEC_I * VEC_I, x_sw // VEC_I * VEC_I
    r_sn, r_sh, r_sw = r_sn // VEC_O * VEC_O, r_sh // VEC_O * VEC_O, r_sw // VEC_O * VEC_O
    y_sn, y_sh, y_sw = y_sn // VEC_O * VEC_O, y_sh // VEC_O * VEC_O, y_sw // VEC_O * VEC_O
    w_sg, w_sr, w_ss = w_sg // VEC_W * VEC_W, w_sr // VEC_W * VEC_W, w_ss // VEC_W * VEC_W
    w_so, w_si = (w_so // VEC_W * VEC_W, w_si) if W_ALONG == 1 else (w_so, w_si // VEC_W * VEC_W)
    pixels_all = N * P * Q
    if WIDE:
        x_sn, x_sc, x_sh, x_sw = widened(x_sn, x_sc, x_sh, x_sw)
        r_sn, r_sc, r_sh, r_sw = widened(r_sn, r_sc, r_sh, r_sw)
        y_sn, y_sc, y_sh, y_sw = widened(y_sn, y_sc, y_sh, y_sw)
        pixels_all = tl.cast(N, tl.int64) * P * Q

    tiles_n, tiles_m = tl.cdiv(O, BLOCK_N), tl.cdiv(pixels_all, BLOCK_M - SPAN)
    pid = tl.program_id(0)
    pid_n, pid_m, group = pid % tiles_n, pid // tiles_n % tiles_m, pid // tiles_n // tiles_m
    lanes_m = tl.arange(0, BLOCK_M)
    m = pid_m * (BLOCK_M - SPAN) - BEFORE + lanes_m
    whole = (lanes_m >= BEFORE) & (lanes_m < BLOCK_M - SPAN + BEFORE) & (m < pixels_all)
    m = tl.maximum(tl.minimum(m, pixels_all - 1), 0)
    row, c = m // Q, (m % Q).to(tl.int32)
    n, p = row // P, (row % P).to(tl.int32)
    h0 = p + top if TRANSPOSED else p - top
    x_ptr += group * I * x_sc
    w_ptr += group * w_sg
    image = n * x_sn + c * x_sw
    pixels = image + h0 * x_sh
    inside = h0 * 0
    for r in tl.static_range(R):
        inside |= in_range(h0 + r * step_h, H).to(tl.int32) << r
    offs_o = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_o = tl.full((BLOCK_N,), True, tl.int1) if EVEN_O else offs_o < O
    lanes = tl.arange(0, BLOCK_K)
    accs = ()
    for _ in tl.static_range(S):
        accs += (tl.zeros((BLOCK_M, BLOCK_N), ACC),)
    t_h, i0 = 0, 0
    for _ in range(R * tl.cdiv(I, BLOCK_K)):
        if MODE == "constant":
            x_block, offs, there = x_ptr + (t_h * step_h * x_sh + i0), pixels, inside & (1 << t_h) != 0
        else:
            h = border_index(h0 + t_h * step_h, H, MODE, False)
            x_block, offs, there = x_ptr + i0, image + h * x_sh, tl.full((BLOCK_M,), True, tl.int1)
        mask_i = tl.full((BLOCK_K,), True, tl.int1) if EVEN_I else lanes < I - i0
        a = load_tile(x_block, offs, lanes, there, mask_i, 1)
        sums = ()
        for s in tl.static_range(S):
            w_block = w_ptr + (t_h * w_sr + s * w_ss + i0 * w_si)
            b = load_tile(w_block, lanes * w_si, offs_o * w_so, mask_i, mask_o, 1 - W_ALONG)
            sums += (tl.dot(a, b, accs[s], input_precision=PRECISION, out_dtype=ACC),)
        accs = sums
        t_h += 1
        i0, t_h = tl.where(t_h == R, i0 + BLOCK_K, i0), tl.where(t_h == R, 0, t_h)

    # taps of a transposed row come from the right
    acc = _shifted(accs[0], c, W, SPAN - BEFORE if TRANSPOSED else -BEFORE, MODE, BLOCK_M, BLOCK_N)
    for s in tl.static_range(1, S):
        acc += _shifted(
            accs[s], c, W, (SPAN - s * DILATION if TRANSPOSED else s * DILATION) - BEFORE, MODE, BLOCK_M, BLOCK_N
        )
    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, n, p, c, c, group * O + offs_o, whole, mask_o,
        P, Q, groups * O, r_sn, r_sc, r_sh, r_sw, y_sn, y_sc, y_sh, y_sw, top, bottom, left, right,
        ACTIVATION, False, HAS_BIAS, HAS_RESIDUAL, FOLD, Y_ALONG, ACC,
    )  # fmt: skip
