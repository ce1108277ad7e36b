"""torchops's operators in ATen's, without a write: for programs that run where torchops is not, and for compilers of ATen.

`ATEN` is a table of decompositions. What they trace has the sizes, the dtype and the very strides that the operator's fake
promises, rounds once where the operator does, and stays away from what ATen computes wrongly on a CPU, as `ops/conv2d/aten.py`
does. Sizes may be symbolic: nothing is asked of them that would bind them, unless the operator has asked it already. Where a
question stays open, what is traced is right for every answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true as known

import torchops.ops  # noqa: F401 (what is decomposed has to be registered)
from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import Conv2d, Pair, Sides, Window, conv_size, conv_transpose_size
from torchops.ops.aten_tiles import accumulation_dtype
from torchops.ops.conv2d import is_channels_last as either_is_channels_last
from torchops.ops.conv2d.aten import in_dtype, is_half, misses, wide
from torchops.ops.memory import memory_format

Ints = Sequence[int]
_aten = torch.ops.aten
_ours = torch.ops.torchops


#
# What is promised of a result: its format, to the strides of dimensions of one element.


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def _empty(size: Ints, like: Tensor, channels_last: bool, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(tuple(size), dtype=dtype or like.dtype, device=like.device, memory_format=_format(channels_last))


def _is_empty(t: Tensor) -> bool:
    return any(known(n == 0) for n in t.shape)


def _has_strides(t: Tensor, channels_last: bool) -> bool:
    """Whether t has the strides of `_empty`."""
    _, c, h, w = t.shape
    wanted = (c * h * w, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)
    return all(known(a == b) for a, b in zip(t.stride(), wanted, strict=True))


def _promised(t: Tensor, channels_last: bool, dtype: torch.dtype, *, by_elements: bool = False) -> Tensor:
    """t with the dtype and the strides of `_empty`.

    Args:
        by_elements: whether what has made t goes over elements. In dimensions of one element of channels_last tensors that
            takes other strides than its fake foresees.
    """
    t = t if t.dtype == dtype else t.to(dtype)
    sure = not (by_elements and channels_last and any(known(n == 1) for n in t.shape[1:]))
    return t if sure and _has_strides(t, channels_last) else t.clone(memory_format=_format(channels_last))


def _settled(t: Tensor) -> Tensor:
    """t with the strides of `_empty` where it has dimensions of one element: `ops/conv2d/aten.py` says what becomes of others.

    What ATen makes of others has strides of its own choice, too.
    """
    if not any(known(n == 1) for n in t.shape) or _has_strides(t, False) or _has_strides(t, True):
        return t
    return t.clone(memory_format=memory_format(t.shape, t.stride()))


#
# Convolution.


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


def _any(sides: Ints) -> bool:
    return not all(known(side == 0) for side in sides)


def _padded(x: Tensor, sides: Ints, border: str, value: float = 0.0) -> Tensor:
    """x with more pixels, or fewer, on the left, right, top and bottom."""
    if not _any(sides):
        return x
    left, right, top, bottom = sides
    if border in ("zeros", "constant"):
        return F.pad(x, (left, right, top, bottom), value=value if border == "constant" else 0.0)
    more = left, max(right, 0), top, max(bottom, 0)
    if border == "circular":
        # ATen's own writes to what it has allocated
        x = torch.cat((x[..., x.shape[3] - more[0] :], x, x[..., : more[1]]), 3)
        x = torch.cat((x[:, :, x.shape[2] - more[2] :], x, x[:, :, : more[3]]), 2)
    else:
        x = F.pad(x, more, mode=border)
    return F.pad(x, (0, min(right, 0), 0, min(bottom, 0))) if min(right, bottom) < 0 else x


def _folded(dx: Tensor, size: Ints, sides: Ints, border: str) -> Tensor:
    """The adjoint of `_padded`: what lies beyond a border is added to where it was read."""
    if not _any(sides):
        return dx
    left, right, top, bottom = sides
    if border in ("zeros", "constant"):
        return F.pad(dx, (-left, -right, -top, -bottom))
    dx = F.pad(dx, (0, -min(right, 0), 0, -min(bottom, 0)))
    for dim, n, before, after in ((2, size[0], top, max(bottom, 0)), (3, size[1], left, max(right, 0))):
        inside = dx.narrow(dim, before, n)
        first, last = dx.narrow(dim, 0, before), dx.narrow(dim, before + n, after)

        def at(t: Tensor, begin: int, dim: int = dim, n: int = n) -> Tensor:
            """t among n rows or columns of zeros, from `begin` on."""
            sides = begin, n - begin - t.shape[dim]
            return F.pad(t, (0, 0, *sides) if dim == 2 else sides)

        if border == "replicate":
            dx = inside + at(first.sum(dim, keepdim=True), 0) + at(last.sum(dim, keepdim=True), n - 1)
        elif border == "reflect":
            dx = inside + at(first.flip(dim), 1) + at(last.flip(dim), n - 1 - after)
        else:
            dx = inside + at(first, n - before) + at(last, 0)
    return dx


def _conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None,
    stride: Ints, padding: Ints, dilation: Ints, groups: int, border: str, value: float, activation: str,
) -> Tensor:  # fmt: skip
    conv = _conv(stride, padding, dilation, groups, border, value)
    dtype, channels_last = x.dtype, either_is_channels_last(x, weight)
    if _is_empty(x):
        return _empty((x.shape[0], weight.shape[0], *conv.output_size(x.shape[2:], weight.shape[2:])), x, channels_last)
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
    x, weight = _settled(_padded(x, rest, border, in_dtype(value, dtype))), _settled(weight)
    y = _aten.convolution.default(x, weight, bias, step, own, conv.dilation, False, (0, 0), groups)
    if step != conv.stride:
        y = y[..., :1]
    if residual is not None:
        y = y + residual
    if activation != "none":
        y = ACTIVATIONS[activation].function(y)
    return _promised(y, channels_last, dtype, by_elements=residual is not None or activation != "none")


def _conv(stride: Ints, padding: Ints, dilation: Ints, groups: int, border: str, value: float = 0.0) -> Conv2d:
    (u, v), (left, right, top, bottom), (a, b) = stride, padding, dilation
    return Conv2d((u, v), (left, right, top, bottom), (a, b), groups, border, value)


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
    if _is_empty(dy):
        return _empty(whole, dy, channels_last)
    found = _uncut(dy.shape[2:], weight.shape[2:], size, conv)
    if found is None:
        own, rest = _unpadded(size, weight.shape[2:], conv)
        more: Pair | None = None
    else:
        own, more, rest = found
    if is_half(dy):
        # oneDNN takes no more output padding than this, and knows neither our bias nor a fold
        native = more is not None and bias is None and not _any(rest) and more[0] < stride[0] and more[1] < stride[1]
        widen = wide if native else Tensor.float
        dy, weight, bias = widen(dy), widen(weight), None if bias is None else widen(bias)
    dy, weight = _settled(dy), _settled(weight)
    if more is not None:
        fused = None if _any(rest) else bias
        dx = _aten.convolution.default(dy, weight, fused, conv.stride, own, conv.dilation, True, more, groups)
    else:
        # ATen finds out what is added if it is told the size
        left, right, top, bottom = rest
        image = _empty((*whole[:2], size[0] + top + bottom, size[1] + left + right), dy, channels_last)
        fused, (dx, _, _) = None, _aten.convolution_backward.default(
            dy, image, weight, None, conv.stride, own, conv.dilation, False, (0, 0), groups, (True, False, False)
        )  # fmt: skip
    dx = _folded(dx, size, rest, conv.border)
    if bias is not None and fused is None:
        dx = dx + bias.view(-1, 1, 1)
    return _promised(dx, channels_last, dtype, by_elements=_any(rest) or fused is not bias)


def _conv2d_weight_grad(
    dy: Tensor, x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    border: str, value: float, with_bias: bool, channels_last: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    conv = _conv(stride, padding, dilation, groups, border, value)
    dtype, k = x.dtype, dy.shape[1]
    whole = (k, x.shape[1] // groups, *kernel_size)
    if _is_empty(dy):
        zeros = torch.zeros(whole, dtype=dtype, device=x.device)
        return _promised(zeros, channels_last, dtype), zeros.new_zeros(k if with_bias else 0)
    own, rest = _unpadded(x.shape[2:], kernel_size, conv)
    # oneDNN's gradients of a weight are wrong in halves: see `is_differentiable`
    dy, x = (dy.float(), x.float()) if is_half(x) else (dy, x)
    x = _settled(_padded(x, rest, border, in_dtype(value, dtype)))
    # ATen reads only the size of this weight
    weight = _empty(whole, x, channels_last)
    _, dw, db = _aten.convolution_backward.default(
        _settled(dy), x, weight, (k,) if with_bias else None, conv.stride, own, conv.dilation, False, (0, 0), groups,
        (False, True, with_bias),
    )  # fmt: skip
    db = db.to(dtype) if with_bias else torch.empty(0, dtype=dtype, device=x.device)
    return _promised(dw, channels_last, dtype), db


#
# Pools. Of what has no size but for its strides, ATen's make what is promised.


def _window(kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints = (1, 1)) -> Window:
    (r, s), (u, v), (top, left), (a, b) = kernel_size, stride, padding, dilation
    return Window((r, s), (u, v), (top, left), (a, b))


def _ceil_mode(size: Ints, windows: Ints, window: Window) -> bool | None:
    """The mode of ATen's pools that makes so many windows of an image of `size`; None where neither does."""
    for sure in (known, bool):
        for ceil_mode in (False, True):
            found = window.output_size(size, ceil_mode)
            if all(sure(a == b) for a, b in zip(found, windows, strict=True)):
                return ceil_mode
    return None


def _max_pool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, output_size: Ints, smallest: bool
) -> Tensor:
    return _maxima(x, _window(kernel_size, stride, padding, dilation), output_size, smallest)[0]


def _max_pool2d_with_indices(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, output_size: Ints, smallest: bool,
    indices: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    window = _window(kernel_size, stride, padding, dilation)
    y, positions = _maxima(x, window, output_size, smallest)
    return y, _offsets_of(positions, x.shape[3], window) if indices == "offset" else positions


def _maxima(x: Tensor, window: Window, output_size: Ints, smallest: bool) -> tuple[Tensor, Tensor]:
    channels_last = _is_channels_last(x)
    if _is_empty(x):
        size = (*x.shape[:2], *output_size)
        return _empty(size, x, channels_last), _empty(size, x, channels_last, torch.int64)
    ceil_mode = bool(_ceil_mode(x.shape[2:], output_size, window))
    y, positions = _aten.max_pool2d_with_indices.default(-x if smallest else x, *window, ceil_mode)
    y = _promised(-y if smallest else y, channels_last, x.dtype, by_elements=smallest)
    return y, _promised(positions, channels_last, torch.int64)


def _is_channels_last(x: Tensor) -> bool:
    return memory_format(x.shape, x.stride()) == torch.channels_last


def _first_pixels(windows: Ints, window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first row and the first column of every window: (P, 1) and (Q,)."""
    p, q = (
        torch.arange(count, device=device) * stride - padding
        for count, stride, padding in zip(windows, window.stride, window.padding, strict=True)
    )
    return p.unsqueeze(1), q


def _offsets_of(positions: Tensor, width: int, window: Window) -> Tensor:
    """Positions in an image of that width that lie in their windows, as offsets in these."""
    p, q = _first_pixels(positions.shape[2:], window, positions.device)
    row = positions // width
    # the exporter to ONNX knows no remainder of a symbolic number
    rows, cols = row - p, positions - row * width - q
    offsets = rows // window.dilation[0] * window.kernel[1] + cols // window.dilation[1]
    return _promised(offsets, _is_channels_last(positions), torch.uint8, by_elements=True)


def _positions_of(indices: Tensor, size: Ints, window: Window) -> Tensor:
    """Indices as positions in an image of that size: flat, int64, -1 for offsets that point beyond it."""
    if indices.dtype == torch.int64:
        return indices.flatten(2)
    (r, s), _, _, dilation = window
    p, q = _first_pixels(indices.shape[2:], window, indices.device)
    tap = indices.long()
    rows, cols = p + tap // s * dilation[0], q + tap % s * dilation[1]
    inside = (tap < r * s) & (rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1])
    return torch.where(inside, rows * size[1] + cols, -1).flatten(2)


def _winners(positions: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """The last window that points to each pixel, -1 where none does; and the numbers of the windows."""
    numbers = torch.arange(positions.shape[2], device=positions.device).expand(positions.shape)
    none = torch.full((*positions.shape[:2], pixels), -1, dtype=torch.int64, device=positions.device)
    return none.scatter_reduce(2, positions, numbers, "amax"), numbers


def _unpool(x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    if _is_empty(x):
        return _empty((*x.shape[:2], *size), x, channels_last)
    positions, values, pixels = _positions_of(indices, size, window), x.flatten(2), size[0] * size[1]
    if duplicates == "sum":
        # a sum of several halves would be rounded on the way
        values = values.to(accumulation_dtype(x.dtype))
        y = values.new_zeros((*x.shape[:2], pixels)).scatter_add(2, positions, values)
    elif indices.dtype == torch.uint8 and not window.overlap():
        y = values.new_zeros((*x.shape[:2], pixels)).scatter(2, positions, values)
    else:
        winners, _ = _winners(positions, pixels)
        y = torch.where(winners >= 0, values.gather(2, winners.clamp(min=0)), 0.0)
    return _promised(y.view(*x.shape[:2], *size), channels_last, x.dtype)


def _unpool_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    if _is_empty(indices):
        return _empty(indices.shape, dy, channels_last)
    positions = _positions_of(indices, dy.shape[2:], window)
    dx = dy.flatten(2).gather(2, positions)
    # offsets in windows without overlap point to a pixel of their own
    if duplicates == "last" and (indices.dtype == torch.int64 or window.overlap()):
        winners, numbers = _winners(positions, dy.shape[2] * dy.shape[3])
        dx = torch.where(winners.gather(2, positions) == numbers, dx, 0.0)
    return _promised(dx.view(indices.shape), channels_last, dy.dtype)


def _max_unpool2d(
    x: Tensor, indices: Tensor, size: Ints, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints,
    duplicates: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    return _unpool(x, indices, size, _window(kernel_size, stride, padding, dilation), duplicates, channels_last)


def _max_unpool2d_backward(
    dy: Tensor, indices: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, duplicates: str,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    return _unpool_backward(dy, indices, _window(kernel_size, stride, padding, dilation), duplicates, channels_last)


def _share(size: int, count: int, kernel: int, stride: int, padding: int, like: Tensor) -> Tensor:
    """1 over the windows, `count` along this dimension, that cover each of `size` pixels; 1 where none does."""
    pixels = torch.arange(size, device=like.device) + padding
    first = (pixels - kernel + stride).clamp(min=0) // stride
    last = (pixels // stride).clamp(max=count - 1)
    return (last - first + 1).clamp(min=1).to(accumulation_dtype(like.dtype)).reciprocal()


def _by_cover(t: Tensor, windows: Ints, window: Window) -> Tensor:
    """Every pixel of t by the number of the windows that cover it."""
    rows, cols = (
        _share(size, count, kernel, stride, padding, t)
        for size, count, (kernel, stride, padding, _) in zip(t.shape[2:], windows, window.axes(), strict=True)
    )
    return t * (rows[:, None] * cols)


def _covered(windows: Ints, window: Window) -> list[int]:
    """Rows and columns that these windows just cover."""
    dims = zip(windows, window.axes(), strict=True)
    return [(count - 1) * stride + kernel - 2 * padding for count, (kernel, stride, padding, _) in dims]


def _avg_pool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, size: Ints, mean: str, divisor: int, channels_last: bool
) -> Tensor:
    window, dtype = _window(kernel_size, stride, padding), x.dtype
    if _is_empty(x):
        return _empty((*x.shape[:2], *size), x, channels_last)
    if mean == "cover" and window.overlap():
        x = _by_cover(x.to(accumulation_dtype(dtype)), size, window)
    ceil_mode = _ceil_mode(x.shape[2:], size, window)
    override = {"fixed": divisor, "cover": 1}.get(mean)
    if ceil_mode is None:
        # the last windows lie beyond the image: add what is missing, where there is nothing
        rows, cols = (max(0, wanted - n) for wanted, n in zip(_covered(size, window), x.shape[2:], strict=True))
        x, ceil_mode, override = F.pad(x, (0, cols, 0, rows)), False, 1
    y = _aten.avg_pool2d.default(x, *window[:3], ceil_mode, mean == "padded", override)
    return _promised(y, channels_last, dtype)


def _avg_unpool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, size: Ints, mean: str, divisor: int, channels_last: bool
) -> Tensor:
    window, windows, dtype = _window(kernel_size, stride, padding), x.shape[2:], x.dtype
    if _is_empty(x):
        return _empty((*x.shape[:2], *size), x, channels_last)
    tiled = window.kernel == window.stride and max(window.padding) == 0
    if mean == "cover" and tiled and all(known(n == p * k) for n, p, k in zip(size, windows, kernel_size, strict=True)):
        return _repeated(x, window.kernel, channels_last)
    x = x.to(accumulation_dtype(dtype))
    if mean == "cover":
        y = _by_cover(_spread(x, size, window), windows, window) if window.overlap() else _spread(x, size, window)
        return _promised(y, channels_last, dtype, by_elements=True)
    ceil_mode = _ceil_mode(size, windows, window)
    image, override = list(size), {"fixed": divisor}.get(mean)
    if ceil_mode is None:
        # windows beyond the image need more room
        image = [max(wanted, n) for wanted, n in zip(_covered(windows, window), size, strict=True)]
        ceil_mode, override = False, 1
    # of the image that was pooled, ATen wants to know the size
    pooled = _empty((*x.shape[:2], *image), x, channels_last)
    y = _aten.avg_pool2d_backward.default(x, pooled, *window[:3], ceil_mode, mean == "padded", override)
    return _promised(y[:, :, : size[0], : size[1]], channels_last, dtype)


def _repeated(x: Tensor, factors: Pair, channels_last: bool) -> Tensor:
    """Every pixel as a rectangle of its value, by nothing but copies: ATen's nearest neighbours are found in float32."""
    (n, c, h, w), (a, b) = x.shape, factors
    if not channels_last:
        y = x[:, :, :, None, :, None].expand(n, c, h, a, w, b).clone(memory_format=torch.contiguous_format)
        return y.view(n, c, h * a, w * b)
    y = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(n, h, a, w, b, c)
    return y.clone(memory_format=torch.contiguous_format).view(n, h * a, w * b, c).permute(0, 3, 1, 2)


def _spread(x: Tensor, size: Ints, window: Window) -> Tensor:
    """Every pixel as a window of its value; the sum of these where windows overlap."""
    (n, c, p, q), (top, left) = x.shape, window.padding
    ones = torch.ones((1, 1, *window.kernel), dtype=x.dtype, device=x.device)
    rows, cols = (
        wanted - conv_transpose_size(count, kernel, stride, padding, 0, 1)
        for wanted, count, (kernel, stride, padding, _) in zip(size, (p, q), window.axes(), strict=True)
    )
    planes = x.reshape(n * c, 1, p, q)
    y = _aten.convolution.default(planes, ones, None, window.stride, (0, 0), (1, 1), True, (0, 0), 1)
    return F.pad(y, (-left, cols, -top, rows)).view(n, c, *size)


#
# Adaptive pools.


def _adaptive_avg_pool2d(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> Tensor:
    dtype, whole = x.dtype, (*x.shape[:2], *size)
    if _is_empty(x):
        return _empty(whole, x, channels_last)
    if not transposed:
        one = known(size[0] == 1) and known(size[1] == 1)
        y = x.mean((2, 3), keepdim=True) if one else _aten._adaptive_avg_pool2d.default(x, size)
        return _promised(y, channels_last, dtype)
    # ATen rounds halves after every window, and after every division
    x = x.to(accumulation_dtype(dtype))
    if known(x.shape[2] == 1) and known(x.shape[3] == 1):
        y = (x / math.prod(size)).to(dtype).expand(whole)
        return y.clone(memory_format=_format(channels_last))
    # of the image that was pooled, ATen wants to know the size
    y = _aten._adaptive_avg_pool2d_backward.default(x, _empty(whole, x, channels_last))
    return _promised(y, channels_last, dtype)


def _adaptive_max_pool2d(x: Tensor, size: Ints) -> tuple[Tensor, Tensor]:
    channels_last = _is_channels_last(x)
    if _is_empty(x):
        whole = (*x.shape[:2], *size)
        return _empty(whole, x, channels_last), _empty(whole, x, channels_last, torch.int64)
    steps = [next((k for k in range(1, n + 1) if k * p == n), None) if isinstance(n, int) else None
             for n, p in zip(x.shape[2:], size, strict=True)]  # fmt: skip
    if None in steps:
        y, indices = _aten.adaptive_max_pool2d.default(x, size)
    else:
        # windows that tile the image are those of a plain pool, which more compilers know
        y, indices = _aten.max_pool2d_with_indices.default(x, steps, steps, (0, 0), (1, 1), False)
    return _promised(y, channels_last, x.dtype), _promised(indices, channels_last, torch.int64)


_ANYWHERE = Window((1, 1), (1, 1), (0, 0))
"""The windows for what looks at positions alone."""


def _adaptive_max_unpool2d(x: Tensor, indices: Tensor, size: Ints, channels_last: bool) -> Tensor:
    return _unpool(x, indices, size, _ANYWHERE, "sum", channels_last)


def _adaptive_max_unpool2d_backward(dy: Tensor, indices: Tensor, channels_last: bool) -> Tensor:
    return _unpool_backward(dy, indices, _ANYWHERE, "sum", channels_last)


#
# Sobel.

_SIDES = 1, 1, 1, 1
_TINY = 1e-30
"""Below this eps, the square of a magnitude can be 0 in float32."""


def _gradients(x: Tensor, border: str, value: float) -> tuple[Tensor, Tensor]:
    """gx and gy, unscaled, in a dtype that holds their sums."""
    x = _padded(x.to(accumulation_dtype(x.dtype)), _SIDES, border, value)
    upper, middle, lower = x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]
    smooth, diff = upper + lower + 2 * middle, lower - upper
    return smooth[..., 2:] - smooth[..., :-2], diff[..., 2:] + diff[..., :-2] + 2 * diff[..., 1:-1]


def _square(gx: Tensor, gy: Tensor, scale: float, eps: float) -> Tensor:
    offset = torch.full((), eps, dtype=gx.dtype, device=gx.device)
    return torch.addcmul(torch.addcmul(offset, gx, gx, value=scale * scale), gy, gy, value=scale * scale)


def _scale(normalized: bool) -> float:
    return 0.125 if normalized else 1.0


def _output_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float32


def _sobel(x: Tensor, normalized: bool, eps: float, border: str, value: float) -> Tensor:
    channels_last, dtype = _is_channels_last(x), _output_dtype(x)
    if _is_empty(x):
        return _empty(x.shape, x, channels_last, dtype)
    y = _square(*_gradients(x, border, value), _scale(normalized), eps).sqrt()
    return _promised(y, channels_last, dtype, by_elements=True)


def _spatial_gradient(x: Tensor, normalized: bool, border: str, value: float) -> Tensor:
    n, c, h, w = x.shape
    dtype, form = _output_dtype(x), torch.channels_last_3d if _is_channels_last(x) else torch.contiguous_format
    if _is_empty(x):
        return torch.empty((n, c, 2, h, w), dtype=dtype, device=x.device, memory_format=form)
    gx, gy = _gradients(x, border, value)
    g = (torch.stack((gx, gy), 2) * _scale(normalized)).to(dtype)
    return g if form == torch.contiguous_format else g.clone(memory_format=form)


def _adjoint(dgx: Tensor, dgy: Tensor, border: str) -> Tensor:
    """The adjoint of `_gradients`."""
    size = dgx.shape[2:]
    smooth = F.pad(dgx, (2, 0)) - F.pad(dgx, (0, 2))
    diff = F.pad(dgy, (2, 0)) + F.pad(dgy, (0, 2)) + 2 * F.pad(dgy, (1, 1))
    upper, lower = F.pad(smooth - diff, (0, 0, 0, 2)), F.pad(smooth + diff, (0, 0, 2, 0))
    return _folded(upper + 2 * F.pad(smooth, (0, 0, 1, 1)) + lower, size, _SIDES, border)


def _sobel_backward(
    dy: Tensor, x: Tensor, normalized: bool, eps: float, border: str, value: float
) -> Tensor:  # fmt: skip
    channels_last, scale = _is_channels_last(x), _scale(normalized)
    if _is_empty(x):
        return _empty(x.shape, x, channels_last)
    gx, gy = _gradients(x, border, value)
    square = _square(gx, gy, scale, eps)
    ratio = square.rsqrt() * dy * (scale * scale)
    if eps < _TINY:
        ratio = torch.where(square == 0, 0.0, ratio)
    return _promised(_adjoint(gx * ratio, gy * ratio, border), channels_last, x.dtype, by_elements=True)


def _spatial_gradient_backward(dg: Tensor, normalized: bool, border: str) -> Tensor:
    channels_last, acc = _is_channels_last(dg[:, :, 0]), accumulation_dtype(dg.dtype)
    if _is_empty(dg):
        return _empty(dg[:, :, 0].shape, dg, channels_last)
    dgx, dgy = (t.to(acc) * _scale(normalized) for t in dg.unbind(2))
    return _promised(_adjoint(dgx, dgy, border), channels_last, dg.dtype, by_elements=True)


ATEN: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        _ours.conv2d.default: _conv2d,
        _ours.conv2d_input_grad.default: _conv2d_input_grad,
        _ours.conv2d_weight_grad.default: _conv2d_weight_grad,
        _ours.max_pool2d.default: _max_pool2d,
        _ours.max_pool2d_with_indices.default: _max_pool2d_with_indices,
        _ours.max_unpool2d.default: _max_unpool2d,
        _ours.max_unpool2d_backward.default: _max_unpool2d_backward,
        _ours.avg_pool2d.default: _avg_pool2d,
        _ours.avg_unpool2d.default: _avg_unpool2d,
        _ours.adaptive_avg_pool2d.default: _adaptive_avg_pool2d,
        _ours.adaptive_max_pool2d.default: _adaptive_max_pool2d,
        _ours.adaptive_max_unpool2d.default: _adaptive_max_unpool2d,
        _ours.adaptive_max_unpool2d_backward.default: _adaptive_max_unpool2d_backward,
        _ours.sobel.default: _sobel,
        _ours.sobel_backward.default: _sobel_backward,
        _ours.spatial_gradient.default: _spatial_gradient,
        _ours.spatial_gradient_backward.default: _spatial_gradient_backward,
    }
)
"""Every operator of torchops as a function that calls ATen's: for `run_decompositions`, `make_fx` and the compilers."""
