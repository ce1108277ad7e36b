"""The convolution in a kernel of lesson size. Read this first: the other files of this folder say what they add to it.

    y[n, k, p, q] = sum over c, r, s of x[n, c, p stride_h - top + r dil_h, q stride_w - left + s dil_w] w[k, c, r, s]

Seen as a matrix product, a row of the result is a pixel m = (n, p, q), a column a channel k, and the sum runs over the channels
c of every tap (r, s). The left side is never written down: for each tap, a tile of it is gathered.

             C                     K                                K
        +---------+           +---------+                      +---------+
        |         |           |   tap   |                      |         |
        |   tap   |           |  (r, s) |    summed over       |         |
      M |  (r, s) |    @    C |  of w   |    all taps:       M | y[m, k] |
        |  of x   |           +---------+                      |         |
        |         |                                            |         |
        +---------+                                            +---------+

A program computes BLOCK_M x BLOCK_N of y. It adds up products of BLOCK_M x BLOCK_K of x and BLOCK_K x BLOCK_N of w.

    x of image n, R = S = 3, stride 2, dilation 1, padding 1:       pixel (p, q) = (1, 1) of the result
                                                                    begins at row 1 * 2 - 1 = 1 and column 1.
        .  .  .  .  .  .  .      . padding: reads as 0              Tap (r, s) = (0, 2) of it reads row 1 + 0
        .  o  o  o  o  o  .                                         and column 1 + 2: the element marked #.
        .  o [o  o  #] o  .      [ ] the window of (1, 1)
        .  o [o  o  o] o  .                                         Rows of a tile are neighbours m: their windows
        .  o [o  o  o] o  .                                         lie a stride apart, through rows and images.
        .  .  .  .  .  .  .
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from torchops.kernels.geometry import Conv2d
from torchops.kernels.launch import launch
from torchops.kernels.layout.conv2d import bytes_of, is_wide, precision
from torchops.kernels.planning.conv2d import Config, Problem, cost, programs


@dataclass(frozen=True)
class PlainConfig(Config):
    """A `Config` that asks for this kernel: `conv2d_fwd(..., config=PlainConfig(64, 64, 32, num_warps=4, num_stages=3))`."""


@triton.jit
def conv2d_plain_kernel(
    x_ptr, w_ptr,                           # in:  [N, C, H, W], [K, C, R, S], any strides
    y_ptr,                                  # out: [N, K, P, Q], any strides
    x_size, y_size,                         # N, C, H, W; K, P, Q
    x_strides, w_strides, y_strides,
    stride, sides, dilation,                # rows, columns; left, right, top, bottom; rows, columns
    R: tl.constexpr, S: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_M pixels of BLOCK_N channels (grid: tiles of pixels * tiles of channels)."""
    N, C, H, W = x_size
    K, P, Q = y_size
    x_sn, x_sc, x_sh, x_sw = x_strides
    w_sk, w_sc, w_sr, w_ss = w_strides
    y_sn, y_sk, y_sp, y_sq = y_strides
    tiles_n = tl.cdiv(K, BLOCK_N)
    m = tl.program_id(0) // tiles_n * BLOCK_M + tl.arange(0, BLOCK_M)  # [BLOCK_M]
    k = tl.program_id(0) % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)  # [BLOCK_N]
    n, p, q = m // Q // P, m // Q % P, m % Q
    ACC: tl.constexpr = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for r in range(R):
        for s in range(S):
            h = p * stride[0] - sides[2] + r * dilation[0]
            w = q * stride[1] - sides[0] + s * dilation[1]
            inside = (n < N) & (h >= 0) & (h < H) & (w >= 0) & (w < W)
            for c0 in range(0, C, BLOCK_K):
                c = c0 + tl.arange(0, BLOCK_K)  # [BLOCK_K]
                x_ptrs = x_ptr + (n * x_sn + h * x_sh + w * x_sw)[:, None] + (c * x_sc)[None, :]
                w_ptrs = w_ptr + (c * w_sc + r * w_sr + s * w_ss)[:, None] + (k * w_sk)[None, :]
                a = tl.load(x_ptrs, mask=inside[:, None] & (c < C)[None, :], other=0)  # [BLOCK_M, BLOCK_K]
                b = tl.load(w_ptrs, mask=(c < C)[:, None] & (k < K)[None, :], other=0)  # [BLOCK_K, BLOCK_N]
                acc = tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=ACC)
    y_ptrs = y_ptr + (n * y_sn + p * y_sp + q * y_sq)[:, None] + (k * y_sk)[None, :]
    tl.store(y_ptrs, acc.to(y_ptr.dtype.element_ty), mask=(n < N)[:, None] & (k < K)[None, :])


def conv2d_plain(x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor, conv: Conv2d, config: PlainConfig) -> None:
    """Write the convolution of x (N, C, H, W) by weight (K, C, R, S) to y (N, K, P, Q), with zero padding and one group.

    Raises:
        ValueError: if `conv` has another border or more groups, or a tensor needs 64-bit offsets.
    """
    if conv.border != "zeros" or conv.groups != 1 or is_wide(x, weight, y):
        raise ValueError(f"the plain kernel takes zero padding, one group and 32-bit offsets, got {conv}")
    (k, c, r, s), (n, _, p, q) = weight.shape, y.shape
    # fewer than 16 channels would count as those of flat.py: here they cost as much as 16
    problem = Problem(
        kind="gather", m=n * p * q, k=k, c=max(c, 16), taps=r * s, row=s, phases=1, groups=1, itemsize=x.element_size(),
        tf32=precision(x) == "tf32", coalesced=False, span=0, lean=True, bytes_least=bytes_of(x, weight, y),
    )  # fmt: skip
    launch(
        conv2d_plain_kernel, programs(problem, config),
        x, weight,
        y,
        tuple(x.shape), (k, p, q),
        x.stride(), weight.stride(), y.stride(),
        conv.stride, conv.padding, conv.dilation,
        config=config, cost=lambda: cost(problem, config), pass_name="forward",
        num_warps=config.num_warps, num_stages=config.num_stages,
        R=r, S=s, PRECISION=precision(x), BLOCK_M=config.block_m, BLOCK_N=config.block_n, BLOCK_K=config.block_k,
    )  # fmt: skip
