"""2-D convolution: `torchops::conv2d`, its gradients, and so its transpose.

`conv2d_input_grad` is the adjoint of `conv2d` in x, and is the transposed convolution; `conv2d_weight_grad` is the adjoint in
the weight. All three are the one trilinear form, so each is differentiated in terms of the other two, to every order.

Padding is in the order of `F.pad`: left, right, top, bottom. The last two rows or columns that no window reaches need not be
counted: right and bottom may be negative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.reference import pad
from torchops.shapes import conv_size, memory_format

from .registration import register, uses_triton

Ints = Sequence[int]
_aten = torch.ops.aten


def _kernels() -> ModuleType:
    from torchops.kernels import conv2d

    return conv2d


def is_channels_last(x: Tensor, weight: Tensor) -> bool:
    """The memory format of results, by ATen's rule: channels_last if either is."""
    return (
        memory_format(x.shape, x.stride()) == torch.channels_last
        or memory_format(weight.shape, weight.stride()) == torch.channels_last
    )


def _empty(size: Ints, like: Tensor, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=form)


def _empty_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, *rest: Any,
) -> Tensor:  # fmt: skip
    n, _, h, w = x.shape
    k, _, r, s = weight.shape
    p = conv_size(h, r, stride[0], padding[2] + padding[3], dilation[0])
    q = conv_size(w, s, stride[1], padding[0] + padding[1], dilation[1])
    return _empty((n, k, p, q), x, is_channels_last(x, weight))


def _empty_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    return _empty((dy.shape[0], weight.shape[1] * groups, *size), dy, channels_last)


def _empty_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, with_bias: bool, channels_last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    k = dy.shape[1]
    dw = _empty((k, x.shape[1] // groups, *kernel_size), x, channels_last)
    return dw, torch.empty(k if with_bias else 0, dtype=x.dtype, device=x.device)


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, activation: str,
) -> Tensor:  # fmt: skip
    if x.numel() == 0:
        return _empty_conv2d(x, weight, bias, residual, stride, padding, dilation)
    if not uses_triton(x):
        return _aten_conv2d(
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
        return _aten_input_grad(dy, weight, bias, size, *constants)
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
        return _aten_weight_grad(dy, x, kernel_size, *constants)
    dw, db = _empty_weight_grad(dy, x, kernel_size, *constants)
    _kernels().conv2d_weight_grad(
        dy, x, dw, db if with_bias else None, tuple(stride), (padding[2], padding[0]), tuple(dilation), groups,
        padding_mode, padding_value,
    )  # fmt: skip
    return dw, db


_EPILOGUE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "relu6": lambda y: F.hardtanh_(y, 0.0, 6.0),
    "leaky_relu": F.leaky_relu_,
    "silu": _aten.silu_,
    "gelu": _aten.gelu_,
    "tanh": torch.tanh_,
    "sigmoid": torch.sigmoid_,
}
_EXACT = ("none", "relu", "relu6")
"""Rounding commutes with these."""
ACTIVATIONS = tuple(_EPILOGUE)


@functools.cache
def _is_native(dtype: torch.dtype) -> bool:
    """Whether this CPU's convolutions take the dtype: oneDNN's then, in float32 inside, rounded once."""
    name = {torch.float16: "_is_mkldnn_fp16_supported", torch.bfloat16: "_is_mkldnn_bf16_supported"}[dtype]
    return bool(getattr(torch.ops.mkldnn, name)())


def _is_half(t: Tensor) -> bool:
    return t.dtype in (torch.float16, torch.bfloat16)


def _wide(t: Tensor) -> Tensor:
    """float32 where ATen would fall back to kernels that round every tap and every image, and take 10 times as long."""
    return t.float() if _is_half(t) and t.device.type == "cpu" and not _is_native(t.dtype) else t


def _promised(t: Tensor, channels_last: bool, dtype: torch.dtype) -> Tensor:
    """t with the dtype and the very strides of `_empty`, which the fake promised."""
    n, c, h, w = t.shape
    stride = (c * h * w, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)
    if t.dtype == dtype:
        if t.stride() == stride:
            return t
        if t.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format):
            # in place: a view could not be modified under autograd
            return t.as_strided_((n, c, h, w), stride)
    out = torch.empty_strided((n, c, h, w), stride, dtype=dtype, device=t.device)
    return out.copy_(t)


def _unpadded(
    h: int, w: int, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, padding_mode: str
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """What ATen's convolution pads by itself (rows, columns), and what is left to pad before it."""
    left, right, top, bottom = padding
    if padding_mode != "zeros":
        return (0, 0), (left, right, top, bottom)
    if left == right and top == bottom:
        return (top, left), (0, 0, 0, 0)
    own = []
    rest: list[int] = []
    for size, kernel, step, before, after, spread in (
        (w, kernel_size[1], stride[1], left, right, dilation[1]),
        (h, kernel_size[0], stride[0], top, bottom, dilation[0]),
    ):
        # as many windows fit: those at the end leave rows over
        if conv_size(size, kernel, step, 2 * before, spread) == conv_size(size, kernel, step, before + after, spread):
            own.append(before)
            rest += (0, 0)
        else:
            both = min(before, max(after, 0))
            own.append(both)
            rest += (before - both, after - both)
    return (own[1], own[0]), (rest[0], rest[1], rest[2], rest[3])


def _padded(x: Tensor, padding: Ints, padding_mode: str, padding_value: float) -> Tensor:
    if padding_mode in ("zeros", "constant") or min(padding) >= 0:
        return pad(x, padding, padding_mode, padding_value) if any(padding) else x
    left, right, top, bottom = padding
    more = pad(x, (left, max(right, 0), top, max(bottom, 0)), padding_mode)
    return more[:, :, : x.shape[2] + top + bottom, : x.shape[3] + left + right]


def _folded(dx: Tensor, size: Ints, padding: Ints, padding_mode: str) -> Tensor:
    """The adjoint of `_padded`, in one order on every device: what lies beyond a border is added to where it was read."""
    left, right, top, bottom = padding
    if padding_mode == "zeros":
        return F.pad(dx, (-left, -right, -top, -bottom)) if any(padding) else dx
    dx = F.pad(dx, (0, -min(right, 0), 0, -min(bottom, 0)))
    for dim, n, before, after in ((2, size[0], top, max(bottom, 0)), (3, size[1], left, max(right, 0))):
        inside = dx.narrow(dim, before, n)
        first, last = dx.narrow(dim, 0, before), dx.narrow(dim, before + n, after)
        if padding_mode == "replicate":
            inside.narrow(dim, 0, 1).add_(first.sum(dim, keepdim=True))
            inside.narrow(dim, n - 1, 1).add_(last.sum(dim, keepdim=True))
        elif padding_mode == "reflect":
            inside.narrow(dim, 1, before).add_(first.flip(dim))
            inside.narrow(dim, n - 1 - after, after).add_(last.flip(dim))
        else:
            inside.narrow(dim, n - before, before).add_(first)
            inside.narrow(dim, 0, after).add_(last)
        dx = inside
    return dx.clone()


def _aten_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, activation: str,
) -> Tensor:  # fmt: skip
    dtype, channels_last = x.dtype, is_channels_last(x, weight)
    if _is_half(x) and (residual is not None or activation not in _EXACT):
        # one rounding, after the epilogue
        x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
    else:
        x, weight, bias = _wide(x), _wide(weight), None if bias is None else _wide(bias)
    own, rest = _unpadded(x.shape[2], x.shape[3], weight.shape[2:], stride, padding, dilation, padding_mode)
    y = torch.conv2d(
        _padded(x, rest, padding_mode, padding_value), weight, bias, tuple(stride), own, tuple(dilation), groups
    )
    if residual is not None:
        y.add_(residual)
    if activation != "none":
        _EPILOGUE[activation](y)
    return _promised(y, channels_last, dtype)


def _aten_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, padding_mode: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    dtype, wide_dy = dy.dtype, _wide(dy)
    own, rest = _unpadded(size[0], size[1], weight.shape[2:], stride, padding, dilation, padding_mode)
    rows, cols = size[0] + rest[2] + rest[3], size[1] + rest[0] + rest[1]
    # only its size is read
    x = _empty((dy.shape[0], weight.shape[1] * groups, rows, cols), wide_dy, channels_last)
    dx, _, _ = _aten.convolution_backward.default(
        wide_dy, x, _wide(weight), None, stride, own, dilation, False, (0, 0), groups, (True, False, False)
    )
    dx = _folded(dx, size, rest, padding_mode)
    if bias is not None:
        dx = dx.add_(bias.view(-1, 1, 1))
    return _promised(dx, channels_last, dtype)


def _aten_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    padding_mode: str, padding_value: float, with_bias: bool, channels_last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    k = dy.shape[1]
    own, rest = _unpadded(x.shape[2], x.shape[3], kernel_size, stride, padding, dilation, padding_mode)
    wide_x = _padded(_wide(x), rest, padding_mode, padding_value)
    # only its size is read
    weight = _empty((k, x.shape[1] // groups, *kernel_size), wide_x, channels_last)
    _, dw, db = _aten.convolution_backward.default(
        _wide(dy), wide_x, weight, (k,) if with_bias else None, stride, own, dilation, False, (0, 0), groups,
        (False, True, with_bias),
    )  # fmt: skip
    if not with_bias:
        db = x.new_empty(0)
    elif db.dtype != x.dtype:
        db = db.to(x.dtype)
    return _promised(dw, channels_last, x.dtype), db


def _border_of_adjoint(padding_mode: str) -> str:
    """The border of the linear part of the op: a constant beyond the image has no derivative."""
    return "zeros" if padding_mode == "constant" else padding_mode


def _silu_backward(dy: Tensor, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return _aten.silu_backward(dy, x)
    # ATen's is not differentiable
    s = x.sigmoid()
    return dy * s * (1 + x * (1 - s))


_FROM_OUTPUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda dy, y: _aten.threshold_backward(dy, y, 0),
    "relu6": lambda dy, y: _aten.hardtanh_backward(dy, y, 0.0, 6.0),
    "leaky_relu": lambda dy, y: _aten.leaky_relu_backward(dy, y, 0.01, True),
    "tanh": _aten.tanh_backward,
    "sigmoid": _aten.sigmoid_backward,
}
_FROM_INPUT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "silu": _silu_backward,
    "gelu": _aten.gelu_backward,
}
"""These have no gradient in terms of the output: what they are applied to is computed once more, instead of kept."""


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
    return (
        dx, dw, db if needs_bias else None, dy if needs_residual else None,
        None, None, None, None, None, None, None,
    )  # fmt: skip


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
    return d_dy, dw, db, None, None, None, None, None, None, None


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
    return d_dy, dx, None, None, None, None, None, None, None, None, None


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
    impl=_conv2d, fake=_empty_conv2d, setup=_setup_conv2d, grad=_grad_conv2d, vmap=_vmap_conv2d, autocast=True,
)  # fmt: skip
conv2d_input_grad = register(
    "conv2d_input_grad",
    "(Tensor dy, Tensor weight, Tensor? bias, SymInt[2] size, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, "
    "SymInt groups, str padding_mode, bool channels_last) -> Tensor",
    impl=_conv2d_input_grad, fake=_empty_input_grad, setup=_setup_input_grad, grad=_grad_input_grad,
    vmap=_vmap_input_grad, autocast=True,
)  # fmt: skip
conv2d_weight_grad = register(
    "conv2d_weight_grad",
    "(Tensor dy, Tensor x, SymInt[2] kernel_size, SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, SymInt groups, "
    "str padding_mode, float padding_value, bool with_bias, bool channels_last) -> (Tensor, Tensor)",
    impl=_conv2d_weight_grad, fake=_empty_weight_grad, setup=_setup_weight_grad, grad=_grad_weight_grad,
    vmap=_vmap_weight_grad,
)  # fmt: skip
