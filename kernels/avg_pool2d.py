"""Mean of every window, and back: every pixel from the windows over it.

    pool:    y[p] = a(p) * sum of b(h) x[h] over the pixels h of window p
    unpool:  y[h] = b(h) * sum of a(p) x[p] over the windows p that cover pixel h

Each is the other's transpose, and so its gradient. MEAN says which weights make a mean of it: a(p) is 1 over the pixels of the
window, those in the padding counted ("padded") or not ("inside"), or 1 over a number ("fixed"); or b(h) is 1 over the windows
that cover the pixel ("cover"), which makes a mean of unpooling. All are products of a factor by row and one by column.

Tiles are those of windows.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .adaptive_avg_pool2d import adaptive_avg_pool2d
from .device.borders import in_range
from .device.windows import col_offset, covering, plane_offset, row_offset, tile
from .layout.windows import launch_tiles, taps
from .planning.windows import Config, Geometry


@triton.jit
def _pixels_share(
    p, size, MEAN: tl.constexpr, R: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, ACC: tl.constexpr
):
    """1 over the rows (or columns) of window p that count, of an image of `size`; any number for a window that is none."""
    if MEAN == "padded":
        # what a last window reaches beyond the padding does not count
        return 1 / tl.maximum(tl.minimum(size + 2 * PADDING - p * STRIDE, R), 1).to(ACC)
    if MEAN == "inside":
        first = p * STRIDE - PADDING
        return 1 / tl.maximum(tl.minimum(first + R, size) - tl.maximum(first, 0), 1).to(ACC)
    return tl.full(p.shape, 1, ACC)


@triton.jit
def _windows_share(
    h, size, MEAN: tl.constexpr, R: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, ACC: tl.constexpr
):
    """1 over the windows, of `size` along this dimension, that cover pixel h; any number where none does."""
    if MEAN == "cover":
        first = (tl.maximum(h + PADDING - R + 1, 0) + STRIDE - 1) // STRIDE
        last = tl.minimum((h + PADDING) // STRIDE, size - 1)
        return 1 / tl.maximum(last - first + 1, 1).to(ACC)
    return tl.full(h.shape, 1, ACC)


@triton.jit
def avg_pool2d_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [G, Q*L]
    G, P, Q, L, C, H, W,
    x_sn, x_sc, x_sh, x_sw,
    MEAN: tl.constexpr, DIVISOR: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr, PAD_W: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, p, q, lane, mask_g, mask_j, rows, cols = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, C, x_sn, x_sc)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    for t in tl.range(0, R * S, loop_unroll_factor=UNROLL):
        h, w = p * STRIDE_H - PAD_H + t // S, q * STRIDE_W - PAD_W + t % S
        mask_h, mask_w = mask_g & in_range(h, H), mask_j & in_range(w, W)
        x_ptrs = x_ptr + row_offset(planes, h, x_sh, VEC_IN)[:, None] + col_offset(w, lane, x_sw, x_sc, VEC_IN)[None, :]
        x = tl.load(x_ptrs, mask=mask_h[:, None] & mask_w[None, :], other=0).to(ACC)
        if MEAN == "cover":
            x *= _windows_share(h, P, MEAN, R, STRIDE_H, PAD_H, ACC)[:, None]
            x *= _windows_share(w, Q, MEAN, S, STRIDE_W, PAD_W, ACC)[None, :]
        acc += x
    if MEAN == "fixed":
        acc /= DIVISOR
    else:
        acc *= _pixels_share(p, H, MEAN, R, STRIDE_H, PAD_H, ACC)[:, None]
        acc *= _pixels_share(q, W, MEAN, S, STRIDE_W, PAD_W, ACC)[None, :]
    tl.store(
        y_ptr + rows[:, None] + cols[None, :], acc.to(y_ptr.dtype.element_ty), mask=mask_g[:, None] & mask_j[None, :]
    )


@triton.jit
def avg_unpool2d_kernel(
    x_ptr,  # in:  [N, C, P, Q], any strides
    y_ptr,  # out: [G, W*L]
    G, H, W, L, C, P, Q,
    x_sn, x_sc, x_sp, x_sq,
    MEAN: tl.constexpr, DIVISOR: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr, PAD_W: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr,
    TAPS_H: tl.constexpr, TAPS_W: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, h, w, lane, mask_g, mask_j, rows, cols = tile(G, H, W, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, C, x_sn, x_sc)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    for t in tl.range(0, TAPS_H * TAPS_W, loop_unroll_factor=UNROLL):
        p, _r, mask_p = covering(h, t // TAPS_W, P, TAPS_H, R, STRIDE_H, PAD_H, DIL_H)
        q, _s, mask_q = covering(w, t % TAPS_W, Q, TAPS_W, S, STRIDE_W, PAD_W, DIL_W)
        mask_q = mask_j & mask_q
        x_ptrs = x_ptr + row_offset(planes, p, x_sp, VEC_IN)[:, None] + col_offset(q, lane, x_sq, x_sc, VEC_IN)[None, :]
        x = tl.load(x_ptrs, mask=(mask_g & mask_p)[:, None] & mask_q[None, :], other=0).to(ACC)
        if MEAN == "inside" or MEAN == "padded":
            x *= _pixels_share(p, H, MEAN, R, STRIDE_H, PAD_H, ACC)[:, None]
            x *= _pixels_share(q, W, MEAN, S, STRIDE_W, PAD_W, ACC)[None, :]
        acc += x
    if MEAN == "fixed":
        acc /= DIVISOR
    else:
        acc *= _windows_share(h, P, MEAN, R, STRIDE_H, PAD_H, ACC)[:, None]
        acc *= _windows_share(w, Q, MEAN, S, STRIDE_W, PAD_W, ACC)[None, :]
    tl.store(
        y_ptr + rows[:, None] + cols[None, :], acc.to(y_ptr.dtype.element_ty), mask=mask_g[:, None] & mask_j[None, :]
    )


def _is_all(image: torch.Tensor, windows: torch.Tensor, geometry: Geometry, mean: str) -> bool:
    """Whether the only window is the whole image, which an adaptive pool of one window knows better how to read."""
    kernel_size, _, padding, _ = geometry
    one = windows.shape[2] == windows.shape[3] == 1 and padding == (0, 0) and kernel_size == tuple(image.shape[2:])
    return one and mean != "fixed"


def avg_pool2d(
    x: torch.Tensor, y: torch.Tensor, geometry: Geometry, mean: str, divisor: int, *, config: Config | None = None
) -> None:
    """Write the means of the windows of x (N, C, H, W) to y (N, C, P, Q), dense."""
    if _is_all(x, y, geometry, mean):
        adaptive_avg_pool2d(x, y, mean == "cover", config=config)
        return
    launch_tiles(
        avg_pool2d_kernel, (x,), (y,), geometry, config, windows=True,
        MEAN=mean, DIVISOR=divisor,
    )  # fmt: skip


def avg_unpool2d(
    x: torch.Tensor, y: torch.Tensor, geometry: Geometry, mean: str, divisor: int, *, config: Config | None = None
) -> None:
    """Write what the windows x (N, C, P, Q) give to the pixels that they cover to y (N, C, H, W), dense."""
    if _is_all(y, x, geometry, mean):
        adaptive_avg_pool2d(x, y, mean != "cover", config=config)
        return
    launch_tiles(
        avg_unpool2d_kernel, (x,), (y,), geometry, config, windows=False,
        MEAN=mean, DIVISOR=divisor, **taps(geometry),
    )  # fmt: skip
