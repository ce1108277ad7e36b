"""Convolution and its gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true as known

from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import Conv2d, Pair, Sides, conv_size, conv_transpose_size
from torchops.ops.conv2d import is_channels_last
from torchops.ops.conv2d.aten import in_dtype, is_half, misses, wide

from .borders import folded, padded, pads
from .promises import Ints, Table, empty, is_empty, promised, settled

_aten = torch.ops.aten
_ours = torch.ops.torchops


def _conv(stride: Ints, padding: Ints, dilation: Ints, groups: int, border: str, value: float = 0.0) -> Conv2d:
    (u, v), (left, right, top, bottom), (a, b) = stride, padding, dilation
    return Conv2d((u, v), (left, right, top, bottom), (a, b), groups, border, value)


def _may_miss(size: Ints, kernel_size: Ints, conv: Conv2d) -> bool:
    """Whether a window may meet nothing but padding, for some of the sizes that `size` may have: see `misses`."""
    left, right, top, bottom = conv.padding
    rows, cols = conv.reach(kernel_size)
    if not all(known(side <= reach) for side, reach in ((left, cols), (right, cols), (top, rows), (bottom, rows))):
        return True
    # an image does not lie between taps that are no further apart than it is wide
    if all(known(n >= apart) for n, apart in zip(size, conv.dilation, strict=True)):
        return False
    return not all(isinstance(n, int) for n in (*size, *kernel_size)) or misses(size, kernel_size, conv)


def _unpadded(size: Ints, kernel_size: Ints, conv: Conv2d) -> tuple[Pair, Sides]:
    """What ATen's convolution pads by itself (rows, columns), and what is left to pad before it."""
    left, right, top, bottom = conv.padding
    if conv.border != "zeros" or _may_miss(size, kernel_size, conv):
        return (0, 0), conv.padding
    if known(left == right) and known(top == bottom):
        return (top, left), (0, 0, 0, 0)
    if not all(isinstance(side, int) for side in conv.padding):
        return (0, 0), conv.padding
    own: list[int] = []
    rest: list[int] = []
    (h, w), (r, s) = size, kernel_size
    for n, kernel, step, before, after, apart in (
        (w, s, conv.stride[1], left, right, conv.dilation[1]),
        (h, r, conv.stride[0], top, bottom, conv.dilation[0]),
    ):
        # as many windows fit with the same padding at both ends, since those at the end leave rows over
        alike = conv_size(n, kernel, step, 2 * before, apart) == conv_size(n, kernel, step, before + after, apart)
        both = before if known(alike) else min(before, max(after, 0))
        own.append(both)
        rest += (0, 0) if known(alike) else (before - both, after - both)
    return (own[1], own[0]), (rest[0], rest[1], rest[2], rest[3])


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, border: str, value: float, activation: str,
) -> Tensor:  # fmt: skip
    conv = _conv(stride, padding, dilation, groups, border, value)
    dtype, channels_last = x.dtype, is_channels_last(x, weight)
    if is_empty(x):
        return empty((x.shape[0], weight.shape[0], *conv.output_size(x.shape[2:], weight.shape[2:])), x, channels_last)
    own, rest = _unpadded(x.shape[2:], weight.shape[2:], conv)
    step = conv.stride
    if is_half(x):
        # results are rounded once, after the epilogue
        wider = residual is not None or not (activation == "none" or ACTIVATIONS[activation].exact)
        if not known(step[1] == 1):
            # one column of results, which this stride does not move: see `aten_conv2d`
            beyond = x.shape[3] + rest[0] + rest[1] + 2 * own[1] - conv.reach(weight.shape[2:])[1]
            if known(beyond <= step[1]):
                step = (step[0], 1)
            wider = wider or not (step[1] == 1 or known(beyond > step[1]))
        widen = Tensor.float if wider else wide
        x, weight, bias = widen(x), widen(weight), None if bias is None else widen(bias)
    x, weight = settled(padded(x, rest, border, in_dtype(value, dtype))), settled(weight)
    y = _aten.convolution.default(x, weight, bias, step, own, conv.dilation, False, (0, 0), groups)
    if step != conv.stride:
        y = y[..., :1]
    if residual is not None:
        y = y + residual
    if activation != "none":
        y = ACTIVATIONS[activation].function(y)
    return promised(y, channels_last, dtype, by_elements=residual is not None or activation != "none")


def _uncut(dy_size: Ints, kernel_size: Ints, size: Ints, conv: Conv2d) -> tuple[Pair, Pair, Sides] | None:
    """What ATen's transposed convolution cuts off by itself (rows, columns), what it adds at the end, what is left to fold.

    None where what it adds is not known.
    """
    left, right, top, bottom = conv.padding
    least = [n - conv_transpose_size(p, k, u, 0, 0, d) for n, p, k, u, d in zip(
        size, dy_size, kernel_size, conv.stride, conv.dilation, strict=True)]  # fmt: skip
    limits = [max(u, d) for u, d in zip(conv.stride, conv.dilation, strict=True)]

    def added(ends: Pair) -> Pair | None:
        """The numbers that these are, if they are such as ATen adds."""
        found = [
            next((k for k in range(limit) if known(n + end == k)), None)
            for n, end, limit in zip(least, ends, limits, strict=True)
        ]
        return None if None in found else tuple(found)  # type: ignore[return-value]

    if conv.border == "zeros" and not _may_miss(size, kernel_size, conv):
        more = added((2 * top, 2 * left))
        if more is not None:
            return (top, left), more, (0, 0, 0, 0)
    more = added((top + bottom, left + right))
    return None if more is None else ((0, 0), more, conv.padding)


def _conv2d_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, border: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    conv = _conv(stride, padding, dilation, groups, border).adjoint()
    dtype, whole = dy.dtype, (dy.shape[0], weight.shape[1] * groups, *size)
    if is_empty(dy):
        return empty(whole, dy, channels_last)
    found = _uncut(dy.shape[2:], weight.shape[2:], size, conv)
    if found is None:
        own, rest = _unpadded(size, weight.shape[2:], conv)
        more: Pair | None = None
    else:
        own, more, rest = found
    if is_half(dy):
        # oneDNN takes no more output padding than this, and knows neither our bias nor a fold
        native = more is not None and bias is None and not pads(rest) and more[0] < stride[0] and more[1] < stride[1]
        widen = wide if native else Tensor.float
        dy, weight, bias = widen(dy), widen(weight), None if bias is None else widen(bias)
    dy, weight = settled(dy), settled(weight)
    if more is not None:
        fused = None if pads(rest) else bias
        dx = _aten.convolution.default(dy, weight, fused, conv.stride, own, conv.dilation, True, more, groups)
    else:
        # ATen finds out what is added if it is told the size
        left, right, top, bottom = rest
        image = empty((*whole[:2], size[0] + top + bottom, size[1] + left + right), dy, channels_last)
        fused, (dx, _, _) = None, _aten.convolution_backward.default(
            dy, image, weight, None, conv.stride, own, conv.dilation, False, (0, 0), groups, (True, False, False)
        )  # fmt: skip
    dx = folded(dx, size, rest, conv.border)
    if bias is not None and fused is None:
        dx = dx + bias.view(-1, 1, 1)
    return promised(dx, channels_last, dtype, by_elements=pads(rest) or fused is not bias)


def _conv2d_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    border: str, value: float, with_bias: bool, channels_last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    conv = _conv(stride, padding, dilation, groups, border, value)
    dtype, k = x.dtype, dy.shape[1]
    whole = (k, x.shape[1] // groups, *kernel_size)
    if is_empty(dy):
        zeros = torch.zeros(whole, dtype=dtype, device=x.device)
        return promised(zeros, channels_last, dtype), zeros.new_zeros(k if with_bias else 0)
    own, rest = _unpadded(x.shape[2:], kernel_size, conv)
    # oneDNN's gradients of a weight are wrong in halves: see `is_differentiable`
    dy, x = (dy.float(), x.float()) if is_half(x) else (dy, x)
    x = settled(padded(x, rest, border, in_dtype(value, dtype)))
    # ATen reads only the size of this weight
    weight = empty(whole, x, channels_last)
    _, dw, db = _aten.convolution_backward.default(
        settled(dy), x, weight, (k,) if with_bias else None, conv.stride, own, conv.dilation, False, (0, 0), groups,
        (False, True, with_bias),
    )  # fmt: skip
    db = db.to(dtype) if with_bias else torch.empty(0, dtype=dtype, device=x.device)
    return promised(dw, channels_last, dtype), db


ATEN: Table = {
    _ours.conv2d.default: _conv2d,
    _ours.conv2d_input_grad.default: _conv2d_input_grad,
    _ours.conv2d_weight_grad.default: _conv2d_weight_grad,
}
