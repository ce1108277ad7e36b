"""2-D convolution: `torchops::conv2d`, its gradients, and so its transpose.

`conv2d_input_grad` is the adjoint of `conv2d` in x, and is the transposed convolution; `conv2d_weight_grad` is the adjoint in
the weight. All three are the one trilinear form, so each is differentiated in terms of the other two, to every order.

Padding is in the order of `F.pad`: left, right, top, bottom. The last two rows or columns that no window reaches need not be
counted: right and bottom may be negative.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import conv_size
from torchops.ops.checks import check_border, check_numbers, check_shape, check_tensors, check_word
from torchops.ops.memory import memory_format
from torchops.ops.registration import register, uses_triton

from .aten import (
    Ints,
    aten_conv2d,
    aten_input_grad,
    aten_weight_grad,
    empty,
    is_channels_last,
    is_differentiable,
    uncut,
)


def _kernels() -> ModuleType:
    from torchops.kernels import conv2d

    return conv2d


def _is_plain(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, activation: str,
) -> bool:  # fmt: skip
    """Whether it is ATen's convolution and nothing else: on a CPU, where that sums its gradients in one order."""
    plain = residual is None and padding_mode == "zeros" and activation == "none"
    return plain and x.is_cpu and x.numel() != 0 and not uses_triton(x) and is_differentiable(x)


def _is_plain_adjoint(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str, channels_last: bool,
) -> bool:  # fmt: skip
    plain = padding_mode == "zeros" and dy.is_cpu and dy.numel() != 0 and not uses_triton(dy) and is_differentiable(dy)
    if not plain:
        return False
    _, more, _ = uncut(dy.shape, weight.shape, size, stride, padding, dilation, padding_mode)
    # ATen has no third derivative of a transposed convolution that adds rows or columns
    return more == (0, 0)


def _empty_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, *rest: Any,
) -> Tensor:  # fmt: skip
    n, _, h, w = x.shape
    k, _, r, s = weight.shape
    p = conv_size(h, r, stride[0], padding[2] + padding[3], dilation[0])
    q = conv_size(w, s, stride[1], padding[0] + padding[1], dilation[1])
    return empty((n, k, p, q), x, is_channels_last(x, weight))


def _empty_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    return empty((dy.shape[0], weight.shape[1] * groups, *size), dy, channels_last)


def _empty_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, with_bias: bool, channels_last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    k = dy.shape[1]
    dw = empty((k, x.shape[1] // groups, *kernel_size), x, channels_last)
    return dw, torch.empty(k if with_bias else 0, dtype=x.dtype, device=x.device)


def _check(
    x: Ints, weight: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str
) -> tuple[int, ...]:  # fmt: skip
    """The shape of a convolution's result, of which the three ops take or make two and the third is a tensor of theirs."""
    check_numbers(1, groups=(groups,), stride=stride, dilation=dilation)
    # right and bottom may leave out what no window reaches
    check_numbers(0, padding=padding[::2])
    (n, c, h, w), (k, channels, r, s), (left, right, top, bottom) = x, weight, padding
    if channels * groups != c or k % groups != 0:
        raise ValueError(
            f"`groups` (={groups}) must divide {k} channels of the result, and make {c} channels of the input of {channels} a "
            "group"
        )
    check_numbers(1, x=x[1:], weight=weight)
    check_border(x[2:], padding, padding_mode)
    p = conv_size(h, r, stride[0], top + bottom, dilation[0])
    q = conv_size(w, s, stride[1], left + right, dilation[1])
    if p < 1 or q < 1:
        raise ValueError(
            f"`dilation` {tuple(dilation)} with a kernel of {r} x {s} is larger than the padded input of "
            f"{h + top + bottom} x {w + left + right} pixels"
        )
    return n, k, p, q


def _check_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, activation: str,
) -> None:  # fmt: skip
    check_tensors(4, x=x)
    check_tensors(4, like=x, weight=weight, residual=residual)
    check_tensors(1, like=x, bias=bias)
    check_word("activation", activation, ("none", *ACTIVATIONS))
    y = _check(x.shape, weight.shape, stride, padding, dilation, groups, padding_mode)
    if bias is not None:
        check_shape("bias", bias.shape, y[1:2])
    if residual is not None:
        check_shape("residual", residual.shape, y)


def _check_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str, channels_last: bool,
) -> None:  # fmt: skip
    check_tensors(4, dy=dy)
    check_tensors(4, like=dy, weight=weight)
    check_tensors(1, like=dy, bias=bias)
    check_numbers(1, size=size)
    x = dy.shape[0], weight.shape[1] * groups, *size
    check_shape("dy", dy.shape, _check(x, weight.shape, stride, padding, dilation, groups, padding_mode))
    if bias is not None:
        check_shape("bias", bias.shape, x[1:2])


def _check_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, with_bias: bool, channels_last: bool,
) -> None:  # fmt: skip
    check_tensors(4, dy=dy)
    check_tensors(4, like=dy, x=x)
    check_numbers(1, groups=(groups,), kernel_size=kernel_size)
    weight = dy.shape[1], x.shape[1] // groups, *kernel_size
    check_shape("dy", dy.shape, _check(x.shape, weight, stride, padding, dilation, groups, padding_mode))


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, activation: str,
) -> Tensor:  # fmt: skip
    if x.numel() == 0:
        return _empty_conv2d(x, weight, bias, residual, stride, padding, dilation)
    if not uses_triton(x):
        return aten_conv2d(
            x, weight, bias, residual, stride, padding, dilation, groups, padding_mode, padding_value, activation
        )
    y = _empty_conv2d(x, weight, bias, residual, stride, padding, dilation)
    _kernels().conv2d_fwd(
        x, weight, bias, residual, y, tuple(stride), (padding[2], padding[0]), tuple(dilation), groups,
        padding_mode, padding_value, activation,
    )  # fmt: skip
    return y


def _conv2d_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    padding_mode = _border_of_adjoint(padding_mode)
    constants = stride, padding, dilation, groups, padding_mode, channels_last
    if dy.numel() == 0:
        return _empty_input_grad(dy, weight, bias, size, *constants)
    if not uses_triton(dy):
        return aten_input_grad(dy, weight, bias, size, *constants)
    dx = _empty_input_grad(dy, weight, bias, size, *constants)
    _kernels().conv2d_input_grad(
        dy, weight, bias, dx, tuple(stride), tuple(padding), tuple(dilation), groups, padding_mode
    )
    return dx


def _conv2d_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, with_bias: bool, channels_last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    constants = stride, padding, dilation, groups, padding_mode, padding_value, with_bias, channels_last
    if dy.numel() == 0:
        dw, db = _empty_weight_grad(dy, x, kernel_size, *constants)
        return dw.zero_(), db.zero_()
    if not uses_triton(dy):
        return aten_weight_grad(dy, x, kernel_size, *constants)
    dw, db = _empty_weight_grad(dy, x, kernel_size, *constants)
    _kernels().conv2d_weight_grad(
        dy, x, dw, db if with_bias else None, tuple(stride), (padding[2], padding[0]), tuple(dilation), groups,
        padding_mode, padding_value,
    )  # fmt: skip
    return dw, db


def _border_of_adjoint(padding_mode: str) -> str:
    """The border of the linear part of the op: a constant beyond the image has no derivative."""
    return "zeros" if padding_mode == "constant" else padding_mode


_FROM_OUTPUT, _FROM_INPUT = (
    {a.name: a.backward for a in ACTIVATIONS.values() if a.keeps == kept} for kept in ("output", "input")
)
"""Gradients of activations. What those of the second kind are applied to is computed once more, instead of kept."""


def _setup_conv2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, residual, *ctx.constants, ctx.activation = inputs
    ctx.size, ctx.kernel_size, ctx.channels_last = x.shape[2:], weight.shape[2:], is_channels_last(x, weight)
    again = ctx.activation in _FROM_INPUT
    ctx.save_for_backward(
        x if again or ctx.needs_input_grad[1] else None,
        weight if again or ctx.needs_input_grad[0] else None,
        bias if again else None,
        residual if again else None,
        output if ctx.activation in _FROM_OUTPUT else None,
    )


def _grad_conv2d(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, bias, residual, y = ctx.saved_tensors
    stride, padding, dilation, groups, padding_mode, padding_value = ctx.constants
    if ctx.activation in _FROM_OUTPUT:
        dy = _FROM_OUTPUT[ctx.activation](dy, y)
    elif ctx.activation in _FROM_INPUT:
        dy = _FROM_INPUT[ctx.activation](dy, conv2d(x, weight, bias, residual, *ctx.constants, "none"))
    needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
    dx = dw = db = None
    if needs_x:
        dx = conv2d_input_grad(
            dy, weight, None, ctx.size, stride, padding, dilation, groups,
            _border_of_adjoint(padding_mode), ctx.channels_last,
        )  # fmt: skip
    if needs_weight:
        dw, db = conv2d_weight_grad(
            dy, x, ctx.kernel_size, stride, padding, dilation, groups,
            padding_mode, padding_value, needs_bias, ctx.channels_last,
        )  # fmt: skip
    elif needs_bias:
        db = dy.sum((0, 2, 3))
    return dx, dw, db if needs_bias else None, dy if needs_residual else None


def _setup_input_grad(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, weight, _, _, *ctx.constants, ctx.padding_mode, _ = inputs
    ctx.kernel_size, ctx.channels_last = weight.shape[2:], is_channels_last(dy, weight)
    needs_dy, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(dy if needs_weight else None, weight if needs_dy else None)


def _grad_input_grad(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    dy, weight = ctx.saved_tensors
    border = _border_of_adjoint(ctx.padding_mode), 0.0
    d_dy = dw = db = None
    if ctx.needs_input_grad[0]:
        d_dy = conv2d(v, weight, None, None, *ctx.constants, *border, "none")
    if ctx.needs_input_grad[1]:
        dw, _ = conv2d_weight_grad(dy, v, ctx.kernel_size, *ctx.constants, *border, False, ctx.channels_last)
    if ctx.needs_input_grad[2]:
        db = v.sum((0, 2, 3))
    return d_dy, dw, db


def _setup_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    dy, x, _, *ctx.constants, ctx.with_bias, _ = inputs
    ctx.dy_size, ctx.size = dy.shape, x.shape[2:]
    ctx.channels_last = memory_format(x.shape, x.stride()) == torch.channels_last
    needs_dy, needs_x = ctx.needs_input_grad[:2]
    ctx.save_for_backward(dy if needs_x else None, x if needs_dy else None)
    ctx.set_materialize_grads(False)


def _grad_weight_grad(ctx: Any, v_dw: Tensor | None, v_db: Tensor | None) -> tuple[Any, ...]:
    dy, x = ctx.saved_tensors
    stride, padding, dilation, groups, padding_mode, _ = ctx.constants
    v_db = v_db if ctx.with_bias else None
    d_dy = dx = None
    if ctx.needs_input_grad[0]:
        if v_dw is not None:
            d_dy = conv2d(x, v_dw, v_db, None, *ctx.constants, "none")
        elif v_db is not None:
            d_dy = v_db.view(-1, 1, 1).expand(ctx.dy_size)
    if ctx.needs_input_grad[1] and v_dw is not None:
        dx = conv2d_input_grad(
            dy, v_dw, None, ctx.size, stride, padding, dilation, groups,
            _border_of_adjoint(padding_mode), ctx.channels_last,
        )  # fmt: skip
    return d_dy, dx


def _jvp_conv2d(
    args: tuple[Any, ...], y: Tensor,
    t_x: Tensor | None, t_weight: Tensor | None, t_bias: Tensor | None, t_residual: Tensor | None,
) -> Tensor:  # fmt: skip
    """One convolution for each tangent of a factor; what adds to the result adds to its tangent, in the same pass."""
    x, weight, bias, residual, *constants, activation = args
    *geometry, padding_mode, _ = constants
    if t_weight is not None:
        t_bias, t_residual = None, conv2d(x, t_weight, t_bias, t_residual, *constants, "none")
    if t_x is not None:
        border = _border_of_adjoint(padding_mode), 0.0
        t_bias, t_residual = None, conv2d(t_x, weight, t_bias, t_residual, *geometry, *border, "none")
    t = _with_bias(t_residual, t_bias, y)
    if activation in _FROM_OUTPUT:
        return _FROM_OUTPUT[activation](t, y)
    if activation in _FROM_INPUT:
        return _FROM_INPUT[activation](t, conv2d(x, weight, bias, residual, *constants, "none"))
    return t


def _with_bias(t: Tensor | None, bias: Tensor | None, like: Tensor) -> Tensor:
    """t + bias, in the size of `like`; None is nothing."""
    if bias is None:
        assert t is not None
        return t
    return bias.view(-1, 1, 1).expand_as(like) if t is None else t + bias.view(-1, 1, 1)


def _jvp_input_grad(
    args: tuple[Any, ...], dx: Tensor, t_dy: Tensor | None, t_weight: Tensor | None, t_bias: Tensor | None
) -> Tensor:
    dy, weight, _, *constants = args
    t = None
    if t_weight is not None:
        t_bias, t = None, conv2d_input_grad(dy, t_weight, t_bias, *constants)
    if t_dy is not None:
        part = conv2d_input_grad(t_dy, weight, t_bias, *constants)
        t_bias, t = None, part if t is None else t + part
    return _with_bias(t, t_bias, dx)


def _jvp_weight_grad(
    args: tuple[Any, ...], output: tuple[Tensor, Tensor], t_dy: Tensor | None, t_x: Tensor | None
) -> tuple[Tensor, Tensor]:
    dy, x, kernel_size, *geometry, padding_mode, _, _, channels_last = args
    # a result that moves by nothing moves by zeros here: autograd takes None for a tangent of another dtype
    t_dw, t_db = None, torch.zeros_like(output[1])
    if t_dy is not None:
        t_dw, t_db = conv2d_weight_grad(t_dy, x, *args[2:])
    if t_x is not None:
        border = _border_of_adjoint(padding_mode), 0.0
        part, _ = conv2d_weight_grad(dy, t_x, kernel_size, *geometry, *border, False, channels_last)
        t_dw = part if t_dw is None else t_dw + part
    assert t_dw is not None
    return t_dw, t_db


def _joined(t: Tensor | None, dim: int | None, copies: int, to: int) -> Tensor | None:
    """t with its mapped dimension, or `copies` of it, joined to dimension `to`."""
    if t is None:
        return None
    t = t.movedim(dim, to) if dim is not None else t.unsqueeze(to).expand(*t.shape[:to], copies, *t.shape[to:])
    return t.flatten(to, to + 1)


def _vmap_conv2d(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    """A mapped image joins the batch; a mapped weight or bias makes more groups."""
    x, weight, bias, residual, stride, padding, dilation, groups, *rest = args
    b, (dim_x, dim_weight, dim_bias, dim_residual) = info.batch_size, in_dims[:4]
    to = 0 if dim_weight is None and dim_bias is None else 1
    if to:
        weight, bias, groups = _joined(weight, dim_weight, b, 0), _joined(bias, dim_bias, b, 0), groups * b
    y = torch.ops.torchops.conv2d(
        _joined(x, dim_x, b, to), weight, bias, _joined(residual, dim_residual, b, to),
        stride, padding, dilation, groups, *rest,
    )  # fmt: skip
    return y.unflatten(to, (b, y.shape[to] // b)), to


def _vmap_input_grad(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    dy, weight, bias, size, stride, padding, dilation, groups, *rest = args
    b, (dim_dy, dim_weight, dim_bias) = info.batch_size, in_dims[:3]
    to = 0 if dim_weight is None and dim_bias is None else 1
    if to:
        weight, bias, groups = _joined(weight, dim_weight, b, 0), _joined(bias, dim_bias, b, 0), groups * b
    dx = torch.ops.torchops.conv2d_input_grad(
        _joined(dy, dim_dy, b, to), weight, bias, size, stride, padding, dilation, groups, *rest
    )
    return dx.unflatten(to, (b, dx.shape[to] // b)), to


def _vmap_weight_grad(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    dy, x, kernel_size, stride, padding, dilation, groups, *rest = args
    b = info.batch_size
    dw, db = torch.ops.torchops.conv2d_weight_grad(
        _joined(dy, in_dims[0], b, 1), _joined(x, in_dims[1], b, 1), kernel_size, stride, padding, dilation,
        groups * b, *rest,
    )  # fmt: skip
    return (dw.unflatten(0, (b, dw.shape[0] // b)), db.unflatten(0, (b, db.shape[0] // b))), (0, 0)


conv2d = register(
    "conv2d",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, "
    "SymInt groups, str padding_mode, float padding_value, str activation) -> Tensor",
    check=_check_conv2d, impl=_conv2d, fake=_empty_conv2d, setup=_setup_conv2d, grad=_grad_conv2d, jvp=_jvp_conv2d,
    vmap=_vmap_conv2d, autocast=True, composed=_is_plain,
)  # fmt: skip
conv2d_input_grad = register(
    "conv2d_input_grad",
    "(Tensor dy, Tensor weight, Tensor? bias, SymInt[2] size, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, "
    "SymInt groups, str padding_mode, bool channels_last) -> Tensor",
    check=_check_input_grad, impl=_conv2d_input_grad, fake=_empty_input_grad, setup=_setup_input_grad, grad=_grad_input_grad,
    jvp=_jvp_input_grad, vmap=_vmap_input_grad, autocast=True, composed=_is_plain_adjoint,
)  # fmt: skip
conv2d_weight_grad = register(
    "conv2d_weight_grad",
    "(Tensor dy, Tensor x, SymInt[2] kernel_size, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, SymInt groups, "
    "str padding_mode, float padding_value, bool with_bias, bool channels_last) -> (Tensor, Tensor)",
    check=_check_weight_grad, impl=_conv2d_weight_grad, fake=_empty_weight_grad, setup=_setup_weight_grad,
    grad=_grad_weight_grad, jvp=_jvp_weight_grad, vmap=_vmap_weight_grad,
)  # fmt: skip
