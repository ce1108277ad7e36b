"""Means of windows, of one size or adaptive, and the way back, which is the gradient as well."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true as known

from torchops.kernels.geometry import Pair, Window, conv_transpose_size
from torchops.ops.cpu.tiles import accumulation_dtype

from .promises import Ints, Table, empty, format_of, is_empty, promised
from .windows import ceil_mode_for, window_of

_aten = torch.ops.aten
_ours = torch.ops.torchops


def _avg_pool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, size: Ints, mean: str, divisor: int, channels_last: bool
) -> Tensor:
    window, dtype = window_of(kernel_size, stride, padding), x.dtype
    if is_empty(x):
        return empty((*x.shape[:2], *size), x, channels_last)
    if mean == "cover" and window.overlap():
        x = _by_cover(x.to(accumulation_dtype(dtype)), size, window)
    ceil_mode = ceil_mode_for(x.shape[2:], size, window)
    override = {"fixed": divisor, "cover": 1}.get(mean)
    if ceil_mode is None:
        # the last windows lie beyond the image: add what is missing, where there is nothing
        rows, cols = (max(0, wanted - n) for wanted, n in zip(_covered(size, window), x.shape[2:], strict=True))
        x, ceil_mode, override = F.pad(x, (0, cols, 0, rows)), False, 1
    y = _aten.avg_pool2d.default(x, *window[:3], ceil_mode, mean == "padded", override)
    return promised(y, channels_last, dtype)


def _avg_unpool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, size: Ints, mean: str, divisor: int, channels_last: bool
) -> Tensor:
    window, windows, dtype = window_of(kernel_size, stride, padding), x.shape[2:], x.dtype
    if is_empty(x):
        return empty((*x.shape[:2], *size), x, channels_last)
    tiled = window.kernel == window.stride and max(window.padding) == 0
    if mean == "cover" and tiled and all(known(n == p * k) for n, p, k in zip(size, windows, kernel_size, strict=True)):
        return _repeated(x, window.kernel, channels_last)
    x = x.to(accumulation_dtype(dtype))
    if mean == "cover":
        y = _by_cover(_spread(x, size, window), windows, window) if window.overlap() else _spread(x, size, window)
        return promised(y, channels_last, dtype, by_elements=True)
    ceil_mode = ceil_mode_for(size, windows, window)
    image, override = list(size), {"fixed": divisor}.get(mean)
    if ceil_mode is None:
        # windows beyond the image need more room
        image = [max(wanted, n) for wanted, n in zip(_covered(windows, window), size, strict=True)]
        ceil_mode, override = False, 1
    # of the image that was pooled, ATen wants to know the size
    pooled = empty((*x.shape[:2], *image), x, channels_last)
    y = _aten.avg_pool2d_backward.default(x, pooled, *window[:3], ceil_mode, mean == "padded", override)
    return promised(y[:, :, : size[0], : size[1]], channels_last, dtype)


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


def _adaptive_avg_pool2d(x: Tensor, size: Ints, transposed: bool, channels_last: bool) -> Tensor:
    dtype, whole = x.dtype, (*x.shape[:2], *size)
    if is_empty(x):
        return empty(whole, x, channels_last)
    if not transposed:
        one = known(size[0] == 1) and known(size[1] == 1)
        y = x.mean((2, 3), keepdim=True) if one else _aten._adaptive_avg_pool2d.default(x, size)
        return promised(y, channels_last, dtype)
    # ATen rounds halves after every window, and after every division
    x = x.to(accumulation_dtype(dtype))
    if known(x.shape[2] == 1) and known(x.shape[3] == 1):
        y = (x / math.prod(size)).to(dtype).expand(whole)
        return y.clone(memory_format=format_of(channels_last))
    # of the image that was pooled, ATen wants to know the size
    y = _aten._adaptive_avg_pool2d_backward.default(x, empty(whole, x, channels_last))
    return promised(y, channels_last, dtype)


ATEN: Table = {
    _ours.avg_pool2d.default: _avg_pool2d,
    _ours.avg_unpool2d.default: _avg_unpool2d,
    _ours.adaptive_avg_pool2d.default: _adaptive_avg_pool2d,
}
