"""Mean of every window of an adaptive pool, and back.

    pool:       y[p] = 1/|p| * sum of x[h] over the pixels h of window p
    transposed: y[h] = sum of 1/|p| * x[p] over the windows p that pixel h lies in

Each is the other's transpose, and so its gradient. Windows are those of device/adaptive.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .device.adaptive import bounds_of, share_of, window_cols, window_tile
from .device.windows import load_tap, pixel_offset, plane_offset, store_rectangle, tile
from .layout.adaptive import in_one_row, is_large, launch_large, launch_small
from .layout.windows import interleaved
from .planning.windows import Config


@triton.jit
def adaptive_avg_pool2d_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [G, Q*L]
    G, P, Q, L, DEPTH, H, W,
    x_strides,
    TRANSPOSED: tl.constexpr, TAPS: tl.constexpr, LONG: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, p, q, lane, mask_g, mask_e, offs_g, offs_e = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, DEPTH, x_strides)
    h0, h1 = bounds_of(p, P, H, LONG, 1)
    w0, w1 = bounds_of(q, Q, W, LONG, VEC_IN)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    for t in tl.range(0, TAPS[0] * TAPS[1], loop_unroll_factor=UNROLL):
        h, w = h0 + t // TAPS[1], w0 + t % TAPS[1]
        mask_h, mask_w = mask_g & (h < h1), mask_e & (w < w1)
        x = load_tap(x_ptr, x_strides, planes, h, w, lane, mask_h, mask_w, 0, VEC_IN).to(ACC)
        if TRANSPOSED:
            x *= share_of(h, H, P, LONG, ACC)[:, None]
            x *= share_of(w, W, Q, LONG, ACC)[None, :]
        acc += x
    if not TRANSPOSED:
        acc *= share_of(p, P, H, LONG, ACC)[:, None]
        acc *= share_of(q, Q, W, LONG, ACC)[None, :]
    store_rectangle(y_ptr, acc, offs_g, offs_e, mask_g, mask_e)


@triton.jit
def adaptive_avg_pool2d_spread_kernel(
    x_ptr,  # in:  [N, C, 1, 1], any strides
    y_ptr,  # out: [G, Q]
    G, P, Q, L, DEPTH, H, W,
    x_strides,
    TRANSPOSED: tl.constexpr, TAPS: tl.constexpr, LONG: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program fills BLOCK_ROWS rows of BLOCK_COLS columns with what one window gives to each of its pixels, for planes
    whose columns lie back to back (grid: blocks of rows * blocks of columns)."""
    plane, _p, _q, _lane, mask_g, mask_e, offs_g, offs_e = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    x = tl.load(x_ptr + plane_offset(plane, DEPTH, x_strides), mask=mask_g, other=0).to(ACC)  # [BLOCK_ROWS]
    if TRANSPOSED:
        x *= 1 / (tl.cast(P, ACC) * tl.cast(Q, ACC))
    store_rectangle(y_ptr, tl.broadcast_to(x[:, None], (BLOCK_ROWS, BLOCK_COLS)), offs_g, offs_e, mask_g, mask_e)


@triton.jit
def adaptive_avg_pool2d_large_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [N, C, P, Q]
    planes, DEPTH, H, W, DEPTH_OUT, P, Q,
    x_strides, y_strides,
    TRANSPOSED: tl.constexpr,
    ACC: tl.constexpr, VEC_PLANES: tl.constexpr, VEC_COLS: tl.constexpr, WIDE: tl.constexpr, LONG: tl.constexpr,
    BLOCK_PLANES: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program adds up a window of BLOCK_PLANES planes (grid: blocks of planes * windows)."""
    plane, offs, mask, p, q, h0, h1, w0, w1 = window_tile(
        planes, DEPTH, H, W, P, Q, x_strides, LONG, VEC_PLANES, BLOCK_PLANES
    )
    acc = tl.zeros((BLOCK_PLANES, BLOCK_COLS), ACC)
    for h in range(h0, h1):
        row = x_ptr + tl.cast(h, tl.int64) * x_strides[2]
        for first in range(w0, w1, BLOCK_COLS):
            w, mask_w = window_cols(first, w1, VEC_COLS, WIDE, BLOCK_COLS)
            x = tl.load(
                row + offs[:, None] + (w * x_strides[3])[None, :], mask=mask[:, None] & mask_w[None, :], other=0
            )
            x = x.to(ACC)
            if TRANSPOSED:
                x *= share_of(h, H, P, LONG, ACC)
                x *= share_of(w, W, Q, LONG, ACC)[None, :]
            acc += x
    y = tl.sum(acc, axis=1)
    if not TRANSPOSED:
        y *= share_of(p, P, H, LONG, ACC) * share_of(q, Q, W, LONG, ACC)
    offs = plane_offset(plane, DEPTH_OUT, y_strides) + pixel_offset(p, q, y_strides)
    tl.store(y_ptr + offs, y.to(y_ptr.dtype.element_ty), mask=mask)


def adaptive_avg_pool2d(x: torch.Tensor, y: torch.Tensor, transposed: bool, *, config: Config | None = None) -> None:
    """Write the means of the windows of x (N, C, H, W) to y (N, C, P, Q), dense; or what the windows x give to the pixels y."""
    x = in_one_row(x, y)
    if is_large(y, x):
        launch_large(adaptive_avg_pool2d_large_kernel, x, (y,), config, TRANSPOSED=transposed)
        return
    kernel = adaptive_avg_pool2d_kernel
    if x.shape[2] == x.shape[3] == 1 and not interleaved(y, x):
        kernel, y = adaptive_avg_pool2d_spread_kernel, in_one_row(y, x)
    launch_small(kernel, (x,), (y,), config, TRANSPOSED=transposed)
