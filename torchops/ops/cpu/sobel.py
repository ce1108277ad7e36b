"""Sobel gradients on ATen, and their adjoint: sums of an image and of itself, moved by a row or by a pixel.

ATen has no Sobel, and its convolution takes 20 times as long. A tile and the pixels around it are one stretch of memory, where
the next row is so many elements further, and the next pixel on the right so many. So to every call it is one line, in which no
row begins or ends. What is computed across the end of a row belongs to no pixel, and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchops.kernels.geometry import Border
from torchops.ops.memory import prefer_huge_pages

from .threads import share_out
from .tiles import Tile, accumulation_dtype, halo, is_inside, planar, runs, tiles

_TINY = 1e-30
"""Below this eps, the square of a magnitude can be 0 in float32."""
_Rows = tuple[Tensor, Tensor, Tensor]
"""A line from its start on, from the next row on, and from the row after that on; each is as long as the last."""
_Edge = tuple[Tensor, Tensor | None]
"""What lies beyond an end of an image, and what it is a copy of, if of anything."""


def _rows(line: Tensor, pitch: int) -> _Rows:
    length = line.numel() - 2 * pitch
    return line[:length], line[pitch : pitch + length], line[2 * pitch :]


class _Around:
    """Memory for a tile and the pixels around it, (A, B, R + 2, C + 2, L)."""

    def __init__(self, size: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        self.whole = torch.empty(size, dtype=dtype, device=device)
        self.tile = self.whole[:, :, 1:-1, 1:-1]
        self.rows = _rows(self.whole.view(-1), size[3] * size[4])
        self._edges: list[_Edge] = []

    def edges(self, mode: str) -> list[_Edge]:
        """The ends of both dimensions, in order, where the tile is all of the image."""
        if not self._edges:
            self._edges = [*_edges(self.whole, 3, mode), *_edges(self.whole, 2, mode)]
        return self._edges


def _edges(padded: Tensor, dim: int, mode: str) -> list[_Edge]:
    end = padded.shape[dim] - 1
    sources = {"replicate": (1, end - 1), "reflect": (2, end - 2), "circular": (end - 1, 1)}.get(mode, (None, None))
    return [
        (padded.select(dim, place), None if source is None else padded.select(dim, source))
        for place, source in zip((0, end), sources, strict=True)
    ]


class _Sums:
    """gx and gy of a tile, unscaled, and the sums of three rows that lead to them. Parts of a line are views, made once for all
    tiles of a size.

    Args:
        size: of a tile and the pixels around it, (A, B, R + 2, C + 2, L).
    """

    def __init__(self, size: torch.Size, dtype: torch.dtype, device: torch.device) -> None:
        _, b, rows, cols, step = self._size = size
        self._strides = b * rows * cols * step, rows * cols * step, cols * step, step, 1
        two, end = 2 * step, size.numel() - 2 * (cols - 1) * step
        # two pixels lie before each line for `add_adjoint`
        self._memory = torch.empty((4, two + size.numel()), dtype=dtype, device=device)
        smooth, diff, gx, gy = self._memory.unbind()
        self._smooth, self._diff = smooth[two:end], diff[two:end]
        # a sum of three rows is where the first of them is, one of three pixels where the left one is
        self._smooth_left, self._smooth_right = self._smooth[:-two], self._smooth[two:]
        self._diff_left, self._diff_right = self._diff[:-two], self._diff[two:]
        self._diff_middle = self._diff[step:-step]
        self.gx, self.gy = gx[two : end - two], gy[two : end - two]
        self._back: tuple[list[Tensor], list[_Rows]] | None = None

    def fill(self, rows: _Rows) -> None:
        """Sum a tile and the pixels around it."""
        upper, middle, lower = rows
        torch.add(upper, lower, out=self._smooth)
        self._smooth.add_(middle, alpha=2)
        torch.sub(lower, upper, out=self._diff)
        torch.sub(self._smooth_right, self._smooth_left, out=self.gx)
        torch.add(self._diff_right, self._diff_left, out=self.gy)
        self.gy.add_(self._diff_middle, alpha=2)

    def square(self, scale: float, eps: Tensor, out: Tensor) -> Tensor:
        """Write scale^2 (gx^2 + gy^2) + eps to `out`, and return it."""
        torch.addcmul(eps, self.gx, self.gx, value=scale * scale, out=out)
        return out.addcmul_(self.gy, self.gy, value=scale * scale)

    def spare(self) -> tuple[Tensor, Tensor]:
        """Two lines like `gx`, of what is not needed any more when that is filled."""
        return self._smooth_left, self._diff_left

    def pixels(self, line: Tensor) -> Tensor:
        """What of a line like `gx` belongs to pixels of the tile, (A, B, R, C, L)."""
        a, b, rows, cols, step = self._size
        return line.as_strided((a, b, rows - 2, cols - 2, step), self._strides)

    def add_adjoint(self, rows: _Rows) -> None:
        """Add to a tile and the pixels around it the adjoint of `fill`."""
        between, (along_x, along_y) = self._back = self._back or self._back_to_rows()
        for t in between:
            t.zero_()
        torch.sub(along_x[0], along_x[2], out=self._smooth)
        torch.add(along_y[0], along_y[2], out=self._diff)
        self._diff.add_(along_y[1], alpha=2)
        upper, middle, lower = rows
        upper.add_(self._smooth).sub_(self._diff)
        middle.add_(self._smooth, alpha=2)
        lower.add_(self._smooth).add_(self._diff)

    def _back_to_rows(self) -> tuple[list[Tensor], list[_Rows]]:
        """What of gx and gy belongs to no pixel of the tile, and both moved right by two pixels, by one, and not at all."""
        step, length = self._size[4], self._smooth.numel()
        self._memory[:, : 2 * step].zero_()
        results = self._memory[2:, 2 * step :].view(2, *self._size)
        moved = [(line[:length], line[step:][:length], line[2 * step :][:length]) for line in self._memory[2:].unbind()]
        return [results[:, :, :, -2:], results[:, :, :, :, -2:]], moved


class _Tools:
    """What one thread works with, by size and dtype."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._around: dict[tuple[torch.Size, torch.dtype], _Around] = {}
        self._sums: dict[tuple[torch.Size, torch.dtype], _Sums] = {}

    def around(self, size: torch.Size, dtype: torch.dtype) -> _Around:
        found = self._around.get((size, dtype))
        if found is None:
            found = self._around[size, dtype] = _Around(size, dtype, self._device)
        return found

    def sums(self, size: torch.Size, dtype: torch.dtype) -> _Sums:
        found = self._sums.get((size, dtype))
        if found is None:
            found = self._sums[size, dtype] = _Sums(size, dtype, self._device)
        return found


def _size_around(tile: Tile, size: torch.Size) -> torch.Size:
    a, b, *spans = (s.indices(n) for s, n in zip(tile, size, strict=False))
    rows, cols = (end - start + 2 for start, end, _ in spans)
    return torch.Size((len(range(*a)), len(range(*b)), rows, cols, size[4]))


def _read(x: Tensor, tile: Tile, border: Border, tools: _Tools) -> tuple[torch.Size, _Rows]:
    """A tile and the pixels around it, in a dtype that holds their sums: a view, or a copy."""
    # the gradients of bytes are integers of 11 bits, and the arithmetic of shorts is twice as fast
    shorts = x.dtype == torch.uint8 and border.value in range(256)
    dtype = torch.int16 if shorts else accumulation_dtype(x.dtype)
    if is_inside(tile, x.shape):
        part = x[halo(tile)]
        if part.dtype == dtype and part.is_contiguous():
            return part.shape, _rows(part.view(-1), part.shape[3] * part.shape[4])
        around = tools.around(part.shape, dtype)
        around.whole.copy_(part)
        return part.shape, around.rows
    size = _size_around(tile, x.shape)
    around = tools.around(size, dtype)
    a, b, rows, cols = tile
    if around.tile.shape[2:] == x.shape[2:]:
        around.tile.copy_(x[a, b])
        for target, source in around.edges(border.mode):
            if source is None:
                target.fill_(border.value)
            else:
                target.copy_(source)
        return size, around.rows
    for to_rows, from_rows in runs(rows, x.shape[2], border.mode):
        for to_cols, from_cols in runs(cols, x.shape[3], border.mode):
            target = around.whole[:, :, to_rows, to_cols]
            if from_rows is None or from_cols is None:
                target.fill_(border.value)
            else:
                target.copy_(x[a, b, from_rows, from_cols])
    return size, around.rows


def _gradients(x: Tensor, tile: Tile, border: Border, tools: _Tools) -> _Sums:
    """Of a tile of x; floating point."""
    size, rows = _read(x, tile, border, tools)
    dtype = rows[0].dtype
    sums = tools.sums(size, dtype)
    sums.fill(rows)
    if dtype.is_floating_point:
        return sums
    floats = tools.sums(size, torch.float32)
    floats.gx.copy_(sums.gx)
    floats.gy.copy_(sums.gy)
    return floats


def _results(t: Tensor, tile: Tile) -> Tensor:
    """Of planes without gaps, a line like `_Sums.gx` for a tile inside the image: its pixels, and what is between its rows."""
    a, b, rows, _ = tile
    return t[a, b, rows].view(-1)[t.shape[4] : -t.shape[4]]


def _put(function: Callable[..., Tensor], line: Tensor, sums: _Sums, target: Tensor, tile: Tile) -> None:
    """Write a function of a line to a tile. Inside the image, what is between its rows is overwritten."""
    if is_inside(tile, target.shape) and target.dtype == line.dtype:
        function(line, out=_results(target, tile))
        return
    function(line, out=line)
    target[tile].copy_(sums.pixels(line))


def fill_gradients(x: Tensor, out: Tensor, scale: float, eps: float | None, border: Border) -> None:
    """Fill out with the magnitude (N, C, H, W), or with the gradients (N, C, 2, H, W) where eps is None."""
    channels_last = not out.is_contiguous()
    targets = [planar(t, channels_last) for t in ((out,) if eps is not None else out.unbind(2))]
    x = planar(x, channels_last)
    prefer_huge_pages(out)
    offset = torch.full((), eps or 0.0, dtype=accumulation_dtype(x.dtype), device=x.device)

    def scaled(g: Tensor, out: Tensor) -> Tensor:
        return torch.mul(g, scale, out=out)

    def fill(tile: Tile, tools: _Tools) -> None:
        sums = _gradients(x, tile, border, tools)
        if eps is None:
            _put(scaled, sums.gx, sums, targets[0], tile)
            _put(scaled, sums.gy, sums, targets[1], tile)
        else:
            _put(torch.sqrt, sums.square(scale, offset, out=sums.gx), sums, targets[0], tile)

    pieces, frame = tiles(x.shape, x.device)
    share_out(pieces, lambda: _Tools(x.device), fill)
    # bands of rows have written to the frame
    if frame:
        tools = _Tools(x.device)
        for tile in frame:
            fill(tile, tools)


def _turn(sums: _Sums, grad: Tensor, tile: Tile, scale: float, eps: float, offset: Tensor) -> None:
    """Make of gx and gy the gradients with respect to them, given that of the magnitude."""
    ratio, line = sums.spare()
    sums.square(scale, offset, out=ratio)
    flat = ratio == 0 if eps < _TINY else None
    if is_inside(tile, grad.shape) and grad.dtype == line.dtype and grad[tile[:3]].is_contiguous():
        line = _results(grad, tile)
    else:
        sums.pixels(line).copy_(grad[tile])
    ratio.rsqrt_().mul_(line).mul_(scale * scale)
    if flat is not None:
        ratio.masked_fill_(flat, 0.0)
    sums.gx.mul_(ratio)
    sums.gy.mul_(ratio)


def fill_adjoint(
    grads: Sequence[Tensor], x: Tensor | None, dx: Tensor, scale: float, eps: float, border: Border
) -> None:
    """Fill dx with the gradient of `fill_gradients`, given that of the magnitude, or those of gx and gy where x is None."""
    channels_last = not dx.is_contiguous()
    sources = [planar(t, channels_last) for t in grads]
    prefer_huge_pages(dx)
    acc = accumulation_dtype(dx.dtype)
    sum_of_all = dx.zero_() if dx.dtype == acc else torch.zeros_like(dx, dtype=acc)
    total = planar(sum_of_all, channels_last)
    image = None if x is None else planar(x, channels_last)
    offset = torch.full((), eps, dtype=acc, device=dx.device)

    def add(tile: Tile, tools: _Tools) -> None:
        if image is not None:
            sums = _gradients(image, tile, border, tools)
            _turn(sums, sources[0], tile, scale, eps, offset)
        else:
            sums = tools.sums(_size_around(tile, total.shape), acc)
            for source, line in zip(sources, (sums.gx, sums.gy), strict=True):
                torch.mul(source[tile], scale, out=sums.pixels(line))
        if is_inside(tile, total.shape):
            sums.add_adjoint(_rows(total[halo(tile)].view(-1), total.shape[3] * total.shape[4]))
            return
        around = tools.around(_size_around(tile, total.shape), acc)
        share = around.whole.zero_()
        sums.add_adjoint(around.rows)
        a, b, rows, cols = tile
        for from_rows, to_rows in runs(rows, total.shape[2], border.mode):
            for from_cols, to_cols in runs(cols, total.shape[3], border.mode):
                if to_rows is not None and to_cols is not None:
                    total[a, b, to_rows, to_cols].add_(share[:, :, from_rows, from_cols])

    pieces, frame = tiles(total.shape, dx.device)
    if frame:
        tools = _Tools(dx.device)
        for tile in frame:
            add(tile, tools)
    # bands of rows add to the rows of the next
    for some in (pieces[::2], pieces[1::2]) if frame else (pieces,):
        share_out(some, lambda: _Tools(dx.device), add)
    if sum_of_all is not dx:
        dx.copy_(sum_of_all)
