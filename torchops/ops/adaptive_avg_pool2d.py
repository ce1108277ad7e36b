"""Means of the windows of an adaptive pool, and back: `torchops::adaptive_avg_pool2d`.

Window p of P along a dimension of H pixels goes from floor(p H / P) to ceil((p + 1) H / P). The windows over a pixel are a
window of the pool the other way, from P to H, so that the transpose is such a pool too, with other weights: one operator, which
is its own gradient, to every order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.backend import uses_triton

from .checks import check_numbers, check_tensors
from .cpu.tiles import accumulation_dtype
from .derivatives import Derivative
from .memory import is_channels_last, prefer_huge_pages
from .registration import each_image, linear, register

Ints = Sequence[int]
_aten = torch.ops.aten


def _kernels() -> ModuleType:
    from torchops.kernels import adaptive_avg_pool2d

    return adaptive_avg_pool2d


def _check(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> None:
    check_tensors(4, x=x)
    check_numbers(1, size=size, x=x.shape[2:])


def _empty(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=form)


def _adaptive_avg_pool2d(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> Tensor:
    if uses_triton(x):
        y = _empty(x, size, transposed, channels_last)
        if y.numel() != 0:
            _kernels().adaptive_avg_pool2d(x, y, transposed)
        return y
    if not transposed and x.numel() != 0:
        if tuple(size) == (1, 1):
            return _mean(x, channels_last)
        # ATen's result takes its format from x, and so from whatever gradient comes
        if channels_last == is_channels_last(x):
            return _aten._adaptive_avg_pool2d(x, size)
    y = _empty(x, size, transposed, channels_last)
    if y.numel() == 0:
        return y
    result = _aten_transposed(x, y) if transposed else _aten._adaptive_avg_pool2d(x, size)
    return result if (result.dtype, result.stride()) == (y.dtype, y.stride()) else y.copy_(result)


def _mean(x: Tensor, channels_last: bool) -> Tensor:
    y = x.mean((2, 3), keepdim=True)
    n, c, _, _ = y.shape
    stride = (c, 1, c, c) if channels_last else (c, 1, 1, 1)
    return y if y.stride() == stride else y.as_strided_((n, c, 1, 1), stride)


def _aten_transposed(x: Tensor, y: Tensor) -> Tensor:
    """The result in accumulation precision, or in y; but for that, y only says its size and format."""
    windows, size = x.shape[2:], y.shape[2:]
    # ATen rounds halves after every window, and after every division
    x = x.to(accumulation_dtype(x.dtype))
    if tuple(windows) == (1, 1):
        prefer_huge_pages(y)
        return y.copy_(x / math.prod(size))
    # of the image that was pooled, ATen wants to know the size
    image = y if y.dtype == x.dtype else torch.empty_like(y, dtype=x.dtype)
    return _aten._adaptive_avg_pool2d_backward(x, image)


def _is_plain(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> bool:
    """Whether it is ATen's pool, with a gradient that rounds once: on a CPU, and not in halves. The gradient of
    a mean of the whole image forgets that the image was channels_last."""
    exact = x.dtype in (torch.float32, torch.float64) and not (channels_last and tuple(size) == (1, 1))
    return exact and not transposed and x.is_cpu and x.numel() != 0 and not uses_triton(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, ctx.transposed, _ = inputs
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)


def _grad(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    return (adaptive_avg_pool2d(dy, ctx.size, not ctx.transposed, ctx.channels_last),)


adaptive_avg_pool2d = register(
    "adaptive_avg_pool2d", "(Tensor x, SymInt[2] size, bool transposed, bool channels_last) -> Tensor",
    check=_check, impl=_adaptive_avg_pool2d, fake=_empty,
    derivative=Derivative(_setup, _grad, linear("adaptive_avg_pool2d")),
    vmap=each_image("adaptive_avg_pool2d", 1), composed=_is_plain,
)  # fmt: skip
