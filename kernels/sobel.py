"""Sobel gradients and their magnitude.

    gx = difference across x of (row above + 2 row + row below)        y = sqrt(gx^2 + gy^2 + eps)
    gy = difference across y of (left + 2 middle + right)

One kernel serves NCHW and channels_last: planes, lanes and tiles are those of strips.py. A program slides down its strip:
every row is loaded once (shifted copies of it come from L1) and kept in registers for the rows that need it. Inputs have
any strides; outputs are ours, hence dense.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .device.borders import border_index, in_range
from .device.strips import plane_ptr, strip_tile
from .launch import launch, target_device
from .planning.strips import Config, Problem, cost, pick_config, programs


@triton.jit
def _load_row(ptr, h, H, sh, offs, inside, mask, MODE: tl.constexpr, PAD: tl.constexpr, ACC: tl.constexpr):
    """Row h of an image, at column offsets `offs`, with the border that MODE asks for."""
    row = ptr + border_index(h, H, MODE).to(tl.int64) * sh
    if MODE == "constant":
        inside = mask & inside & in_range(h, H)
        if ptr.dtype.element_ty == ACC:
            return tl.load(row + offs, mask=inside, other=tl.full(offs.shape, PAD, ACC))
        # PAD may have no equal in the dtype of x
        return tl.where(inside, tl.load(row + offs, mask=inside, other=0).to(ACC), PAD)
    return tl.load(row + offs, mask=mask, other=0).to(ACC)


@triton.jit
def _filter_row(
    ptr, mid_ptr, h, H, sh, offs_l, offs_m, offs_r, in_l, in_r, mask,
    MODE: tl.constexpr, PAD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Row h, filtered along x: smoothed by [1, 2, 1] and differenced by [-1, 0, 1]."""
    left = _load_row(ptr, h, H, sh, offs_l, in_l, mask, MODE, PAD, ACC)
    mid = _load_row(mid_ptr, h, H, sh, offs_m, mask, mask, MODE, PAD, ACC)
    right = _load_row(ptr, h, H, sh, offs_r, in_r, mask, MODE, PAD, ACC)
    return left + 2 * mid + right, right - left


@triton.jit
def sobel_fwd_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [P, H, W*L], or [P, 2, H, W*L] where MAGNITUDE is off
    H, W, ROW, L, C, rows,  # ROW = W*L; C planes an image (1 where L = C); rows a program
    x_sn, x_sc, x_sh, x_sw,
    SCALE: tl.constexpr, EPS: tl.constexpr, MODE: tl.constexpr, PAD: tl.constexpr,
    MAGNITUDE: tl.constexpr, ACC: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program filters `rows` rows of BLOCK columns (grid: planes * strips * blocks)."""
    plane, h0, h1, q0, w, lane = strip_tile(H, ROW, L, rows, BLOCK, WIDE)
    cols = tl.arange(0, BLOCK)
    mask = q0 + cols < ROW
    x_ptr = plane_ptr(x_ptr, plane, C, x_sn, x_sc)
    offs_l = border_index(w - 1, W, MODE) * x_sw + lane * x_sc
    offs_m = w * x_sw + lane * x_sc
    offs_r = border_index(w + 1, W, MODE) * x_sw + lane * x_sc
    in_l, in_r = in_range(w - 1, W), in_range(w + 1, W)
    mid_ptr = x_ptr
    # where pixels lie back to back, say so: the compiler cannot see it through w and lane, and loads 128 bits if it
    # knows
    if FLAT:
        mid_ptr, offs_m = x_ptr + q0.to(tl.int64) * x_sc, cols.to(tl.int64) * x_sc
    y_ptr += plane * H * ROW * (1 if MAGNITUDE else 2) + q0

    # rows combine along y: two filtered rows wait in registers for the third
    smooth0, diff0 = _filter_row(
        x_ptr, mid_ptr, h0 - 1, H, x_sh, offs_l, offs_m, offs_r, in_l, in_r, mask, MODE, PAD, ACC
    )
    smooth1, diff1 = _filter_row(x_ptr, mid_ptr, h0, H, x_sh, offs_l, offs_m, offs_r, in_l, in_r, mask, MODE, PAD, ACC)
    for h in range(h0, h1):
        smooth2, diff2 = _filter_row(
            x_ptr, mid_ptr, h + 1, H, x_sh, offs_l, offs_m, offs_r, in_l, in_r, mask, MODE, PAD, ACC
        )
        gx = (diff0 + 2 * diff1 + diff2) * SCALE
        gy = (smooth2 - smooth0) * SCALE
        y_row = y_ptr + tl.cast(h, tl.int64) * ROW
        if MAGNITUDE:
            y = tl.sqrt(gx * gx + gy * gy + EPS)
            tl.store(y_row + cols, y.to(y_ptr.dtype.element_ty), mask=mask)
        else:
            tl.store(y_row + cols, gx.to(y_ptr.dtype.element_ty), mask=mask)
            y_row += tl.cast(H, tl.int64) * ROW
            tl.store(y_row + cols, gy.to(y_ptr.dtype.element_ty), mask=mask)
        smooth0, diff0, smooth1, diff1 = smooth1, diff1, smooth2, diff2


#
# Every dx is gathered from the 3x3 outputs that read it, so no two programs write one element. The filters are
# separable, and so is their adjoint: three weights along x and the same three along y, which also say what a border
# mode folds back.


@triton.jit
def _adjoint_taps(i, size, MODE: tl.constexpr):
    """Weights with which outputs i-1, i, i+1 reach input i: of the difference, then of the smoothing filter."""
    wrap: tl.constexpr = MODE == "circular"
    left = tl.where((i == 0) & (not wrap), 0.0, 1.0)
    right = tl.where((i == size - 1) & (not wrap), 0.0, 1.0)
    diff_l, diff_m, diff_r = left, left * 0, -right
    smooth_l, smooth_m, smooth_r = left, left * 0 + 2, right
    if MODE == "replicate":  # the pixel at the border also is the one beyond it
        first, last = tl.where(i == 0, 1.0, 0.0), tl.where(i == size - 1, 1.0, 0.0)
        diff_m, smooth_m = last - first, smooth_m + first + last
    elif MODE == "reflect":  # the pixel next to the border is the one beyond it
        second, penult = tl.where(i == 1, 1.0, 0.0), tl.where(i == size - 2, 1.0, 0.0)
        diff_l, smooth_l = diff_l - second, smooth_l + second
        diff_r, smooth_r = diff_r + penult, smooth_r + penult
    return diff_l, diff_m, diff_r, smooth_l, smooth_m, smooth_r


@triton.jit
def _gather_rows(h, H, across0, along0, across1, along1, across2, along2, MODE: tl.constexpr):
    """dx of row h from three rows of gx (`across`) and gy (`along`) gradients that are gathered along x already."""
    diff_l, diff_m, diff_r, smooth_l, smooth_m, smooth_r = _adjoint_taps(h, H, MODE)
    return (
        smooth_l * across0 + smooth_m * across1 + smooth_r * across2
        + diff_l * along0 + diff_m * along1 + diff_r * along2
    )  # fmt: skip


@triton.jit
def spatial_gradient_bwd_kernel(
    dg_ptr,  # in:  [N, C, 2, H, W], any strides
    dx_ptr,  # out: [P, H, W*L]
    H, W, ROW, L, C, rows,
    dg_sn, dg_sc, dg_sg, dg_sh, dg_sw,
    SCALE: tl.constexpr, MODE: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program gathers `rows` rows of BLOCK columns (grid: planes * strips * blocks)."""
    plane, h0, h1, q0, w, lane = strip_tile(H, ROW, L, rows, BLOCK, WIDE)
    cols = tl.arange(0, BLOCK)
    mask = q0 + cols < ROW
    gx_ptr = plane_ptr(dg_ptr, plane, C, dg_sn, dg_sc)
    gy_ptr = gx_ptr + dg_sg
    offs_l = border_index(w - 1, W, MODE) * dg_sw + lane * dg_sc
    offs_m = w * dg_sw + lane * dg_sc
    offs_r = border_index(w + 1, W, MODE) * dg_sw + lane * dg_sc
    diff_l, diff_m, diff_r, smooth_l, smooth_m, smooth_r = _adjoint_taps(w, W, MODE)
    dx_ptr += plane * H * ROW + q0

    across0, across1 = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
    along0, along1 = across0, across1
    for r in range(h0 - 1, h1 + 1):
        row = tl.cast(border_index(r, H, MODE), tl.int64) * dg_sh
        across2 = diff_l * tl.load(gx_ptr + row + offs_l, mask=mask, other=0).to(ACC)
        across2 += diff_m * tl.load(gx_ptr + row + offs_m, mask=mask, other=0).to(ACC)
        across2 += diff_r * tl.load(gx_ptr + row + offs_r, mask=mask, other=0).to(ACC)
        along2 = smooth_l * tl.load(gy_ptr + row + offs_l, mask=mask, other=0).to(ACC)
        along2 += smooth_m * tl.load(gy_ptr + row + offs_m, mask=mask, other=0).to(ACC)
        along2 += smooth_r * tl.load(gy_ptr + row + offs_r, mask=mask, other=0).to(ACC)
        dx = SCALE * _gather_rows(r - 1, H, across0, along0, across1, along1, across2, along2, MODE)
        dx_row = dx_ptr + tl.cast(r - 1, tl.int64) * ROW
        tl.store(dx_row + cols, dx.to(dx_ptr.dtype.element_ty), mask=mask & (r > h0))
        across0, along0, across1, along1 = across1, along1, across2, along2


@triton.jit
def _magnitude_grad(gx, gy, dy, SCALE: tl.constexpr, EPS: tl.constexpr):
    """Gradients of the unscaled gx and gy: SCALE (gx, gy) dy / y with both scaled, and 0 where y is 0."""
    gx, gy = gx * SCALE, gy * SCALE
    square = gx * gx + gy * gy + EPS
    if EPS < 1e-30:
        # only then can y be 0; hardware takes subnormal squares for 0 as well
        flat = square < 1.1754944e-38
        dy = tl.where(flat, 0.0, dy)
        square = tl.where(flat, 1.0, square)
    dy *= tl.rsqrt(square) * SCALE
    return gx * dy, gy * dy


@triton.jit
def sobel_bwd_kernel(
    dy_ptr, x_ptr,  # in:  [N, C, H, W] both, any strides
    dx_ptr,         # out: [P, H, W*L]
    H, W, ROW, L, C, rows,
    dy_sn, dy_sc, dy_sh, dy_sw,
    x_sn, x_sc, x_sh, x_sw,
    SCALE: tl.constexpr, EPS: tl.constexpr, MODE: tl.constexpr, PAD: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program gathers `rows` rows of BLOCK columns (grid: planes * strips * blocks); y is recomputed, not stored."""
    plane, h0, h1, q0, w, lane = strip_tile(H, ROW, L, rows, BLOCK, WIDE)
    cols = tl.arange(0, BLOCK)
    mask = q0 + cols < ROW
    dy_ptr = plane_ptr(dy_ptr, plane, C, dy_sn, dy_sc)
    x_ptr = plane_ptr(x_ptr, plane, C, x_sn, x_sc)
    dy_l = border_index(w - 1, W, MODE) * dy_sw + lane * dy_sc
    dy_m = w * dy_sw + lane * dy_sc
    dy_r = border_index(w + 1, W, MODE) * dy_sw + lane * dy_sc
    # columns 0..4 are the taps of the outputs at w-1, w and w+1
    offs0 = border_index(w - 2, W, MODE) * x_sw + lane * x_sc
    offs1 = border_index(w - 1, W, MODE) * x_sw + lane * x_sc
    offs2 = w * x_sw + lane * x_sc
    offs3 = border_index(w + 1, W, MODE) * x_sw + lane * x_sc
    offs4 = border_index(w + 2, W, MODE) * x_sw + lane * x_sc
    in0, in1, in3, in4 = in_range(w - 2, W), in_range(w - 1, W), in_range(w + 1, W), in_range(w + 2, W)
    diff_l, diff_m, diff_r, smooth_l, smooth_m, smooth_r = _adjoint_taps(w, W, MODE)
    dx_ptr += plane * H * ROW + q0

    top0 = _load_row(x_ptr, h0 - 2, H, x_sh, offs0, in0, mask, MODE, PAD, ACC)
    top1 = _load_row(x_ptr, h0 - 2, H, x_sh, offs1, in1, mask, MODE, PAD, ACC)
    top2 = _load_row(x_ptr, h0 - 2, H, x_sh, offs2, mask, mask, MODE, PAD, ACC)
    top3 = _load_row(x_ptr, h0 - 2, H, x_sh, offs3, in3, mask, MODE, PAD, ACC)
    top4 = _load_row(x_ptr, h0 - 2, H, x_sh, offs4, in4, mask, MODE, PAD, ACC)
    mid0 = _load_row(x_ptr, h0 - 1, H, x_sh, offs0, in0, mask, MODE, PAD, ACC)
    mid1 = _load_row(x_ptr, h0 - 1, H, x_sh, offs1, in1, mask, MODE, PAD, ACC)
    mid2 = _load_row(x_ptr, h0 - 1, H, x_sh, offs2, mask, mask, MODE, PAD, ACC)
    mid3 = _load_row(x_ptr, h0 - 1, H, x_sh, offs3, in3, mask, MODE, PAD, ACC)
    mid4 = _load_row(x_ptr, h0 - 1, H, x_sh, offs4, in4, mask, MODE, PAD, ACC)
    across0, across1 = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
    along0, along1 = across0, across1
    for r in range(h0 - 1, h1 + 1):
        low0 = _load_row(x_ptr, r + 1, H, x_sh, offs0, in0, mask, MODE, PAD, ACC)
        low1 = _load_row(x_ptr, r + 1, H, x_sh, offs1, in1, mask, MODE, PAD, ACC)
        low2 = _load_row(x_ptr, r + 1, H, x_sh, offs2, mask, mask, MODE, PAD, ACC)
        low3 = _load_row(x_ptr, r + 1, H, x_sh, offs3, in3, mask, MODE, PAD, ACC)
        low4 = _load_row(x_ptr, r + 1, H, x_sh, offs4, in4, mask, MODE, PAD, ACC)
        s0, d0 = top0 + 2 * mid0 + low0, low0 - top0
        s1, d1 = top1 + 2 * mid1 + low1, low1 - top1
        s2, d2 = top2 + 2 * mid2 + low2, low2 - top2
        s3, d3 = top3 + 2 * mid3 + low3, low3 - top3
        s4, d4 = top4 + 2 * mid4 + low4, low4 - top4
        row = dy_ptr + tl.cast(border_index(r, H, MODE), tl.int64) * dy_sh
        dy = tl.load(row + dy_l, mask=mask, other=0).to(ACC)
        dgx_l, dgy_l = _magnitude_grad(s2 - s0, d0 + 2 * d1 + d2, dy, SCALE, EPS)
        dy = tl.load(row + dy_m, mask=mask, other=0).to(ACC)
        dgx_m, dgy_m = _magnitude_grad(s3 - s1, d1 + 2 * d2 + d3, dy, SCALE, EPS)
        dy = tl.load(row + dy_r, mask=mask, other=0).to(ACC)
        dgx_r, dgy_r = _magnitude_grad(s4 - s2, d2 + 2 * d3 + d4, dy, SCALE, EPS)
        across2 = diff_l * dgx_l + diff_m * dgx_m + diff_r * dgx_r
        along2 = smooth_l * dgy_l + smooth_m * dgy_m + smooth_r * dgy_r
        dx = _gather_rows(r - 1, H, across0, along0, across1, along1, across2, along2, MODE)
        dx_row = dx_ptr + tl.cast(r - 1, tl.int64) * ROW
        tl.store(dx_row + cols, dx.to(dx_ptr.dtype.element_ty), mask=mask & (r > h0))
        across0, along0, across1, along1 = across1, along1, across2, along2
        top0, top1, top2, top3, top4 = mid0, mid1, mid2, mid3, mid4
        mid0, mid1, mid2, mid3, mid4 = low0, low1, low2, low3, low4


def _launch(
    kernel: Any, inputs: tuple[tuple[torch.Tensor, int], ...], out: torch.Tensor, shape: torch.Size, extra_trips: int,
    columns_a_thread: int, config: Config | None, **meta: Any,
) -> None:  # fmt: skip
    """Lay out the planes and lanes of `shape` (N, C, H, W), pick the block sizes, launch.

    `inputs` says of every input how many rows (and columns) of it two neighbouring tiles both read.
    """
    tensors = tuple(t for t, _ in inputs)
    n, c, h, w = shape
    planes, lanes, planes_an_image = (n * c, 1, c) if out.is_contiguous() else (n, c, 1)
    elements = n * c * h * w
    problem = Problem(
        planes, h, w * lanes, lanes,
        bytes_in=sum(t.numel() * t.element_size() for t in tensors) // elements,
        bytes_halo=sum(halo * t.numel() * t.element_size() for t, halo in inputs) // elements,
        bytes_out=out.numel() * out.element_size() // elements,
        extra_trips=extra_trips, columns_a_thread=columns_a_thread,
    )  # fmt: skip
    config = config or pick_config(problem, target_device(out))
    # the furthest that any column lies from the first, in elements
    reach = max((w - 1) * t.stride(-1) + (c - 1) * t.stride(1) for t in tensors)
    launch(
        kernel, programs(problem, config),
        *tensors, out,
        h, w, w * lanes, lanes, planes_an_image, config.rows,
        *(stride for t in tensors for stride in t.stride()),
        config=config, cost=lambda: cost(problem, config), num_warps=config.num_warps,
        ACC=tl.float64 if out.dtype == torch.float64 else tl.float32,
        WIDE=reach >= 2**31, BLOCK=config.block, **meta,
    )  # fmt: skip


def _border(padding_mode: str, padding_value: float) -> dict[str, Any]:
    if padding_mode in ("zeros", "constant"):
        return {"MODE": "constant", "PAD": float(padding_value) if padding_mode == "constant" else 0.0}
    return {"MODE": padding_mode, "PAD": 0.0}


def _is_flat(x: torch.Tensor, out: torch.Tensor) -> bool:
    """Whether the lanes of x lie back to back, pixel after pixel, as those of a channels_last out do."""
    return not out.is_contiguous() and x.stride(3) == x.shape[1] * x.stride(1)


def sobel_fwd(
    x: torch.Tensor, y: torch.Tensor, scale: float, eps: float, padding_mode: str, padding_value: float,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradient magnitude of x (N, C, H, W) to y, dense, NCHW or channels_last."""
    _launch(
        sobel_fwd_kernel, ((x, 2),), y, x.shape, 0, 4, config,
        SCALE=scale, EPS=eps, MAGNITUDE=True, FLAT=_is_flat(x, y), **_border(padding_mode, padding_value),
    )  # fmt: skip


def spatial_gradient_fwd(
    x: torch.Tensor, g: torch.Tensor, scale: float, padding_mode: str, padding_value: float,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradients of x (N, C, H, W) along x and y to g (N, C, 2, H, W), dense."""
    _launch(
        sobel_fwd_kernel, ((x, 2),), g, x.shape, 0, 4, config,
        SCALE=scale, EPS=0.0, MAGNITUDE=False, FLAT=_is_flat(x, g), **_border(padding_mode, padding_value),
    )  # fmt: skip


def sobel_bwd(
    dy: torch.Tensor, x: torch.Tensor, dx: torch.Tensor, scale: float, eps: float, padding_mode: str,
    padding_value: float, *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradient of `sobel_fwd` with respect to x, (N, C, H, W), to dx, dense."""
    _launch(
        sobel_bwd_kernel, ((dy, 2), (x, 4)), dx, x.shape, 2, 2, config,
        SCALE=scale, EPS=eps, **_border(padding_mode, padding_value),
    )  # fmt: skip


def spatial_gradient_bwd(
    dg: torch.Tensor, dx: torch.Tensor, scale: float, padding_mode: str, *, config: Config | None = None
) -> None:
    """Write the adjoint of `spatial_gradient_fwd`, applied to dg (N, C, 2, H, W), to dx, dense."""
    mode = _border(padding_mode, 0.0)["MODE"]
    _launch(spatial_gradient_bwd_kernel, ((dg, 2),), dx, dx.shape, 2, 2, config, SCALE=scale, MODE=mode)
