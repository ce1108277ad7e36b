"""Sobel gradients: `torchops::sobel` and `torchops::spatial_gradient`, and their gradients.

`spatial_gradient` is affine and `spatial_gradient_backward` its adjoint, so each is the other's derivative; `sobel_backward`
is differentiated in terms of the two. Derivatives of every order therefore run on registered ops.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchops.backend import uses_triton
from torchops.kernels.geometry import Border

from .checks import FLOATS, check_border, check_numbers, check_shape, check_tensors
from .cpu.sobel import fill_adjoint, fill_gradients
from .cpu.tiles import accumulation_dtype
from .derivatives import Derivative
from .memory import memory_format
from .packing import Packed
from .registration import each_image, linear, register


def _kernels() -> ModuleType:
    from torchops.kernels import sobel

    return sobel


def _scale(normalized: bool) -> float:
    return 0.125 if normalized else 1.0


def _output_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float32


def _empty_sobel(x: Tensor, *_: Any) -> Tensor:
    return torch.empty(
        x.shape, dtype=_output_dtype(x), device=x.device, memory_format=memory_format(x.shape, x.stride())
    )


def _empty_spatial_gradient(x: Tensor, *_: Any) -> Tensor:
    n, c, h, w = x.shape
    channels_last = memory_format(x.shape, x.stride()) == torch.channels_last
    form = torch.channels_last_3d if channels_last else torch.contiguous_format
    # this is no view of another tensor, since nobody could write to one under autograd
    return torch.empty((n, c, 2, h, w), dtype=_output_dtype(x), device=x.device, memory_format=form)


def _empty_sobel_backward(dy: Tensor, x: Tensor, *_: Any) -> Tensor:
    return _empty_sobel(x)


def _empty_spatial_gradient_backward(dg: Tensor, *_: Any) -> Tensor:
    return _empty_sobel(dg[:, :, 0])


def _check_image(x: Tensor, border: Border) -> None:
    check_numbers(1, size=x.shape[-2:])
    check_border(x.shape[-2:], (1, 1, 1, 1), border.mode)


def _check_sobel(x: Tensor, normalized: bool, eps: float, border: Border) -> None:
    check_tensors(4, dtypes=(torch.uint8, *FLOATS), x=x)
    _check_image(x, border)


def _check_spatial_gradient(x: Tensor, normalized: bool, border: Border) -> None:
    _check_sobel(x, normalized, 0.0, border)


def _check_sobel_backward(dy: Tensor, x: Tensor, normalized: bool, eps: float, border: Border) -> None:
    check_tensors(4, dy=dy)
    check_tensors(4, like=dy, x=x)
    check_shape("dy", dy.shape, x.shape)
    _check_image(x, border)


def _check_spatial_gradient_backward(dg: Tensor, normalized: bool, border: Border) -> None:
    check_tensors(5, dg=dg)
    check_shape("dg", dg.shape, (*dg.shape[:2], 2, *dg.shape[3:]))
    _check_image(dg, border)


def _sobel(x: Tensor, normalized: bool, eps: float, border: Border) -> Tensor:
    y = _empty_sobel(x)
    if y.numel() == 0:
        return y
    if uses_triton(x):
        _kernels().sobel_fwd(x, y, _scale(normalized), eps, border)
    else:
        fill_gradients(x, y, _scale(normalized), eps, border)
    return y


def _spatial_gradient(x: Tensor, normalized: bool, border: Border) -> Tensor:
    g = _empty_spatial_gradient(x)
    if g.numel() == 0:
        return g
    if uses_triton(x):
        _kernels().spatial_gradient_fwd(x, g, _scale(normalized), border)
    else:
        fill_gradients(x, g, _scale(normalized), None, border)
    return g


def _sobel_backward(dy: Tensor, x: Tensor, normalized: bool, eps: float, border: Border) -> Tensor:
    dx = _empty_sobel_backward(dy, x)
    if dx.numel() == 0:
        return dx
    if uses_triton(x):
        _kernels().sobel_bwd(dy, x, dx, _scale(normalized), eps, border)
    else:
        fill_adjoint((dy,), x, dx, _scale(normalized), eps, border)
    return dx


def _spatial_gradient_backward(dg: Tensor, normalized: bool, border: Border) -> Tensor:
    dx = _empty_spatial_gradient_backward(dg)
    if dx.numel() == 0:
        return dx
    if uses_triton(dg):
        _kernels().spatial_gradient_bwd(dg, dx, _scale(normalized), border)
    else:
        fill_adjoint(dg.unbind(2), None, dx, _scale(normalized), 0.0, border)
    return dx


def _setup_sobel(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.constants = inputs
    ctx.save_for_backward(x)


def _grad_sobel(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return (sobel_backward(dy, x, *ctx.constants),)


def _setup_spatial_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.normalized, ctx.border = inputs


def _grad_spatial_gradient(ctx: Any, dg: Tensor) -> tuple[Any, ...]:
    return (spatial_gradient_backward(dg, ctx.normalized, ctx.border),)


def _setup_spatial_gradient_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.normalized, ctx.border = inputs


def _grad_spatial_gradient_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    return (spatial_gradient(v, ctx.normalized, ctx.border.adjoint()),)


def _setup_sobel_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, x, *ctx.constants = inputs
    ctx.save_for_backward(dy, x)


class _Turn(NamedTuple):
    """How the magnitude y = |g| changes along v: with u = S v, w = g / y, it grows by w u, and w turns by `across`."""

    along: Tensor
    across: Tensor


def _turn(v: Tensor, x: Tensor, normalized: bool, eps: float, border: Border) -> _Turn:
    acc = accumulation_dtype(x.dtype)
    u = spatial_gradient(v.to(acc), normalized, border.adjoint())
    g = spatial_gradient(x.to(acc), normalized, border)
    square = g.square().sum(2, keepdim=True) + eps
    flat = square == 0
    inverse = torch.where(flat, 0.0, torch.where(flat, 1.0, square).rsqrt())
    w = g * inverse
    along = (w * u).sum(2, keepdim=True)
    return _Turn(along.squeeze(2), (u - w * along) * inverse)


def _hessian(dy: Tensor, across: Tensor, normalized: bool, border: Border, dtype: torch.dtype) -> Tensor:
    dx: Tensor = spatial_gradient_backward(across * dy.to(across.dtype).unsqueeze(2), normalized, border)
    return dx.to(dtype)


def _grad_sobel_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    """The op is S^T (w dy); S^T is `spatial_gradient_backward`."""
    dy, x = ctx.saved_tensors
    normalized, _, border = ctx.constants
    along, across = _turn(v, x, *ctx.constants)
    d_dy = along.to(dy.dtype) if ctx.needs_input_grad[0] else None
    d_x = _hessian(dy, across, normalized, border, x.dtype) if ctx.needs_input_grad[1] else None
    return d_dy, d_x


def _jvp_sobel(args: tuple[Any, ...], _: Tensor, t: Tensor) -> Tensor:
    x, *constants = args
    return _turn(t, x, *constants).along.to(_output_dtype(x))


def _jvp_spatial_gradient(args: tuple[Any, ...], _: Tensor, t: Tensor) -> Tensor:
    _, normalized, border = args
    g: Tensor = spatial_gradient(t, normalized, border.adjoint())
    return g


def _jvp_sobel_backward(args: tuple[Any, ...], _: Tensor, t_dy: Tensor | None, t_x: Tensor | None) -> Tensor:
    dy, x, *constants = args
    normalized, _, border = constants
    t = None
    if t_x is not None:
        t = _hessian(dy, _turn(t_x, x, *constants).across, normalized, border, x.dtype)
    if t_dy is not None:
        part = sobel_backward(t_dy, x, *constants)
        t = part if t is None else t + part
    assert t is not None
    return t


sobel = register(
    "sobel", "(Tensor x, bool normalized, float eps, str padding_mode, float padding_value) -> Tensor",
    check=_check_sobel, impl=_sobel, fake=_empty_sobel,
    derivative=Derivative(_setup_sobel, _grad_sobel, _jvp_sobel),
    vmap=each_image("sobel", 1), packed=Packed(Border, 3, 2),
)  # fmt: skip
spatial_gradient = register(
    "spatial_gradient", "(Tensor x, bool normalized, str padding_mode, float padding_value) -> Tensor",
    check=_check_spatial_gradient, impl=_spatial_gradient, fake=_empty_spatial_gradient,
    derivative=Derivative(_setup_spatial_gradient, _grad_spatial_gradient, _jvp_spatial_gradient),
    vmap=each_image("spatial_gradient", 1), packed=Packed(Border, 2, 2),
)  # fmt: skip
sobel_backward = register(
    "sobel_backward",
    "(Tensor dy, Tensor x, bool normalized, float eps, str padding_mode, float padding_value) -> Tensor",
    check=_check_sobel_backward, impl=_sobel_backward, fake=_empty_sobel_backward,
    derivative=Derivative(_setup_sobel_backward, _grad_sobel_backward, _jvp_sobel_backward),
    vmap=each_image("sobel_backward", 2), packed=Packed(Border, 4, 2),
)  # fmt: skip
spatial_gradient_backward = register(
    "spatial_gradient_backward", "(Tensor dg, bool normalized, str padding_mode) -> Tensor",
    check=_check_spatial_gradient_backward, impl=_spatial_gradient_backward, fake=_empty_spatial_gradient_backward,
    derivative=Derivative(
        _setup_spatial_gradient_backward, _grad_spatial_gradient_backward, linear("spatial_gradient_backward")
    ),
    vmap=each_image("spatial_gradient_backward", 1), packed=Packed(Border, 2, 1),
)  # fmt: skip
