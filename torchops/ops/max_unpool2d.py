"""Values back to where the indices of their windows point: `torchops::max_unpool2d`, and its transpose.

Of several values for one pixel the last in row-major order stays ("last"), or all are added ("sum"): that is the gradient of
pooling. For given indices both are linear, and `max_unpool2d` and `max_unpool2d_backward` each other's transpose, so
derivatives of every order run on the two.

Indices are flat positions h*W + w (int64, ATen's), or offsets r*S + s in the window (uint8).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.backend import checks_indices, uses_triton
from torchops.kernels.geometry import Pair, Window
from torchops.torch_internals import nn_builtins

from .checks import check_shape, check_tensors, check_windows, check_word
from .cpu.unpooling import check_indices, unpool_backward_by_gather, unpool_by_scatter
from .derivatives import Derivative
from .memory import is_channels_last
from .packing import Packed
from .registration import each_image, linear, register

Ints = Sequence[int]
OFFSETS = 256
"""Taps of a window that one byte can tell apart."""


def _kernels() -> ModuleType:
    from torchops.kernels import max_unpool2d

    return max_unpool2d


def _empty(x: Tensor, size: Ints, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=form)


def _empty_max_unpool2d(
    x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool
) -> Tensor:
    return _empty(x, size, channels_last)


def _empty_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    return _empty(dy, indices.shape[2:], channels_last)


def check_kind(indices: str, window: Window) -> None:
    check_word("indices", indices, ("offset", "position"))
    if indices == "offset" and window.kernel[0] * window.kernel[1] > OFFSETS:
        raise ValueError(f"offsets point into a window of at most {OFFSETS} pixels, got `kernel_size` {window.kernel}")


def _check_max_unpool2d(
    x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool
) -> None:
    check_tensors(4, x=x)
    _check(x, indices, size, window, duplicates)
    check_shape("indices", indices.shape, x.shape)


def _check_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> None:
    check_tensors(4, dy=dy)
    _check(dy, indices, dy.shape[2:], window, duplicates)
    check_shape("indices", indices.shape, (*dy.shape[:2], *indices.shape[2:]))


def _check(x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str) -> None:
    check_tensors(4, like=x, dtypes=(torch.int64, torch.uint8), indices=indices)
    check_kind("offset" if indices.dtype == torch.uint8 else "position", window)
    check_word("duplicates", duplicates, ("last", "sum"))
    check_windows(size, indices.shape[2:], window)


def unpool(x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    y = _empty(x, size, channels_last)
    if y.numel() == 0:
        return y
    if not uses_triton(x):
        unpool_by_scatter(x, indices, y, window, duplicates == "sum")
        return y
    if duplicates == "last" and checks_indices(x.device):
        check_indices(indices, size, window)
    _kernels().max_unpool2d_fwd(x, indices, y, window, duplicates == "sum")
    return y


def unpool_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    dx = _empty(dy, indices.shape[2:], channels_last)
    if dx.numel() == 0:
        return dx
    if uses_triton(dy):
        _kernels().max_unpool2d_bwd(dy, indices, dx, window, duplicates == "sum")
    else:
        unpool_backward_by_gather(dy, indices, dx, window, duplicates == "sum")
    return dx


def _setup_max_unpool2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, indices, _, ctx.window, ctx.duplicates, _ = inputs
    ctx.channels_last = is_channels_last(x)
    ctx.save_for_backward(indices)


def _grad_max_unpool2d(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return max_unpool2d_backward(dy, indices, ctx.window, ctx.duplicates, ctx.channels_last), None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, indices, ctx.window, ctx.duplicates, _ = inputs
    ctx.size, ctx.channels_last = dy.shape[2:], is_channels_last(dy)
    ctx.save_for_backward(indices)


def _grad_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return max_unpool2d(v, indices, ctx.size, ctx.window, ctx.duplicates, ctx.channels_last), None


max_unpool2d = register(
    "max_unpool2d",
    "(Tensor x, Tensor indices, SymInt[2] size, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, "
    "SymInt[2] dilation, str duplicates, bool channels_last) -> Tensor",
    check=_check_max_unpool2d, impl=unpool, fake=_empty_max_unpool2d,
    derivative=Derivative(_setup_max_unpool2d, _grad_max_unpool2d, linear("max_unpool2d")),
    vmap=each_image("max_unpool2d", 2), packed=Packed(Window, first=3, fields=4),
)  # fmt: skip
max_unpool2d_backward = register(
    "max_unpool2d_backward",
    "(Tensor dy, Tensor indices, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, "
    "str duplicates, bool channels_last) -> Tensor",
    check=_check_backward, impl=unpool_backward, fake=_empty_backward,
    derivative=Derivative(_setup_backward, _grad_backward, linear("max_unpool2d_backward")),
    vmap=each_image("max_unpool2d_backward", 2),
    packed=Packed(Window, first=2, fields=4),
)  # fmt: skip


#
# The quick way of small images, whose windows tile the output: no parts, no other memory format, and seldom an operator.


def unpool_tiles(x: Tensor, indices: Tensor, kernel: Pair) -> Tensor:
    """`max_unpool2d` of contiguous images and positions, where nobody but autograd looks on; the last of duplicates stays.

    Raises:
        RuntimeError: if a position lies outside the output.
    """
    n, c, p, q = x.shape
    size = p * kernel[0], q * kernel[1]
    positions = indices.flatten(2)
    y: Tensor
    if not (x.requires_grad and torch.is_grad_enabled()):
        y = x.new_zeros(n, c, *size)
        y.flatten(2).scatter_(2, positions, x.flatten(2))
        return y
    # ATen refuses to run in that mode, for what becomes of duplicates; where there are none, it does all that is asked
    if not torch.are_deterministic_algorithms_enabled():
        hit = positions.new_zeros(n, c, size[0] * size[1]).scatter_(2, positions, 1)
        if int(hit.count_nonzero()) == positions.numel():
            y = nn_builtins.max_unpool2d(x, indices, size)
            return y
    y = max_unpool2d(x, indices, size, Window(kernel, kernel, (0, 0)), "last", False)
    return y
