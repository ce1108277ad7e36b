"""Values back to where the indices of their windows point, and the gradient of that.

    last: y[h] = x of the last window, in row-major order, whose index points to pixel h; 0 where none does
    sum:  y[h] = sum of x over all windows whose index points to pixel h: the gradient of pooling

Both are gathered: a program owns pixels, and looks at the windows over each, so that every element of y is written once, and
no two programs write one. An index is an offset r*S + s in its window (one byte), or a flat position h*W + w (int64). Positions
that no pool made may lie outside their window: the gather reports such strays, program by program, and a second kernel searches
all windows for each pixel of the planes that hold some. An index that lies outside the image points to no pixel.

Tiles are those of windows.py.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .device.borders import in_range
from .device.windows import col_offset, covering, plane_offset, row_offset, tile
from .launch import launch, target_device
from .layout.windows import Tiles, launch_tiles, taps
from .planning.hardware import INTERPRETER
from .planning.protocol import Cost
from .planning.windows import Config, Geometry


@triton.jit
def _pixel(idx, H, W, POS: tl.constexpr):
    """A position in as few bits as number all pixels, for all that follows; -1 where it lies outside the image."""
    # as unsigned numbers, negative ones are large
    inside = tl.cast(idx, tl.uint64) < tl.cast(tl.cast(H, tl.int64) * W, tl.uint64)
    return tl.where(inside, idx.to(POS), -1)


@triton.jit
def _is_stray(
    pixel, h0, w0, H, W,
    R: tl.constexpr, S: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr, POS: tl.constexpr,
):  # fmt: skip
    """Whether pixels lie beside the windows that point to them, which begin at rows h0 and columns w0."""
    # the columns of a window that lie in the image
    first, end = tl.maximum(-w0, 0), tl.minimum(W - w0, (S - 1) * DIL_W + 1)
    stray = pixel >= 0
    for r in range(R):
        h = h0 + r * DIL_H
        s = pixel - (h[:, None].to(POS) * W + w0[None, :].to(POS))
        own = in_range(h, H)[:, None] & (s >= first[None, :]) & (s < end[None, :])
        if DIL_W > 1:
            own &= s % DIL_W == 0
        stray &= ~own
    return stray


@triton.jit
def _report(strays_ptr, strays):
    """Whether this program has seen a stray."""
    tl.store(strays_ptr + tl.program_id(0), tl.max(tl.max(strays.to(tl.int32), axis=1), axis=0))


@triton.jit
def max_unpool2d_fwd_kernel(
    x_ptr, idx_ptr,  # in:  [N, C, P, Q] both, any strides
    y_ptr,  # out: [G, W*L]
    strays_ptr,  # out: [programs], where ANYWHERE is on
    G, H, W, L, C, P, Q,
    x_sn, x_sc, x_sp, x_sq,
    i_sn, i_sc, i_sp, i_sq,
    OFFSETS: tl.constexpr, SUM: tl.constexpr, ANYWHERE: tl.constexpr, POS: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr, PAD_W: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr,
    TAPS_H: tl.constexpr, TAPS_W: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program gathers BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, h, w, lane, mask_g, mask_j, rows, cols = tile(G, H, W, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    x_planes, i_planes = plane_offset(plane, C, x_sn, x_sc), plane_offset(plane, C, i_sn, i_sc)
    y = tl.zeros((BLOCK_ROWS, BLOCK_COLS), ACC)
    strays = tl.zeros((BLOCK_ROWS, BLOCK_COLS), tl.int1)
    for t in tl.range(0, TAPS_H * TAPS_W, loop_unroll_factor=UNROLL):
        p, r, mask_p = covering(h, t // TAPS_W, P, TAPS_H, R, STRIDE_H, PAD_H, DIL_H)
        q, s, mask_q = covering(w, t % TAPS_W, Q, TAPS_W, S, STRIDE_W, PAD_W, DIL_W)
        mask = (mask_g & mask_p)[:, None] & (mask_j & mask_q)[None, :]
        x_cols, i_cols = col_offset(q, lane, x_sq, x_sc, VEC_IN), col_offset(q, lane, i_sq, i_sc, VEC_IN)
        x_ptrs = x_ptr + row_offset(x_planes, p, x_sp, VEC_IN)[:, None] + x_cols[None, :]
        i_ptrs = idx_ptr + row_offset(i_planes, p, i_sp, VEC_IN)[:, None] + i_cols[None, :]
        x, idx = tl.load(x_ptrs, mask=mask, other=0).to(ACC), tl.load(i_ptrs, mask=mask, other=0)
        if OFFSETS:
            here = idx.to(tl.int32) == r[:, None] * S + s[None, :].to(tl.int32)
        else:
            pixel = _pixel(idx, H, W, POS)
            here = pixel == h[:, None].to(POS) * W + w[None, :].to(POS)
            if ANYWHERE:
                h0, w0 = p * STRIDE_H - PAD_H, q * STRIDE_W - PAD_W
                strays |= mask & _is_stray(pixel, h0, w0, H, W, R, S, DIL_H, DIL_W, POS)
        if SUM:
            y += tl.where(mask & here, x, 0)
        else:
            y = tl.where(mask & here, x, y)
    tl.store(
        y_ptr + rows[:, None] + cols[None, :], y.to(y_ptr.dtype.element_ty), mask=mask_g[:, None] & mask_j[None, :]
    )
    if ANYWHERE:
        _report(strays_ptr, strays)


@triton.jit
def max_unpool2d_bwd_kernel(
    dy_ptr, idx_ptr,  # in:  [N, C, H, W]; [N, C, P, Q]; any strides
    dx_ptr,  # out: [G, Q*L]
    strays_ptr,  # out: [programs], where ANYWHERE is on
    G, P, Q, L, C, H, W,
    dy_sn, dy_sc, dy_sh, dy_sw,
    i_sn, i_sc, i_sp, i_sq,
    OFFSETS: tl.constexpr, SUM: tl.constexpr, ANYWHERE: tl.constexpr, POS: tl.constexpr, FLAT: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr, PAD_W: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr,
    TAPS_H: tl.constexpr, TAPS_W: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program fetches BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, p, q, lane, mask_g, mask_j, rows, cols = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    i_planes = plane_offset(plane, C, i_sn, i_sc)
    mask = mask_g[:, None] & mask_j[None, :]
    i_cols = col_offset(q, lane, i_sq, i_sc, VEC_IN)
    idx = tl.load(idx_ptr + row_offset(i_planes, p, i_sp, VEC_IN)[:, None] + i_cols[None, :], mask=mask, other=0)
    h0, w0 = p * STRIDE_H - PAD_H, q * STRIDE_W - PAD_W
    if OFFSETS:
        tap = idx.to(tl.int32)
        h, w = h0[:, None] + tap // S * DIL_H, w0[None, :] + tap % S * DIL_W
        found = mask & (tap < R * S) & in_range(h, H) & in_range(w, W)
    else:
        pixel = _pixel(idx, H, W, POS)
        found = mask & (pixel >= 0)
        h, w = (tl.maximum(pixel, 0) // W).to(tl.int32), tl.maximum(pixel, 0) % W
        w = w.to(tl.int64) if WIDE else w.to(tl.int32)
    if not SUM:
        # the value is gone where a later window points to the same pixel
        lost = ~mask
        for t in tl.range(0, TAPS_H * TAPS_W, loop_unroll_factor=UNROLL):
            other_p, r, mask_p = covering(h, t // TAPS_W, P, TAPS_H, R, STRIDE_H, PAD_H, DIL_H)
            other_q, s, mask_q = covering(w, t % TAPS_W, Q, TAPS_W, S, STRIDE_W, PAD_W, DIL_W)
            later = (other_p > p[:, None]) | ((other_p == p[:, None]) & (other_q > q[None, :]))
            other_rows = i_planes[:, None] + other_p.to(tl.int64) * i_sp
            other_ptrs = idx_ptr + other_rows + (other_q * i_sq + lane[None, :] * i_sc)
            mask_other = found & later & mask_p & mask_q
            other = tl.load(other_ptrs, mask=mask_other, other=0)
            if OFFSETS:
                lost |= mask_other & (other.to(tl.int32) == r * S + s.to(tl.int32))
            else:
                lost |= mask_other & (other == idx)
        found &= ~lost
    dy_ptr += plane_offset(plane, C, dy_sn, dy_sc)[:, None] + lane[None, :] * dy_sc
    if FLAT:
        dy = tl.load(dy_ptr + pixel.to(tl.int64) * dy_sw, mask=found, other=0)
    else:
        dy = tl.load(dy_ptr + (h.to(tl.int64) * dy_sh + w * dy_sw), mask=found, other=0)
    tl.store(dx_ptr + rows[:, None] + cols[None, :], dy, mask=mask)
    if ANYWHERE:
        _report(strays_ptr, mask & _is_stray(pixel, h0, w0, H, W, R, S, DIL_H, DIL_W, POS))


#
# The slow way, for positions that point anywhere. A launch that finds no stray only reads what the gather reported.


@triton.jit
def _has_strays(strays_ptr, first_plane, end_plane, HEIGHT, blocks, BLOCK_ROWS: tl.constexpr, SOME: tl.constexpr):
    """Whether a program that owned rows of these planes, of HEIGHT rows each, has reported some."""
    height = tl.cast(HEIGHT, tl.int64)
    first = first_plane * height // BLOCK_ROWS * blocks
    end = ((end_plane * height - 1) // BLOCK_ROWS + 1) * blocks
    found = tl.zeros((SOME,), tl.int32)
    for i in range(first, end, SOME):
        offs = i + tl.arange(0, SOME)
        found |= tl.load(strays_ptr + offs, mask=offs < end, other=0)
    return tl.max(found, axis=0) != 0


@triton.jit
def max_unpool2d_replay_kernel(
    x_ptr, idx_ptr,  # in:  [N, C, P, Q] both, any strides
    strays_ptr,  # in:  what the gather reported
    y_ptr,  # out: [N, C, H, W], gathered; planes with strays are written again
    planes, planes_a_program, C, lanes, PIXELS, W, WINDOWS, Q,
    x_sn, x_sc, x_sp, x_sq,
    i_sn, i_sc, i_sp, i_sq,
    y_sn, y_sc, y_sh, y_sw,
    HEIGHT, blocks,
    ALWAYS: tl.constexpr, BLOCK_ROWS: tl.constexpr, SOME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program scatters the windows of some planes, BLOCK at a time and in order (grid: blocks of planes)."""
    first = tl.program_id(0) * planes_a_program
    end = tl.minimum(first + planes_a_program, planes)
    if ALWAYS or _has_strays(strays_ptr, first // lanes, (end - 1) // lanes + 1, HEIGHT, blocks, BLOCK_ROWS, SOME):
        lane = tl.arange(0, BLOCK)
        for plane in range(first, end):
            x_plane, i_plane = plane_offset(plane, C, x_sn, x_sc), plane_offset(plane, C, i_sn, i_sc)
            y_plane = plane_offset(plane, C, y_sn, y_sc)
            for window in range(0, WINDOWS, BLOCK):
                k = window + lane
                p, q = (k // Q).to(tl.int64), (k % Q).to(tl.int64)
                idx = tl.load(idx_ptr + i_plane + p * i_sp + q * i_sq, mask=k < WINDOWS, other=-1)
                x = tl.load(x_ptr + x_plane + p * x_sp + q * x_sq, mask=k < WINDOWS, other=0)
                # of the windows of a block that point to one pixel, the last
                same = (idx[:, None] == idx[None, :]) & (lane[:, None] < lane[None, :])  # [BLOCK, BLOCK]
                lost = tl.max(same.to(tl.int32), axis=1) != 0
                found = (idx >= 0) & (idx < PIXELS) & ~lost
                tl.store(y_ptr + y_plane + idx // W * y_sh + idx % W * y_sw, x, mask=found)
                # the next block may point there too, and comes later
                tl.debug_barrier()


@triton.jit
def max_unpool2d_search_kernel(
    dy_ptr, idx_ptr,  # in:  [N, C, H, W]; [N, C, P, Q]; any strides
    strays_ptr,  # in:  what the gather reported
    dx_ptr,  # out: [N, C, P, Q], fetched; planes with strays are written again
    planes, planes_a_program, C, lanes, PIXELS, W, WINDOWS, Q,
    dy_sn, dy_sc, dy_sh, dy_sw,
    i_sn, i_sc, i_sp, i_sq,
    dx_sn, dx_sc, dx_sp, dx_sq,
    HEIGHT, blocks,
    BLOCK_ROWS: tl.constexpr, SOME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program compares all windows of some planes with all that come later (grid: blocks of planes)."""
    first = tl.program_id(0) * planes_a_program
    end = tl.minimum(first + planes_a_program, planes)
    if _has_strays(strays_ptr, first // lanes, (end - 1) // lanes + 1, HEIGHT, blocks, BLOCK_ROWS, SOME):
        lane = tl.arange(0, BLOCK)
        for plane in range(first, end):
            dy_plane, i_plane = plane_offset(plane, C, dy_sn, dy_sc), plane_offset(plane, C, i_sn, i_sc)
            dx_plane = plane_offset(plane, C, dx_sn, dx_sc)
            for window in range(0, WINDOWS, BLOCK):
                k = window + lane
                p, q = (k // Q).to(tl.int64), (k % Q).to(tl.int64)
                idx = tl.load(idx_ptr + i_plane + p * i_sp + q * i_sq, mask=k < WINDOWS, other=-1)
                lost = tl.zeros((BLOCK,), tl.int32)
                for later in range(window, WINDOWS, BLOCK):
                    n = later + lane
                    ptrs = idx_ptr + i_plane + (n // Q).to(tl.int64) * i_sp + (n % Q).to(tl.int64) * i_sq
                    other = tl.load(ptrs, mask=n < WINDOWS, other=-1)
                    same = (idx[:, None] == other[None, :]) & (k[:, None] < n[None, :])  # [BLOCK, BLOCK]
                    lost |= tl.max(same.to(tl.int32), axis=1)
                found = (idx >= 0) & (idx < PIXELS)
                # divided only where it is a pixel
                pixel = tl.where(found, idx, 0)
                dy_ptrs = dy_ptr + dy_plane + pixel // W * dy_sh + pixel % W * dy_sw
                dx = tl.load(dy_ptrs, mask=found & (lost == 0), other=0)
                tl.store(dx_ptr + dx_plane + p * dx_sp + q * dx_sq, dx, mask=k < WINDOWS)


def _launch_slow(
    kernel: Any, x: torch.Tensor, indices: torch.Tensor, out: torch.Tensor, image: torch.Tensor, tiles: Tiles, **meta: Any
) -> None:  # fmt: skip
    """Launch on all planes of out what looks at the windows `indices` of an image."""
    planes = out.shape[0] * out.shape[1]
    device = target_device(out)
    a_program = -(-planes // (4 * device.sms))
    count = -(-planes // a_program)
    reported = 4 * tiles.programs
    launch(
        kernel, count,
        x, indices, tiles.reports, out,
        planes, a_program, out.shape[1], tiles.lanes, image.shape[2] * image.shape[3], image.shape[3],
        indices.shape[2] * indices.shape[3], indices.shape[3],
        *x.stride(), *indices.stride(), *out.stride(),
        out.shape[2], tiles.programs_a_row,
        config=tiles.config, cost=lambda: Cost(bytes_moved=reported, bytes_least=reported, trips=0), num_warps=4,
        BLOCK_ROWS=tiles.config.rows, SOME=1024, BLOCK=32 if device is INTERPRETER else 64, **meta,
    )  # fmt: skip


def _position_type(image: torch.Tensor) -> tl.dtype:
    """Enough bits for the pixels of an image, and for some beyond its border."""
    return tl.int32 if image.shape[2] * image.shape[3] < 2**30 else tl.int64


def max_unpool2d_fwd(
    x: torch.Tensor, indices: torch.Tensor, y: torch.Tensor, geometry: Geometry, accumulate: bool,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write x (N, C, P, Q) to where indices point in y (N, C, H, W), dense: the last of several, or their sum.

    indices, of the shape of x, are offsets (uint8) or flat positions (int64). Those of a sum lie in their windows.
    """
    offsets = indices.dtype == torch.uint8
    anywhere = not (offsets or accumulate)
    tiles = launch_tiles(
        max_unpool2d_fwd_kernel, (x, indices), (y,) if anywhere else (y, None), geometry, config,
        windows=False, reports=anywhere,
        OFFSETS=offsets, SUM=accumulate, ANYWHERE=anywhere, POS=_position_type(y), **taps(geometry),
    )  # fmt: skip
    if anywhere:
        # no program of the gather sees the index of a window that lies outside the image
        outside = any((indices.shape[2 + d] - 1) * geometry[1][d] - geometry[2][d] >= y.shape[2 + d] for d in range(2))
        _launch_slow(max_unpool2d_replay_kernel, x, indices, y, y, tiles, ALWAYS=outside)


def max_unpool2d_bwd(
    dy: torch.Tensor, indices: torch.Tensor, dx: torch.Tensor, geometry: Geometry, accumulate: bool,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradient of `max_unpool2d_fwd` with respect to x, (N, C, P, Q), to dx, dense."""
    offsets = indices.dtype == torch.uint8
    anywhere = not (offsets or accumulate)
    meta = taps(geometry)
    # no pixel has two windows
    alone = meta["TAPS_H"] * meta["TAPS_W"] == 1
    tiles = launch_tiles(
        max_unpool2d_bwd_kernel, (dy, indices), (dx,) if anywhere else (dx, None), geometry, config,
        windows=True, reports=anywhere,
        OFFSETS=offsets, SUM=accumulate or alone, ANYWHERE=anywhere, POS=_position_type(dy),
        FLAT=not offsets and dy.stride(2) == dy.shape[3] * dy.stride(3), **meta,
    )  # fmt: skip
    if anywhere:
        _launch_slow(max_unpool2d_search_kernel, dy, indices, dx, dy, tiles)
