"""Every element, times a number.

    y = scale x        dx = scale dy

The gradient is the op itself, so one kernel serves both passes. Tiles are those of windows.py, whose windows are single pixels
here.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .device.windows import load_tap, plane_offset, store_rectangle, tile
from .geometry import Window
from .layout.windows import launch_tiles
from .planning.windows import Config


@triton.jit
def new_op_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [G, W*L]
    G, H, W, L, DEPTH, H_IN, W_IN,
    x_strides,
    SCALE: tl.constexpr, WINDOW: tl.constexpr,
    UNROLL: tl.constexpr, ACC: tl.constexpr, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK_ROWS rows of BLOCK_COLS columns (grid: blocks of rows * blocks of columns)."""
    plane, h, w, lane, mask_g, mask_e, offs_g, offs_e = tile(G, H, W, L, VEC, VEC_IN, WIDE, BLOCK_ROWS, BLOCK_COLS)
    planes = plane_offset(plane, DEPTH, x_strides)
    x = load_tap(x_ptr, x_strides, planes, h, w, lane, mask_g, mask_e, 0, VEC_IN).to(ACC)
    store_rectangle(y_ptr, x * SCALE, offs_g, offs_e, mask_g, mask_e)


def new_op(x: torch.Tensor, y: torch.Tensor, scale: float, *, config: Config | None = None) -> None:
    """Write x (N, C, H, W), times scale, to y, which is dense, NCHW or channels_last."""
    pixel = Window(kernel=(1, 1), stride=(1, 1), padding=(0, 0))
    launch_tiles(new_op_kernel, (x,), (y,), pixel, config, windows=True, SCALE=float(scale))
