"""Maximum, or minimum, of every window, and where it lies.

    y[p, q] = max of x[p*stride - padding + r*dilation, ...] over the taps (r, s) that lie in the image

The first of equal values counts, and a NaN wins over all; of several NaN the last, as in ATen. Where it lies is told as the
flat position h*W + w (int64, ATen's), or as the offset r*S + s in the window (one byte).

Tiles and windows are those of device/windows.py, which draws a tile. WINDOW is ((R, S), stride, padding, dilation), each a pair
of rows and columns: WINDOW[3][0] is the dilation of rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .device.borders import in_range
from .device.windows import (
    first_pixel,
    is_better,
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
def max_pool2d_fwd_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr, idx_ptr,  # out: [G, Q*L] values, and where they lie
    G, P, Q, L, DEPTH, H, W,
    x_strides,
    SMALLEST: tl.constexpr, INDICES: tl.constexpr, WINDOW: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    R: tl.constexpr = WINDOW[0][0]
    S: tl.constexpr = WINDOW[0][1]
    DIL_H: tl.constexpr = WINDOW[3][0]
    DIL_W: tl.constexpr = WINDOW[3][1]
    plane, p, q, lane, mask_g, mask_e, offs_g, offs_e = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, DEPTH, x_strides)
    h0, w0 = first_pixel(p, WINDOW, 0), first_pixel(q, WINDOW, 1)
    # if every value is `least`, none is better: the first tap in the image counts
    first_r = (tl.maximum(-h0, 0) + DIL_H - 1) // DIL_H
    first_s = (tl.maximum(-w0, 0) + DIL_W - 1) // DIL_W
    tap = (first_r[:, None] * S + first_s[None, :]).to(tl.int32)  # [BLOCK_ROWS, BLOCK_COLS]
    least: tl.constexpr = float("inf") if SMALLEST else float("-inf")
    best = tl.full((BLOCK_ROWS, BLOCK_COLS), least, ACC)
    for t in tl.range(0, R * S, loop_unroll_factor=UNROLL):
        h, w = h0 + t // S * DIL_H, w0 + t % S * DIL_W
        mask_h, mask_w = mask_g & in_range(h, H), mask_e & in_range(w, W)
        x = load_tap(x_ptr, x_strides, planes, h, w, lane, mask_h, mask_w, least, VEC_IN).to(ACC)
        better = is_better(x, best, SMALLEST)
        best = tl.where(better, x, best)
        tap = tl.where(better, t, tap)
    store_rectangle(y_ptr, best, offs_g, offs_e, mask_g, mask_e)
    if INDICES == "offset":
        store_rectangle(idx_ptr, tap, offs_g, offs_e, mask_g, mask_e)
    elif INDICES == "position":
        h, w = h0[:, None] + tap // S * DIL_H, w0[None, :] + tap % S * DIL_W
        store_rectangle(idx_ptr, h.to(tl.int64) * W + w, offs_g, offs_e, mask_g, mask_e)


@triton.jit
def max_pool2d_slide_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr, idx_ptr,  # out: [PLANES, P, Q*L] values, and where they lie
    PLANES, P, Q, L, DEPTH, H, W,
    x_strides,
    strip,
    SMALLEST: tl.constexpr, INDICES: tl.constexpr, WINDOW: tl.constexpr,
    ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes `strip` rows of BLOCK_COLS columns in BLOCK_ROWS planes (grid: columns * strips * planes).

    Rows of x come one after another. The best of a row is found once, and then competes in all windows that the row lies in,
    of which OPEN wait in registers. In a row, and among rows, the first of equals and the last NaN are kept, so that they are
    in a window. A place in x is numbered row * S + s, where rows are counted from the first of the strip.
    """
    R: tl.constexpr = WINDOW[0][0]
    S: tl.constexpr = WINDOW[0][1]
    STRIDE: tl.constexpr = WINDOW[1][0]
    OPEN: tl.constexpr = (R + STRIDE - 1) // STRIDE
    least: tl.constexpr = float("inf") if SMALLEST else float("-inf")
    plane, p0, p1, q, lane, mask_g, mask_e, offs, row = strip_tile(
        PLANES, P, Q, L, strip, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS
    )
    planes = plane_offset(plane, DEPTH, x_strides)
    h_first = first_pixel(p0, WINDOW, 0)
    h_last = tl.minimum(first_pixel(p1 - 1, WINDOW, 0) + R, H) - 1
    taps, inside = window_taps(x_ptr, x_strides, planes, q, lane, W, mask_g, mask_e, WINDOW, VEC_IN)
    w0 = first_pixel(q, WINDOW, 1)
    mask = mask_g[:, None] & mask_e[None, :]
    # if every value is `least`, none is better: the first tap in the image counts
    none = tl.zeros((BLOCK_ROWS, BLOCK_COLS), tl.int32) + tl.maximum(-w0, 0).to(tl.int32)[None, :]
    bests, places = (tl.full((BLOCK_ROWS, BLOCK_COLS), least, ACC),), (none,)
    for _ in tl.static_range(OPEN - 1):
        bests += (tl.full((BLOCK_ROWS, BLOCK_COLS), least, ACC),)
        places += (none,)
    for p in range(p0, p1 + OPEN - 1):
        for j in tl.static_range(STRIDE):
            # a window that reaches beyond the image has its first or last row, too, which comes again instead
            h = tl.minimum(tl.maximum(first_pixel(p, WINDOW, 0) + j, 0), h_last)
            down = tl.cast(h, tl.int64) * x_strides[2]
            x = tl.load(taps[0] + down, mask=inside[0], other=least).to(ACC)
            place = none
            for s in tl.static_range(1, S):
                other = tl.load(taps[s] + down, mask=inside[s], other=least).to(ACC)
                better = is_better(other, x, SMALLEST)
                x, place = tl.where(better, other, x), tl.where(better, s, place)
            place += (h - h_first) * S
            next_bests, next_places = (), ()
            for k in tl.static_range(OPEN):
                # a row before, this window was one of those that began later
                best, at = bests[k - 1 if j == 0 and k > 0 else k], places[k - 1 if j == 0 and k > 0 else k]
                if j + k == 0:
                    best, at = x, place
                elif j + STRIDE * k < R:
                    better = is_better(x, best, SMALLEST)
                    best, at = tl.where(better, x, best), tl.where(better, place, at)
                next_bests += (best,)
                next_places += (at,)
            bests, places = next_bests, next_places
        # the window that has waited longest has seen its rows
        done = p - (OPEN - 1)
        offs_y, mask_y = offs + done * row, mask & (done >= p0)
        tl.store(y_ptr + offs_y, bests[OPEN - 1].to(y_ptr.dtype.element_ty), mask=mask_y)
        at = places[OPEN - 1]
        if INDICES == "offset":
            at -= (done - p0) * STRIDE * S
            tl.store(idx_ptr + offs_y, at.to(idx_ptr.dtype.element_ty), mask=mask_y)
        elif INDICES == "position":
            tl.store(idx_ptr + offs_y, (h_first + at // S).to(tl.int64) * W + (w0[None, :] + at % S), mask=mask_y)


def max_pool2d_fwd(
    x: torch.Tensor, y: torch.Tensor, indices: torch.Tensor | None, window: Window, smallest: bool,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the maxima of x (N, C, H, W) to y, dense, and where they lie to indices, which has the strides of y.

    Indices are flat positions (int64) or offsets in the window (uint8), or not wanted.
    """
    kind = "none" if indices is None else "offset" if indices.dtype == torch.uint8 else "position"
    launch_tiles(
        max_pool2d_fwd_kernel, (x,), (y, indices), window, config, windows=True,
        sliding=max_pool2d_slide_kernel, reduces=True,
        SMALLEST=smallest, INDICES=kind,
    )  # fmt: skip
