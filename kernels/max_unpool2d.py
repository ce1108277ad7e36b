"""Values back to where the indices of their windows point, and the gradient of that.

    last: y[h] = x of the last window, in row-major order, whose index points to pixel h; 0 where none does
    sum:  y[h] = sum of x over all windows whose index points to pixel h: the gradient of pooling

Both are gathered: a program owns pixels, and looks at the windows over each, so that every element of y is written once, and
no two programs write one. An index is an offset r*S + s in its window (one byte), or a flat position h*W + w (int64). Positions
that no pool made may lie outside their window: the gather reports such strays, program by program, and the kernels of
max_unpool2d_anywhere.py write the planes that hold some again. An index that lies outside the image points to no pixel.

Tiles and windows are those of device/windows.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .device.borders import in_range
from .device.windows import (
    covering,
    covering_taps,
    first_pixel,
    pixel_offset,
    plane_offset,
    store_rectangle,
    strip_tile,
    tap_ptrs,
    tile,
)
from .geometry import Window
from .layout.windows import launch_tiles
from .max_unpool2d_anywhere import max_unpool2d_replay, max_unpool2d_search
from .planning.windows import Config


@triton.jit
def _pixel(idx, H, W, POS: tl.constexpr):
    """The position idx as POS, whose bits number all pixels; -1 where it lies outside the image."""
    # as unsigned numbers, negative ones are large
    inside = tl.cast(idx, tl.uint64) < tl.cast(tl.cast(H, tl.int64) * W, tl.uint64)
    return tl.where(inside, idx.to(POS), -1)


@triton.jit
def _is_stray(pixel, h0, w0, H, W, WINDOW: tl.constexpr, POS: tl.constexpr):
    """Whether pixels lie beside the windows that point to them, which begin at rows h0 and columns w0."""
    R: tl.constexpr = WINDOW[0][0]
    DIL_W: tl.constexpr = WINDOW[3][1]
    # a window covers these of its columns inside the image
    first, end = tl.maximum(-w0, 0), tl.minimum(W - w0, (WINDOW[0][1] - 1) * DIL_W + 1)
    stray = pixel >= 0
    for r in range(R):
        h = h0 + r * WINDOW[3][0]
        s = pixel - (h[:, None].to(POS) * W + w0[None, :].to(POS))
        own = in_range(h, H)[:, None] & (s >= first[None, :]) & (s < end[None, :])
        if DIL_W > 1:
            own &= s % DIL_W == 0
        stray &= ~own
    return stray


@triton.jit
def _report(strays_ptr, strays):
    """Tell the kernels of max_unpool2d_anywhere.py whether this program has seen a stray."""
    tl.store(strays_ptr + tl.program_id(0), tl.max(tl.max(strays.to(tl.int32), axis=1), axis=0))


@triton.jit
def max_unpool2d_fwd_kernel(
    x_ptr, idx_ptr,  # in:  [N, C, P, Q] both, any strides
    y_ptr,  # out: [G, W*L]
    strays_ptr,  # out: [programs], where ANYWHERE is on
    G, H, W, L, DEPTH, P, Q,
    x_strides, idx_strides,
    OFFSETS: tl.constexpr, SUM: tl.constexpr, ANYWHERE: tl.constexpr, POS: tl.constexpr,
    WINDOW: tl.constexpr, TAPS: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    S: tl.constexpr = WINDOW[0][1]
    plane, h, w, lane, mask_g, mask_e, offs_g, offs_e = tile(G, H, W, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    x_planes, idx_planes = plane_offset(plane, DEPTH, x_strides), plane_offset(plane, DEPTH, idx_strides)
    y = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    strays = tl.zeros((BLOCK_ROWS, BLOCK_COLS), tl.int1)
    for t in tl.range(0, TAPS[0] * TAPS[1], loop_unroll_factor=UNROLL):
        p, r, mask_p = covering(h, t // TAPS[1], P, TAPS, WINDOW, 0)
        q, s, mask_q = covering(w, t % TAPS[1], Q, TAPS, WINDOW, 1)
        mask = (mask_g & mask_p)[:, None] & (mask_e & mask_q)[None, :]
        x_ptrs = tap_ptrs(x_ptr, x_strides, x_planes, p, q, lane, VEC_IN)
        idx_ptrs = tap_ptrs(idx_ptr, idx_strides, idx_planes, p, q, lane, VEC_IN)
        x, idx = tl.load(x_ptrs, mask=mask, other=0).to(ACC), tl.load(idx_ptrs, mask=mask, other=0)
        if OFFSETS:
            here = idx.to(tl.int32) == r[:, None] * S + s[None, :].to(tl.int32)
        else:
            pixel = _pixel(idx, H, W, POS)
            here = pixel == h[:, None].to(POS) * W + w[None, :].to(POS)
            if ANYWHERE:
                h0, w0 = first_pixel(p, WINDOW, 0), first_pixel(q, WINDOW, 1)
                strays |= mask & _is_stray(pixel, h0, w0, H, W, WINDOW, POS)
        if SUM:
            y += tl.where(mask & here, x, 0)
        else:
            y = tl.where(mask & here, x, y)
    store_rectangle(y_ptr, y, offs_g, offs_e, mask_g, mask_e)
    if ANYWHERE:
        _report(strays_ptr, strays)


@triton.jit
def max_unpool2d_slide_kernel(
    x_ptr, idx_ptr,  # in:  [N, C, P, Q] both, any strides
    y_ptr, strays_ptr,  # out: [PLANES, H, W*L]; strays are not reported
    PLANES, H, W, L, DEPTH, P, Q,
    x_strides, idx_strides,
    strip,
    OFFSETS: tl.constexpr, SUM: tl.constexpr, ANYWHERE: tl.constexpr, POS: tl.constexpr,
    WINDOW: tl.constexpr, TAPS: tl.constexpr,
    ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers `strip` rows of BLOCK_COLS columns in BLOCK_ROWS planes (grid: columns * strips * planes).

    Rows of windows come one after another, and are compared with all rows of pixels that they cover, in the order of
    `max_unpool2d_fwd_kernel`. Row p is the last over STRIDE rows of pixels, and TAPS[0] - 1 times as many wait in registers.
    """
    tl.static_assert(SUM and not ANYWHERE)
    R: tl.constexpr = WINDOW[0][0]
    S: tl.constexpr = WINDOW[0][1]
    STRIDE: tl.constexpr = WINDOW[1][0]
    OPEN: tl.constexpr = TAPS[0]
    COVER: tl.constexpr = TAPS[1]
    plane, h0, h1, w, lane, mask_g, mask_e, offs, row = strip_tile(
        PLANES, H, W, L, strip, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS
    )
    x_planes, idx_planes = plane_offset(plane, DEPTH, x_strides), plane_offset(plane, DEPTH, idx_strides)
    x_taps, inside, _q, s = covering_taps(x_ptr, x_strides, x_planes, w, lane, Q, mask_g, mask_e, TAPS, WINDOW, VEC_IN)
    idx_taps, _inside, _q, _s = covering_taps(
        idx_ptr, idx_strides, idx_planes, w, lane, Q, mask_g, mask_e, TAPS, WINDOW, VEC_IN
    )
    mask = mask_g[:, None] & mask_e[None, :]
    zero = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    sums = ()
    for _ in tl.static_range(OPEN * STRIDE):
        sums += (zero,)
    # the first and the last row of windows that cover a row of the strip
    p_first = tl.maximum(h0 + WINDOW[2][0] - R + STRIDE, 0) // STRIDE
    p_last = (h1 - 1 + WINDOW[2][0]) // STRIDE
    for p in range(p_first, p_last + 1):
        there, h = in_range(p, P), first_pixel(p, WINDOW, 0)
        x_down, idx_down = tl.cast(p, tl.int64) * x_strides[2], tl.cast(p, tl.int64) * idx_strides[2]
        values, rows = (), ()
        for i in tl.static_range(COVER):
            values += (tl.load(x_taps[i] + x_down, mask=inside[i] & there, other=0).to(ACC),)
            idx = tl.load(idx_taps[i] + idx_down, mask=inside[i] & there, other=0)
            # what is left of an index in this column of pixels: S times the row in the window, or W times that in the image
            rows += ((idx.to(tl.int32) - s[i][None, :]) if OFFSETS else _pixel(idx, H, W, POS) - w[None, :].to(POS),)
        next_sums = ()
        for k in tl.static_range(OPEN):
            for j in tl.static_range(STRIDE):
                # a row before, these pixels were STRIDE further
                acc = zero if k + 1 == OPEN else sums[(k + 1) * STRIDE + j]
                if j + STRIDE * k < R:
                    r = j + STRIDE * k
                    own = r * S if OFFSETS else (h + r).to(POS) * W
                    for i in tl.static_range(COVER):
                        acc += tl.where(rows[i] == own, values[i], 0)
                next_sums += (acc,)
        sums = next_sums
        for j in tl.static_range(STRIDE):
            own = (h + j >= h0) & (h + j < h1)
            tl.store(y_ptr + offs + (h + j) * row, sums[j].to(y_ptr.dtype.element_ty), mask=mask & own)


@triton.jit
def max_unpool2d_bwd_kernel(
    dy_ptr, idx_ptr,  # in:  [N, C, H, W]; [N, C, P, Q]; any strides
    dx_ptr,  # out: [G, Q*L]
    strays_ptr,  # out: [programs], where ANYWHERE is on
    G, P, Q, L, DEPTH, H, W,
    dy_strides, idx_strides,
    OFFSETS: tl.constexpr, SUM: tl.constexpr, ANYWHERE: tl.constexpr, POS: tl.constexpr, BACK_TO_BACK: tl.constexpr,
    WINDOW: tl.constexpr, TAPS: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program fetches BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    R: tl.constexpr = WINDOW[0][0]
    S: tl.constexpr = WINDOW[0][1]
    _, idx_sc, idx_sp, idx_sq = idx_strides
    plane, p, q, lane, mask_g, mask_e, offs_g, offs_e = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    idx_planes = plane_offset(plane, DEPTH, idx_strides)
    mask = mask_g[:, None] & mask_e[None, :]
    idx = tl.load(tap_ptrs(idx_ptr, idx_strides, idx_planes, p, q, lane, VEC_IN), mask=mask, other=0)
    h0, w0 = first_pixel(p, WINDOW, 0), first_pixel(q, WINDOW, 1)
    if OFFSETS:
        tap = idx.to(tl.int32)
        h, w = h0[:, None] + tap // S * WINDOW[3][0], w0[None, :] + tap % S * WINDOW[3][1]
        found = mask & (tap < R * S) & in_range(h, H) & in_range(w, W)
    else:
        pixel = _pixel(idx, H, W, POS)
        found = mask & (pixel >= 0)
        h, w = (tl.maximum(pixel, 0) // W).to(tl.int32), tl.maximum(pixel, 0) % W
        w = w.to(tl.int64) if WIDE else w.to(tl.int32)
    if not SUM:
        # the value is gone where a later window points to the same pixel
        lost = ~mask
        for t in tl.range(0, TAPS[0] * TAPS[1], loop_unroll_factor=UNROLL):
            other_p, r, mask_p = covering(h, t // TAPS[1], P, TAPS, WINDOW, 0)
            other_q, s, mask_q = covering(w, t % TAPS[1], Q, TAPS, WINDOW, 1)
            later = (other_p > p[:, None]) | ((other_p == p[:, None]) & (other_q > q[None, :]))
            other_rows = idx_planes[:, None] + other_p.to(tl.int64) * idx_sp
            other_ptrs = idx_ptr + other_rows + (other_q * idx_sq + lane[None, :] * idx_sc)
            mask_other = found & later & mask_p & mask_q
            other = tl.load(other_ptrs, mask=mask_other, other=0)
            if OFFSETS:
                lost |= mask_other & (other.to(tl.int32) == r * S + s.to(tl.int32))
            else:
                lost |= mask_other & (other == idx)
        found &= ~lost
    dy_ptr += plane_offset(plane, DEPTH, dy_strides)[:, None] + lane[None, :] * dy_strides[1]
    if BACK_TO_BACK:
        # rows of dy lie so, and a position tells where its pixel lies
        dy = tl.load(dy_ptr + pixel.to(tl.int64) * dy_strides[3], mask=found, other=0)
    else:
        dy = tl.load(dy_ptr + pixel_offset(h, w, dy_strides), mask=found, other=0)
    store_rectangle(dx_ptr, dy, offs_g, offs_e, mask_g, mask_e)
    if ANYWHERE:
        _report(strays_ptr, mask & _is_stray(pixel, h0, w0, H, W, WINDOW, POS))


def _position_type(image: torch.Tensor) -> tl.dtype:
    """Enough bits for the pixels of an image, and for some beyond its border."""
    return tl.int32 if image.shape[2] * image.shape[3] < 2**30 else tl.int64


def max_unpool2d_fwd(
    x: torch.Tensor, indices: torch.Tensor, y: torch.Tensor, window: Window, accumulate: bool,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write x (N, C, P, Q) to where indices point in y (N, C, H, W), dense: the last of several, or their sum.

    indices, of the shape of x, are offsets (uint8) or flat positions (int64). Those of a sum lie in their windows.
    """
    offsets = indices.dtype == torch.uint8
    anywhere = not (offsets or accumulate)
    tiles = launch_tiles(
        max_unpool2d_fwd_kernel, (x, indices), (y,) if anywhere else (y, None), window, config,
        windows=False, sliding=max_unpool2d_slide_kernel if accumulate else None, reports=anywhere,
        OFFSETS=offsets, SUM=accumulate, ANYWHERE=anywhere, POS=_position_type(y), TAPS=window.covering(),
    )  # fmt: skip
    if anywhere:
        # no program of the gather sees the index of a window that lies outside the image
        outside = any(
            (count - 1) * stride - padding >= size
            for count, stride, padding, size in zip(
                indices.shape[2:], window.stride, window.padding, y.shape[2:], strict=True
            )
        )
        max_unpool2d_replay(x, indices, y, tiles, always=outside)


def max_unpool2d_bwd(
    dy: torch.Tensor, indices: torch.Tensor, dx: torch.Tensor, window: Window, accumulate: bool,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradient of `max_unpool2d_fwd` with respect to x, (N, C, P, Q), to dx, dense."""
    offsets = indices.dtype == torch.uint8
    anywhere = not (offsets or accumulate)
    taps = window.covering()
    # where no pixel has two windows, no window loses its value to another
    tiles = launch_tiles(
        max_unpool2d_bwd_kernel, (dy, indices), (dx,) if anywhere else (dx, None), window, config,
        windows=True, reports=anywhere,
        OFFSETS=offsets, SUM=accumulate or taps == (1, 1), ANYWHERE=anywhere, POS=_position_type(dy),
        BACK_TO_BACK=not offsets and dy.stride(2) == dy.shape[3] * dy.stride(3), TAPS=taps,
    )  # fmt: skip
    if anywhere:
        max_unpool2d_search(dy, indices, dx, tiles)
