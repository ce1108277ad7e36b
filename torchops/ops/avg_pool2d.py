"""Means of windows, `torchops::avg_pool2d`, and back, `torchops::avg_unpool2d`. For the same `mean` they are transposes:

    padded, inside    pooling is the mean of the pixels of a window, those in the padding counted or not
    fixed             pooling is their sum by `divisor`
    cover             unpooling is the mean of the windows over a pixel

So the gradient of one is the other, to every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.backend import uses_triton
from torchops.kernels.geometry import Window, conv_transpose_size
from torchops.torch_internals import onednn_is_exact

from .checks import check_tensors, check_windows, check_word
from .cpu import tiles
from .cpu.separable import sum_windows, takes_sums
from .cpu.threads import share_out
from .cpu.tiles import accumulation_dtype, room
from .derivatives import Derivative
from .memory import is_channels_last, prefer_huge_pages
from .packing import Packed
from .registration import each_image, linear, register

Ints = Sequence[int]
_aten = torch.ops.aten


def _kernels() -> ModuleType:
    from torchops.kernels import avg_pool2d

    return avg_pool2d


def _empty(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=form)


def _avg_pool2d(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> Tensor:
    if x.numel() != 0 and not uses_triton(x):
        return _aten_pool(x, window, size, mean, divisor, channels_last)
    y = _empty(x, window, size, mean, divisor, channels_last)
    if y.numel() != 0:
        _kernels().avg_pool2d(x, y, window, mean, divisor)
    return y


def _avg_unpool2d(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> Tensor:
    y = _empty(x, window, size, mean, divisor, channels_last)
    if y.numel() == 0:
        return y
    if uses_triton(x):
        _kernels().avg_unpool2d(x, y, window, mean, divisor)
    else:
        _aten_unpool(x, y, window, mean, divisor)
    return y


def _check_pool(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> None:
    _check(x, mean, divisor)
    check_windows(x.shape[2:], size, window)


def _check_unpool(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> None:
    _check(x, mean, divisor)
    check_windows(size, x.shape[2:], window)


def _check(x: Tensor, mean: str, divisor: int) -> None:
    check_tensors(4, x=x)
    check_word("mean", mean, ("padded", "inside", "fixed", "cover"))
    if divisor == 0:
        raise ValueError("`divisor` must not be 0")


#
# On a CPU ATen's pool serves, and its gradient serves unpooling.


def _arguments(size: Ints, window: Window, windows: Ints, mean: str, divisor: int) -> tuple[Any, ...] | None:
    """Those of ATen's pool from images of `size` to so many windows: kernel_size, stride, padding, ceil_mode, count_include_pad
    and divisor_override. None where no mode makes that many."""
    for ceil_mode in (False, True):
        if window.output_size(size, ceil_mode) == tuple(windows):
            return *window[:3], ceil_mode, mean == "padded", {"fixed": divisor, "cover": 1}.get(mean)
    return None


def _cover(size: int, count: int, kernel: int, stride: int, padding: int, like: Tensor) -> Tensor:
    """The windows, `count` along this dimension, that cover each of `size` pixels; 1 where none does."""
    pixels = torch.arange(padding, size + padding, device=like.device)
    first = (pixels - kernel + stride).clamp_(min=0).div_(stride, rounding_mode="floor")
    last = pixels.div_(stride, rounding_mode="floor").clamp_(max=count - 1)
    return last.sub_(first).add_(1).clamp_(min=1).to(accumulation_dtype(like.dtype))


def _covers(size: Ints, windows: Ints, window: Window, like: Tensor) -> Tensor:
    """How many windows cover each pixel of an image of `size`, (H, W)."""
    rows, cols = (
        _cover(n, count, kernel, stride, padding, like)
        for n, count, (kernel, stride, padding, _) in zip(size, windows, window.axes(), strict=True)
    )
    return rows[:, None] * cols


def _pixels(size: int, count: int, kernel: int, stride: int, padding: int, mean: str) -> Tensor:
    """The pixels of each of `count` windows along this dimension, those in the padding counted or not."""
    first = torch.arange(-padding, count * stride - padding, stride)
    last = (first + kernel).clamp_(max=size + padding if mean == "padded" else size)
    return last - (first if mean == "padded" else first.clamp_(min=0))


def _divisors(size: Ints, windows: Ints, window: Window, mean: str, divisor: int, like: Tensor) -> Tensor | float:
    """What the sums of windows in an image of `size` are divided by: one number, or a tensor (P, Q)."""
    if mean in ("fixed", "cover"):
        return divisor if mean == "fixed" else 1
    axes = list(zip(size, windows, window.axes(), strict=True))
    if all(
        (padding == 0 or mean == "padded") and (count - 1) * stride + kernel <= n + 2 * padding
        for n, count, (kernel, stride, padding, _) in axes
    ):
        return window.kernel[0] * window.kernel[1]
    rows, cols = (_pixels(n, count, *axis[:3], mean) for n, count, axis in axes)
    return (rows[:, None] * cols).to(accumulation_dtype(like.dtype))


def _covered(size: Ints, windows: Ints, window: Window) -> list[int]:
    """Rows and columns of an image of `size`, or as many as these windows just cover if that is more."""
    dims = zip(size, windows, window.axes(), strict=True)
    return [max(n, (count - 1) * stride + kernel - 2 * padding) for n, count, (kernel, stride, padding, _) in dims]


def _aten_pool(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> Tensor:
    dtype = x.dtype
    if mean == "cover" and window.overlap():
        x = x.to(accumulation_dtype(dtype), copy=True).div_(_covers(x.shape[2:], size, window, x))
    arguments = _arguments(x.shape[2:], window, size, mean, divisor)
    if arguments is None:
        # the last windows lie beyond the image: add what is missing, where there is nothing
        rows, cols = _covered(x.shape[2:], size, window)
        x = F.pad(x, (0, cols - x.shape[3], 0, rows - x.shape[2]))
        arguments = *window[:3], False, False, 1
    sums = takes_sums(x, window, size)
    if not sums and x.dtype == dtype and channels_last == is_channels_last(x):
        return _aten.avg_pool2d(x, *arguments)
    # ATen's result would take its format from x, and so from whatever gradient comes
    y = _empty(x, window, size, mean, divisor, channels_last)
    if sums:
        sum_windows(x, y, window, _divisors(x.shape[2:], size, window, mean, divisor, x))
    else:
        _aten.avg_pool2d.out(x, *arguments, out=y)
    return y.to(dtype)


def _stretch(x: Tensor, y: Tensor, window: Window) -> list[int] | None:
    """What a transposed convolution of ones adds at the end (rows, columns) to spread the windows of x over an image y, where
    that is faster than ATen's loop over windows: oneDNN's is along the channels."""
    _, c, h, w = y.shape
    large = c >= tiles.LANES and h * w >= tiles.PIXELS and y.numel() >= tiles.FEW
    if not large or not y.is_cpu or y.dtype != torch.float32 or not y.is_contiguous() or not onednn_is_exact():
        return None
    more = [
        size - conv_transpose_size(count, kernel, stride, 2 * padding, 0, 1)
        for size, count, (kernel, stride, padding, _) in zip((h, w), x.shape[2:], window.axes(), strict=True)
    ]
    return more if all(0 <= m < stride for m, stride in zip(more, window.stride, strict=True)) else None


def _convolve(x: Tensor, y: Tensor, window: Window, more: list[int], divisor: Tensor | float) -> None:
    """Fill y with the sums of the windows over each pixel, divided by a number, or by the pixel's own: see `_stretch`."""
    c = y.shape[1]
    ones = torch.ones((c, 1, *window.kernel))
    # where a size is 1, oneDNN takes other strides for another format
    x = x if x.is_contiguous() and 1 not in x.shape else x.clone(memory_format=torch.contiguous_format)

    def fill(part: tuple[Tensor, ...], _: None) -> None:
        values, image = part
        sums = torch.conv_transpose2d(values, ones, None, window.stride, window.padding, more, c)
        torch.div(sums, divisor, out=image)

    # oneDNN is told of whole images
    images = max(1, room(y.numel(), tiles.PART) // y[0].numel())
    share_out(zip(x.split(images), y.split(images), strict=True), lambda: None, fill)


def _aten_unpool(x: Tensor, y: Tensor, window: Window, mean: str, divisor: int) -> None:
    prefer_huge_pages(y)
    windows, size = x.shape[2:], y.shape[2:]
    tiled = window.kernel == window.stride and max(window.padding) == 0
    if mean == "cover" and tiled and all(n == p * k for n, p, k in zip(size, windows, window.kernel, strict=True)):
        # the plain one computes pixel i as that of floor(i * float32(1 / 41)), which is 0 for i = 41
        _aten._upsample_nearest_exact2d.out(x, size, None, None, out=y)
        return
    covers = _covers(size, windows, window, y) if mean == "cover" and window.overlap() else None
    # the windows over a pixel lie as windows with this padding do
    (r, s), _, (above, before), _ = window
    opposite = window._replace(padding=(r - 1 - above, s - 1 - before))
    slides = window.stride == (1, 1) and takes_sums(y, opposite, size)
    stretch = None if slides else _stretch(x, y, window)
    if slides or stretch:
        by = _divisors(size, windows, window, mean, divisor, y) if covers is None else covers
        # each value has to be divided by that of its own window
        if covers is None and isinstance(by, Tensor):
            x, by = x / by, 1
        if stretch:
            _convolve(x, y, window, stretch, by)
        else:
            sum_windows(x, y, opposite, by)
        return
    arguments, exact = _arguments(size, window, windows, mean, divisor), y.dtype in (torch.float32, torch.float64)
    target = y
    if arguments is None or not exact:
        # windows beyond the image need more room; ATen rounds the divisor to a half, and a sum of several on the way
        covered = size if arguments else _covered(size, windows, window)
        target = torch.empty(
            (*y.shape[:2], *covered), dtype=accumulation_dtype(y.dtype), device=y.device,
            memory_format=torch.contiguous_format if y.is_contiguous() else torch.channels_last,
        )  # fmt: skip
        arguments = arguments or (*window[:3], False, False, 1)
    # of the image that was pooled, ATen wants to know the size
    _aten.avg_pool2d_backward.grad_input(x.to(target.dtype), target, *arguments, grad_input=target)
    if covers is not None:
        target = target[:, :, : size[0], : size[1]].div_(covers)
    if target is not y:
        y.copy_(target[:, :, : size[0], : size[1]])


def _is_plain(x: Tensor, window: Window, size: Ints, mean: str, divisor: int, channels_last: bool) -> bool:
    """Whether it is ATen's pool, with a gradient that rounds once: on a CPU, and not in halves, of which it makes the divisor
    one."""
    plain = x.dtype in (torch.float32, torch.float64) and mean != "cover" and x.is_cpu and x.numel() != 0
    return plain and not uses_triton(x) and not takes_sums(x, window, size)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.window, _, ctx.mean, ctx.divisor, _ = inputs
    ctx.size, ctx.channels_last = x.shape[2:], is_channels_last(x)


def _grad_pool(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    return (avg_unpool2d(dy, ctx.window, ctx.size, ctx.mean, ctx.divisor, ctx.channels_last),)


def _grad_unpool(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    return (avg_pool2d(dy, ctx.window, ctx.size, ctx.mean, ctx.divisor, ctx.channels_last),)


_ARGUMENTS = (
    "(Tensor x, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, SymInt[2] size, str mean, SymInt divisor, "
    "bool channels_last) -> Tensor"
)
_WINDOW = Packed(Window, first=1, fields=3)
avg_pool2d = register(
    "avg_pool2d", _ARGUMENTS,
    check=_check_pool, impl=_avg_pool2d, fake=_empty,
    derivative=Derivative(_setup, _grad_pool, linear("avg_pool2d")),
    vmap=each_image("avg_pool2d", 1), packed=_WINDOW, composed=_is_plain,
)  # fmt: skip
avg_unpool2d = register(
    "avg_unpool2d", _ARGUMENTS,
    check=_check_unpool, impl=_avg_unpool2d, fake=_empty,
    derivative=Derivative(_setup, _grad_unpool, linear("avg_unpool2d")),
    vmap=each_image("avg_unpool2d", 1), packed=_WINDOW,
)  # fmt: skip
