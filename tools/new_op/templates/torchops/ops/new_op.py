"""Every element, times a number: `torchops::new_op`, which is linear, and its own adjoint."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.backend import uses_triton

from .checks import check_tensors
from .derivatives import Derivative
from .memory import memory_format
from .registration import each_image, linear, register


def _kernels() -> ModuleType:
    from torchops.kernels import new_op

    return new_op


def _empty(x: Tensor, scale: float) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x.shape, x.stride()))


def _check(x: Tensor, scale: float) -> None:
    check_tensors(4, x=x)


def _new_op(x: Tensor, scale: float) -> Tensor:
    y = _empty(x, scale)
    if y.numel() == 0:
        return y
    if uses_triton(x):
        _kernels().new_op(x, y, scale)
    else:
        torch.mul(x, scale, out=y)
    return y


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.scale = inputs


def _grad(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    return (new_op(dy, ctx.scale),)


new_op = register(
    "new_op",
    "(Tensor x, float scale) -> Tensor",
    check=_check,
    impl=_new_op,
    fake=_empty,
    derivative=Derivative(_setup, _grad, linear("new_op")),
    vmap=each_image("new_op", 1),
)
