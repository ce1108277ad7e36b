"""max_unpool2d on torch's own functions, and the arithmetic of its indices.

    offsets_of, positions_of     one kind of indices from the other
    unpool_by_scatter            values to their pixels: ATen's own max_unpool2d leaves to chance which of several stays
    unpool_backward_by_gather    pixels to their values, zeros to the values that were lost

They take the tensors of any device; on a CPU they work part by part.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchops.kernels.geometry import Window
from torchops.ops.memory import is_channels_last, prefer_huge_pages

from .threads import share_out
from .tiles import parts

Ints = Sequence[int]


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
# On a CPU, scatter goes through a plane in order, so that the last of several values stays.


def _flat(t: Tensor, channels_last: bool) -> Tensor:
    """(N, C, H, W) as (N, C, pixels), or (N, pixels, C) for channels_last: a view of what is dense."""
    return t.permute(0, 2, 3, 1).flatten(1, 2) if channels_last else t.flatten(2)


def _for_parts(
    do: Callable[..., None], indices: Tensor, size: Ints, window: Window, channels_last: bool, *tensors: Tensor,
    at_once: bool,
) -> None:  # fmt: skip
    """Do some images at a time, given their positions and the same images of the tensors; all flat. `at_once` where little is
    done with them: then all that are given as positions."""
    are_offsets = indices.dtype == torch.uint8
    as_positions = positions_of(size, indices.shape[2:], window, indices.device) if are_offsets else None

    def positions_first(part: tuple[Tensor, ...], _: None) -> None:
        some, *rest = part
        positions = as_positions(some) if as_positions else some
        do(_flat(positions, channels_last), *(_flat(t, channels_last) for t in rest))

    if at_once and not are_offsets:
        positions_first((indices, *tensors), None)
        return
    share_out(parts(size[0] * size[1], channels_last, indices, *tensors), lambda: None, positions_first)


def unpool_by_scatter(x: Tensor, indices: Tensor, y: Tensor, window: Window, accumulate: bool) -> None:
    """Fill y (N, C, H, W) with the values of x (N, C, P, Q) where the indices point, and zeros; the last of several stays, or
    their sum.

    Raises:
        RuntimeError: if an index points beyond y.
    """
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


def unpool_backward_by_gather(dy: Tensor, indices: Tensor, dx: Tensor, window: Window, accumulate: bool) -> None:
    """Fill dx (N, C, P, Q) with the gradient of that, given dy (N, C, H, W): 0 for a value that a later one has replaced."""
    size, channels_last = dy.shape[2:], not dx.is_contiguous()
    dim = 1 if channels_last else 2
    # offsets in windows without overlap point to a pixel of their own
    every = accumulate or (indices.dtype == torch.uint8 and not window.overlap())
    # on another device the host would wait for the answer
    looks = not every and indices.is_cpu
    are_apart = _are_apart(size, indices.shape[2:], window, channels_last) if looks else lambda _: every

    def fetch(positions: Tensor, grad: Tensor, out: Tensor) -> None:
        # they are read in order here, and are in cache when they are gathered from
        distinct = are_apart(positions)
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
        return int(least) >= 0 and int(largest) < s

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
