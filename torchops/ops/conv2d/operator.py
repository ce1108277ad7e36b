"""2-D convolution: `torchops::conv2d`, its gradients, and so its transpose.

`conv2d_input_grad` is the adjoint of `conv2d` in x, and is the transposed convolution; `conv2d_weight_grad` is the adjoint in
the weight. The schemas are flat; the functions here take the numbers of a convolution as one, a `Conv2d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.activations import ACTIVATIONS
from torchops.backend import uses_triton
from torchops.kernels.geometry import Conv2d
from torchops.ops.checks import check_border, check_numbers, check_shape, check_tensors, check_word
from torchops.ops.derivatives import Derivative
from torchops.ops.packing import Packed
from torchops.ops.registration import register

from . import gradients, vmap
from .aten import aten_conv2d, aten_input_grad, aten_weight_grad, empty, is_channels_last, is_differentiable, uncut
from .packed import declare

Ints = Sequence[int]


def _kernels() -> ModuleType:
    from torchops.kernels import conv2d

    return conv2d


def _is_plain(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, conv: Conv2d, activation: str
) -> bool:
    """Whether a convolution is ATen's and nothing else, on a CPU, where ATen sums its gradients in one order."""
    plain = residual is None and conv.border == "zeros" and activation == "none"
    return plain and x.is_cpu and x.numel() != 0 and not uses_triton(x) and is_differentiable(x)


def _is_plain_adjoint(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints, conv: Conv2d, channels_last: bool
) -> bool:
    plain = conv.border == "zeros" and dy.is_cpu and dy.numel() != 0 and not uses_triton(dy) and is_differentiable(dy)
    # ATen has no third derivative of a transposed convolution that adds rows or columns
    return plain and uncut(dy.shape, weight.shape, size, conv)[1] == (0, 0)


def _empty_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, conv: Conv2d, activation: str
) -> Tensor:
    size = conv.output_size(x.shape[2:], weight.shape[2:])
    return empty((x.shape[0], weight.shape[0], *size), x, is_channels_last(x, weight))


def _empty_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints, conv: Conv2d, channels_last: bool
) -> Tensor:
    return empty((dy.shape[0], weight.shape[1] * conv.groups, *size), dy, channels_last)


def _empty_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, conv: Conv2d, with_bias: bool, channels_last: bool
) -> tuple[Tensor, Tensor]:
    k = dy.shape[1]
    dw = empty((k, x.shape[1] // conv.groups, *kernel_size), x, channels_last)
    return dw, torch.empty(k if with_bias else 0, dtype=x.dtype, device=x.device)


def _check(x: Ints, weight: Ints, conv: Conv2d) -> tuple[int, ...]:
    """The shape of a convolution's result, of which the three ops take or make two and the third is a tensor of theirs."""
    check_numbers(1, groups=(conv.groups,), stride=conv.stride, dilation=conv.dilation)
    # padding at the right and at the bottom may be negative, and leave out what no window reaches
    check_numbers(0, padding=conv.padding[::2])
    (n, c, h, w), (k, channels, r, s), (left, right, top, bottom) = x, weight, conv.padding
    if channels * conv.groups != c or k % conv.groups != 0:
        raise ValueError(
            f"`groups` (={conv.groups}) must divide {k} channels of the result, and make {c} channels of the input of "
            f"{channels} a group"
        )
    check_numbers(1, x=x[1:], weight=weight)
    check_border(x[2:], conv.padding, conv.border)
    p, q = conv.output_size((h, w), (r, s))
    if p < 1 or q < 1:
        raise ValueError(
            f"`dilation` {conv.dilation} with a kernel of {r} x {s} is larger than the padded input of "
            f"{h + top + bottom} x {w + left + right} pixels"
        )
    return n, k, p, q


def _check_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, conv: Conv2d, activation: str
) -> None:
    check_tensors(4, x=x)
    check_tensors(4, like=x, weight=weight, residual=residual)
    check_tensors(1, like=x, bias=bias)
    check_word("activation", activation, ("none", *ACTIVATIONS))
    y = _check(x.shape, weight.shape, conv)
    if bias is not None:
        check_shape("bias", bias.shape, y[1:2])
    if residual is not None:
        check_shape("residual", residual.shape, y)


def _check_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints, conv: Conv2d, channels_last: bool
) -> None:
    check_tensors(4, dy=dy)
    check_tensors(4, like=dy, weight=weight)
    check_tensors(1, like=dy, bias=bias)
    check_numbers(1, size=size)
    x = dy.shape[0], weight.shape[1] * conv.groups, *size
    check_shape("dy", dy.shape, _check(x, weight.shape, conv))
    if bias is not None:
        check_shape("bias", bias.shape, x[1:2])


def _check_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, conv: Conv2d, with_bias: bool, channels_last: bool
) -> None:
    check_tensors(4, dy=dy)
    check_tensors(4, like=dy, x=x)
    check_numbers(1, groups=(conv.groups,), kernel_size=kernel_size)
    weight = dy.shape[1], x.shape[1] // conv.groups, *kernel_size
    check_shape("dy", dy.shape, _check(x.shape, weight, conv))


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, conv: Conv2d, activation: str
) -> Tensor:
    if x.numel() != 0 and not uses_triton(x):
        return aten_conv2d(x, weight, bias, residual, conv, activation)
    y = _empty_conv2d(x, weight, bias, residual, conv, activation)
    if x.numel() != 0:
        _kernels().conv2d_fwd(x, weight, bias, residual, y, conv, activation)
    return y


def _conv2d_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints, conv: Conv2d, channels_last: bool
) -> Tensor:
    conv = conv.adjoint()
    if dy.numel() != 0 and not uses_triton(dy):
        return aten_input_grad(dy, weight, bias, size, conv, channels_last)
    dx = _empty_input_grad(dy, weight, bias, size, conv, channels_last)
    if dy.numel() != 0:
        _kernels().conv2d_input_grad(dy, weight, bias, dx, conv)
    return dx


def _conv2d_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, conv: Conv2d, with_bias: bool, channels_last: bool
) -> tuple[Tensor, Tensor]:
    if dy.numel() != 0 and not uses_triton(dy):
        return aten_weight_grad(dy, x, kernel_size, conv, with_bias, channels_last)
    dw, db = _empty_weight_grad(dy, x, kernel_size, conv, with_bias, channels_last)
    if dy.numel() == 0:
        return dw.zero_(), db.zero_()
    _kernels().conv2d_weight_grad(dy, x, dw, db if with_bias else None, conv)
    return dw, db


conv2d = register(
    "conv2d",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, "
    "SymInt groups, str padding_mode, float padding_value, str activation) -> Tensor",
    packed=Packed(Conv2d, first=4, fields=6),
    check=_check_conv2d, impl=_conv2d, fake=_empty_conv2d,
    derivative=Derivative(gradients.setup_conv2d, gradients.grad_conv2d, gradients.jvp_conv2d),
    vmap=vmap.vmap_conv2d, autocast=True, composed=_is_plain,
)  # fmt: skip
conv2d_input_grad = register(
    "conv2d_input_grad",
    "(Tensor dy, Tensor weight, Tensor? bias, SymInt[2] size, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, "
    "SymInt groups, str padding_mode, bool channels_last) -> Tensor",
    packed=Packed(Conv2d, first=4, fields=5),
    check=_check_input_grad, impl=_conv2d_input_grad, fake=_empty_input_grad,
    derivative=Derivative(gradients.setup_input_grad, gradients.grad_input_grad, gradients.jvp_input_grad),
    vmap=vmap.vmap_input_grad, autocast=True,
    composed=_is_plain_adjoint,
)  # fmt: skip
conv2d_weight_grad = register(
    "conv2d_weight_grad",
    "(Tensor dy, Tensor x, SymInt[2] kernel_size, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, SymInt groups, "
    "str padding_mode, float padding_value, bool with_bias, bool channels_last) -> (Tensor, Tensor)",
    packed=Packed(Conv2d, first=3, fields=6),
    check=_check_weight_grad, impl=_conv2d_weight_grad, fake=_empty_weight_grad,
    derivative=Derivative(gradients.setup_weight_grad, gradients.grad_weight_grad, gradients.jvp_weight_grad),
    vmap=vmap.vmap_weight_grad,
)  # fmt: skip


def conv2d_of_constant(x: Tensor, weight: Tensor, *more: Any) -> Tensor:
    """`conv2d` with a weight of which a copy in oneDNN's layout may be kept."""
    declare(weight)
    y: Tensor = conv2d(x, weight, *more)
    return y
