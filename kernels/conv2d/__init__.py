"""Launchers of convolutions: the forward pass, the input gradient, the weight and bias gradient.

They take checked tensors, and write into outputs that the caller allocated. The kernels are in gemm.py,
shift.py and weight_grad.py, the choice of block sizes in planning/conv2d.py.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton.language as tl

from torchops.kernels.launch import launch, target_device
from torchops.kernels.planning.compilers import compiler_version
from torchops.kernels.planning.conv2d import Config, Problem, cost, method, pick_config, tiles, vector
from torchops.kernels.planning.hardware import INTERPRETER
from torchops.kernels.planning.protocol import Cost

from .gemm import conv2d_direct_kernel, conv2d_gemm_kernel
from .shift import conv2d_shift_kernel
from .weight_grad import (
    conv2d_bias_grad_kernel,
    conv2d_sum_splits_kernel,
    conv2d_weight_grad_direct_kernel,
    conv2d_weight_grad_kernel,
)

Pair = tuple[int, int]


def _precision(x: torch.Tensor) -> str:
    """How float32 is multiplied: PyTorch's switch for convolutions decides, as it does for cuDNN's."""
    return "tf32" if x.dtype == torch.float32 and torch.backends.cudnn.conv.fp32_precision == "tf32" else "ieee"  # type: ignore[attr-defined]


def _border(padding_mode: str, padding_value: float, x: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    """The border as kernels know it, and what they read beyond a constant one: a pixel of 256 channels, if it is not 0."""
    mode = "constant" if padding_mode == "zeros" else padding_mode
    has_pad = padding_mode == "constant" and padding_value != 0.0
    # a tensor that outlived the call would have to be right for every stream and graph
    pixel = torch.full((256,), padding_value, dtype=x.dtype, device=x.device) if has_pad else x
    return {"MODE": mode, "HAS_PAD": has_pad}, pixel


def _pads_by_address(x: torch.Tensor, has_pad: bool) -> bool:
    """Whether pixels beyond a constant border get the address of its value: see `load_or_pad`."""
    if not (has_pad and _last(x)):
        return False
    # for gfx942 triton 3.6 compiles no choice between addresses: its pass TritonAMDGPUCanonicalizePointers fails
    return compiler_version() >= (3, 7) or not target_device(x).arch.startswith("gfx")


def _accumulator(x: torch.Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


_NARROW = 2**30
"""What 32 bits hold with room for positions beyond the border and for the lanes of a last tile."""


def _is_wide(*tensors: torch.Tensor) -> bool:
    """Whether an offset, or a number of pixels, may not fit into 32 bits."""
    return any(
        sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) >= _NARROW
        or t.shape[0] * t.shape[-1] * t.shape[-2] >= _NARROW
        for t in tensors
    )


def _check_weight(weight: torch.Tensor) -> None:
    if sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True)) >= _NARROW:
        raise RuntimeError(
            f"`weight` of shape {tuple(weight.shape)} spans 2^30 elements or more: its offsets need 64 bits"
        )


def _last(t: torch.Tensor) -> bool:
    """Whether channels lie back to back."""
    return t.stride(1) == 1


def _vector(t: torch.Tensor, channels: int) -> int:
    """Elements of one access along the channels of t, `channels` in a group: what divides them, the strides and the address."""
    if not _last(t):
        return 1
    strides = (s for d, s in enumerate(t.stride()) if d != 1 and t.shape[d] > 1)
    return vector(t.element_size(), channels, t.data_ptr() // t.element_size(), *strides)


def _is_dense(t: torch.Tensor, channels: int, flat: bool) -> bool:
    return _last(t) if flat else _vector(t, channels) * t.element_size() == 16


def _bytes(*tensors: torch.Tensor | None) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def _channels_innermost(weight: torch.Tensor, groups: int, o: int, i: int) -> torch.Tensor:
    """The weight with channels innermost, where a matrix product sums over i of them.

    That is a copy of it unless they are: reading them one by one costs more.
    """
    if method(groups, o, i) != "gemm" or _last(weight) or weight.shape[2] * weight.shape[3] == 1:
        return weight
    return weight.contiguous(memory_format=torch.channels_last)


def conv2d_fwd(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, residual: torch.Tensor | None, y: torch.Tensor,
    stride: Pair, padding: Pair, dilation: Pair, groups: int, padding_mode: str, padding_value: float, activation: str,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write activation(conv(pad(x)) + bias + residual) to y.

    Args:
        x, y: (N, C, H, W) and (N, K, P, Q), any strides; `residual` as y.
        weight, bias: (K, C/groups, R, S) and (K,), any strides; a bias that is not contiguous is copied.
        padding: rows above and columns to the left; those below and to the right follow from the size of y.
    """
    _check_weight(weight)
    (k, i, r, s), (h, w), (p, q) = weight.shape, x.shape[2:], y.shape[2:]
    weight = _channels_innermost(weight, groups, k // groups, i)
    inside = padding == (0, 0) and (p - 1) * stride[0] + (r - 1) * dilation[0] < h
    inside = inside and (q - 1) * stride[1] + (s - 1) * dilation[1] < w
    border, pad = _border(padding_mode, padding_value, x)
    _gather(
        x, weight, bias, residual, None, pad, y, k // groups, i, groups, stride, (*padding, 0, 0), dilation, dilation, (1, 1),
        config, transposed=False, INSIDE=inside, ACTIVATION=activation, **border,
    )  # fmt: skip


def conv2d_input_grad(
    dy: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dx: torch.Tensor,
    stride: Pair, padding: tuple[int, int, int, int], dilation: Pair, groups: int, padding_mode: str,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write to dx the gradient of `conv2d_fwd` with respect to its input, plus a bias: a transposed convolution.

    Border modes take a workspace of the padding around dx, in float32 (float64 for float64): N * C * (pixels of the padding).

    Args:
        dy, dx: (N, K, P, Q) and (N, C, H, W), any strides.
        weight, bias: (K, C/groups, R, S) and (C,), any strides; a bias that is not contiguous is copied.
        padding: left, right, top, bottom.
    """
    _check_weight(weight)
    (k, o, r, s), (h, w), (p, q) = weight.shape, dx.shape[2:], dy.shape[2:]
    weight = _channels_innermost(weight, groups, o, k // groups)
    left, right, top, bottom = padding
    # padding that no tap reads gets no gradient
    bottom = max(0, min(bottom, (p - 1) * stride[0] + (r - 1) * dilation[0] - top - (h - 1)))
    right = max(0, min(right, (q - 1) * stride[1] + (s - 1) * dilation[1] - left - (w - 1)))
    sides = (top, left, bottom, right)
    common: dict[str, Any] = {"MODE": "constant", "HAS_PAD": False, "ACTIVATION": "none", "transposed": True}
    ring, fold = None, "none"
    pixels = (top + bottom) * (left + w + right) + h * (left + right)
    if padding_mode not in ("zeros", "constant") and pixels:
        accumulator = torch.float64 if dy.dtype == torch.float64 else torch.float32
        ring, fold = dy.new_empty((dy.shape[0], pixels, dx.shape[1]), dtype=accumulator), padding_mode
        _gather(
            dy, weight, None, None, None, dy, ring.mT.unsqueeze(2), o, k // groups, groups, stride, sides, dilation,
            (-dilation[0], -dilation[1]), (1, 1), None, RING=True, size=(h, w), INSIDE=False, **common,
        )  # fmt: skip
    shared = math.gcd(stride[0], dilation[0]), math.gcd(stride[1], dilation[1])
    step, jump = (
        (-dilation[0] // shared[0], -dilation[1] // shared[1]),
        (stride[0] // shared[0], stride[1] // shared[1]),
    )
    inside = r * s == 1 and stride == (1, 1) and padding == (0, 0, 0, 0) and (h, w) == (p, q)
    _gather(
        dy, weight, bias, None, ring, dy, dx, o, k // groups, groups, stride, sides, dilation, step, jump, config,
        INSIDE=inside, FOLD=fold, **common,
    )  # fmt: skip


def _span(s: int, left: int, dilation: int, mode: str) -> int:
    """Columns from the first to the last tap of a row, if conv2d_shift_kernel finds them in its tile; else 0."""
    span = (s - 1) * dilation
    # a mirror image may lie as far on the other side
    found = mode == "constant" or mode == "replicate" or (mode == "reflect" and 2 * left == span)
    return span if found and 0 <= left <= span else 0


def _gather(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, residual: torch.Tensor | None,
    ring: torch.Tensor | None, pad: torch.Tensor, y: torch.Tensor, o: int, i: int, groups: int, stride: Pair,
    sides: tuple[int, int, int, int], dilation: Pair, step: Pair, jump: Pair, config: Config | None,
    *, transposed: bool, RING: bool = False, FOLD: str = "none", size: Pair | None = None, **meta: Any,
) -> None:  # fmt: skip
    """Describe the gather as a problem, pick its block sizes, launch its kernel. `size` is that of the image in a ring."""
    (n, _, h, w), (p, q), (r, s) = x.shape, size or y.shape[2:], weight.shape[2:]
    top, left, bottom, right = sides
    phases = stride if transposed and not RING else (1, 1)
    pixels = y.shape[3] if RING else -(-p // phases[0]) * -(-q // phases[1])
    precision = _precision(x)
    # the shift kernel has a bit for each row of the filter
    shifts = _last(x) and not RING and not meta["HAS_PAD"] and (w, stride) == (q, (1, 1)) and r < 32
    lean = meta["MODE"] == "constant" and not meta["HAS_PAD"] and meta["ACTIVATION"] in ("none", "relu")
    lean = lean and residual is None and ring is None and not (transposed and bias is not None)
    problem = Problem(
        kind="ring" if RING else "gather" if ring is None else "fold", m=n * pixels, o=o, i=i, taps=r * s, row=s,
        phases=phases[0] * phases[1], groups=groups, itemsize=x.element_size(), tf32=precision == "tf32",
        dense=_is_dense(x, i, method(groups, o, i) == "flat"),
        span=_span(s, left, dilation[1], meta["MODE"]) if shifts else 0, lean=lean,
        bytes_least=_bytes(x, weight, bias, residual, ring, y),
    )  # fmt: skip
    config = config or pick_config(problem, target_device(y))
    wk, wc, wr, ws = weight.stride()
    w_strides = (i * wk, wc, wk, wr, ws) if transposed else (o * wk, wk, wc, wr, ws)
    # a direct tile holds channels of any groups
    channels = groups * o if problem.method == "direct" else o
    vec_o = math.gcd(_vector(y, channels), 0 if residual is None else _vector(residual, channels))
    meta.update(
        R=r, S=s, TRANSPOSED=transposed, FOLD=FOLD, HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None,
        Y_ALONG=int(_last(y)), VEC_O=vec_o, ACC=_accumulator(x),
        WIDE=_is_wide(x, y, *(t for t in (residual, ring) if t is not None)), BLOCK_M=config.block_m, BLOCK_N=config.block_n,
    )  # fmt: skip
    if problem.method == "direct":
        kernel = conv2d_direct_kernel
        meta.update(RING=RING, X_ALONG=int(_last(x)), VEC_X=_vector(x, groups * i))
        del meta["INSIDE"]
    else:
        kernel = conv2d_gemm_kernel
        along = int(w_strides[2] == 1)
        axis, across = (2, i) if along else (1, o)
        others = (
            t for d, (t, size) in enumerate(zip(w_strides, (groups, o, i, r, s), strict=True)) if d != axis and size > 1
        )
        vec_w = vector(weight.element_size(), across, *others) if w_strides[axis] == 1 else 1
        meta.update(
            W_ALONG=along, VEC_I=_vector(x, i), VEC_W=vec_w,
            EVEN_I=i % config.block_k == 0, EVEN_O=o % config.block_n == 0, PRECISION=precision, BLOCK_K=config.block_k,
        )  # fmt: skip
        if config.taps > 1:
            kernel = conv2d_shift_kernel
            meta.update(DILATION=dilation[1], BEFORE=problem.span - left if transposed else left)
            del meta["INSIDE"], meta["HAS_PAD"]
        else:
            meta.update(
                RING=RING, X_ALONG=int(_last(x)), PAD_BY_ADDRESS=_pads_by_address(x, meta["HAS_PAD"]),
                FLAT=i if problem.method == "flat" else 0,
            )  # fmt: skip
    bias = None if bias is None else bias.contiguous()
    nothing = x
    launch(
        kernel, tiles(problem, config),
        x, weight,
        *(nothing if t is None else t for t in (bias, residual, ring)),
        pad,
        y,
        n, i, h, w, o, p, q, groups,
        *x.stride(), *w_strides, *(y if residual is None else residual).stride(), *y.stride(),
        *stride, top, bottom, left, right, *dilation, *step, *jump,
        config=config, cost=lambda: cost(problem, config), problem=problem,
        pass_name="input_grad" if transposed else "forward",
        num_warps=config.num_warps, num_stages=config.num_stages, **meta,
    )  # fmt: skip


def conv2d_weight_grad(
    dy: torch.Tensor, x: torch.Tensor, dw: torch.Tensor, db: torch.Tensor | None,
    stride: Pair, padding: Pair, dilation: Pair, groups: int, padding_mode: str, padding_value: float,
    *, config: Config | None = None,
) -> None:  # fmt: skip
    """Write the gradients of `conv2d_fwd` with respect to its weight and bias to dw and db.

    They take a workspace of 4 bytes (8 for float64) an element of dw and db for each range of pixels, of which there are no
    more than fill the device four times.

    Args:
        dy, x: (N, K, P, Q) and (N, C, H, W), any strides.
        dw, db: (K, C/groups, R, S), any strides, and (K,).
        padding: rows above and columns to the left.
    """
    _check_weight(dw)
    (n, _, p, q), (k, i, r, s), (h, w) = dy.shape, dw.shape, x.shape[2:]
    o = k // groups
    precision, device, flat = _precision(x), target_device(dy), method(groups, o, i) == "flat"
    problem = Problem(
        kind="weight_grad", m=n * p * q, o=o, i=i, taps=r * s, row=s, phases=1, groups=groups,
        itemsize=x.element_size(), tf32=precision == "tf32", dense=_is_dense(x, i, flat) and _is_dense(dy, o, flat),
        span=(s - 1) * dilation[1] if stride[1] == 1 else 0, lean=False, bytes_least=_bytes(dy, x, dw),
    )  # fmt: skip
    config = config or pick_config(problem, device)
    splits, j = config.splits, r * s * i
    border, pad = _border(padding_mode, padding_value, x)
    accumulator = torch.float64 if dy.dtype == torch.float64 else torch.float32
    out, strides = dw, (0, *dw.stride())
    if splits > 1:
        out = dw.new_empty((splits, k, j), dtype=accumulator)
        strides = (k * j, j, 1, s * i, i)
    meta: dict[str, Any] = {
        "R": r, "S": s, "DY_ALONG": int(_last(dy)), "X_ALONG": int(_last(x)), "ACC": _accumulator(x), "WIDE": _is_wide(x, dy),
        "BLOCK_N": config.block_n, "BLOCK_K": config.block_k, **border,
    }  # fmt: skip
    if problem.method == "direct":
        kernel = conv2d_weight_grad_direct_kernel
        meta.update(VEC_X=_vector(x, groups * i), VEC_O=_vector(dy, groups * o), TAPS=config.taps)
    else:
        kernel = conv2d_weight_grad_kernel
        meta.update(
            FLAT=i if problem.method == "flat" else 0, EVEN_I=i % config.block_n == 0, EVEN_O=o % config.block_m == 0,
            DENSE=dy.stride(2) == q * dy.stride(3) and (n == 1 or dy.stride(0) == p * dy.stride(2)),
            PAD_BY_ADDRESS=_pads_by_address(x, meta["HAS_PAD"]), VEC_I=_vector(x, i), VEC_O=_vector(dy, o),
            PRECISION=precision, BLOCK_M=config.block_m, TAPS=config.taps,
        )  # fmt: skip
    launch(
        kernel, tiles(problem, config),
        dy, x,
        pad,
        out,
        n, i, h, w, o, p, q, groups, -(-problem.m // (config.block_k * splits)),
        *dy.stride(), *x.stride(), *strides,
        *stride, *padding, *dilation,
        config=config, cost=lambda: cost(problem, config), problem=problem,
        pass_name="weight_grad",
        num_warps=config.num_warps, num_stages=config.num_stages, **meta,
    )  # fmt: skip
    if splits > 1:
        _sum_splits(out, dw, k, i, r * s, s, dw.stride(), "weight_grad")
    if db is not None:
        conv2d_bias_grad(dy, db)


def conv2d_bias_grad(dy: torch.Tensor, db: torch.Tensor) -> None:
    """Write the sums of dy (N, K, P, Q), any strides, over all pixels of all images to db (K,)."""
    n, k, p, q = dy.shape
    device = target_device(dy)
    block_n, block_k = 32, 64 if device is not INTERPRETER else min(4096, 1 << (n * p * q - 1).bit_length())
    steps = -(-n * p * q // block_k)
    splits = max(1, min(steps, 2 * device.sms // -(-k // block_n)))
    trips = -(-steps // splits)
    splits = -(-steps // trips)
    accumulator = torch.float64 if dy.dtype == torch.float64 else torch.float32
    out = db if splits == 1 else db.new_empty((splits, k), dtype=accumulator)
    least = _bytes(dy, db)
    launch(
        conv2d_bias_grad_kernel, splits * -(-k // block_n),
        dy, out,
        n, k, p, q, trips, *dy.stride(),
        config=Config(1, block_n, block_k, 4, 3, splits=splits),
        cost=lambda: Cost(least + (2 * _bytes(out) if splits > 1 else 0), least, trips, bytes_l2=least),
        pass_name="bias_grad", num_warps=4, num_stages=3,
        DY_ALONG=int(_last(dy)), VEC_O=_vector(dy, k), ACC=_accumulator(dy), WIDE=_is_wide(dy),
        BLOCK_N=block_n, BLOCK_K=block_k,
    )  # fmt: skip
    if splits > 1:
        _sum_splits(out, db, k, 1, 1, 1, (1, 1, 1, 1), "bias_grad")


def _sum_splits(
    splits: torch.Tensor, out: torch.Tensor, k: int, i: int, taps: int, s: int, strides: tuple[int, ...], pass_name: str
) -> None:
    """Add what the ranges of pixels gave, (splits, K, taps * i), in their order."""
    size, count = k * i * taps, splits.shape[0]
    block_m = min(16, 1 << (count - 1).bit_length())
    block_n = 2048 // block_m
    launch(
        conv2d_sum_splits_kernel, -(-size // block_n),
        splits, out,
        count, k, i, i * taps, s, size, *strides,
        config=Config(block_m, block_n, 1, 4, 3, splits=count),
        cost=lambda: Cost(*2 * (_bytes(splits, out),), -(-count // block_m), bytes_l2=_bytes(splits)),
        pass_name=pass_name, num_warps=4, num_stages=3,
        BLOCK_M=block_m, BLOCK_N=block_n,
    )  # fmt: skip
