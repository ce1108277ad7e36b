"""Sobel gradients and their magnitude.

         -1  0  1               -1 -2 -1
    gx:  -2  0  2          gy:   0  0  0          y = sqrt(gx^2 + gy^2 + eps)
         -1  0  1                1  2  1

    gx[h, w] = SCALE times the sum of  s (2 - r^2) x[h + r, w + s]  over r, s = -1, 0, 1;  gy has r and s exchanged

`sobel_plain_kernel` is this formula, and runs where `config` is a `PlainConfig`. All other launches run the kernels below it,
which take more lines and move fewer bytes. Inputs have any strides; outputs are ours, hence dense.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.language as tl

from .device.borders import border_index, in_range
from .device.strips import plane_ptr, strip_tile
from .geometry import Border
from .launch import launch, target_device
from .planning.strips import Config, Problem, cost, pick_config, programs


@dataclass(frozen=True)
class PlainConfig(Config):
    """The columns of a program of the plain kernel, which filters one row of them; it is asked for, never picked."""

    rows: int = field(default=1, init=False)
    num_warps: int = 4


@triton.jit
def sobel_plain_kernel(
    x_ptr,  # in:  [N, C, H, W]
    y_ptr,  # out: [N, C, H, W]
    C, H, W, x_strides, y_strides,  # four strides each, which may be any
    SCALE: tl.constexpr, EPS: tl.constexpr, MODE: tl.constexpr, PAD: tl.constexpr, ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program filters BLOCK columns of a row (grid: N * C * H * cdiv(W, BLOCK))."""
    x_sn, x_sc, x_sh, x_sw = x_strides
    y_sn, y_sc, y_sh, y_sw = y_strides
    row, block = tl.program_id(0) // tl.cdiv(W, BLOCK), tl.program_id(0) % tl.cdiv(W, BLOCK)
    n, c, h = (row // H // C).to(tl.int64), (row // H % C).to(tl.int64), row % H
    w = block * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    gx, gy = tl.zeros((BLOCK,), ACC), tl.zeros((BLOCK,), ACC)
    for r in tl.static_range(-1, 2):
        for s in tl.static_range(-1, 2):
            i, j = border_index(h + r, H, MODE).to(tl.int64), border_index(w + s, W, MODE).to(tl.int64)
            x = tl.load(x_ptr + n * x_sn + c * x_sc + i * x_sh + j * x_sw, mask=w < W, other=0).to(ACC)
            if MODE == "constant":
                x = tl.where(in_range(h + r, H) & in_range(w + s, W), x, PAD)
            # a weight of 0 adds nothing: 0 times infinity would be NaN
            if s != 0:
                gx += s * (2 - r * r) * x
            if r != 0:
                gy += r * (2 - s * s) * x
    gx, gy = gx * SCALE, gy * SCALE
    y = tl.sqrt(gx * gx + gy * gy + EPS)
    y_ptrs = y_ptr + n * y_sn + c * y_sc + h.to(tl.int64) * y_sh + w.to(tl.int64) * y_sw
    tl.store(y_ptrs, y.to(y_ptr.dtype.element_ty), mask=w < W)


@triton.jit
def _taps(w, lane, W, sc, sw, MODE: tl.constexpr, REACH: tl.constexpr):
    """Where in a row the columns w - REACH ... w + REACH lie, with the border that MODE asks for: an offset each."""
    offs = ()
    for t in tl.static_range(-REACH, REACH + 1):
        offs += ((w if t == 0 else border_index(w + t, W, MODE)) * sw + lane * sc,)
    return offs


@triton.jit
def _inside(w, W, mask, REACH: tl.constexpr):
    """Whether the columns w - REACH ... w + REACH lie in the image; `mask` says it of w."""
    inside = ()
    for t in tl.static_range(-REACH, REACH + 1):
        inside += (mask if t == 0 else in_range(w + t, W),)
    return inside


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
def _load_taps(ptr, h, H, sh, offs, inside, mask, MODE: tl.constexpr, PAD: tl.constexpr, ACC: tl.constexpr):
    """Row h as each tap sees it: a tuple of what `_load_row` loads."""
    taps = ()
    for t in tl.static_range(len(offs)):
        taps += (_load_row(ptr, h, H, sh, offs[t], inside[t], mask, MODE, PAD, ACC),)
    return taps


@triton.jit
def _filter_row(ptr, h, H, sh, offs, inside, mask, MODE: tl.constexpr, PAD: tl.constexpr, ACC: tl.constexpr):
    """Row h, filtered along x: smoothed by [1, 2, 1] and differenced by [-1, 0, 1]."""
    left, mid, right = _load_taps(ptr, h, H, sh, offs, inside, mask, MODE, PAD, ACC)
    return left + 2 * mid + right, right - left


@triton.jit
def sobel_fwd_kernel(
    x_ptr,  # in:  [N, C, H, W], any strides
    y_ptr,  # out: [planes, H, W*L], or [planes, 2, H, W*L] where MAGNITUDE is off
    H, W, ROW, L, DEPTH, rows,  # ROW = W*L; DEPTH planes an image: C, or 1 in channels_last; rows a program
    x_strides,
    SCALE: tl.constexpr, EPS: tl.constexpr, MODE: tl.constexpr, PAD: tl.constexpr,
    MAGNITUDE: tl.constexpr, ACC: tl.constexpr, BACK_TO_BACK: tl.constexpr, WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program filters `rows` rows of BLOCK columns (grid: planes * strips * blocks).

    The plain kernel, plus:

    - filters that are separated: a row is filtered along x once, and three such rows are combined along y;
    - sliding: a program goes down a strip of rows, and two filtered rows wait in registers for the third, so that every row
      is loaded once a strip (shifted copies of it come from L1), not three times;
    - planes and lanes: neighbouring threads filter neighbours in memory in channels_last too (see device/strips.py);
    - BACK_TO_BACK: the middle tap of channels_last loads 128 bits at a time, as that of NCHW does anyway;
    - offsets within a row have 32 bits unless it is WIDE;
    - both gradients instead of their magnitude, where MAGNITUDE is off.
    """
    plane, h0, h1, e0, w, lane = strip_tile(H, ROW, L, rows, BLOCK, WIDE)
    sn, sc, sh, sw = x_strides
    cols = tl.arange(0, BLOCK)
    mask = e0 + cols < ROW
    x_ptr = plane_ptr(x_ptr, plane, DEPTH, sn, sc)
    offs, inside = _taps(w, lane, W, sc, sw, MODE, 1), _inside(w, W, mask, 1)
    if BACK_TO_BACK:
        # the compiler cannot see through w and lane that the pixels lie back to back; told so, it loads 128 bits
        offs = (offs[0], (e0.to(tl.int64) + cols) * sc, offs[2])
    y_ptr += plane * H * ROW * (1 if MAGNITUDE else 2) + e0

    smooth0, diff0 = _filter_row(x_ptr, h0 - 1, H, sh, offs, inside, mask, MODE, PAD, ACC)
    smooth1, diff1 = _filter_row(x_ptr, h0, H, sh, offs, inside, mask, MODE, PAD, ACC)
    for h in range(h0, h1):
        smooth2, diff2 = _filter_row(x_ptr, h + 1, H, sh, offs, inside, mask, MODE, PAD, ACC)
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


# Every dx is gathered from the 3x3 outputs that read it, so no two programs write one element. The filters are
# separable, and so is their adjoint: three weights along x and the same three along y, which also say what a border
# mode folds back.


@triton.jit
def _adjoint_weights(i, size, MODE: tl.constexpr):
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
    return (diff_l, diff_m, diff_r), (smooth_l, smooth_m, smooth_r)


@triton.jit
def _gather_rows(h, H, across, along, MODE: tl.constexpr):
    """dx of row h from three rows of gx (`across`) and gy (`along`) gradients that are gathered along x already."""
    diff, smooth = _adjoint_weights(h, H, MODE)
    return (
        smooth[0] * across[0] + smooth[1] * across[1] + smooth[2] * across[2]
        + diff[0] * along[0] + diff[1] * along[1] + diff[2] * along[2]
    )  # fmt: skip


@triton.jit
def _gather_taps(row, offs, weights, mask, ACC: tl.constexpr):
    """The sum of what a row holds at three offsets, each times its weight."""
    total = weights[0] * tl.load(row + offs[0], mask=mask, other=0).to(ACC)
    for t in tl.static_range(1, 3):
        total += weights[t] * tl.load(row + offs[t], mask=mask, other=0).to(ACC)
    return total


@triton.jit
def spatial_gradient_bwd_kernel(
    dg_ptr,  # in:  [N, C, 2, H, W], any strides
    dx_ptr,  # out: [planes, H, W*L]
    H, W, ROW, L, DEPTH, rows,
    dg_strides,
    SCALE: tl.constexpr, MODE: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program gathers `rows` rows of BLOCK columns (grid: planes * strips * blocks)."""
    plane, h0, h1, e0, w, lane = strip_tile(H, ROW, L, rows, BLOCK, WIDE)
    sn, sc, sg, sh, sw = dg_strides
    cols = tl.arange(0, BLOCK)
    mask = e0 + cols < ROW
    gx_ptr = plane_ptr(dg_ptr, plane, DEPTH, sn, sc)
    gy_ptr = gx_ptr + sg
    offs = _taps(w, lane, W, sc, sw, MODE, 1)
    to_gx, to_gy = _adjoint_weights(w, W, MODE)
    dx_ptr += plane * H * ROW + e0

    zeros = tl.zeros((BLOCK,), ACC)
    across, along = (zeros, zeros, zeros), (zeros, zeros, zeros)
    for r in range(h0 - 1, h1 + 1):
        row = tl.cast(border_index(r, H, MODE), tl.int64) * sh
        across = (across[1], across[2], _gather_taps(gx_ptr + row, offs, to_gx, mask, ACC))
        along = (along[1], along[2], _gather_taps(gy_ptr + row, offs, to_gy, mask, ACC))
        dx = SCALE * _gather_rows(r - 1, H, across, along, MODE)
        dx_row = dx_ptr + tl.cast(r - 1, tl.int64) * ROW
        tl.store(dx_row + cols, dx.to(dx_ptr.dtype.element_ty), mask=mask & (r > h0))


@triton.jit
def _magnitude_grad(gx, gy, dy, SCALE: tl.constexpr, EPS: tl.constexpr):
    """dy times the derivatives of y by gx and gy, not yet scaled: SCALE^2 (gx, gy) dy / y, and 0 where y is 0."""
    SMALLEST_NORMAL_FLOAT32: tl.constexpr = 1.1754944e-38
    gx, gy = gx * SCALE, gy * SCALE
    square = gx * gx + gy * gy + EPS
    if EPS < 1e-30:
        # only then can y be 0; hardware takes subnormal squares for 0 as well
        zero = square < SMALLEST_NORMAL_FLOAT32
        dy = tl.where(zero, 0.0, dy)
        square = tl.where(zero, 1.0, square)
    dy *= tl.rsqrt(square) * SCALE
    return gx * dy, gy * dy


@triton.jit
def _filter_columns(top, mid, low):
    """Three rows, filtered along y at each tap: smoothed by [1, 2, 1] and differenced by [-1, 0, 1]."""
    smooth, diff = (), ()
    for t in tl.static_range(len(mid)):
        smooth += (top[t] + 2 * mid[t] + low[t],)
        diff += (low[t] - top[t],)
    return smooth, diff


@triton.jit
def _weighted(weights, values):
    """The sum of three values, each times its weight."""
    return weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]


@triton.jit
def sobel_bwd_kernel(
    dy_ptr, x_ptr,  # in:  [N, C, H, W] both, any strides
    dx_ptr,         # out: [planes, H, W*L]
    H, W, ROW, L, DEPTH, rows,
    dy_strides, x_strides,
    SCALE: tl.constexpr, EPS: tl.constexpr, MODE: tl.constexpr, PAD: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program gathers `rows` rows of BLOCK columns (grid: planes * strips * blocks); y is recomputed, not stored."""
    plane, h0, h1, e0, w, lane = strip_tile(H, ROW, L, rows, BLOCK, WIDE)
    dy_sn, dy_sc, dy_sh, dy_sw = dy_strides
    x_sn, x_sc, x_sh, x_sw = x_strides
    cols = tl.arange(0, BLOCK)
    mask = e0 + cols < ROW
    dy_ptr = plane_ptr(dy_ptr, plane, DEPTH, dy_sn, dy_sc)
    x_ptr = plane_ptr(x_ptr, plane, DEPTH, x_sn, x_sc)
    dy_offs = _taps(w, lane, W, dy_sc, dy_sw, MODE, 1)
    # five columns are the taps of the outputs at w-1, w and w+1
    offs, inside = _taps(w, lane, W, x_sc, x_sw, MODE, 2), _inside(w, W, mask, 2)
    to_gx, to_gy = _adjoint_weights(w, W, MODE)
    dx_ptr += plane * H * ROW + e0

    top = _load_taps(x_ptr, h0 - 2, H, x_sh, offs, inside, mask, MODE, PAD, ACC)
    mid = _load_taps(x_ptr, h0 - 1, H, x_sh, offs, inside, mask, MODE, PAD, ACC)
    zeros = tl.zeros((BLOCK,), ACC)
    across, along = (zeros, zeros, zeros), (zeros, zeros, zeros)
    for r in range(h0 - 1, h1 + 1):
        low = _load_taps(x_ptr, r + 1, H, x_sh, offs, inside, mask, MODE, PAD, ACC)
        smooth, diff = _filter_columns(top, mid, low)
        dy_row = dy_ptr + tl.cast(border_index(r, H, MODE), tl.int64) * dy_sh
        dgx, dgy = (), ()
        for t in tl.static_range(3):
            dy = tl.load(dy_row + dy_offs[t], mask=mask, other=0).to(ACC)
            gx, gy = smooth[t + 2] - smooth[t], diff[t] + 2 * diff[t + 1] + diff[t + 2]
            dgx_t, dgy_t = _magnitude_grad(gx, gy, dy, SCALE, EPS)
            dgx += (dgx_t,)
            dgy += (dgy_t,)
        across = (across[1], across[2], _weighted(to_gx, dgx))
        along = (along[1], along[2], _weighted(to_gy, dgy))
        dx = _gather_rows(r - 1, H, across, along, MODE)
        dx_row = dx_ptr + tl.cast(r - 1, tl.int64) * ROW
        tl.store(dx_row + cols, dx.to(dx_ptr.dtype.element_ty), mask=mask & (r > h0))
        top, mid = mid, low


def _launch(
    kernel: Any, inputs: tuple[tuple[torch.Tensor, int], ...], out: torch.Tensor, shape: torch.Size, extra_trips: int,
    columns_a_thread: int, config: Config | None, **meta: Any,
) -> None:  # fmt: skip
    """Lay out the planes and lanes of `shape` (N, C, H, W), pick the block sizes, launch.

    `inputs` says of every input how many rows (and columns) of it two neighbouring tiles both read.
    """
    tensors = tuple(t for t, _ in inputs)
    n, c, h, w = shape
    planes, lanes, depth = (n * c, 1, c) if out.is_contiguous() else (n, c, 1)
    elements = n * c * h * w
    problem = Problem(
        planes=planes, height=h, row=w * lanes, lanes=lanes,
        bytes_in=sum(t.numel() * t.element_size() for t in tensors) // elements,
        bytes_halo=sum(halo * t.numel() * t.element_size() for t, halo in inputs) // elements,
        bytes_out=out.numel() * out.element_size() // elements,
        extra_trips=extra_trips, columns_a_thread=columns_a_thread,
    )  # fmt: skip
    config = config or pick_config(problem, target_device(out))
    # no column lies further from the first than this, in elements
    furthest = max((w - 1) * t.stride(-1) + (c - 1) * t.stride(1) for t in tensors)
    launch(
        kernel, programs(problem, config),
        *tensors, out,
        h, w, w * lanes, lanes, depth, config.rows,
        *(t.stride() for t in tensors),
        config=config, cost=lambda: cost(problem, config), num_warps=config.num_warps,
        ACC=_accumulator(out), WIDE=furthest >= 2**31, BLOCK=config.block, **meta,
    )  # fmt: skip


def _accumulator(out: torch.Tensor) -> Any:
    return tl.float64 if out.dtype == torch.float64 else tl.float32


def _border(border: Border) -> dict[str, Any]:
    """The border as kernels know it."""
    mode, value = border.canonical()
    return {"MODE": mode, "PAD": value}


def _lies_back_to_back(x: torch.Tensor, out: torch.Tensor) -> bool:
    """Whether the lanes of x lie back to back, pixel after pixel, as those of a channels_last out do."""
    return not out.is_contiguous() and x.stride(3) == x.shape[1] * x.stride(1)


def _sobel_plain(x: torch.Tensor, y: torch.Tensor, config: PlainConfig, **meta: Any) -> None:
    n, c, h, w = x.shape
    size = x.element_size()
    problem = Problem(
        planes=n * c, height=h, row=w, lanes=1, bytes_in=size, bytes_halo=2 * size, bytes_out=y.element_size(),
        extra_trips=0, columns_a_thread=1,
    )  # fmt: skip
    launch(
        sobel_plain_kernel, programs(problem, config),
        x, y,
        c, h, w, x.stride(), y.stride(),
        config=config, cost=lambda: cost(problem, config), num_warps=config.num_warps,
        ACC=_accumulator(y), BLOCK=config.block, **meta,
    )  # fmt: skip


def sobel_fwd(
    x: torch.Tensor, y: torch.Tensor, scale: float, eps: float, border: Border, *, config: Config | None = None
) -> None:
    """Write the gradient magnitude of x (N, C, H, W) to y, dense, NCHW or channels_last."""
    meta = {"SCALE": scale, "EPS": eps, **_border(border)}
    if isinstance(config, PlainConfig):
        _sobel_plain(x, y, config, **meta)
    else:
        _launch(
            sobel_fwd_kernel,
            ((x, 2),),
            y,
            x.shape,
            0,
            4,
            config,
            MAGNITUDE=True,
            BACK_TO_BACK=_lies_back_to_back(x, y),
            **meta,
        )


def spatial_gradient_fwd(
    x: torch.Tensor, g: torch.Tensor, scale: float, border: Border, *, config: Config | None = None
) -> None:
    """Write the gradients of x (N, C, H, W) along x and y to g (N, C, 2, H, W), dense."""
    _launch(
        sobel_fwd_kernel, ((x, 2),), g, x.shape, 0, 4, config,
        SCALE=scale, EPS=0.0, MAGNITUDE=False, BACK_TO_BACK=_lies_back_to_back(x, g), **_border(border),
    )  # fmt: skip


def sobel_bwd(
    dy: torch.Tensor, x: torch.Tensor, dx: torch.Tensor, scale: float, eps: float, border: Border,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradient of `sobel_fwd` with respect to x, (N, C, H, W), to dx, dense."""
    _launch(sobel_bwd_kernel, ((dy, 2), (x, 4)), dx, x.shape, 2, 2, config, SCALE=scale, EPS=eps, **_border(border))


def spatial_gradient_bwd(
    dg: torch.Tensor, dx: torch.Tensor, scale: float, border: Border, *, config: Config | None = None
) -> None:
    """Write the adjoint of `spatial_gradient_fwd`, applied to dg (N, C, 2, H, W), to dx, dense."""
    _launch(
        spatial_gradient_bwd_kernel, ((dg, 2),), dx, dx.shape, 2, 2, config, SCALE=scale, MODE=border.canonical().mode
    )
