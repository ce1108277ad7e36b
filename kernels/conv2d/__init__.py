"""Launchers of convolutions: the forward pass, the input gradient, the weight and bias gradient.

They take checked tensors, and write into outputs that the caller allocated. Read plain.py first; README.md derives the rest.

    plain.py        the convolution in a kernel of lesson size
    gemm.py         the same as an implicit matrix product for every border, with phases, vector hints and an epilogue
    flat.py         a convolution of few channels: taps and channels are one axis
    direct.py       a convolution of narrow groups, without a matrix product
    slide*.py       a depthwise convolution whose programs slide down the image, and its input gradient of stride 2
    flat_slide.py   a convolution of few channels, or of narrow groups, that does so
    shift.py        a convolution of stride 1: the taps of a row share a load
    rows.py         a convolution of stride 1 of wide images: rows of y share their loads
    weight_grad*.py the gradient of the weight, as a matrix product or without one
    sums.py         the gradient of the bias, and the kernel that adds up split sums
    pixels.py       which pixels a program writes and reads
    ring.py         where the padding of a gradient is kept until it is folded back
    epilogue.py     what is added to the sums in the end
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from torchops.kernels.geometry import Conv2d, Pair, Sides
from torchops.kernels.launch import launch, target_device
from torchops.kernels.layout.conv2d import (
    accumulator,
    border,
    bytes_of,
    channels_innermost,
    check_weight,
    is_coalesced,
    is_last,
    is_wide,
    pads_by_address,
    precision,
    taps_of,
    vector_of,
)
from torchops.kernels.planning.conv2d import (
    Config,
    Problem,
    cost,
    method,
    pick_config,
    programs,
    rows_a_trip,
    steps,
    sum_cost,
    sum_tile,
)
from torchops.kernels.planning.hardware import INTERPRETER
from torchops.kernels.planning.protocol import Cost, power_of_2

from .direct import conv2d_direct_kernel
from .flat import conv2d_flat_kernel
from .flat_slide import conv2d_flat_slide_kernel
from .gemm import conv2d_gemm_kernel
from .plain import PlainConfig, conv2d_plain
from .rows import conv2d_rows_kernel
from .shift import conv2d_shift_kernel
from .slide import conv2d_slide_kernel
from .slide_transposed import conv2d_slide_transposed_kernel
from .sums import conv2d_bias_grad_kernel, conv2d_sum_splits_kernel
from .weight_grad import conv2d_weight_grad_flat_kernel, conv2d_weight_grad_kernel
from .weight_grad_direct import conv2d_weight_grad_direct_kernel
from .weight_grad_flat_slide import conv2d_weight_grad_flat_slide_kernel
from .weight_grad_slide import conv2d_weight_grad_slide_kernel


def conv2d_fwd(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, residual: torch.Tensor | None, y: torch.Tensor,
    conv: Conv2d, activation: str, *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write activation(conv(pad(x)) + bias + residual) to y.

    Args:
        x, y: (N, C, H, W) and (N, K, P, Q), any strides; `residual` as y.
        weight, bias: (K, C/groups, R, S) and (K,), any strides; a weight may be copied to channels_last, and a bias that is not
            contiguous is.
        config: the block sizes, instead of those that are picked; a `PlainConfig` asks for the kernel of plain.py.
    """
    check_weight(weight)
    if isinstance(config, PlainConfig):
        if bias is not None or residual is not None or activation != "none":
            raise ValueError("the plain kernel has no epilogue: neither a bias, nor a residual, nor an activation")
        conv2d_plain(x, weight, y, conv, config)
        return
    k, c = weight.shape[0] // conv.groups, weight.shape[1]
    weight = channels_innermost(weight, conv.groups, k, c)
    mode, pad = border(conv, x)
    _gather(
        _Operands(x, weight, bias, residual, None, pad, y),
        _Map("forward", k, c, conv.padding, conv.dilation, (1, 1)),
        conv, config, border=mode, inside=_no_tap_leaves(x, weight, y, conv), activation=activation,
    )  # fmt: skip


def conv2d_input_grad(
    dy: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dx: torch.Tensor,
    conv: Conv2d, *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write to dx the gradient of `conv2d_fwd` with respect to its input, plus a bias: a transposed convolution.

    Border modes take a workspace of the padding around dx, in float32 (float64 for float64): N * C * (pixels of the padding).

    Args:
        dy, dx: (N, K, P, Q) and (N, C, H, W), any strides.
        weight, bias: (K, C/groups, R, S) and (C,), any strides; copied as in `conv2d_fwd`.
    """
    check_weight(weight)
    (k, c, r, s), (h, w), (stride, dilation) = weight.shape, dx.shape[2:], (conv.stride, conv.dilation)
    k //= conv.groups
    weight = channels_innermost(weight, conv.groups, c, k)
    left, right, top, bottom = sides = _read_sides(dy, weight, dx, conv)
    ring, fold, pixels = None, "none", (top + bottom) * (left + w + right) + h * (left + right)
    if conv.border not in ("zeros", "constant") and pixels:
        fold, ring = conv.border, dy.new_empty((dy.shape[0], pixels, dx.shape[1]), dtype=accumulator(dy))
        _gather(
            _Operands(dy, weight, None, None, None, None, ring.mT.unsqueeze(2)),
            _Map("ring", c, k, sides, (-dilation[0], -dilation[1]), (1, 1), (h, w)),
            conv, None,
        )  # fmt: skip
    # the taps that reach the pixels of a phase lie `jump` apart, and what they read lies `step` apart
    shared = math.gcd(stride[0], dilation[0]), math.gcd(stride[1], dilation[1])
    step, jump = (
        (-dilation[0] // shared[0], -dilation[1] // shared[1]),
        (stride[0] // shared[0], stride[1] // shared[1]),
    )
    inside = r * s == 1 and stride == (1, 1) and conv.padding == (0, 0, 0, 0) and (h, w) == dy.shape[2:]
    _gather(
        _Operands(dy, weight, bias, None, ring, None, dx), _Map("transposed", c, k, sides, step, jump),
        conv, config, fold=fold, inside=inside,
    )  # fmt: skip


def _no_tap_leaves(x: torch.Tensor, weight: torch.Tensor, y: torch.Tensor, conv: Conv2d) -> bool:
    """Whether all taps of all outputs read pixels of the image."""
    left, _, top, _ = conv.padding
    rows, cols = conv.reach(weight.shape[2:])
    (p, q), (h, w) = y.shape[2:], x.shape[2:]
    return top == left == 0 and (p - 1) * conv.stride[0] + rows < h and (q - 1) * conv.stride[1] + cols < w


def _read_sides(dy: torch.Tensor, weight: torch.Tensor, dx: torch.Tensor, conv: Conv2d) -> Sides:
    """The padding, without what no tap reads at the right and at the bottom: that gets no gradient."""
    left, right, top, bottom = conv.padding
    rows, cols = conv.reach(weight.shape[2:])
    (p, q), (h, w) = dy.shape[2:], dx.shape[2:]
    bottom = max(0, min(bottom, (p - 1) * conv.stride[0] + rows - top - (h - 1)))
    right = max(0, min(right, (q - 1) * conv.stride[1] + cols - left - (w - 1)))
    return left, right, top, bottom


def _span(s: int, left: int, dilation: int, mode: str) -> int:
    """Columns from the first to the last tap of a row, if conv2d_shift_kernel finds them in its tile; else 0."""
    span = (s - 1) * dilation
    # reflection turns to a pixel as far on the other side, which is in the tile if that reaches equally far both ways
    found = mode == "constant" or mode == "replicate" or (mode == "reflect" and 2 * left == span)
    return span if found and 0 <= left <= span else 0


def _slides(x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor, conv: Conv2d, k: int, c: int) -> int:
    """The stride of a convolution whose groups write k channels and read c, if it may slide down the images of x; else 0."""
    stride, (r, s) = conv.stride[0], weight.shape[2:]
    fits = stride <= 2 and conv.stride == (stride, stride) and conv.dilation == (1, 1) and 1 < max(r, s) <= 7
    if k == c == 1 < conv.groups:
        fits = fits and is_last(x) and is_last(y)
    else:
        # what the taps of a row read fills one tile of a matrix product
        fits = fits and s * c <= 32 and method(conv.groups, k, c) != "gemm"
    return stride if fits and x.element_size() < 8 else 0


class _Operands(NamedTuple):
    """What a kernel reads and writes; an operand that a call does not have is None."""

    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    residual: torch.Tensor | None
    ring: torch.Tensor | None
    pad: torch.Tensor | None
    y: torch.Tensor


class _Map(NamedTuple):
    """How the pixels that are written map to those that are read: see pixels.py."""

    name: str
    k: int
    """Channels of a group that are written."""
    c: int
    """Channels of a group that are read."""
    sides: Sides
    step: Pair
    """Rows and columns of x from a tap to the next."""
    jump: Pair
    """Rows and columns of the filter from a tap to the next."""
    image: Pair | None = None
    """Rows and columns of the image in a ring."""


def _gather(
    operands: _Operands, mapping: _Map, conv: Conv2d, config: Config | None,
    *, border: str = "constant", fold: str = "none", inside: bool = False, activation: str = "none",
) -> None:  # fmt: skip
    """Describe the launch as a problem, pick its block sizes, launch its kernel."""
    x, weight, bias, residual, ring, pad, y = operands
    (n, _, h, w), (p, q), (r, s), groups = x.shape, mapping.image or y.shape[2:], weight.shape[2:], conv.groups
    dot_precision, left, is_gradient = precision(x), mapping.sides[0], mapping.name != "forward"
    phases = conv.stride if mapping.name == "transposed" else (1, 1)
    pixels = y.shape[3] if mapping.name == "ring" else -(-p // phases[0]) * -(-q // phases[1])
    # the shift kernel keeps one bit of an int32 for each row of the filter
    shifts = is_last(x) and mapping.name != "ring" and pad is None and (w, conv.stride) == (q, (1, 1)) and r < 32
    lean = border == "constant" and pad is None and activation in ("none", "relu")
    lean = lean and residual is None and ring is None and not (is_gradient and bias is not None)
    # a ring is no image; of the gradients of stride 2, which have phases, those of depthwise convolutions slide
    may_slide = mapping.image is None and (phases == (1, 1) or mapping.k == mapping.c == 1)
    how = method(groups, mapping.k, mapping.c)
    shares_rows = how == "gemm" and is_last(x) and mapping.name != "ring" and pad is None and 1 < r <= 7 >= s
    shares_rows = shares_rows and conv.stride == conv.dilation == (1, 1)
    slides = _slides(x, y, weight, conv, mapping.k, mapping.c) if may_slide else 0
    problem = Problem(
        kind="ring" if mapping.name == "ring" else "gather" if ring is None else "fold", m=n * pixels, k=mapping.k, c=mapping.c,
        taps=r * s, row=s, phases=phases[0] * phases[1], groups=groups, itemsize=x.element_size(), tf32=dot_precision == "tf32",
        coalesced=is_coalesced(x, mapping.c, how),
        span=_span(s, left, conv.dilation[1], border) if shifts else 0, lean=lean,
        bytes_least=bytes_of(x, weight, bias, residual, ring, y), slides=slides, shares_rows=shares_rows,
        height=p if slides or shares_rows else 0, width=q if slides or shares_rows else 0,
    )  # fmt: skip
    config = config or pick_config(problem, target_device(y))
    strides, vec_w = taps_of(weight, mapping.k, mapping.c, is_gradient)
    # a direct tile holds channels of any groups
    of_any = problem.method == "direct" and (problem.depthwise or not config.rows)
    c, k = (groups * mapping.c, groups * mapping.k) if of_any else (mapping.c, mapping.k)
    vec_y = math.gcd(vector_of(y, k), 0 if residual is None else vector_of(residual, k))
    meta: dict[str, Any] = {
        "R": r, "S": s, "MAP": mapping.name, "BORDER": border, "ACTIVATION": activation, "FOLD": fold,
        "ALONG": (int(is_last(x)), int(strides[2] != 1), int(is_last(y))), "VEC": (vector_of(x, c), vec_w, vec_y),
        "WIDE": is_wide(x, y, residual, ring), "BLOCK_M": config.block_m, "BLOCK_N": config.block_n,
    }  # fmt: skip
    of_tiles = {
        "EVEN": (mapping.c % config.block_k == 0, mapping.k % config.block_n == 0),
        "PRECISION": dot_precision, "BLOCK_K": config.block_k,
    }  # fmt: skip
    pads: list[torch.Tensor | None] = [pad]
    numbers: tuple[Any, ...] = conv.stride, mapping.sides, conv.dilation, mapping.step, mapping.jump
    if config.rows and phases != (1, 1):
        kernel, pads, numbers = conv2d_slide_transposed_kernel, [], (mapping.sides, config.rows)
        meta.update(ODD=left % 2, ROWS_A_TRIP=rows_a_trip(problem))
    elif config.rows:
        kernel, numbers = conv2d_slide_kernel, (mapping.sides, config.rows)
        meta.update(STRIDE=slides, ROWS_A_TRIP=rows_a_trip(problem))
        if not problem.depthwise:
            kernel = conv2d_flat_slide_kernel
            meta.update(C=mapping.c, PRECISION=dot_precision, BLOCK_K=config.block_k)
    elif problem.method == "direct":
        kernel = conv2d_direct_kernel
    elif problem.method == "flat":
        kernel = conv2d_flat_kernel
        meta.update(of_tiles, C=mapping.c)
    elif config.tile_rows > 1:
        kernel, pads, numbers = conv2d_rows_kernel, [], (mapping.sides,)
        meta.update(of_tiles, ROWS=config.tile_rows)
    elif config.taps > 1:
        kernel, pads, numbers = conv2d_shift_kernel, [], (mapping.sides, mapping.step)
        meta.update(of_tiles, DILATION=conv.dilation[1], BEFORE=problem.span - left if is_gradient else left)
    else:
        kernel = conv2d_gemm_kernel
        meta.update(of_tiles, INSIDE=inside, PAD_BY_ADDRESS=pads_by_address(x, pad))
    launch(
        kernel, programs(problem, config),
        x, weight,
        None if bias is None else bias.contiguous(), residual, ring,
        *pads,
        y,
        (n, mapping.c, h, w), (mapping.k, p, q), groups,
        x.stride(), strides, (y if residual is None else residual).stride(), y.stride(),
        *numbers,
        config=config, cost=lambda: cost(problem, config), problem=problem,
        pass_name="input_grad" if is_gradient else "forward", all_registers=config.rows > 0 and not of_any and how == "direct",
        num_warps=config.num_warps, num_stages=config.num_stages, **meta,
    )  # fmt: skip


def conv2d_weight_grad(
    dy: torch.Tensor, x: torch.Tensor, dw: torch.Tensor, db: torch.Tensor | None,
    conv: Conv2d, *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradients of `conv2d_fwd` with respect to its weight and bias to dw and db.

    They take a workspace of 4 bytes (8 for float64) an element of dw and db for each range of pixels, of which there are no
    more than fill the device four times.

    Args:
        dy, x: (N, K, P, Q) and (N, C, H, W), any strides.
        dw, db: (K, C/groups, R, S), any strides, and (K,).
    """
    check_weight(dw)
    (n, _, p, q), (channels, c, r, s), (h, w) = dy.shape, dw.shape, x.shape[2:]
    k, groups = channels // conv.groups, conv.groups
    how, dot_precision = method(groups, k, c), precision(x)
    slides = _slides(x, dy, dw, conv, k, c)
    problem = Problem(
        kind="weight_grad", m=n * p * q, k=k, c=c, taps=r * s, row=s, phases=1, groups=groups, itemsize=x.element_size(),
        tf32=dot_precision == "tf32", coalesced=is_coalesced(x, c, how) and is_coalesced(dy, k, how),
        span=(s - 1) * conv.dilation[1] if conv.stride[1] == 1 else 0, lean=False, bytes_least=bytes_of(dy, x, dw),
        slides=slides, height=p if slides else 0, width=q if slides else 0,
    )  # fmt: skip
    config = config or pick_config(problem, target_device(dy))
    splits, j = config.splits, r * s * c
    mode, pad = border(conv, x)
    out, strides = dw, (0, *dw.stride())
    if splits > 1:
        out = dw.new_empty((splits, channels, j), dtype=accumulator(dy))
        strides = (channels * j, j, 1, s * c, c)
    # a direct tile holds channels of any groups
    of_any = problem.method == "direct" and (problem.depthwise or not config.rows)
    of_x, of_dy = (groups * c, groups * k) if of_any else (c, k)
    meta: dict[str, Any] = {
        "R": r, "S": s, "BORDER": mode, "ALONG": (int(is_last(x)), int(is_last(dy))),
        "VEC": (vector_of(x, of_x), vector_of(dy, of_dy)), "WIDE": is_wide(x, dy),
        "BLOCK_N": config.block_n, "BLOCK_K": config.block_k,
    }  # fmt: skip
    of_tiles = {
        "EVEN": (c % config.block_n == 0, k % config.block_m == 0),
        "EQUAL_STEPS": dy.stride(2) == q * dy.stride(3) and (n == 1 or dy.stride(0) == p * dy.stride(2)),
        "PRECISION": dot_precision, "BLOCK_M": config.block_m,
    }  # fmt: skip
    numbers: tuple[Any, ...] = conv.stride, conv.padding, conv.dilation
    if config.rows:
        kernel, numbers = conv2d_weight_grad_slide_kernel, (conv.padding, config.rows)
        meta.update(STRIDE=slides)
        if problem.depthwise:
            meta.update(ROWS_A_TRIP=rows_a_trip(problem))
        else:
            kernel = conv2d_weight_grad_flat_slide_kernel
            meta.update(C=c, PRECISION=dot_precision, BLOCK_M=config.block_m)
    elif problem.method == "direct":
        kernel = conv2d_weight_grad_direct_kernel
        meta.update(TAPS=config.taps)
    elif problem.method == "flat":
        kernel = conv2d_weight_grad_flat_kernel
        meta.update(of_tiles, C=c)
    else:
        kernel = conv2d_weight_grad_kernel
        meta.update(of_tiles, TAPS=config.taps, PAD_BY_ADDRESS=pads_by_address(x, pad))
    launch(
        kernel, programs(problem, config),
        dy, x,
        pad,
        out,
        (n, c, h, w), (k, p, q), groups, steps(problem, config),
        dy.stride(), x.stride(), strides,
        *numbers,
        config=config, cost=lambda: cost(problem, config), problem=problem,
        pass_name="weight_grad", all_registers=kernel is conv2d_weight_grad_flat_slide_kernel,
        num_warps=config.num_warps, num_stages=config.num_stages, **meta,
    )  # fmt: skip
    if splits > 1:
        _sum_splits(out, dw, "weight_grad")
    if db is not None:
        conv2d_bias_grad(dy, db)


def conv2d_bias_grad(dy: torch.Tensor, db: torch.Tensor) -> None:
    """Write the sums of dy (N, K, P, Q), any strides, over all pixels of all images to db (K,)."""
    n, k, p, q = dy.shape
    device = target_device(dy)
    block_n, block_k = 32, 64 if device is not INTERPRETER else min(4096, power_of_2(n * p * q))
    blocks = -(-n * p * q // block_k)
    splits = max(1, min(blocks, 2 * device.sms // -(-k // block_n)))
    trips = -(-blocks // splits)
    splits = -(-blocks // trips)
    out = db if splits == 1 else db.new_empty((splits, k), dtype=accumulator(dy))
    least = bytes_of(dy, db)
    launch(
        conv2d_bias_grad_kernel, splits * -(-k // block_n),
        dy, out,
        (n, k, p, q), trips, dy.stride(),
        config=Config(1, block_n, block_k, 4, 3, splits=splits),
        cost=lambda: Cost(least + (2 * bytes_of(out) if splits > 1 else 0), least, trips, bytes_l2=least),
        pass_name="bias_grad", num_warps=4, num_stages=3,
        ALONG=int(is_last(dy)), VEC=vector_of(dy, k), WIDE=is_wide(dy), BLOCK_N=block_n, BLOCK_K=block_k,
    )  # fmt: skip
    if splits > 1:
        _sum_splits(out, db.view(k, 1, 1, 1), "bias_grad")


def _sum_splits(splits: torch.Tensor, out: torch.Tensor, pass_name: str) -> None:
    """Add what the ranges of pixels gave, (splits, K, R*S*C) or (splits, K), in their order, to out (K, C, R, S)."""
    (_, c, r, s), size, count = out.shape, out.numel(), splits.shape[0]
    device = target_device(out)
    block_m, block_n = sum_tile(count, size, splits.element_size(), device)
    launch(
        conv2d_sum_splits_kernel, -(-size // block_n),
        splits, out,
        r * s * c, c, s, size, out.stride(), count,
        config=Config(block_m, block_n, 1, 4, 3, splits=count),
        cost=lambda: sum_cost(bytes_of(splits), bytes_of(out), -(-count // block_m), device),
        pass_name=pass_name, num_warps=4, num_stages=3,
        BLOCK_M=block_m, BLOCK_N=block_n,
    )  # fmt: skip
