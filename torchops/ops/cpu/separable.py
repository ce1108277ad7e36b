"""Pools of CPU tensors along rows and then along columns: not a loop over k x k pixels for every window, but calls of torch's,
each for all windows of a band.

    best_of_windows    maxima or minima: max_pool2d, min_pool2d
    sum_windows        sums of windows that lie one pixel apart: avg_pool2d, and its gradient, which are such sums too

Windows with a stride of 1 slide over a band that is copied with its border: a shift along rows or columns is then a shift in
memory, and k of them take about log2 k calls. With larger strides the maxima of rows are taken tap by tap.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.kernels.geometry import Window
from torchops.ops.memory import is_channels_last, prefer_huge_pages

from . import tiles
from .threads import share_out
from .tiles import Scratch, accumulation_dtype, planar, room

Ints = Sequence[int]


def _planes(x: Tensor, y: Tensor, channels_last: bool) -> tuple[Tensor, Tensor]:
    """Both as planes, (A, B, H, W, lanes): in one row where they lie so, since a band then takes those of several images."""
    if not channels_last and x.is_contiguous() and y.is_contiguous():
        x, y = x.flatten(0, 1).unsqueeze(0), y.flatten(0, 1).unsqueeze(0)
    return planar(x, channels_last), planar(y, channels_last)


class _Band(NamedTuple):
    """Planes (two dimensions), and the first and the last but one of the rows of results."""

    a: slice
    b: slice
    first: int
    end: int

    def rows(self, t: Tensor) -> Tensor:
        """The band of a planar tensor of results."""
        return t[self.a, self.b, self.first : self.end]


def _bands(size: Ints, cost: int) -> Iterator[_Band]:
    """Bands that cover planes (A, B) of `rows` rows of results, size being (A, B, rows); `cost` elements go through a row."""
    a, b, rows = size
    limit = room(a * b * rows * cost, tiles.BAND)
    planes = limit // (rows * cost)
    if planes:
        step = max(1, planes // b)
        for i, j in itertools.product(range(0, a, step), range(0, b, planes)):
            yield _Band(slice(i, i + step), slice(j, j + planes), 0, rows)
        return
    step = max(1, limit // cost)
    for i, j, first in itertools.product(range(a), range(b), range(0, rows, step)):
        yield _Band(slice(i, i + 1), slice(j, j + 1), first, min(first + step, rows))


_Join = Callable[..., Tensor]
"""Of two tensors, into `out`."""


class _Tap(NamedTuple):
    """One pixel of every window, along one dimension."""

    first: int
    end: int
    """The windows in which it lies in the image."""
    pixel: int
    """Where it lies in the first of these."""


def _taps(pixels: int, windows: int, kernel: int, stride: int, padding: int, dilation: int) -> list[_Tap]:
    found = []
    for tap in range(kernel):
        offset = tap * dilation - padding
        first = max(0, -(offset // stride)) if offset < 0 else 0
        end = min(windows, (pixels - 1 - offset) // stride + 1)
        if first < end:
            found.append(_Tap(first, end, first * stride + offset))
    return found


def _gather(x: Tensor, out: Tensor, dim: int, taps: list[_Tap], stride: int, join: _Join, none: float) -> None:
    """Fill out with what `join` makes of the pixels of each window along a dimension, `none` if there are none."""

    def pixels(tap: _Tap) -> Tensor:
        there = slice(tap.pixel, tap.pixel + (tap.end - tap.first - 1) * stride + 1, stride)
        return x[(slice(None),) * dim + (there,)]

    whole = [tap for tap in taps if tap.end - tap.first == out.shape[dim]]
    if len(whole) > 1:
        join(pixels(whole[0]), pixels(whole[1]), out=out)
    elif whole:
        out.copy_(pixels(whole[0]))
    else:
        out.fill_(none)
    for tap in (*whole[2:], *(tap for tap in taps if tap not in whole)):
        part = out.narrow(dim, tap.first, tap.end - tap.first)
        join(part, pixels(tap), out=part)


def _rows(
    image: Tensor, band: _Band, window: Window, join: _Join, none: float, dtype: torch.dtype, scratch: Scratch
) -> Tensor:
    """What `join` makes of the rows of a band's windows, `none` if there are none: (A, B, rows, columns, lanes)."""
    kernel, stride, padding, dilation = window.axes()[0]
    top, count = band.first * stride - padding, band.end - band.first
    first, end = max(0, top), min(image.shape[2], (band.end - 1) * stride - padding + dilation * (kernel - 1) + 1)
    x = image[band.a, band.b, first:end]
    v = scratch("v", torch.Size((*x.shape[:2], count, *x.shape[3:])), dtype)
    if x.dtype != dtype:
        x = scratch("x", x.shape, dtype).copy_(x)
    _gather(x, v, 2, _taps(end - first, count, kernel, stride, first - top, dilation), stride, join, none)
    return v


#
# Windows with a stride of 1.

_Shift = tuple[int, bool]
"""By how many taps to shift, and whether it is the image that is shifted, or what is joined so far."""


def _doubling(kernel: int) -> Iterator[_Shift]:
    """Shifts that make a window of one pixel; each doubles it, or adds a tap: every pixel is joined once."""
    have = 1
    for bit in f"{kernel:b}"[1:]:
        yield have, False
        have *= 2
        if bit == "1":
            yield have, True
            have += 1


def _covering(kernel: int) -> Iterator[_Shift]:
    """The same where a pixel may be joined twice."""
    have = 1
    while have < kernel:
        yield min(have, kernel - have), False
        have += min(have, kernel - have)


class _Slide:
    """Windows that slide over a band: it is copied with its border, and joined with itself again and again, in three buffers by
    turns. What is joined where is settled once for all bands of a size.

    Args:
        size: of the copy, (A, B, rows, columns, lanes).
        join: of two tensors, into a third.
    """

    def __init__(self, size: torch.Size, dtype: torch.dtype, join: _Join, scratch: Scratch) -> None:
        self.size, self.join = size, join
        buffers = [scratch(name, size, dtype) for name in ("x", "v", "w")]
        self.padded = self.joined = buffers[0]
        self._buffers = [t.view(-1) for t in buffers]
        self._last, self._length = self._buffers[0], size.numel()
        self._calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def along(self, shifts: Iterable[_Shift], step: int) -> None:
        """Have the image joined with itself, shifted by steps of so many elements. Of what is shifted beyond the end of a row,
        no window has a part."""
        image, length = self._last, self._length
        for taps, of_image in shifts:
            left = length - taps * step if of_image else self._length - taps * step
            shifted = image if of_image else self._last
            out = self._last if of_image else next(b for b in self._buffers if b is not image and b is not self._last)
            self._calls.append((self._last[:left], shifted[taps * step : taps * step + left], out[:left]))
            self._last, self._length = out, left
        self.joined = self._last.view(self.size)

    def over(self, x: Tensor, top: int, left: int, none: float) -> None:
        """Go over planes (A, B, H, W, lanes) from a row and a column on, which may lie before the first, with `none` beyond the
        image."""
        _, _, rows, cols, _ = self.size
        first, end = max(0, top), min(x.shape[2], top + rows)
        fits = min(x.shape[3], cols + left)
        if end - first < rows or fits < cols:
            # this is one call, and the border would be four
            self.padded.fill_(none)
        self.padded[:, :, first - top : end - top, -left : fits - left].copy_(x[:, :, first:end, :fits])
        for a, b, out in self._calls:
            self.join(a, b, out=out)


class _Slides:
    """What one thread works with: what slides over bands, by their sizes."""

    def __init__(self, make: Callable[[torch.Size, Scratch], _Slide], scratch: Scratch) -> None:
        self._make, self._scratch = make, scratch
        self._known: dict[torch.Size, _Slide] = {}

    def of(self, size: torch.Size) -> _Slide:
        found = self._known.get(size)
        if found is None:
            found = self._known[size] = self._make(size, self._scratch)
        return found


#
# The pools.

MANY = 1 << 22
"""Outputs whose indices, which ATen writes even if nobody asks for them, are more memory than the C library keeps for reuse."""
ROWS = 9
"""Elements of rows that are added for a result, from which on ATen's loop over the pixels of a window takes less time."""


def _is_cheap(x: Tensor, window: Window, size: Ints, tap: float, calls: int) -> bool:
    """Whether windows that slide over a channels_last image take less than ATen's loop along its channels.

    Args:
        x: the image.
        window: with a stride of 1.
        size: of the windows (P, Q).
        tap: what ATen needs for a tap, as a share of what a call needs for an element.
        calls: for a band, each with all of its pixels.
    """
    if x.shape[1] < 8:
        # there is nothing to vectorize
        return True
    pixels, taps = 1, 1
    for n, count, (kernel, _, padding, dilation) in zip(x.shape[2:], size, window.axes(), strict=True):
        pixels *= count + dilation * (kernel - 1)
        taps *= sum(end - first for first, end, _ in _taps(n, count, kernel, 1, padding, dilation))
    return pixels * calls < taps * tap


def takes_best(x: Tensor, window: Window, size: Ints) -> bool:
    """Whether `best_of_windows` takes less time than ATen's pool: not for few windows, nor for steps over channels_last."""
    outputs = math.prod(x.shape[:2]) * math.prod(size)
    few = outputs * math.prod(window.kernel) < tiles.FEW or math.prod(window.stride) >= tiles.SPARSE
    if not x.is_cpu or few:
        return False
    if not is_channels_last(x):
        return True
    calls = 1 + sum(len(list(_covering(kernel))) for kernel in window.kernel)
    return window.stride == (1, 1) and (outputs > MANY or _is_cheap(x, window, size, 1 / 3, calls))


def takes_sums(x: Tensor, window: Window, size: Ints) -> bool:
    """Whether `sum_windows` takes less time than ATen's pool, likewise. ATen's means take a third of its maxima."""
    outputs = math.prod(x.shape[:2]) * math.prod(size)
    if not x.is_cpu or outputs * math.prod(window.kernel) < 4 * tiles.FEW:
        return False
    if window.stride != (1, 1):
        return not is_channels_last(x) and window.kernel[0] * window.stride[1] < ROWS
    calls = 2 + sum(len(list(_doubling(kernel))) for kernel in window.kernel)
    return not is_channels_last(x) or _is_cheap(x, window, size, 1 / 8, calls)


def best_of_windows(x: Tensor, y: Tensor, window: Window, smallest: bool) -> None:
    """Fill y (N, C, P, Q) with the maxima of windows in x (N, C, H, W), or the minima; a NaN is both.

    They are ATen's, but for the sign of a zero and the payload of a NaN.
    """
    join, none = (torch.minimum, math.inf) if smallest else (torch.maximum, -math.inf)
    if window.stride != (1, 1):
        _step(x, y, window, join, none)
        return
    (r, s), _, _, (apart, dilation) = window
    *shifts, (last, _) = _covering(s) if s > 1 else [(0, False)]
    last *= dilation
    q = y.shape[3]

    def make(size: torch.Size, scratch: Scratch) -> _Slide:
        slide = _Slide(size, x.dtype, join, scratch)
        slide.along(_covering(r), apart * size[3] * size[4])
        slide.along(shifts, dilation * size[4])
        return slide

    def finish(joined: Tensor, out: Tensor, band: _Band) -> None:
        join(joined[:, :, :, :q], joined[:, :, :, last : last + q], out=out)

    _slide(x, y, window, none, make, finish)


def _slide(
    x: Tensor, y: Tensor, window: Window, none: float, make: Callable[[torch.Size, Scratch], _Slide],
    finish: Callable[[Tensor, Tensor, _Band], object],
) -> None:  # fmt: skip
    """Fill y with what windows with a stride of 1 make of x, band by band.

    Args:
        make: what goes over a band of that size.
        finish: takes what came of a band, (A, B, rows, columns, lanes), with more columns than results, and fills the results.
    """
    lanes_last = is_channels_last(y)
    image, results = _planes(x, y, lanes_last)
    a, b, p, q, lanes = results.shape
    (r, s), _, (above, before), (apart, dilation) = window
    prefer_huge_pages(y)

    def fill(band: _Band, slides: _Slides) -> None:
        planes, out = image[band.a, band.b], band.rows(results)
        rows = band.end - band.first
        slide = slides.of(torch.Size((*planes.shape[:2], rows + apart * (r - 1), q + dilation * (s - 1), lanes)))
        slide.over(planes, band.first - above, -before, none)
        finish(slide.joined[:, :, :rows], out, band)

    share_out(_bands((a, b, p), x.shape[3] * lanes), lambda: _Slides(make, Scratch(x.device)), fill)


def _step(x: Tensor, y: Tensor, window: Window, join: _Join, none: float) -> None:
    """Fill y with the maxima, or minima, of windows with larger strides in x, contiguous."""
    image, results = _planes(x, y, False)
    a, b, p, q, _ = results.shape
    cols = x.shape[3]
    _, (kernel, stride, padding, dilation) = window.axes()
    ceil_mode = window.output_size(x.shape[2:])[1] != q
    prefer_huge_pages(y)

    def fill(band: _Band, scratch: Scratch) -> None:
        v, out = _rows(image, band, window, join, none, x.dtype, scratch), band.rows(results)
        line = v.view(1, -1, cols)
        if join is torch.minimum:
            line.neg_()
        found = F.max_pool1d(line, kernel, stride, padding, dilation, ceil_mode).view(out.shape)
        if join is torch.minimum:
            torch.neg(found, out=out)
        else:
            out.copy_(found)

    share_out(_bands((a, b, p), window.stride[0] * cols), lambda: Scratch(x.device), fill)


def sum_windows(x: Tensor, y: Tensor, window: Window, divisor: Tensor | float) -> None:
    """Fill y (N, C, P, Q) with the sums of windows in x (N, C, H, W), each divided once, by a number or by its own (P, Q).

    Halves are summed in float32.
    """
    acc, q = accumulation_dtype(x.dtype), y.shape[3]

    def divide(sums: Tensor, out: Tensor, band: _Band) -> None:
        by = divisor[band.first : band.end, :, None] if isinstance(divisor, Tensor) else divisor
        torch.div(sums, by, out=out)

    if window.stride != (1, 1):
        _sum_steps(x, y, window, acc, divide)
        return
    r, s = window.kernel

    def make(size: torch.Size, scratch: Scratch) -> _Slide:
        slide = _Slide(size, acc, torch.add, scratch)
        slide.along(_doubling(r), size[3] * size[4])
        slide.along(_doubling(s), size[4])
        return slide

    _slide(x, y, window, 0.0, make, lambda joined, out, band: divide(joined[:, :, :, :q], out, band))


def _sum_steps(
    x: Tensor, y: Tensor, window: Window, dtype: torch.dtype, divide: Callable[[Tensor, Tensor, _Band], object]
) -> None:
    """That with larger strides, in NCHW: rows are added as lines of memory, and columns in steps."""
    image, results = _planes(x, y, False)
    a, b, p, q, _ = results.shape
    cols = x.shape[3]
    kernel, stride, padding, dilation = window.axes()[1]
    taps = _taps(cols, q, kernel, stride, padding, dilation)
    prefer_huge_pages(y)

    def fill(band: _Band, scratch: Scratch) -> None:
        v, out = _rows(image, band, window, torch.add, 0.0, dtype, scratch), band.rows(results)
        sums = scratch("w", out.shape, dtype)
        _gather(v, sums, 3, taps, stride, torch.add, 0.0)
        divide(sums, out, band)

    share_out(_bands((a, b, p), cols), lambda: Scratch(x.device), fill)
