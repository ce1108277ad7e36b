"""Sums over pixels, in one order on every run: the bias gradient, and what the ranges of a split sum gave.

db[k] = sum over pixels m of dy[m, k]
"""

from __future__ import annotations

import triton
import triton.language as tl

from torchops.kernels.device.tiles import hinted, load_tile

from .weight_grad import first_pixels, next_pixels


@triton.jit
def conv2d_bias_grad_kernel(
    dy_ptr,             # in:  [N, K, P, Q], any strides
    db_ptr,             # out: [splits, K]
    dy_size, steps,     # a program sums steps * BLOCK_K pixels
    dy_strides,
    ALONG: tl.constexpr, VEC: tl.constexpr, WIDE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One program sums a range of pixels for BLOCK_N channels (grid: splits * tiles of channels)."""
    ACC: tl.constexpr = tl.float64 if dy_ptr.dtype.element_ty == tl.float64 else tl.float32
    N, K, P, Q = dy_size
    K = K // VEC * VEC
    dy_sn, dy_sk, dy_sh, dy_sw = hinted(dy_strides, VEC, WIDE)
    tiles_k = tl.cdiv(K, BLOCK_N)
    split = tl.program_id(0) // tiles_k
    offs_k = tl.program_id(0) % tiles_k * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k = offs_k < K
    start = tl.cast(split, tl.int64 if WIDE else tl.int32) * steps * BLOCK_K
    n, p, q = first_pixels(start, P, Q, BLOCK_K)
    acc = tl.zeros((BLOCK_K, BLOCK_N), ACC)
    for _ in range(steps):
        acc += load_tile(dy_ptr, n * dy_sn + p * dy_sh + q * dy_sw, offs_k * dy_sk, n < N, mask_k, ALONG).to(ACC)
        n, p, q = next_pixels(n, p, q, P, Q, (1, 1), (P, Q), BLOCK_K)
    tl.store(db_ptr + split * K + offs_k, tl.sum(acc, 0).to(db_ptr.dtype.element_ty), mask=mask_k)


@triton.jit
def conv2d_sum_splits_kernel(
    splits_ptr,         # in:  [splits, K*J], J = (r, s, c), the input channel fastest
    out_ptr,            # out: taps [R, S] of [K, C], any strides
    J, C, S, size,      # size = K*J
    out_strides, splits,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """One program adds BLOCK_N sums, BLOCK_M splits at a time, always in the same order (grid: tiles of K*J)."""
    sk, sc, sr, ss = out_strides
    e = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_N,), splits_ptr.dtype.element_ty)
    for first in range(0, splits, BLOCK_M):
        split = first + tl.arange(0, BLOCK_M)
        acc += tl.sum(load_tile(splits_ptr, split.to(tl.int64) * size, e, split < splits, e < size, 1), 0)
    k, tap, c = e // J, e % J // C, e % J % C
    offs = k * sk + c * sc + tap // S * sr + tap % S * ss
    tl.store(out_ptr + offs, acc.to(out_ptr.dtype.element_ty), mask=e < size)
