"""Maximum of every window of an adaptive pool, and where it lies; and the gradient of that.

    pool:   y[p] = max of x[h] over the pixels h of window p, and index[p], the position h*W + w of that pixel
    unpool: y[h] = sum of x[p] over the windows p whose index points to pixel h

The first of equal values counts, and a NaN wins over all; of several NaN the last, as in ATen. Windows are those of
device/adaptive.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .device.adaptive import bounds_of, window_cols, window_tile
from .device.windows import is_better, load_tap, pixel_offset, plane_offset, store_rectangle, tap_ptrs, tile
from .layout.adaptive import in_one_row, is_large, launch_large, launch_small
from .planning.windows import Config


@triton.jit
def adaptive_max_pool2d_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr, idx_ptr,  # out: [G, Q*L] values, and where they lie
    G, P, Q, L, DEPTH, H, W,
    x_strides,
    TAPS: tl.constexpr, LONG: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, p, q, lane, mask_g, mask_e, offs_g, offs_e = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, DEPTH, x_strides)
    h0, h1 = bounds_of(p, P, H, LONG, 1)
    w0, w1 = bounds_of(q, Q, W, LONG, VEC_IN)
    best = tl.full((BLOCK_ROWS, BLOCK_COLS), float("-inf"), ACC)
    # if every value is -inf, none is better: the first tap counts
    tap = tl.zeros((BLOCK_ROWS, BLOCK_COLS), tl.int32)
    for t in tl.range(0, TAPS[0] * TAPS[1], loop_unroll_factor=UNROLL):
        h, w = h0 + t // TAPS[1], w0 + t % TAPS[1]
        mask_h, mask_w = mask_g & (h < h1), mask_e & (w < w1)
        x = load_tap(x_ptr, x_strides, planes, h, w, lane, mask_h, mask_w, float("-inf"), VEC_IN).to(ACC)
        better = is_better(x, best)
        best = tl.where(better, x, best)
        tap = tl.where(better, t, tap)
    store_rectangle(y_ptr, best, offs_g, offs_e, mask_g, mask_e)
    h, w = h0[:, None] + tap // TAPS[1], w0[None, :] + tap % TAPS[1]
    store_rectangle(idx_ptr, h.to(tl.int64) * W + w, offs_g, offs_e, mask_g, mask_e)


@triton.jit
def adaptive_max_pool2d_large_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr, idx_ptr,  # out: [N, C, P, Q] values, and where they lie
    planes, DEPTH, H, W, DEPTH_OUT, P, Q,
    x_strides, y_strides,
    POS: tl.constexpr,
    ACC: tl.constexpr, VEC_PLANES: tl.constexpr, VEC_COLS: tl.constexpr, WIDE: tl.constexpr, LONG: tl.constexpr,
    BLOCK_PLANES: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program looks through a window of BLOCK_PLANES planes (grid: blocks of planes * windows)."""
    plane, offs, mask, p, q, h0, h1, w0, w1 = window_tile(
        planes, DEPTH, H, W, P, Q, x_strides, LONG, VEC_PLANES, BLOCK_PLANES
    )
    best = tl.full((BLOCK_PLANES, BLOCK_COLS), float("-inf"), ACC)
    # the position of the best pixel that each element of the tile has seen; no pixel has so high a number
    none = tl.cast(H, POS) * W
    pixel = tl.zeros((BLOCK_PLANES, BLOCK_COLS), POS) + none
    for h in range(h0, h1):
        row = x_ptr + tl.cast(h, tl.int64) * x_strides[2]
        for first in range(w0, w1, BLOCK_COLS):
            w, mask_w = window_cols(first, w1, VEC_COLS, WIDE, BLOCK_COLS)
            inside = mask[:, None] & mask_w[None, :]
            x = tl.load(row + offs[:, None] + (w * x_strides[3])[None, :], mask=inside, other=float("-inf")).to(ACC)
            better = is_better(x, best) | ((pixel == none) & inside)
            best = tl.where(better, x, best)
            pixel = tl.where(better, (tl.cast(h, POS) * W + w.to(POS))[None, :], pixel)
    # an element of the tile has its last NaN or its first maximum: now a plane's are found among its elements
    is_nan = best != best
    last_nan = tl.max(tl.where(is_nan, pixel, -1), axis=1)
    number = tl.max(tl.where(is_nan, float("-inf"), best), axis=1)
    first_number = tl.min(tl.where(best == number[:, None], pixel, none), axis=1)
    y = tl.where(last_nan >= 0, float("nan"), number)
    offs = plane_offset(plane, DEPTH_OUT, y_strides) + pixel_offset(p, q, y_strides)
    tl.store(y_ptr + offs, y.to(y_ptr.dtype.element_ty), mask=mask)
    tl.store(idx_ptr + offs, tl.where(last_nan >= 0, last_nan, first_number).to(tl.int64), mask=mask)


@triton.jit
def adaptive_max_unpool2d_kernel(
    x_ptr, idx_ptr,  # in:  [N, C, P, Q] both, any strides
    y_ptr,  # out: [G, W*L]
    G, H, W, L, DEPTH, P, Q,
    x_strides, idx_strides,
    TAPS: tl.constexpr, LONG: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, h, w, lane, mask_g, mask_e, offs_g, offs_e = tile(G, H, W, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    x_planes, idx_planes = plane_offset(plane, DEPTH, x_strides), plane_offset(plane, DEPTH, idx_strides)
    p0, p1 = bounds_of(h, H, P, LONG, 1)
    q0, q1 = bounds_of(w, W, Q, LONG, VEC_IN)
    pixel = h[:, None].to(tl.int64) * W + w[None, :]
    y = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    for t in tl.range(0, TAPS[0] * TAPS[1], loop_unroll_factor=UNROLL):
        p, q = p0 + t // TAPS[1], q0 + t % TAPS[1]
        mask = (mask_g & (p < p1))[:, None] & (mask_e & (q < q1))[None, :]
        x = tl.load(tap_ptrs(x_ptr, x_strides, x_planes, p, q, lane, VEC_IN), mask=mask, other=0)
        idx = tl.load(tap_ptrs(idx_ptr, idx_strides, idx_planes, p, q, lane, VEC_IN), mask=mask, other=-1)
        y += tl.where(idx == pixel, x.to(ACC), 0)
    store_rectangle(y_ptr, y, offs_g, offs_e, mask_g, mask_e)


def adaptive_max_pool2d(
    x: torch.Tensor, y: torch.Tensor, indices: torch.Tensor, *, config: Config | None = None
) -> None:
    """Write the maxima of the windows of x (N, C, H, W) to y (N, C, P, Q), dense, and their flat positions to indices, int64,
    which has the strides of y."""
    x = in_one_row(x, y)
    if is_large(y, x):
        pixels = x.shape[2] * x.shape[3]
        position = tl.int32 if pixels < 2**31 else tl.int64
        launch_large(adaptive_max_pool2d_large_kernel, x, (y, indices), config, POS=position)
    else:
        launch_small(adaptive_max_pool2d_kernel, (x,), (y, indices), config)


def adaptive_max_unpool2d(
    x: torch.Tensor, indices: torch.Tensor, y: torch.Tensor, *, config: Config | None = None
) -> None:
    """Write what x (N, C, P, Q) adds up to where indices point to y (N, C, H, W), dense. Indices lie in their windows."""
    # where channels lie back to back, rows share what they read
    y = in_one_row(y, x) if y.is_contiguous() else y
    launch_small(adaptive_max_unpool2d_kernel, (x, indices), (y,), config)
