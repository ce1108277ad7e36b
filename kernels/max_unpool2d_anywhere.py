"""The slow way of `max_unpool2d`, for positions that point anywhere, and not only into their windows.

The gather of max_unpool2d.py reports strays, the positions that lie outside their windows, program by program. These kernels
read the reports, and write the planes that hold some again; where there are none, they do nothing else.

    replay: windows are scattered one after another, so that the last of several that point to one pixel stays
    search: the gradient; the index of every window is compared with those of all later windows
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .device.windows import pixel_offset, plane_offset
from .launch import launch, target_device
from .layout.windows import Tiles
from .planning.hardware import INTERPRETER
from .planning.protocol import Cost


@triton.jit
def _has_strays(
    strays_ptr, first_plane, end_plane, HEIGHT, blocks, BLOCK_ROWS: tl.constexpr, BLOCK_REPORTS: tl.constexpr
):
    """Whether a program that owned rows of these planes, of HEIGHT rows each, has reported some."""
    height = tl.cast(HEIGHT, tl.int64)
    first = first_plane * height // BLOCK_ROWS * blocks
    end = ((end_plane * height - 1) // BLOCK_ROWS + 1) * blocks
    found = tl.zeros((BLOCK_REPORTS,), tl.int32)
    for i in range(first, end, BLOCK_REPORTS):
        offs = i + tl.arange(0, BLOCK_REPORTS)
        found |= tl.load(strays_ptr + offs, mask=offs < end, other=0)
    return tl.max(found, axis=0) != 0


@triton.jit
def max_unpool2d_replay_kernel(
    x_ptr, idx_ptr,  # in:  [N, C, P, Q] both, any strides
    strays_ptr,  # in:  what the gather reported
    y_ptr,  # out: [N, C, H, W], gathered; planes with strays are written again
    planes, planes_a_program, C, L, PIXELS, W, WINDOWS, Q,
    x_strides, idx_strides, y_strides,
    HEIGHT, blocks,  # of the gather: rows of a plane, and programs a row
    ALWAYS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_REPORTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program scatters the windows of some planes, BLOCK at a time and in order (grid: blocks of planes)."""
    first = tl.program_id(0) * planes_a_program
    end = tl.minimum(first + planes_a_program, planes)
    if ALWAYS or _has_strays(strays_ptr, first // L, (end - 1) // L + 1, HEIGHT, blocks, BLOCK_ROWS, BLOCK_REPORTS):
        offs = tl.arange(0, BLOCK)
        for plane in range(first, end):
            x_plane, idx_plane = plane_offset(plane, C, x_strides), plane_offset(plane, C, idx_strides)
            y_plane = plane_offset(plane, C, y_strides)
            for window in range(0, WINDOWS, BLOCK):
                k = window + offs
                p, q = (k // Q).to(tl.int64), (k % Q).to(tl.int64)
                idx = tl.load(idx_ptr + idx_plane + pixel_offset(p, q, idx_strides), mask=k < WINDOWS, other=-1)
                x = tl.load(x_ptr + x_plane + pixel_offset(p, q, x_strides), mask=k < WINDOWS, other=0)
                # a window is lost if a later one of its block points to the same pixel
                same = (idx[:, None] == idx[None, :]) & (offs[:, None] < offs[None, :])  # [BLOCK, BLOCK]
                lost = tl.max(same.to(tl.int32), axis=1) != 0
                found = (idx >= 0) & (idx < PIXELS) & ~lost
                tl.store(y_ptr + y_plane + pixel_offset(idx // W, idx % W, y_strides), x, mask=found)
                # the next block may point there too, and comes later
                tl.debug_barrier()


@triton.jit
def max_unpool2d_search_kernel(
    dy_ptr, idx_ptr,  # in:  [N, C, H, W]; [N, C, P, Q]; any strides
    strays_ptr,  # in:  what the gather reported
    dx_ptr,  # out: [N, C, P, Q], fetched; planes with strays are written again
    planes, planes_a_program, C, L, PIXELS, W, WINDOWS, Q,
    dy_strides, idx_strides, dx_strides,
    HEIGHT, blocks,  # of the gather: rows of a plane, and programs a row
    BLOCK_ROWS: tl.constexpr, BLOCK_REPORTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program compares all windows of some planes with all that come later (grid: blocks of planes)."""
    first = tl.program_id(0) * planes_a_program
    end = tl.minimum(first + planes_a_program, planes)
    if _has_strays(strays_ptr, first // L, (end - 1) // L + 1, HEIGHT, blocks, BLOCK_ROWS, BLOCK_REPORTS):
        offs = tl.arange(0, BLOCK)
        for plane in range(first, end):
            dy_plane, idx_plane = plane_offset(plane, C, dy_strides), plane_offset(plane, C, idx_strides)
            dx_plane = plane_offset(plane, C, dx_strides)
            for window in range(0, WINDOWS, BLOCK):
                k = window + offs
                p, q = (k // Q).to(tl.int64), (k % Q).to(tl.int64)
                idx = tl.load(idx_ptr + idx_plane + pixel_offset(p, q, idx_strides), mask=k < WINDOWS, other=-1)
                lost = tl.zeros((BLOCK,), tl.int32)
                for later in range(window, WINDOWS, BLOCK):
                    n = later + offs
                    offs_n = pixel_offset((n // Q).to(tl.int64), (n % Q).to(tl.int64), idx_strides)
                    other = tl.load(idx_ptr + idx_plane + offs_n, mask=n < WINDOWS, other=-1)
                    same = (idx[:, None] == other[None, :]) & (k[:, None] < n[None, :])  # [BLOCK, BLOCK]
                    lost |= tl.max(same.to(tl.int32), axis=1)
                found = (idx >= 0) & (idx < PIXELS)
                # only the position of a pixel is divided
                pixel = tl.where(found, idx, 0)
                dy_ptrs = dy_ptr + dy_plane + pixel_offset(pixel // W, pixel % W, dy_strides)
                dx = tl.load(dy_ptrs, mask=found & (lost == 0), other=0)
                tl.store(dx_ptr + dx_plane + pixel_offset(p, q, dx_strides), dx, mask=k < WINDOWS)


def _launch(
    kernel: Any, x: torch.Tensor, indices: torch.Tensor, out: torch.Tensor, image: torch.Tensor, tiles: Tiles, **meta: Any
) -> None:  # fmt: skip
    """Launch on all planes of out, which a gather has cut up into tiles, with indices that point into image."""
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
        x.stride(), indices.stride(), out.stride(),
        out.shape[2], tiles.programs_a_row,
        config=tiles.config, cost=lambda: Cost(bytes_moved=reported, bytes_least=reported, trips=0), num_warps=4,
        BLOCK_ROWS=tiles.config.rows, BLOCK_REPORTS=1024, BLOCK=32 if device is INTERPRETER else 64, **meta,
    )  # fmt: skip


def max_unpool2d_replay(x: torch.Tensor, indices: torch.Tensor, y: torch.Tensor, tiles: Tiles, *, always: bool) -> None:
    """Write the planes of y that hold strays again, all where `always`; arguments are those of `max_unpool2d_fwd`."""
    _launch(max_unpool2d_replay_kernel, x, indices, y, y, tiles, ALWAYS=always)


def max_unpool2d_search(dy: torch.Tensor, indices: torch.Tensor, dx: torch.Tensor, tiles: Tiles) -> None:
    """Write the planes of dx that hold strays again; arguments are those of `max_unpool2d_bwd`."""
    _launch(max_unpool2d_search_kernel, dy, indices, dx, dy, tiles)
