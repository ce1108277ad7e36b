"""The ATen path of 2-D convolution: torch's own calls, with any border, one rounding, and the strides that were promised."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import Conv2d, Pair, Sides, conv_size, conv_transpose_size
from torchops.ops.memory import memory_format
from torchops.reference import pad

from . import packed

Ints = Sequence[int]
_aten = torch.ops.aten


def is_channels_last(x: Tensor, weight: Tensor) -> bool:
    """The memory format of results, by ATen's rule: channels_last if either is."""
    return (
        memory_format(x.shape, x.stride()) == torch.channels_last
        or memory_format(weight.shape, weight.stride()) == torch.channels_last
    )


def empty(size: Ints, like: Tensor, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(size, dtype=like.dtype, device=like.device, memory_format=form)


@functools.cache
def _is_native(dtype: torch.dtype) -> bool:
    """Whether this CPU's convolutions take the dtype: oneDNN then computes in float32 and rounds once."""
    name = {torch.float16: "_is_mkldnn_fp16_supported", torch.bfloat16: "_is_mkldnn_bf16_supported"}[dtype]
    return bool(getattr(torch.ops.mkldnn, name)())


_HALVES = (torch.float16, torch.bfloat16)


def is_half(t: Tensor) -> bool:
    return t.dtype in _HALVES


def wide(t: Tensor) -> Tensor:
    """t in float32 where ATen would fall back to kernels that round every tap and every image, and take 10 times as long."""
    return t.float() if is_half(t) and t.device.type == "cpu" and not _is_native(t.dtype) else t


def is_differentiable(x: Tensor) -> bool:
    """Whether ATen's own gradients of a convolution of x are right on a CPU: oneDNN's of a weight, in its halves, are not.

    In bfloat16 it was seen to leave weights unwritten, for strides of 3 and images few pixels wide, and to crash.
    """
    return not is_half(x) or not _is_native(x.dtype)


def misses(size: Ints, kernel_size: Ints, conv: Conv2d) -> bool:
    """Whether a window may meet nothing but padding: it lies beyond the border altogether, or the image lies between its taps.

    Where oneDNN pads by itself it may then read what is not there, and crash: of the former in float32 and bfloat16, with
    strides and dilations of 2 or more; of the latter in bfloat16, with 4 taps and a dilation of 4 on a single row. Where the
    padding is there as pixels it cannot.
    """
    left, right, top, bottom = conv.padding
    rows, cols = conv.reach(kernel_size[-2:])
    if left > cols or top > rows or right > cols or bottom > rows:
        return True
    (stride_h, stride_w), (apart_h, apart_w) = conv.stride, conv.dilation
    return (size[-2] < apart_h and _falls_between(size[-2], rows, top, bottom, stride_h, apart_h)) or (
        size[-1] < apart_w and _falls_between(size[-1], cols, left, right, stride_w, apart_w)
    )


def _falls_between(pixels: int, reach: int, before: int, after: int, stride: int, apart: int) -> bool:
    """Whether the image lies between the taps of a window: they are `apart`, and the last comes `reach` after the first."""
    return any(
        all(not 0 <= tap < pixels for tap in range(start, start + reach + 1, apart))
        for start in range(-before, pixels + after - reach, stride)
    )


def in_dtype(value: float, dtype: torch.dtype) -> float:
    """The value as a pixel of that dtype would hold it."""
    return float(torch.tensor(value, dtype=torch.float64).to(dtype)) if value != 0.0 and dtype in _HALVES else value


_FORMATS = {False: torch.contiguous_format, True: torch.channels_last}


def _stride(size: Ints, channels_last: bool) -> tuple[int, int, int, int]:
    """The strides of `empty`."""
    _, c, h, w = size
    return (c * h * w, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)


def _promised(t: Tensor, channels_last: bool, dtype: torch.dtype) -> Tensor:
    """t with the dtype and the very strides of `empty`, which the fake promised."""
    stride = _stride(t.shape, channels_last)
    if t.dtype == dtype:
        if t.stride() == stride:
            return t
        if t.is_contiguous(memory_format=_FORMATS[channels_last]):
            # the strides change in place, since a view could not be modified under autograd
            return t.as_strided_(t.shape, stride)
    out = torch.empty_strided(t.shape, stride, dtype=dtype, device=t.device)
    return out.copy_(t)


def _settled(t: Tensor) -> Tensor:
    """t with the strides of `empty` in dimensions of one element too, where any would do.

    oneDNN takes others for another memory format and computes grouped convolutions of other numbers; ATen's float64 refuses
    them.
    """
    size = t.shape
    if 1 not in size or t.stride() == _stride(size, False):
        return t
    likely = is_channels_last(t, t)
    for channels_last in (likely, not likely):
        if t.is_contiguous(memory_format=_FORMATS[channels_last]):
            stride = _stride(size, channels_last)
            return t if t.stride() == stride else t.as_strided(size, stride)
    return t


def _unpadded(size: Ints, weight_size: Ints, conv: Conv2d) -> tuple[Pair, Sides]:
    """What ATen's convolution pads by itself (rows, columns), and what is left to pad before it."""
    left, right, top, bottom = conv.padding
    if conv.border != "zeros" or misses(size, weight_size, conv):
        return (0, 0), conv.padding
    if left == right and top == bottom:
        return (top, left), (0, 0, 0, 0)
    (h, w), kernel_size = size[-2:], weight_size[-2:]
    own = []
    rest: list[int] = []
    for pixels, kernel, step, before, after, spread in (
        (w, kernel_size[1], conv.stride[1], left, right, conv.dilation[1]),
        (h, kernel_size[0], conv.stride[0], top, bottom, conv.dilation[0]),
    ):
        # as many windows fit with the same padding at both ends, since those at the end leave rows over
        if conv_size(pixels, kernel, step, 2 * before, spread) == conv_size(
            pixels, kernel, step, before + after, spread
        ):
            own.append(before)
            rest += (0, 0)
        else:
            both = min(before, max(after, 0))
            own.append(both)
            rest += (before - both, after - both)
    return (own[1], own[0]), (rest[0], rest[1], rest[2], rest[3])


def uncut(dy_size: Ints, weight_size: Ints, size: Ints, conv: Conv2d) -> tuple[Pair, Pair, Sides]:
    """What ATen's transposed convolution cuts off by itself (rows, columns), what it adds at the end, what is left to fold."""
    (p, q), (r, s), (left, right, top, bottom) = dy_size[-2:], weight_size[-2:], conv.padding
    stride, dilation = conv.stride, conv.dilation
    if conv.border == "zeros" and not misses(size, weight_size, conv):
        rows = size[0] - conv_transpose_size(p, r, stride[0], 2 * top, 0, dilation[0])
        cols = size[1] - conv_transpose_size(q, s, stride[1], 2 * left, 0, dilation[1])
        if 0 <= rows < max(stride[0], dilation[0]) and 0 <= cols < max(stride[1], dilation[1]):
            return (top, left), (rows, cols), (0, 0, 0, 0)
    rows = size[0] + top + bottom - conv_transpose_size(p, r, stride[0], 0, 0, dilation[0])
    cols = size[1] + left + right - conv_transpose_size(q, s, stride[1], 0, 0, dilation[1])
    return (0, 0), (rows, cols), conv.padding


def _padded(x: Tensor, padding: Ints, padding_mode: str, padding_value: float) -> Tensor:
    if padding_mode in ("zeros", "constant") or min(padding) >= 0:
        return pad(x, padding, padding_mode, padding_value) if any(padding) else x
    left, right, top, bottom = padding
    more = pad(x, (left, max(right, 0), top, max(bottom, 0)), padding_mode)
    return more[:, :, : x.shape[2] + top + bottom, : x.shape[3] + left + right]


def _folded(dx: Tensor, size: Ints, padding: Ints, padding_mode: str) -> Tensor:
    """The adjoint of `_padded`, in one order on every device: what lies beyond a border is added to where it was read."""
    if not any(padding):
        return dx
    left, right, top, bottom = padding
    if padding_mode == "zeros":
        return F.pad(dx, (-left, -right, -top, -bottom))
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


@functools.lru_cache(maxsize=1024)
def is_direct(
    size: Ints, of_x: Ints, weight_size: Ints, of_weight: Ints, stride: Any, padding: Any, dilation: Any
) -> bool:
    """Whether `aten_conv2d` of float32 or float64 would hand x and the weight to ATen as they are, and return its result as is.

    Args:
        size, of_x, weight_size, of_weight: sizes and strides of both.
        stride, padding, dilation: numbers or pairs of them, as the user has given them, with a border of zeros.

    Raises:
        ValueError: if one of these is neither.
    """
    if not len(size) == len(weight_size) == 4 or 0 in (*size, *weight_size):
        return False
    by, (top, left), apart = as_pair(stride), as_pair(padding), as_pair(dilation)
    conv = Conv2d(by, (left, left, top, top), apart, 1, "zeros")
    # ATen takes larger strides and dilations here, and nowhere else
    if max(*by, *apart) >= 2**31 or misses(size, weight_size, conv):
        return False
    if of_x == _stride(size, False) and of_weight == _stride(weight_size, False):
        return True
    if any(s not in (_stride(n, False), _stride(n, True)) for n, s in ((size, of_x), (weight_size, of_weight))):
        return False
    # in float64 grouped convolutions have other strides where a size of 1 leaves the order open
    return 1 not in (weight_size[0], *conv.output_size(size[2:], weight_size[2:]))


@functools.lru_cache(maxsize=1024)
def is_direct_transpose(
    size: Ints, of_x: Ints, weight_size: Ints, of_weight: Ints, stride: Any, padding: Any, dilation: Any
) -> bool:
    """The same of `aten_input_grad` as a transposed convolution without output padding, of contiguous tensors.

    Raises:
        ValueError: if a number is neither one nor a pair.
    """
    if not len(size) == len(weight_size) == 4 or 0 in (*size, *weight_size):
        return False
    by, cut, apart = as_pair(stride), as_pair(padding), as_pair(dilation)
    numbers = list(zip(size[2:], weight_size[2:], by, cut, strict=True))
    # every copy of the kernel then has a pixel in the result, of which some is left
    small = apart == (1, 1) and all(
        t < k and u < 2**31 and conv_transpose_size(n, k, u, 2 * t, 0, 1) > 0 for n, k, u, t in numbers
    )
    return small and of_x == _stride(size, False) and of_weight == _stride(weight_size, False)


def as_pair(value: int | Ints) -> Pair:
    """(rows, columns) of one number for both, or of one or two in a tuple."""
    rows, cols = (value, value) if isinstance(value, int) else value if len(value) == 2 else (*value, *value)
    return rows, cols


def plain_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    """torch's own convolution, for what has nothing to be added: every convolution of the ATen path comes here.

    Pairs may be single numbers, as the caller has them.
    """
    # where nothing is declared, as in training, even the call would be felt
    y = packed.conv2d(x, weight, bias, stride, padding, dilation, groups) if packed.declared else None
    if y is not None:
        return y
    if groups == 1:
        # to read a number of groups takes ATen a third of a microsecond
        return torch.conv2d(x, weight, bias, stride, padding, dilation)
    return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)


def aten_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, conv: Conv2d, activation: str
) -> Tensor:
    dtype, channels_last = x.dtype, is_channels_last(x, weight)
    own, rest = _unpadded(x.shape, weight.shape, conv)
    if is_half(x):
        # results are rounded once, after the epilogue
        exact = residual is None and (activation == "none" or ACTIVATIONS[activation].exact)
        widen = wide if exact else Tensor.float
        x, weight, bias = widen(x), widen(weight), None if bias is None else widen(bias)
    x, weight = _settled(_padded(x, rest, conv.border, in_dtype(conv.value, dtype))), _settled(weight)
    stride = conv.stride
    if is_half(x) and x.shape[3] + 2 * own[1] - conv.reach(weight.shape[2:])[1] <= stride[1]:
        # there is one column of results, which this stride does not move; with one of 2 or more, oneDNN was seen to compute
        # other numbers in bfloat16
        stride = (stride[0], 1)
    y = plain_conv2d(x, weight, bias, stride, own, conv.dilation, conv.groups)
    if stride != conv.stride:
        y = y[..., :1]
    if residual is not None:
        y.add_(residual)
    if activation != "none":
        ACTIVATIONS[activation].in_place(y)
    return _promised(y, channels_last, dtype)


def aten_input_grad(
    dy: Tensor, weight: Tensor, bias: Tensor | None, size: Ints, conv: Conv2d, channels_last: bool
) -> Tensor:
    dtype = dy.dtype
    own, more, rest = uncut(dy.shape, weight.shape, size, conv)
    if is_half(dy):
        # oneDNN takes no more output padding than this, and knows neither our bias nor a fold
        native = bias is None and not any(rest) and more[0] < conv.stride[0] and more[1] < conv.stride[1]
        widen = wide if native else Tensor.float
        dy, weight, bias = widen(dy), widen(weight), None if bias is None else widen(bias)
    # oneDNN would sum the gradient of a bias with ten times the error
    fused = None if bias is None or any(rest) or (bias.requires_grad and torch.is_grad_enabled()) else bias
    dx = torch.conv_transpose2d(
        _settled(dy), _settled(weight), fused, conv.stride, own, more, conv.groups, conv.dilation
    )
    dx = _folded(dx, size, rest, conv.border)
    if bias is not None and fused is None:
        dx.add_(bias.view(-1, 1, 1))
    return _promised(dx, channels_last, dtype)


def aten_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, conv: Conv2d, with_bias: bool, channels_last: bool
) -> tuple[Tensor, Tensor]:
    k = dy.shape[1]
    own, rest = _unpadded(x.shape, kernel_size, conv)
    # oneDNN's gradients of a weight are wrong in halves: see `is_differentiable`
    dy, wide_x = (dy.float(), x.float()) if is_half(x) else (dy, x)
    wide_x = _settled(_padded(wide_x, rest, conv.border, in_dtype(conv.value, x.dtype)))
    # ATen reads only the size of this weight
    weight = empty((k, x.shape[1] // conv.groups, *kernel_size), wide_x, channels_last)
    _, dw, db = _aten.convolution_backward.default(
        _settled(dy), wide_x, weight, (k,) if with_bias else None, conv.stride, own, conv.dilation, False, (0, 0),
        conv.groups,
        (False, True, with_bias),
    )  # fmt: skip
    if not with_bias:
        db = x.new_empty(0)
    elif db.dtype != x.dtype:
        db = db.to(x.dtype)
    return _promised(dw, channels_last, x.dtype), db
