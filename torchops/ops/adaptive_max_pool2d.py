"""Maxima of the windows of an adaptive pool, and where they lie: `torchops::adaptive_max_pool2d`.

The gradient, `torchops::adaptive_max_unpool2d`, adds up what the windows send to the pixels that their indices point to. For
given indices it is linear, with `torchops::adaptive_max_unpool2d_backward` for its transpose, so derivatives of every order run
on the two. Windows are those of `adaptive_avg_pool2d`; indices are flat positions h*W + w, int64, in their windows.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.backend import uses_triton
from torchops.kernels.geometry import Window

from .checks import check_numbers, check_shape, check_tensors
from .derivatives import Derivative
from .max_unpool2d import Ints, unpool, unpool_backward
from .memory import is_channels_last, memory_format
from .registration import each_image, linear, register

_ANY = Window((1, 1), (1, 1), (0, 0))
"""The windows for what looks at positions alone, and not at the windows that they lie in."""


def _kernels() -> ModuleType:
    from torchops.kernels import adaptive_max_pool2d

    return adaptive_max_pool2d


def _check_pool(x: Tensor, size: Ints) -> None:
    check_tensors(4, x=x)
    check_numbers(1, size=size, x=x.shape[2:])


def _check_unpool(x: Tensor, indices: Tensor, size: Ints, channels_last: bool) -> None:
    _check_pool(x, size)
    check_tensors(4, like=x, dtypes=(torch.int64,), indices=indices)
    check_shape("indices", indices.shape, x.shape)


def _check_backward(dy: Tensor, indices: Tensor, channels_last: bool) -> None:
    check_tensors(4, dy=dy)
    check_tensors(4, like=dy, dtypes=(torch.int64,), indices=indices)
    check_shape("indices", indices.shape, (*dy.shape[:2], *indices.shape[2:]))


def _empty_pool(x: Tensor, size: Ints) -> tuple[Tensor, Tensor]:
    shape, form = (*x.shape[:2], *size), memory_format(x.shape, x.stride())
    y, indices = (torch.empty(shape, dtype=t, device=x.device, memory_format=form) for t in (x.dtype, torch.int64))
    return y, indices


def _pool(x: Tensor, size: Ints) -> tuple[Tensor, Tensor]:
    if x.numel() != 0 and not uses_triton(x):
        return torch.ops.aten.adaptive_max_pool2d(x, size)
    y, indices = _empty_pool(x, size)
    if y.numel() != 0:
        _kernels().adaptive_max_pool2d(x, y, indices)
    return y, indices


def _empty_unpool(x: Tensor, indices: Tensor, size: Ints, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=form)


def _unpool(x: Tensor, indices: Tensor, size: Ints, channels_last: bool) -> Tensor:
    if not uses_triton(x):
        y: Tensor = unpool(x, indices, size, _ANY, "sum", channels_last)
        return y
    y = _empty_unpool(x, indices, size, channels_last)
    if y.numel() != 0:
        _kernels().adaptive_max_unpool2d(x, indices, y)
    return y


def _empty_backward(dy: Tensor, indices: Tensor, channels_last: bool) -> Tensor:
    return _empty_unpool(dy, indices, indices.shape[2:], channels_last)


def _backward(dy: Tensor, indices: Tensor, channels_last: bool) -> Tensor:
    dx: Tensor = unpool_backward(dy, indices, _ANY, "sum", channels_last)
    return dx


def _is_plain(x: Tensor, size: Ints) -> bool:
    """Whether it is ATen's pool, with a gradient that rounds once: on a CPU, and not in halves, which it adds as they are."""
    return x.dtype in (torch.float32, torch.float64) and x.is_cpu and x.numel() != 0 and not uses_triton(x)


def _setup_pool(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, _ = inputs
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _grad_pool(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return (None if dy is None else adaptive_max_unpool2d(dy, indices, ctx.size, ctx.channels_last),)


def _jvp_pool(args: tuple[Any, ...], output: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, None]:
    return adaptive_max_unpool2d_backward(t, output[1], is_channels_last(args[0])), None


def _setup_unpool(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, indices, _, _ = inputs
    ctx.channels_last = is_channels_last(x)
    ctx.save_for_backward(indices)


def _grad_unpool(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return adaptive_max_unpool2d_backward(dy, indices, ctx.channels_last), None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, indices, _ = inputs
    ctx.size, ctx.channels_last = dy.shape[2:], is_channels_last(dy)
    ctx.save_for_backward(indices)


def _grad_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return adaptive_max_unpool2d(v, indices, ctx.size, ctx.channels_last), None


adaptive_max_pool2d = register(
    "adaptive_max_pool2d", "(Tensor x, SymInt[2] size) -> (Tensor, Tensor)",
    check=_check_pool, impl=_pool, fake=_empty_pool,
    derivative=Derivative(_setup_pool, _grad_pool, _jvp_pool),
    vmap=each_image("adaptive_max_pool2d", 1), composed=_is_plain,
)  # fmt: skip
adaptive_max_unpool2d = register(
    "adaptive_max_unpool2d", "(Tensor x, Tensor indices, SymInt[2] size, bool channels_last) -> Tensor",
    check=_check_unpool, impl=_unpool, fake=_empty_unpool,
    derivative=Derivative(_setup_unpool, _grad_unpool, linear("adaptive_max_unpool2d")),
    vmap=each_image("adaptive_max_unpool2d", 2),
)  # fmt: skip
adaptive_max_unpool2d_backward = register(
    "adaptive_max_unpool2d_backward", "(Tensor dy, Tensor indices, bool channels_last) -> Tensor",
    check=_check_backward, impl=_backward, fake=_empty_backward,
    derivative=Derivative(_setup_backward, _grad_backward, linear("adaptive_max_unpool2d_backward")),
    vmap=each_image("adaptive_max_unpool2d_backward", 2),
)  # fmt: skip
