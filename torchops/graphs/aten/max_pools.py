"""Maxima and minima of windows, of one size or adaptive, their indices, and unpooling by these."""

from __future__ import annotations

import torch
from torch import Tensor

from torchops.kernels.geometry import Window
from torchops.ops.cpu.tiles import accumulation_dtype
from torchops.ops.memory import is_channels_last

from .promises import Ints, Table, empty, is_empty, promised
from .windows import ceil_mode_for, window_of

_aten = torch.ops.aten
_ours = torch.ops.torchops


def _max_pool2d(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, output_size: Ints, smallest: bool
) -> Tensor:
    return _maxima(x, window_of(kernel_size, stride, padding, dilation), output_size, smallest)[0]


def _max_pool2d_with_indices(
    x: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, output_size: Ints, smallest: bool,
    indices: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    window = window_of(kernel_size, stride, padding, dilation)
    y, positions = _maxima(x, window, output_size, smallest)
    return y, _offsets_of(positions, x.shape[3], window) if indices == "offset" else positions


def _maxima(x: Tensor, window: Window, output_size: Ints, smallest: bool) -> tuple[Tensor, Tensor]:
    channels_last = is_channels_last(x)
    if is_empty(x):
        size = (*x.shape[:2], *output_size)
        return empty(size, x, channels_last), empty(size, x, channels_last, torch.int64)
    ceil_mode = bool(ceil_mode_for(x.shape[2:], output_size, window))
    y, positions = _aten.max_pool2d_with_indices.default(-x if smallest else x, *window, ceil_mode)
    y = promised(-y if smallest else y, channels_last, x.dtype, by_elements=smallest)
    return y, promised(positions, channels_last, torch.int64)


def _adaptive_max_pool2d(x: Tensor, size: Ints) -> tuple[Tensor, Tensor]:
    channels_last = is_channels_last(x)
    if is_empty(x):
        whole = (*x.shape[:2], *size)
        return empty(whole, x, channels_last), empty(whole, x, channels_last, torch.int64)
    steps = [next((k for k in range(1, n + 1) if k * p == n), None) if isinstance(n, int) else None
             for n, p in zip(x.shape[2:], size, strict=True)]  # fmt: skip
    if None in steps:
        y, indices = _aten.adaptive_max_pool2d.default(x, size)
    else:
        # windows that tile the image are those of a plain pool, which more compilers know
        y, indices = _aten.max_pool2d_with_indices.default(x, steps, steps, (0, 0), (1, 1), False)
    return promised(y, channels_last, x.dtype), promised(indices, channels_last, torch.int64)


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
    return promised(offsets, is_channels_last(positions), torch.uint8, by_elements=True)


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
    if is_empty(x):
        return empty((*x.shape[:2], *size), x, channels_last)
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
    return promised(y.view(*x.shape[:2], *size), channels_last, x.dtype)


def _unpool_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    if is_empty(indices):
        return empty(indices.shape, dy, channels_last)
    positions = _positions_of(indices, dy.shape[2:], window)
    dx = dy.flatten(2).gather(2, positions)
    # offsets in windows without overlap point to a pixel of their own
    if duplicates == "last" and (indices.dtype == torch.int64 or window.overlap()):
        winners, numbers = _winners(positions, dy.shape[2] * dy.shape[3])
        dx = torch.where(winners.gather(2, positions) == numbers, dx, 0.0)
    return promised(dx.view(indices.shape), channels_last, dy.dtype)


def _max_unpool2d(
    x: Tensor, indices: Tensor, size: Ints, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints,
    duplicates: str, channels_last: bool,
) -> Tensor:  # fmt: skip
    return _unpool(x, indices, size, window_of(kernel_size, stride, padding, dilation), duplicates, channels_last)


def _max_unpool2d_backward(
    dy: Tensor, indices: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, duplicates: str,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    return _unpool_backward(dy, indices, window_of(kernel_size, stride, padding, dilation), duplicates, channels_last)


_ANYWHERE = Window((1, 1), (1, 1), (0, 0))
"""The windows for what looks at positions alone."""


def _adaptive_max_unpool2d(x: Tensor, indices: Tensor, size: Ints, channels_last: bool) -> Tensor:
    return _unpool(x, indices, size, _ANYWHERE, "sum", channels_last)


def _adaptive_max_unpool2d_backward(dy: Tensor, indices: Tensor, channels_last: bool) -> Tensor:
    return _unpool_backward(dy, indices, _ANYWHERE, "sum", channels_last)


ATEN: Table = {
    _ours.max_pool2d.default: _max_pool2d,
    _ours.max_pool2d_with_indices.default: _max_pool2d_with_indices,
    _ours.max_unpool2d.default: _max_unpool2d,
    _ours.max_unpool2d_backward.default: _max_unpool2d_backward,
    _ours.adaptive_max_pool2d.default: _adaptive_max_pool2d,
    _ours.adaptive_max_unpool2d.default: _adaptive_max_unpool2d,
    _ours.adaptive_max_unpool2d_backward.default: _adaptive_max_unpool2d_backward,
}
