"""Work on ATen piece by piece: intermediates stay in cache, and nothing of the size of the image is allocated.

Inside the image a tile is a view; a tile that touches the border reads a small padded copy of itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from . import threads

TILE = 1 << 16
"""Elements of a tile for each thread. Fewer cost more in calls than the cache gives back, more fall out of it."""
PART = 1 << 18
"""The same of a part of whole images, and of planes that are turned."""
BAND = 1 << 16
"""The same of a band that windows slide over, which is gone through many times, and of which there are two copies."""
FEW = 40_000
"""Taps of all windows together for which calls take longer than a loop over the windows."""
LANES = 16
"""How many planes are turned at a time, at least: as many as a vector has elements."""
SPARSE = 36
"""Pixels for every window from which on windows have little to do, and what goes through all pixels first takes longer."""
PIXELS = 1 << 9
"""Pixels of an image from which on a convolution of ones is worth its preparation."""
OVERLAP = 4
"""How many times as high a band is, at least, as the windows that it shares with the next."""
LEAST = 1 << 17
"""Elements of a piece that a thread takes by itself, at least: in shorter calls threads wait for Python's lock."""
MOST = 3 << 19
"""Elements of all the memory that a piece takes, at most. Some of it has left the cache by the next call: waiting for the lock
costs more."""
EACH = 2
"""Pieces for every thread, at least: one with less of its core than the others can do fewer."""

Tile = tuple[slice, slice, slice, slice]
"""Planes (two dimensions), rows and columns of outputs."""


def room(elements: int, most: int, memory: int = 3) -> int:
    """How many of so many elements a piece of work may have, where `most` stay in the cache of a thread, and it takes the
    memory of so many pieces."""
    pool = threads.count()
    if pool == 1 or elements < 2 * LEAST:
        # ATen splits the calls
        return most * torch.get_num_threads()
    return max(LEAST, min(max(most, MOST // memory), elements // (EACH * pool)))


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """What ATen accumulates in: float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class Scratch:
    """Buffers that all tiles of a call share, by name. Fresh memory would cost more than the arithmetic."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, name: str, size: torch.Size, dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor of that size."""
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < size.numel():
            buffer = self._buffers[name, dtype] = torch.empty(size.numel(), dtype=dtype, device=self._device)
        return buffer[: size.numel()].view(size)


def planar(t: Tensor, channels_last: bool) -> Tensor:
    """(N, C, H, W) as a view (N, C, H, W, 1), or (N, 1, H, W, C) for channels_last: rows and pixels keep their order."""
    # to copy halves to float32 ATen forgets that they are the negative of their memory (torch 2.14.1)
    t = t.resolve_neg()
    return t.permute(0, 2, 3, 1).unsqueeze(1) if channels_last else t.unsqueeze(-1)


def tiles(size: torch.Size, device: torch.device) -> tuple[list[Tile], list[Tile]]:
    """Tiles that cover (A, B, H, W, L): whole planes while these are small, else bands of rows, and the frame around them."""
    a, b, h, w, lanes = size
    # four lines of sums, the image and the result
    limit = room(size.numel(), TILE, 6) if device.type == "cpu" else 1 << 62
    planes = limit // (h * w * lanes)
    if planes:
        step = max(1, planes // b)
        rows, cols = slice(0, h), slice(0, w)
        spans = [(slice(i, i + step), slice(j, j + planes)) for j in range(0, b, planes) for i in range(0, a, step)]
        return [(i, j, rows, cols) for i, j in spans], []
    everything = slice(0, None)
    step = max(1, limit // (a * b * lanes))
    frame = [
        (everything, everything, slice(r, r + 1), slice(c, min(c + step, w)))
        for r in sorted({0, h - 1})
        for c in range(0, w, step)
    ]
    frame += [
        (everything, everything, slice(r, min(r + step, h - 1)), slice(c, c + 1))
        for c in sorted({0, w - 1})
        for r in range(1, h - 1, step)
    ]
    if w <= 2:
        return [], frame
    # bands of one row would add to the rows of the next but one
    step = max(2, limit // (w * lanes))
    bands = [slice(r, min(r + step, h - 1)) for r in range(1, h - 1, step)]
    cols = slice(1, w - 1)
    return [(slice(i, i + 1), slice(j, j + 1), rows, cols) for i in range(a) for j in range(b) for rows in bands], frame


def runs(span: slice, size: int, padding_mode: str) -> list[tuple[slice, slice | None]]:
    """What a span of outputs reads, in runs: where in the padded tile, and where in the image (None: beyond it)."""
    beyond = {"replicate": (0, size - 1), "reflect": (1, size - 2), "circular": (size - 1, 0)}.get(padding_mode)
    first, last = max(span.start - 1, 0), min(span.stop + 1, size)
    found: list[tuple[slice, slice | None]] = [
        (slice(first - span.start + 1, last - span.start + 1), slice(first, last))
    ]
    if span.start == 0:
        found.append((slice(0, 1), slice(beyond[0], beyond[0] + 1) if beyond else None))
    if span.stop == size:
        end = span.stop - span.start + 1
        found.append((slice(end, end + 1), slice(beyond[1], beyond[1] + 1) if beyond else None))
    return found


def is_inside(tile: Tile, size: torch.Size) -> bool:
    _, _, rows, cols = tile
    return rows.start > 0 and cols.start > 0 and rows.stop < size[2] and cols.stop < size[3]


def halo(tile: Tile) -> Tile:
    a, b, rows, cols = tile
    return a, b, slice(rows.start - 1, rows.stop + 1), slice(cols.start - 1, cols.stop + 1)


def parts(pixels: int, channels_last: bool, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same images of each tensor, or the same channels of one, as many as stay in cache; `pixels` of a plane.

    For channels_last, one image is the least: some of its channels would fetch the memory of all.
    """
    n, c = tensors[0].shape[:2]
    planes = room(n * c * pixels, 4 * PART) // pixels
    if planes >= n * c:
        yield tensors
        return
    for some in zip(*(t.split(max(1, planes // c)) for t in tensors), strict=True):
        if planes >= c or channels_last:
            yield some
        else:
            yield from zip(*(t.split(max(1, planes), dim=1) for t in some), strict=True)
