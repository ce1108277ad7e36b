"""Mean of every window, and back: every pixel from the windows over it.

    pool:    y[p] = a(p) * sum of b(h) x[h] over the pixels h of window p
    unpool:  y[h] = b(h) * sum of a(p) x[p] over the windows p that cover pixel h

Each is the other's transpose, and so its gradient. MEAN says which weights make a mean of it: a(p) is 1 over the pixels of the
window, those in the padding counted ("padded") or not ("inside"), or 1 over a number ("fixed"); or b(h) is 1 over the windows
that cover the pixel ("cover"), which makes a mean of unpooling. All are products of a factor by row and one by column.

Tiles and windows are those of device/windows.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .adaptive_avg_pool2d import adaptive_avg_pool2d
from .device.borders import in_range
from .device.windows import covering, first_pixel, load_tap, plane_offset, store_rectangle, tile
from .geometry import Window
from .layout.windows import launch_tiles
from .planning.windows import Config


@triton.jit
def _pixels_share(p, size, MEAN: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr, ACC: tl.constexpr):
    """1 over the rows (or columns) of window p that count, of an image of `size`; any number for a window that is none."""
    R: tl.constexpr = WINDOW[0][DIM]
    if MEAN == "padded":
        # what a last window reaches beyond the padding does not count
        return 1 / tl.maximum(tl.minimum(size + 2 * WINDOW[2][DIM] - p * WINDOW[1][DIM], R), 1).to(ACC)
    if MEAN == "inside":
        first = first_pixel(p, WINDOW, DIM)
        return 1 / tl.maximum(tl.minimum(first + R, size) - tl.maximum(first, 0), 1).to(ACC)
    return tl.full(p.shape, 1, ACC)


@triton.jit
def _windows_share(h, size, MEAN: tl.constexpr, WINDOW: tl.constexpr, DIM: tl.constexpr, ACC: tl.constexpr):
    """1 over the windows, of `size` along this dimension, that cover pixel h; any number where none does."""
    STRIDE: tl.constexpr = WINDOW[1][DIM]
    PADDING: tl.constexpr = WINDOW[2][DIM]
    if MEAN == "cover":
        first = (tl.maximum(h + PADDING - WINDOW[0][DIM] + 1, 0) + STRIDE - 1) // STRIDE
        last = tl.minimum((h + PADDING) // STRIDE, size - 1)
        return 1 / tl.maximum(last - first + 1, 1).to(ACC)
    return tl.full(h.shape, 1, ACC)


@triton.jit
def avg_pool2d_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [G, Q*L]
    G, P, Q, L, DEPTH, H, W,
    x_strides,
    MEAN: tl.constexpr, DIVISOR: tl.constexpr, WINDOW: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    R: tl.constexpr = WINDOW[0][0]
    S: tl.constexpr = WINDOW[0][1]
    plane, p, q, lane, mask_g, mask_e, offs_g, offs_e = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, DEPTH, x_strides)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    for t in tl.range(0, R * S, loop_unroll_factor=UNROLL):
        h, w = first_pixel(p, WINDOW, 0) + t // S, first_pixel(q, WINDOW, 1) + t % S
        mask_h, mask_w = mask_g & in_range(h, H), mask_e & in_range(w, W)
        x = load_tap(x_ptr, x_strides, planes, h, w, lane, mask_h, mask_w, 0, VEC_IN).to(ACC)
        if MEAN == "cover":
            x *= _windows_share(h, P, MEAN, WINDOW, 0, ACC)[:, None]
            x *= _windows_share(w, Q, MEAN, WINDOW, 1, ACC)[None, :]
        acc += x
    if MEAN == "fixed":
        acc /= DIVISOR
    else:
        acc *= _pixels_share(p, H, MEAN, WINDOW, 0, ACC)[:, None]
        acc *= _pixels_share(q, W, MEAN, WINDOW, 1, ACC)[None, :]
    store_rectangle(y_ptr, acc, offs_g, offs_e, mask_g, mask_e)


@triton.jit
def avg_unpool2d_kernel(
    x_ptr,  # in:  [N, C, P, Q], any strides
    y_ptr,  # out: [G, W*L]
    G, H, W, L, DEPTH, P, Q,
    x_strides,
    MEAN: tl.constexpr, DIVISOR: tl.constexpr, WINDOW: tl.constexpr, TAPS: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, h, w, lane, mask_g, mask_e, offs_g, offs_e = tile(G, H, W, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, DEPTH, x_strides)
    acc = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    for t in tl.range(0, TAPS[0] * TAPS[1], loop_unroll_factor=UNROLL):
        p, _r, mask_p = covering(h, t // TAPS[1], P, TAPS, WINDOW, 0)
        q, _s, mask_q = covering(w, t % TAPS[1], Q, TAPS, WINDOW, 1)
        mask_h, mask_w = mask_g & mask_p, mask_e & mask_q
        x = load_tap(x_ptr, x_strides, planes, p, q, lane, mask_h, mask_w, 0, VEC_IN).to(ACC)
        if MEAN == "inside" or MEAN == "padded":
            x *= _pixels_share(p, H, MEAN, WINDOW, 0, ACC)[:, None]
            x *= _pixels_share(q, W, MEAN, WINDOW, 1, ACC)[None, :]
        acc += x
    if MEAN == "fixed":
        acc /= DIVISOR
    else:
        acc *= _windows_share(h, P, MEAN, WINDOW, 0, ACC)[:, None]
        acc *= _windows_share(w, Q, MEAN, WINDOW, 1, ACC)[None, :]
    store_rectangle(y_ptr, acc, offs_g, offs_e, mask_g, mask_e)


def _is_whole_image(image: torch.Tensor, windows: torch.Tensor, window: Window, mean: str) -> bool:
    """Whether the only window is the whole image, which an adaptive pool of one window reads faster."""
    one = (
        windows.shape[2] == windows.shape[3] == 1
        and window.padding == (0, 0)
        and window.kernel == tuple(image.shape[2:])
    )
    return one and mean != "fixed"


def avg_pool2d(
    x: torch.Tensor, y: torch.Tensor, window: Window, mean: str, divisor: int, *, config: Config | None = None
) -> None:
    """Write the means of the windows of x (N, C, H, W) to y (N, C, P, Q), dense."""
    if _is_whole_image(x, y, window, mean):
        adaptive_avg_pool2d(x, y, mean == "cover", config=config)
        return
    launch_tiles(
        avg_pool2d_kernel, (x,), (y,), window, config, windows=True,
        MEAN=mean, DIVISOR=divisor,
    )  # fmt: skip


def avg_unpool2d(
    x: torch.Tensor, y: torch.Tensor, window: Window, mean: str, divisor: int, *, config: Config | None = None
) -> None:
    """Write what the windows x (N, C, P, Q) give to the pixels that they cover to y (N, C, H, W), dense."""
    if _is_whole_image(y, x, window, mean):
        adaptive_avg_pool2d(x, y, mean != "cover", config=config)
        return
    launch_tiles(
        avg_unpool2d_kernel, (x,), (y,), window, config, windows=False,
        MEAN=mean, DIVISOR=divisor, TAPS=window.covering(),
    )  # fmt: skip
