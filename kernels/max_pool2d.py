"""Maximum, or minimum, of every window, and where it lies.

    y[p, q] = max of x[p*stride - padding + r*dilation, ...] over the taps (r, s) that lie in the image

The first of equal values counts, and a NaN wins over all; of several NaN the last, as in ATen. Where it lies is told as the
flat position h*W + w (int64, ATen's), or as the offset r*S + s in the window (one byte).

Tiles are those of windows.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .device.borders import in_range
from .device.windows import col_offset, plane_offset, row_offset, tile
from .layout.windows import launch_tiles
from .planning.windows import Config, Geometry


@triton.jit
def max_pool2d_fwd_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr, idx_ptr,  # out: [G, Q*L] values, and where they lie
    G, P, Q, L, C, H, W,
    x_sn, x_sc, x_sh, x_sw,
    SMALLEST: tl.constexpr, INDICES: tl.constexpr,
    R: tl.constexpr, S: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr, PAD_W: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, p, q, lane, mask_g, mask_j, rows, cols = tile(G, P, Q, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, C, x_sn, x_sc)
    h0, w0 = p * STRIDE_H - PAD_H, q * STRIDE_W - PAD_W
    # where no value is above the first, it is the first tap in the image that counts
    first_r = (tl.maximum(-h0, 0) + DIL_H - 1) // DIL_H
    first_s = (tl.maximum(-w0, 0) + DIL_W - 1) // DIL_W
    tap = (first_r[:, None] * S + first_s[None, :]).to(tl.int32)  # [BLOCK_ROWS, BLOCK_COLS]
    least: tl.constexpr = float("inf") if SMALLEST else float("-inf")
    best = tl.full((BLOCK_ROWS, BLOCK_COLS), least, ACC)
    for t in tl.range(0, R * S, loop_unroll_factor=UNROLL):
        h, w = h0 + t // S * DIL_H, w0 + t % S * DIL_W
        mask_h, mask_w = mask_g & in_range(h, H), mask_j & in_range(w, W)
        x_ptrs = x_ptr + row_offset(planes, h, x_sh, VEC_IN)[:, None] + col_offset(w, lane, x_sw, x_sc, VEC_IN)[None, :]
        x = tl.load(x_ptrs, mask=mask_h[:, None] & mask_w[None, :], other=least).to(ACC)
        better = ((x < best) if SMALLEST else (x > best)) | (x != x)
        best = tl.where(better, x, best)
        tap = tl.where(better, t, tap)
    mask = mask_g[:, None] & mask_j[None, :]
    tl.store(y_ptr + rows[:, None] + cols[None, :], best.to(y_ptr.dtype.element_ty), mask=mask)
    if INDICES == "offset":
        tl.store(idx_ptr + rows[:, None] + cols[None, :], tap.to(tl.uint8), mask=mask)
    elif INDICES == "position":
        h, w = h0[:, None] + tap // S * DIL_H, w0[None, :] + tap % S * DIL_W
        tl.store(idx_ptr + rows[:, None] + cols[None, :], h.to(tl.int64) * W + w, mask=mask)


def max_pool2d_fwd(
    x: torch.Tensor, y: torch.Tensor, indices: torch.Tensor | None, geometry: Geometry, smallest: bool,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the maxima of x (N, C, H, W) to y, dense, and where they lie to indices, which has the strides of y.

    Indices are flat positions (int64) or offsets in the window (uint8), or not wanted.
    """
    kind = "none" if indices is None else "offset" if indices.dtype == torch.uint8 else "position"
    launch_tiles(
        max_pool2d_fwd_kernel, (x,), (y, indices), geometry, config, windows=True,
        SMALLEST=smallest, INDICES=kind,
    )  # fmt: skip
