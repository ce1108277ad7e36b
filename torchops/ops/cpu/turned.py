"""ATen's pools of contiguous CPU images, their planes turned into channels of a channels_last image, some at a time.

Along channels ATen's loops are vectorized, along the pixels of a plane they are not. A copy there and back costs less than
what that gains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from torchops.kernels.geometry import Window

from . import tiles
from .threads import share_out
from .tiles import room


class Block(NamedTuple):
    """Some planes, and of these some windows, with the rows of the image that they look at and a few more."""

    image: Tensor
    """(1, planes, rows, W)"""
    windows: tuple[Tensor, ...]
    """(1, planes, windows, Q) each"""
    row: int
    """Where those of the image begin."""
    first: int
    """Of the windows that ATen would find in these rows alone, the first that is meant: those before begin above them."""

    def results(self, found: Tensor) -> Tensor:
        """The windows that are meant, of all that ATen found."""
        count, q = self.windows[0].shape[2:]
        return found[:, :, self.first : self.first + count, :q]


def turned(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last)


def _split(planes: int, rows: int, row: int, least: int) -> Iterator[tuple[slice, int, int]]:
    """Planes, the first and the last but one row, for `planes` of so many rows of so many elements; `least` rows at a time."""
    lanes = min(tiles.LANES, planes)
    limit = room(planes * rows * row, tiles.PART)
    some = max(lanes, limit // (rows * row) // lanes * lanes)
    # there are as many in each, or the last would have a few
    some = -(-planes // -(-planes // some))
    step = rows if some > lanes else min(rows, max(least, limit // (some * row)))
    for plane in range(0, planes, some):
        for first in range(0, rows, step):
            yield slice(plane, plane + some), first, min(first + step, rows)


def for_blocks(do: Callable[[Block], None], x: Tensor, window: Window, *results: Tensor) -> None:
    """Do every block of an image x (N, C, H, W), with the windows of results (N, C, P, Q)."""
    n, c, h, w = x.shape
    (kernel, stride, padding, dilation), _ = window.axes()
    reach = dilation * (kernel - 1) + 1
    image = x.reshape(n * c, h, w)
    windows = [t.view(n * c, *t.shape[2:]) for t in results]

    def pieces() -> Iterator[Block]:
        for planes, first, end in _split(n * c, windows[0].shape[1], stride * w, tiles.OVERLAP * reach // stride + 1):
            # so many windows begin in what is padding to ATen, and would miss the rows that are there
            before = min(first, -(-padding // stride))
            row = (first - before) * stride
            rows = slice(row, min(h, (end - 1) * stride - padding + reach))
            yield Block(image[None, planes, rows], tuple(t[None, planes, first:end] for t in windows), row, before)

    share_out(pieces(), lambda: None, lambda block, _: do(block))
