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
from .device.windows import (
    covering,
    covering_taps,
    first_pixel,
    load_tap,
    plane_offset,
    store_rectangle,
    strip_tile,
    tile,
    window_taps,
)
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
def avg_pool2d_slide_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [PLANES, P, Q*L]
    PLANES, P, Q, L, DEPTH, H, W,
    x_strides,
    strip,
    MEAN: tl.constexpr, DIVISOR: tl.constexpr, WINDOW: tl.constexpr,
    ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes `strip` rows of BLOCK_COLS columns in BLOCK_ROWS planes (grid: columns * strips * planes).

    Rows of x come one after another, and are added to all windows that they lie in, of which OPEN wait in registers: pixel by
    pixel, in the order of `avg_pool2d_kernel`.
    """
    R: tl.constexpr = WINDOW[0][0]
    S: tl.constexpr = WINDOW[0][1]
    STRIDE: tl.constexpr = WINDOW[1][0]
    OPEN: tl.constexpr = (R + STRIDE - 1) // STRIDE
    plane, p0, p1, q, lane, mask_g, mask_e, offs, row = strip_tile(
        PLANES, P, Q, L, strip, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS
    )
    planes = plane_offset(plane, DEPTH, x_strides)
    taps, inside = window_taps(x_ptr, x_strides, planes, q, lane, W, mask_g, mask_e, WINDOW, VEC_IN)
    mask = mask_g[:, None] & mask_e[None, :]
    h_end = tl.minimum(first_pixel(p1 - 1, WINDOW, 0) + R, H)
    share_q = _pixels_share(q, W, MEAN, WINDOW, 1, ACC)[None, :]
    zero = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    sums = ()
    for _ in tl.static_range(OPEN):
        sums += (zero,)
    for p in range(p0, p1 + OPEN - 1):
        for j in tl.static_range(STRIDE):
            h = first_pixel(p, WINDOW, 0) + j
            there, down = in_range(h, h_end), tl.cast(h, tl.int64) * x_strides[2]
            pixels = ()
            for s in tl.static_range(S):
                x = tl.load(taps[s] + down, mask=inside[s] & there, other=0).to(ACC)
                if MEAN == "cover":
                    x *= _windows_share(h, P, MEAN, WINDOW, 0, ACC)
                    x *= _windows_share(first_pixel(q, WINDOW, 1) + s, Q, MEAN, WINDOW, 1, ACC)[None, :]
                pixels += (x,)
            next_sums = ()
            for k in tl.static_range(OPEN):
                # a row before, this window was one of those that began later
                acc = zero if j + k == 0 else sums[k - 1 if j == 0 else k]
                if j + STRIDE * k < R:
                    for s in tl.static_range(S):
                        acc += pixels[s]
                next_sums += (acc,)
            sums = next_sums
        # the window that has waited longest has all of its rows
        acc, done = sums[OPEN - 1], p - (OPEN - 1)
        if MEAN == "fixed":
            acc /= DIVISOR
        elif MEAN != "cover":
            acc *= _pixels_share(done, H, MEAN, WINDOW, 0, ACC)
            acc *= share_q
        tl.store(y_ptr + offs + done * row, acc.to(y_ptr.dtype.element_ty), mask=mask & (done >= p0))


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


@triton.jit
def avg_unpool2d_slide_kernel(
    x_ptr,  # in:  [N, C, P, Q], any strides
    y_ptr,  # out: [PLANES, H, W*L]
    PLANES, H, W, L, DEPTH, P, Q,
    x_strides,
    strip,
    MEAN: tl.constexpr, DIVISOR: tl.constexpr, WINDOW: tl.constexpr, TAPS: tl.constexpr,
    ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers `strip` rows of BLOCK_COLS columns in BLOCK_ROWS planes (grid: columns * strips * planes).

    Rows of windows come one after another, and are added to all rows of pixels that they cover, in the order of
    `avg_unpool2d_kernel`. Row p is the last over STRIDE rows of pixels, and TAPS[0] - 1 times as many wait in registers.
    """
    R: tl.constexpr = WINDOW[0][0]
    STRIDE: tl.constexpr = WINDOW[1][0]
    OPEN: tl.constexpr = TAPS[0]
    COVER: tl.constexpr = TAPS[1]
    plane, h0, h1, w, lane, mask_g, mask_e, offs, row = strip_tile(
        PLANES, H, W, L, strip, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS
    )
    planes = plane_offset(plane, DEPTH, x_strides)
    taps, inside, q, _s = covering_taps(x_ptr, x_strides, planes, w, lane, Q, mask_g, mask_e, TAPS, WINDOW, VEC_IN)
    mask = mask_g[:, None] & mask_e[None, :]
    share_w = _windows_share(w, Q, MEAN, WINDOW, 1, ACC)[None, :]
    zero = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    sums = ()
    for _ in tl.static_range(OPEN * STRIDE):
        sums += (zero,)
    # the first and the last row of windows that cover a row of the strip
    p_first = tl.maximum(h0 + WINDOW[2][0] - R + STRIDE, 0) // STRIDE
    p_last = (h1 - 1 + WINDOW[2][0]) // STRIDE
    for p in range(p_first, p_last + 1):
        there, down = in_range(p, P), tl.cast(p, tl.int64) * x_strides[2]
        windows = ()
        for i in tl.static_range(COVER):
            x = tl.load(taps[i] + down, mask=inside[i] & there, other=0).to(ACC)
            if MEAN == "inside" or MEAN == "padded":
                x *= _pixels_share(p, H, MEAN, WINDOW, 0, ACC)
                x *= _pixels_share(q[i], W, MEAN, WINDOW, 1, ACC)[None, :]
            windows += (x,)
        next_sums = ()
        for k in tl.static_range(OPEN):
            for j in tl.static_range(STRIDE):
                # a row before, these pixels were STRIDE further
                acc = zero if k + 1 == OPEN else sums[(k + 1) * STRIDE + j]
                if j + STRIDE * k < R:
                    for i in tl.static_range(COVER):
                        acc += windows[i]
                next_sums += (acc,)
        sums = next_sums
        for j in tl.static_range(STRIDE):
            acc, h = sums[j], first_pixel(p, WINDOW, 0) + j
            if MEAN == "fixed":
                acc /= DIVISOR
            elif MEAN == "cover":
                acc *= _windows_share(h, P, MEAN, WINDOW, 0, ACC)
                acc *= share_w
            own = (h >= h0) & (h < h1)
            tl.store(y_ptr + offs + h * row, acc.to(y_ptr.dtype.element_ty), mask=mask & own)


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
        avg_pool2d_kernel, (x,), (y,), window, config, windows=True, sliding=avg_pool2d_slide_kernel,
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
        avg_unpool2d_kernel, (x,), (y,), window, config, windows=False, sliding=avg_unpool2d_slide_kernel,
        MEAN=mean, DIVISOR=divisor, TAPS=window.covering(),
    )  # fmt: skip
