"""Weight gradient of groups too narrow for a matrix product, such as depthwise: a multiply-add a tap and lane.

This is weight_grad.py without tl.dot: lanes are output channels of any groups; a program keeps the sums of its pixels apart,
and adds them at its end.
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.tiles import hinted, load_tile

from .weight_grad import first_pixels, inputs, next_pixels


@triton.jit
def conv2d_weight_grad_direct_kernel(
    dy_ptr, x_ptr,                  # as in conv2d_weight_grad_kernel
    pad_ptr,
    dw_ptr,
    x_size, y_size, groups, steps,
    dy_strides, x_strides, dw_strides,
    stride, sides, dilation,
    R: tl.constexpr, S: tl.constexpr, BORDER: tl.constexpr, ALONG: tl.constexpr, VEC: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """One program sums a range of pixels for BLOCK_N channels out, of any groups, and TAPS taps of one channel in.

    Grid: splits * tiles of channels out * taps / TAPS * channels in, the last fastest.
    """
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, C, H, W = x_size
    K, P, Q = y_size
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC[1], WIDE)
    x_sn, x_sc, x_sh, x_sw = hinted(x_strides, VEC[0], WIDE)
    dw_split, dw_sk, dw_sc, dw_sr, dw_ss = dw_strides
    stride_h, stride_w = stride
    left, _right, top, _bottom = sides
    dil_h, dil_w = dilation
    channels = groups * K // VEC[1] * VEC[1]
    tiles_k, tiles_j = tl.cdiv(channels, BLOCK_N), R * S // TAPS * C
    pid = tl.program_id(0)
    pid_j, pid_k, split = pid % tiles_j, pid // tiles_j % tiles_k, pid // tiles_j // tiles_k
    c, tap = pid_j % C, pid_j // C * TAPS
    r, s = tap // S, tap % S
    offs_k = pid_k * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = offs_k < channels
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    n, p, q = first_pixels(start, P, Q, BLOCK_K)
    accs = ()
    for _ in tl.static_range(TAPS):
        accs += (tl.zeros((BLOCK_K, BLOCK_N), ACC),)
    for _ in range(steps):
        exists = n < N
        dy = load_tile(dy_ptr, n * dy_sn + p * dy_sh + q * dy_sw, offs_k * dy_sk, exists, mask_k, ALONG[1]).to(ACC)
        h, w = p * stride_h - top + r * dil_h, q * stride_w - left + s * dil_w
        sums = ()
        for t in tl.static_range(TAPS):
            offs, there = inputs(n * x_sn, h, w + t * dil_w, (H, W), x_sh, x_sw, BORDER)
            x = load_tile(x_ptr + c * x_sc, offs, offs_k // K * C * x_sc, there & exists, mask_k, ALONG[0]).to(ACC)
            if pad_ptr is not None:
                x = tl.where((exists & ~there)[:, None], tl.load(pad_ptr).to(ACC), x)
            sums += (accs[t] + dy * x,)
        accs = sums
        n, p, q = next_pixels(n, p, q, P, Q, (1, 1), (P, Q), BLOCK_K)
    dw_ptr += tl.cast(split, tl.int64) * dw_split + r * dw_sr + s * dw_ss + c * dw_sc
    for t in tl.static_range(TAPS):
        dw = tl.sum(accs[t], 0)
        tl.store(dw_ptr + t * dw_ss + offs_k * dw_sk, dw.to(dw_ptr.dtype.element_ty), mask=mask_k)
