"""Values back to where the indices of their windows point: `torchops::max_unpool2d`, and its transpose.

Of several values for one pixel the last in row-major order stays ("last"), or all are added ("sum"): that is the gradient of
pooling. For given indices both are linear, and `max_unpool2d` and `max_unpool2d_backward` each other's transpose, so
derivatives of every order run on the two.

Indices are flat positions h*W + w (int64, ATen's), or offsets r*S + s in the window (uint8).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.backend import checks_indices, uses_triton
from torchops.kernels.geometry import Pair, Window

from .checks import check_shape, check_tensors, check_windows, check_word
from .cpu.threads import share_out
from .cpu.tiles import parts
from .derivatives import Derivative
from .memory import is_channels_last, prefer_huge_pages
from .packing import Packed
from .registration import each_image, linear, register
from .shortcut import is_quiet, is_watched

Ints = Sequence[int]
OFFSETS = 256
"""Taps of a window that one byte can tell apart."""


def _kernels() -> ModuleType:
    from torchops.kernels import max_unpool2d

    return max_unpool2d


def _empty(x: Tensor, size: Ints, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=form)


def _empty_max_unpool2d(
    x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool
) -> Tensor:
    return _empty(x, size, channels_last)


def _empty_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    return _empty(dy, indices.shape[2:], channels_last)


def check_kind(indices: str, window: Window) -> None:
    check_word("indices", indices, ("offset", "position"))
    if indices == "offset" and window.kernel[0] * window.kernel[1] > OFFSETS:
        raise ValueError(f"offsets point into a window of at most {OFFSETS} pixels, got `kernel_size` {window.kernel}")


def _check_max_unpool2d(
    x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool
) -> None:
    check_tensors(4, x=x)
    _check(x, indices, size, window, duplicates)
    check_shape("indices", indices.shape, x.shape)


def _check_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> None:
    check_tensors(4, dy=dy)
    _check(dy, indices, dy.shape[2:], window, duplicates)
    check_shape("indices", indices.shape, (*dy.shape[:2], *indices.shape[2:]))


def _check(x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str) -> None:
    check_tensors(4, like=x, dtypes=(torch.int64, torch.uint8), indices=indices)
    check_kind("offset" if indices.dtype == torch.uint8 else "position", window)
    check_word("duplicates", duplicates, ("last", "sum"))
    check_windows(size, indices.shape[2:], window)


def unpool(x: Tensor, indices: Tensor, size: Ints, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    y = _empty(x, size, channels_last)
    if y.numel() == 0:
        return y
    if not uses_triton(x):
        _aten_fwd(x, indices, y, window, duplicates == "sum")
        return y
    if duplicates == "last" and checks_indices(x.device):
        check_indices(indices, size, window)
    _kernels().max_unpool2d_fwd(x, indices, y, window, duplicates == "sum")
    return y


def unpool_backward(dy: Tensor, indices: Tensor, window: Window, duplicates: str, channels_last: bool) -> Tensor:
    dx = _empty(dy, indices.shape[2:], channels_last)
    if dx.numel() == 0:
        return dx
    if uses_triton(dy):
        _kernels().max_unpool2d_bwd(dy, indices, dx, window, duplicates == "sum")
    else:
        _aten_bwd(dy, indices, dx, window, duplicates == "sum")
    return dx


#
# Offsets and positions.


def _first_pixels(windows: Ints, window: Window, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first row and the first column of every window: (P, 1) and (Q,)."""
    p, q = (
        torch.arange(count, device=device) * stride - padding
        for count, stride, padding in zip(windows, window.stride, window.padding, strict=True)
    )
    return p.unsqueeze(1), q


def _is_simple(size: Ints, window: Window) -> bool:
    """Whether the rows of a window are told apart by comparisons of at most 32 bits, which are fewer than a division costs."""
    (r, s), _, _, (apart, dilation) = window
    return r <= 8 and dilation == 1 and s <= size[1] * apart and (size[0] + r * apart) * size[1] < 2**31


def _narrow(count: int) -> torch.dtype:
    """What holds numbers below `count`: ATen's arithmetic of 16 bits is several times as fast as that of 64."""
    return torch.int16 if count <= 2**15 else torch.int32 if count <= 2**31 else torch.int64


def _row(t: Tensor, length: int, rows: int) -> Tensor:
    """t // length, in the dtype of t, but 0 of a negative number, and rows - 1 of a number beyond the last row."""
    # a comparison into numbers is vectorized, one into truth values is not
    steps = (torch.ge(t, row * length, out=torch.empty_like(t)) for row in range(1, rows))
    return functools.reduce(Tensor.add_, steps)


def _are_inside(size: Ints, windows: Ints, window: Window) -> bool:
    """Whether no window reaches beyond an image of that size."""
    return max(window.padding) == 0 and all(
        (count - 1) * stride + dilation * (kernel - 1) < n
        for n, count, (kernel, stride, _, dilation) in zip(size, windows, window.axes(), strict=True)
    )


def offsets_of(size: Ints, windows: Ints, window: Window, device: torch.device) -> Callable[..., Tensor]:
    """What makes offsets, in some dtype of integers, of positions in an image of that size, all of which lie in their windows;
    of all windows, or of some rows of them, from the one it is told."""
    (r, s), _, _, (apart, dilation) = window
    p, q = _first_pixels(windows, window, device)
    width = size[1]
    if not _is_simple(size, window):

        def divided(positions: Tensor, start: int = 0) -> Tensor:
            distance = (positions // width).sub_(p[start : start + positions.shape[2]]).floor_divide_(apart).mul_(s)
            distance += (positions % width).sub_(q).floor_divide_(dilation)
            return distance

        return divided
    reach = r * apart * width
    dtype = torch.uint8 if reach <= 256 else _narrow(reach)
    # the distance of a pixel from the first of its window is small: that positions are cut off to so many bits does not show
    first = (p * width + q).to(dtype)

    def compared(positions: Tensor, start: int = 0) -> Tensor:
        distance = positions.to(dtype).sub_(first[start : start + positions.shape[2]])
        if r > 1:
            distance.sub_(_row(distance, width * apart, r), alpha=width * apart - s)
        return distance

    return compared


def positions_of(size: Ints, windows: Ints, window: Window, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What makes positions in an image of that size of offsets in all of its windows; -1 where they point beyond it."""
    (r, s), _, _, dilation = window
    p, q = _first_pixels(windows, window, device)

    def divided(offsets: Tensor) -> Tensor:
        tap = offsets.long()
        rows, cols = p + tap // s * dilation[0], q + tap % s * dilation[1]
        outside = (tap >= r * s) | (rows < 0) | (rows >= size[0]) | (cols < 0) | (cols >= size[1])
        return rows.mul_(size[1]).add_(cols).masked_fill_(outside, -1)

    if not (_is_simple(size, window) and _are_inside(size, windows, window)):
        return divided
    dtype = _narrow(size[0] * size[1])
    first = (p * size[1] + q).to(dtype)

    def compared(offsets: Tensor) -> Tensor:
        if _largest(offsets) >= r * s:
            return divided(offsets)
        positions = offsets.to(dtype)
        if r > 1:
            positions.add_(_row(positions, s, r), alpha=size[1] * dilation[0] - s)
        return positions.add_(first).long()

    return compared


def _largest(t: Tensor) -> int:
    # torch is slow to find it in another order than that of memory
    return int(_flat(t, is_channels_last(t)).max())


def check_indices(indices: Tensor, size: Ints, window: Window) -> None:
    """Refuse indices that point beyond the output; on a GPU, it waits for the result.

    Raises:
        RuntimeError: if one does.
    """
    offsets = indices.dtype == torch.uint8
    positions = positions_of(size, indices.shape[2:], window, indices.device)(indices) if offsets else indices
    bad = (positions < 0) | (positions >= size[0] * size[1])
    if not bad.any():
        return
    value = int(indices[bad][0])
    if offsets:
        raise RuntimeError(
            f"`indices` must be offsets that point into the {size[0]} x {size[1]} output from windows of {window.kernel}, "
            f"got {value}"
        )
    raise RuntimeError(
        f"`indices` must lie in [0, {size[0] * size[1]}), the pixels of a {size[0]} x {size[1]} output, got {value}"
    )


#
# ATen's own max_unpool2d leaves to chance which of several values stays. On a CPU, scatter goes through a plane in order.


def _flat(t: Tensor, channels_last: bool) -> Tensor:
    """(N, C, H, W) as (N, C, pixels), or (N, pixels, C) for channels_last: a view of what is dense."""
    return t.permute(0, 2, 3, 1).flatten(1, 2) if channels_last else t.flatten(2)


def _for_parts(
    do: Callable[..., None], indices: Tensor, size: Ints, window: Window, channels_last: bool, *tensors: Tensor,
    at_once: bool,
) -> None:  # fmt: skip
    """Do some images at a time, given their positions and the same images of the tensors; all flat. `at_once` where little is
    done with them: then all that are given as positions."""
    as_positions = positions_of(size, indices.shape[2:], window, indices.device)

    def positions_first(part: tuple[Tensor, ...], _: None) -> None:
        some, *rest = part
        positions = some if some.dtype == torch.int64 else as_positions(some)
        do(_flat(positions, channels_last), *(_flat(t, channels_last) for t in rest))

    if at_once and indices.dtype == torch.int64:
        positions_first((indices, *tensors), None)
        return
    share_out(parts(size[0] * size[1], channels_last, indices, *tensors), lambda: None, positions_first)


def _aten_fwd(x: Tensor, indices: Tensor, y: Tensor, window: Window, accumulate: bool) -> None:
    size, channels_last = y.shape[2:], not y.is_contiguous()
    dim = 1 if channels_last else 2
    prefer_huge_pages(y)
    # a sum of several halves would be rounded on the way
    target = (
        y if not accumulate or y.dtype in (torch.float32, torch.float64) else torch.empty_like(y, dtype=torch.float32)
    )

    def put_back(positions: Tensor, values: Tensor, out: Tensor) -> None:
        if accumulate:
            out.zero_().scatter_add_(dim, positions, values.to(out.dtype))
        elif x.is_cpu:
            out.zero_().scatter_(dim, positions, values)
        else:
            winners = _winners(positions, _numbers(positions, dim), out, dim)
            out.copy_(values.gather(dim, winners.clamp(min=0)).masked_fill_(winners < 0, 0))

    if not x.is_cpu:
        check_indices(indices, size, window)
    try:
        _for_parts(put_back, indices, size, window, channels_last, x, target, at_once=x.is_cpu)
    except (RuntimeError, IndexError):
        check_indices(indices, size, window)
        raise
    if target is not y:
        y.copy_(target)


def _aten_bwd(dy: Tensor, indices: Tensor, dx: Tensor, window: Window, accumulate: bool) -> None:
    size, channels_last = dy.shape[2:], not dx.is_contiguous()
    dim = 1 if channels_last else 2
    # offsets in windows without overlap point to a pixel of their own
    every = accumulate or (indices.dtype == torch.uint8 and not window.overlap())
    are_apart = _are_apart(size, indices.shape[2:], window, channels_last) if indices.is_cpu else lambda _: False

    def fetch(positions: Tensor, grad: Tensor, out: Tensor) -> None:
        distinct = every or are_apart(positions)
        torch.gather(grad, dim, positions, out=out)
        if not distinct:
            numbers = _numbers(positions, dim)
            out.masked_fill_(_winners(positions, numbers, grad, dim).gather(dim, positions) != numbers, 0)

    _for_parts(fetch, indices, size, window, channels_last, dy, dx, at_once=every)


def _are_apart(size: Ints, windows: Ints, window: Window, channels_last: bool) -> Callable[[Tensor], bool]:
    """What tells, in less time than `_winners` take, whether flat positions, which are pixels of an image of that size, surely
    are different ones: whether each lies in its window, where windows have no pixel in common."""
    (r, s), _, _, (apart, _) = window
    if window.overlap() or not _is_simple(size, window) or not _are_inside(size, windows, window):
        return lambda _: False
    dtype = _narrow(size[0] * size[1])
    p, q = _first_pixels(windows, window, torch.device("cpu"))
    first = (p * size[1] + q).to(dtype).flatten()
    if channels_last:
        first = first.unsqueeze(1)

    def are_apart(positions: Tensor) -> bool:
        column = positions.to(dtype).sub_(first)
        if r > 1:
            column.sub_(_row(column, size[1] * apart, r), alpha=size[1] * apart)
        least, largest = column.aminmax()
        return 0 <= int(least) and int(largest) < s

    return are_apart


def _numbers(positions: Tensor, dim: int) -> Tensor:
    """The number of every window in its plane."""
    dtype = torch.int32 if positions.shape[dim] < 2**31 else torch.int64
    numbers = torch.arange(positions.shape[dim], dtype=dtype, device=positions.device)
    return (numbers.unsqueeze(-1) if dim == 1 else numbers).expand_as(positions)


def _winners(positions: Tensor, numbers: Tensor, like: Tensor, dim: int) -> Tensor:
    """The last window that points to each pixel. Where none does, anything on a CPU, and -1 elsewhere."""
    if positions.is_cpu:
        return torch.empty(like.shape, dtype=numbers.dtype).scatter_(dim, positions, numbers)
    winners = torch.full(like.shape, -1, dtype=torch.int64, device=like.device)
    return winners.scatter_reduce_(dim, positions, numbers.long(), "amax")


def _setup_max_unpool2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, indices, _, ctx.window, ctx.duplicates, _ = inputs
    ctx.channels_last = is_channels_last(x)
    ctx.save_for_backward(indices)


def _grad_max_unpool2d(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return max_unpool2d_backward(dy, indices, ctx.window, ctx.duplicates, ctx.channels_last), None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    dy, indices, ctx.window, ctx.duplicates, _ = inputs
    ctx.size, ctx.channels_last = dy.shape[2:], is_channels_last(dy)
    ctx.save_for_backward(indices)


def _grad_backward(ctx: Any, v: Tensor) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return max_unpool2d(v, indices, ctx.size, ctx.window, ctx.duplicates, ctx.channels_last), None


_DERIVATIVE = Derivative(_setup_max_unpool2d, _grad_max_unpool2d, linear("max_unpool2d"))
max_unpool2d = register(
    "max_unpool2d",
    "(Tensor x, Tensor indices, SymInt[2] size, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, "
    "SymInt[2] dilation, str duplicates, bool channels_last) -> Tensor",
    check=_check_max_unpool2d, impl=unpool, fake=_empty_max_unpool2d,
    derivative=_DERIVATIVE,
    vmap=each_image("max_unpool2d", 2), packed=Packed(Window, first=3, fields=4),
)  # fmt: skip
max_unpool2d_backward = register(
    "max_unpool2d_backward",
    "(Tensor dy, Tensor indices, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, "
    "str duplicates, bool channels_last) -> Tensor",
    check=_check_backward, impl=unpool_backward, fake=_empty_backward,
    derivative=Derivative(_setup_backward, _grad_backward, linear("max_unpool2d_backward")),
    vmap=each_image("max_unpool2d_backward", 2),
    packed=Packed(Window, first=2, fields=4),
)  # fmt: skip


#
# The quick way of small images, whose windows tile the output: no chunks, no other memory format, no operator.


def unpool_tiles(x: Tensor, indices: Tensor, kernel: Pair) -> Tensor:
    """`max_unpool2d` of contiguous images and positions, where nobody but autograd looks on; the last of duplicates stays.

    Raises:
        RuntimeError: if a position lies outside the output.
    """
    if x.requires_grad and torch.is_grad_enabled():
        return _Tiles.apply(x, indices, kernel)
    return _tiles(x, indices, kernel)


def _tiles(x: Tensor, indices: Tensor, kernel: Pair) -> Tensor:
    n, c, p, q = x.shape
    y = x.new_zeros(n, c, p * kernel[0], q * kernel[1])
    y.flatten(2).scatter_(2, indices.flatten(2), x.flatten(2))
    return y


_SETUP, _GRAD, _ = _DERIVATIVE.as_its_forward()


class _Tiles(torch.autograd.Function):
    """That, with a gradient, which leaves to the operators whatever sees it: its own derivative, or a batch of gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor, kernel: Pair) -> Tensor:
        y = _tiles(x, indices, kernel)
        _SETUP(ctx, (x, indices, y.shape[2:], Window(kernel, kernel, (0, 0)), "last", False), y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled() or not is_quiet(dy) or is_watched((dy,)):
            return *_GRAD(ctx, dy), None
        (indices,) = ctx.saved_tensors
        positions, dy = indices.flatten(2), dy.flatten(2)
        numbers = _numbers(positions, 2)
        lost = _winners(positions, numbers, dy, 2).gather(2, positions) != numbers
        return dy.gather(2, positions).masked_fill_(lost, 0).view(indices.shape), None, None
