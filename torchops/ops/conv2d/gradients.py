"""Gradients and tangents of the three operators of a convolution.

They are one trilinear form, so each is differentiated in terms of the other two, to every order.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchops.activations import ACTIVATIONS
from torchops.ops.memory import memory_format
from torchops.ops.registration import registered

from .aten import is_channels_last

_conv2d, _input_grad = registered("conv2d"), registered("conv2d_input_grad")
_weight_grad = registered("conv2d_weight_grad")
_FROM_OUTPUT, _FROM_INPUT = (
    {a.name: a.backward for a in ACTIVATIONS.values() if a.keeps == kept} for kept in ("output", "input")
)
"""Gradients of activations, from the output or from the input; the input is computed once more, instead of kept."""


def setup_conv2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, residual, ctx.conv, ctx.activation = inputs
    ctx.size, ctx.kernel_size, ctx.channels_last = x.shape[2:], weight.shape[2:], is_channels_last(x, weight)
    again = ctx.activation in _FROM_INPUT
    ctx.save_for_backward(
        x if again or ctx.needs_input_grad[1] else None,
        weight if again or ctx.needs_input_grad[0] else None,
        bias if again else None,
        residual if again else None,
        output if ctx.activation in _FROM_OUTPUT else None,
    )


def grad_conv2d(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias, residual, y = ctx.saved_tensors
    if ctx.activation in _FROM_OUTPUT:
        dy = _FROM_OUTPUT[ctx.activation](dy, y)
    elif ctx.activation in _FROM_INPUT:
        dy = _FROM_INPUT[ctx.activation](dy, _conv2d(x, weight, bias, residual, ctx.conv, "none"))
    needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
    dx = dw = db = None
    if needs_x:
        dx = _input_grad(dy, weight, None, ctx.size, ctx.conv.adjoint(), ctx.channels_last)
    if needs_weight:
        dw, db = _weight_grad(dy, x, ctx.kernel_size, ctx.conv, needs_bias, ctx.channels_last)
    elif needs_bias:
        db = dy.sum((0, 2, 3))
    return dx, dw, db if needs_bias else None, dy if needs_residual else None


def setup_input_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, weight, _, _, conv, _ = inputs
    ctx.conv = conv.adjoint()
    ctx.kernel_size, ctx.channels_last = weight.shape[2:], is_channels_last(dy, weight)
    needs_dy, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(dy if needs_weight else None, weight if needs_dy else None)


def grad_input_grad(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    dy, weight = ctx.saved_tensors
    d_dy = dw = db = None
    if ctx.needs_input_grad[0]:
        d_dy = _conv2d(v, weight, None, None, ctx.conv, "none")
    if ctx.needs_input_grad[1]:
        dw, _ = _weight_grad(dy, v, ctx.kernel_size, ctx.conv, False, ctx.channels_last)
    if ctx.needs_input_grad[2]:
        db = v.sum((0, 2, 3))
    return d_dy, dw, db


def setup_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    dy, x, _, ctx.conv, ctx.with_bias, _ = inputs
    ctx.dy_size, ctx.size = dy.shape, x.shape[2:]
    ctx.channels_last = memory_format(x.shape, x.stride()) == torch.channels_last
    needs_dy, needs_x = ctx.needs_input_grad[:2]
    ctx.save_for_backward(dy if needs_x else None, x if needs_dy else None)
    ctx.set_materialize_grads(False)


def grad_weight_grad(ctx: Any, v_dw: Tensor | None, v_db: Tensor | None) -> tuple[Tensor | None, ...]:
    dy, x = ctx.saved_tensors
    v_db = v_db if ctx.with_bias else None
    d_dy = dx = None
    if ctx.needs_input_grad[0]:
        if v_dw is not None:
            d_dy = _conv2d(x, v_dw, v_db, None, ctx.conv, "none")
        elif v_db is not None:
            d_dy = v_db.view(-1, 1, 1).expand(ctx.dy_size)
    if ctx.needs_input_grad[1] and v_dw is not None:
        dx = _input_grad(dy, v_dw, None, ctx.size, ctx.conv.adjoint(), ctx.channels_last)
    return d_dy, dx


def jvp_conv2d(
    args: tuple[Any, ...], y: Tensor,
    t_x: Tensor | None, t_weight: Tensor | None, t_bias: Tensor | None, t_residual: Tensor | None,
) -> Tensor:  # fmt: skip
    """One convolution for each tangent of a factor; what adds to the result adds to its tangent, in the same pass."""
    x, weight, bias, residual, conv, activation = args
    if t_weight is not None:
        t_bias, t_residual = None, _conv2d(x, t_weight, t_bias, t_residual, conv, "none")
    if t_x is not None:
        t_bias, t_residual = None, _conv2d(t_x, weight, t_bias, t_residual, conv.adjoint(), "none")
    t = _with_bias(t_residual, t_bias, y)
    if activation in _FROM_OUTPUT:
        return _FROM_OUTPUT[activation](t, y)
    if activation in _FROM_INPUT:
        return _FROM_INPUT[activation](t, _conv2d(x, weight, bias, residual, conv, "none"))
    return t


def _with_bias(t: Tensor | None, bias: Tensor | None, like: Tensor) -> Tensor:
    """t + bias, in the size of `like`; None counts as 0."""
    if bias is None:
        assert t is not None
        return t
    return bias.view(-1, 1, 1).expand_as(like) if t is None else t + bias.view(-1, 1, 1)


def jvp_input_grad(
    args: tuple[Any, ...], dx: Tensor, t_dy: Tensor | None, t_weight: Tensor | None, t_bias: Tensor | None
) -> Tensor:
    dy, weight, _, size, conv, channels_last = args
    t = None
    if t_weight is not None:
        t_bias, t = None, _input_grad(dy, t_weight, t_bias, size, conv, channels_last)
    if t_dy is not None:
        part = _input_grad(t_dy, weight, t_bias, size, conv, channels_last)
        t_bias, t = None, part if t is None else t + part
    return _with_bias(t, t_bias, dx)


def jvp_weight_grad(
    args: tuple[Any, ...], output: tuple[Tensor, Tensor], t_dy: Tensor | None, t_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    dy, x, kernel_size, conv, with_bias, channels_last = args
    # a result that moves by nothing moves by zeros here: autograd takes None for a tangent of another dtype
    t_dw, t_db = None, torch.zeros_like(output[1])
    if t_dy is not None:
        t_dw, t_db = _weight_grad(t_dy, x, kernel_size, conv, with_bias, channels_last)
    if t_x is not None:
        part, _ = _weight_grad(dy, t_x, kernel_size, conv.adjoint(), False, channels_last)
        t_dw = part if t_dw is None else t_dw + part
    assert t_dw is not None
    return t_dw, t_db
