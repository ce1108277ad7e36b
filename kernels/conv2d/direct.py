"""Convolution of groups too narrow for a matrix product, such as depthwise: a multiply-add a tap and lane.

    y[m, k] += x[position(m, t), c] w[t, c, k]        for each tap t and each channel c of the group of k

This is gemm.py without tl.dot: lanes are output channels of any groups, and each reads the input channels of its own group.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.tiles import hinted, load_tile

from .epilogue import finish
from .pixels import output_tile, read


@triton.jit
def conv2d_direct_kernel(
    x_ptr, w_ptr,                       # as in conv2d_gemm_kernel
    bias_ptr, residual_ptr, ring_ptr,
    pad_ptr,
    y_ptr,
    x_size, y_size, groups,
    x_strides, w_strides, r_strides, y_strides,
    stride, sides, dilation,
    step, jump,
    R: tl.constexpr, S: tl.constexpr, MAP: tl.constexpr, BORDER: tl.constexpr, ACTIVATION: tl.constexpr, FOLD: tl.constexpr,
    ALONG: tl.constexpr, VEC: tl.constexpr,     # for x, w and y; the kernel does not use those of w
    WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M pixels of BLOCK_N channels, of any groups (grid: phases * tiles of pixels and channels)."""
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, C, H, W = x_size
    K, P, Q = y_size
    channels = groups * K // VEC[2] * VEC[2]
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    w_sg, w_sk, w_sc, w_sr, w_ss = w_strides
    step_h, step_w = step
    jump_h, jump_w = jump
    pid_n, _group, pixel, exists, r0, s0, h0, w0 = output_tile(
        N, P, Q, 1, tl.cdiv(channels, BLOCK_N), stride, sides, dilation, R, S, MAP, WIDE, BLOCK_M
    )
    taps_h, taps_w = tl.cdiv(R - r0, jump_h), tl.cdiv(S - s0, jump_w)
    offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = offs_k < channels
    offs_w = offs_k // K * w_sg + offs_k % K * w_sk + r0 * w_sr + s0 * w_ss
    offs_x = offs_k // K * C * x_sc
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for t_h in range(taps_h):
        for t_w in tl.static_range(S):
            offs, there = read(h0 + t_h * step_h, w0 + t_w * step_w, (H, W), x_sh, x_sw, stride, BORDER, MAP)
            reached = t_w < taps_w
            for c in range(C):
                a = load_tile(x_ptr + c * x_sc, pixel[0] * x_sn + offs, offs_x, there & reached, mask_k, ALONG[0]).to(
                    ACC
                )
                if pad_ptr is not None:
                    a = tl.where((reached & ~there)[:, None], tl.load(pad_ptr).to(ACC), a)
                tap = w_ptr + offs_w + (t_h * jump_h * w_sr + t_w * jump_w * w_ss + c * w_sc)
                acc += a * tl.load(tap, mask=mask_k & reached, other=0).to(ACC)[None, :]
    finish(
        acc, bias_ptr, residual_ptr, ring_ptr, y_ptr, pixel, offs_k, exists, mask_k, (channels, P, Q),
        hinted(r_strides, VEC[2], WIDE), hinted(y_strides, VEC[2], WIDE), sides, ACTIVATION, FOLD, ALONG[2],
    )  # fmt: skip
