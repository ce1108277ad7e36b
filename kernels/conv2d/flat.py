"""The matrix product of gemm.py for few channels: taps and channels are one axis.

    y[m, k] = sum over j = (t, c) of x[position(m, t), c] w[t, c, k]

gemm.py, plus: a tile's columns j belong to several taps, so that a tile of 32 is full where a tap has 3 channels. Every element
then has an address of its own.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.borders import in_range
from torchops.kernels.device.tiles import below, hinted, load_tile, load_where

from .epilogue import finish
from .gemm import hinted_taps
from .pixels import output_tile, read


@triton.jit
def conv2d_flat_kernel(
    x_ptr, w_ptr,                       # as in conv2d_gemm_kernel
    bias_ptr, residual_ptr, ring_ptr,
    pad_ptr,
    y_ptr,
    x_size, y_size, groups,
    x_strides, w_strides, r_strides, y_strides,
    stride, sides, dilation,
    step, jump,
    C: tl.constexpr,                    # input channels of a group: dividing by a constant is cheap
    R: tl.constexpr, S: tl.constexpr, MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    EVEN: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr, PRECISION: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M pixels of BLOCK_N channels (grid: phases * groups * tiles of pixels and channels)."""
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, _C, H, W = x_size
    K, P, Q = y_size
    K = K // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, w_sk, w_sc, w_sr, w_ss = hinted_taps(w_strides, VEC[1], ALONG[1])
    step_h, step_w = step
    jump_h, jump_w = jump

    pid_n, group, pixel, exists, r0, s0, h0, w0 = output_tile(
        N, P, Q, groups, tl.cdiv(K, BLOCK_N), stride, sides, dilation, R, S, MAP, WIDE, BLOCK_M
    )
    taps_h, taps_w = tl.cdiv(R - r0, jump_h), tl.cdiv(S - s0, jump_w)
    x_ptr += group * C * x_sc
    w_ptr += group * w_sg + r0 * w_sr + s0 * w_ss
    w_sr, w_ss = w_sr * jump_h, w_ss * jump_w
    offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = below(offs_k, K, EVEN[1])
    lanes = tl.arange(0, BLOCK_K)
    image = pixel[0] * x_sn
    pixels = image + h0 * x_sh + w0 * x_sw
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for j0 in range(0, taps_h * taps_w * C, BLOCK_K):
        tap, c = (j0 + lanes) // C, (j0 + lanes) % C
        t_h, t_w, mask_j = tap // taps_w, tap % taps_w, tap < taps_h * taps_w
        h, w = h0[:, None] + (t_h * step_h)[None, :], w0[:, None] + (t_w * step_w)[None, :]
        if BORDER == "constant" and MAP != "ring":
            there = in_range(h, H) & in_range(w, W)
            offs = pixels[:, None] + (t_h * step_h * x_sh + t_w * step_w * x_sw + c * x_sc)[None, :]
        else:
            offs, there = read(h, w, (H, W), x_sh, x_sw, stride, BORDER, MAP)
            offs += image[:, None] + (c * x_sc)[None, :]
        a = load_where(x_ptr, offs, there & mask_j[None, :], ALONG[0])
        if pad_ptr is not None:
            a = tl.where(mask_j[None, :] & ~there, tl.load(pad_ptr), a)
        b = load_tile(w_ptr, t_h * w_sr + t_w * w_ss + c * w_sc, offs_k * w_sk, mask_j, mask_k, ALONG[1])
        acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)

    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, pixel, group * K + offs_k, exists, mask_k, (groups * K, P, Q),
        hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE), sides, ACTIVATION, FOLD, ALONG[2],
    )  # fmt: skip
