"""`python -m bench.explained`: the pictures of docs/explanation. Their numbers are computed by torch and torchops.

Nothing here is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import torchops
from torchops.backend import choose
from torchops.files.plots import figure

from .drawing import HUES, INK, MARK, PALE, RING, Point, arrow, bracket, cell, frame, label, outline, write

WIDE = 6.2
"""Of every picture, in inches: at the width of a phone its texts are still read."""
SIZE = 10.0
"""Of texts, in points."""

IMAGE = torch.tensor([[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1.0]])
FILTER = torch.tensor([[0, 1, 2], [2, 2, 0], [0, 1, 2.0]])
POOLED = torch.tensor([[1, 2, 0, 3, 1], [4, 0, 1, 2, 0], [2, 1, 9, 5, 3], [0, 7, 1, 0, 8], [1, 3, 2, 6, 4.0]])
WINDOWS = HUES
"""A colour for each of four windows."""
BIG = np.float32(2**24)
"""In float32 the next number is 2 away."""


def _grid(axes: Axes, x: float, y: float, values: Tensor, colours: Sequence[str] = (PALE,), title: str = "") -> None:
    """Numbers in cells, the first at (x, y); colours are those of the cells in row-major order, the last goes on."""
    cols = values.shape[1]
    for n, value in enumerate(values.flatten().tolist()):
        colour = colours[min(n, len(colours) - 1)]
        cell(axes, x + n % cols, y + n // cols, f"{value:g}", colour, SIZE)
    if title:
        label(axes, x + cols / 2, y - 0.6, title, size=SIZE)


def product() -> Figure:
    """A window of an image is a row of a matrix, which times the filter is a pixel of the result."""
    taps = FILTER.numel()
    rows = F.unfold(IMAGE[None, None], tuple(FILTER.shape))[0].T  # [pixels, taps]
    result = torchops.conv2d(IMAGE[None], FILTER[None, None])[0]
    (size, _), pixels, chosen = FILTER.shape, len(rows), len(rows) // 2
    p, q = divmod(chosen, result.shape[1])
    by_row = [HUES[tap // size] for tap in range(taps)]
    axes = (drawn := figure(WIDE, 7.0)).subplots()
    window = [
        HUES[h - p] if 0 <= h - p < size and 0 <= w - q < size else PALE
        for h in range(IMAGE.shape[0])
        for w in range(IMAGE.shape[1])
    ]
    _grid(axes, 0, 0, IMAGE, window, "image")
    outline(axes, q, p, size, size, MARK, 2.2)
    _grid(axes, 6.2, 1, FILTER, by_row, "filter")
    marked = [RING if m == chosen else PALE for m in range(pixels)]
    _grid(axes, 11, 1, result, marked, "result")
    label(axes, 5.6, 2.5, "*", size=14)
    label(axes, 10.1, 2.5, "=", size=14)
    below = IMAGE.shape[0] + 2.3
    colours = [by_row[tap] if m == chosen else PALE for m in range(pixels) for tap in range(taps)]
    _grid(axes, 0, below, rows, colours, f"A: {pixels} pixels of the result by {taps} taps")
    outline(axes, 0, below + chosen, taps, 1, MARK, 2.2)
    _grid(axes, 10.2, below, FILTER.view(-1, 1), by_row, "filter")
    _grid(axes, 12.8, below, result.view(-1, 1), marked, "result")
    label(axes, 9.6, below + pixels / 2, "x", size=12)
    label(axes, 12, below + pixels / 2, "=", size=14)
    frame(axes, -0.1, 14.1, -1.2, below + pixels + 0.1, "")
    return drawn


def _arc(axes: Axes, start: Point, end: Point, rise: float) -> None:
    """An arrow that rises above the straight line, by so much of its length."""
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.2, "color": MARK}
    axes.annotate("", end, start, arrowprops={**style, "connectionstyle": f"arc3,rad={rise}"}, zorder=3)


def bordered(mode: str, side: int) -> list[int]:
    """A row of the pixels 1 to 5 with so much of a border on both sides."""
    row = torch.arange(1.0, 6).view(1, 1, 5)
    if mode in ("zeros", "constant"):
        return F.pad(row, (side, side), value=0 if mode == "zeros" else 9).int().flatten().tolist()
    return F.pad(row, (side, side), mode=mode).int().flatten().tolist()


def borders() -> Figure:
    """What each position beyond a row of five pixels reads, in five modes."""
    side, pixels, step = 3, 5, 2.75
    axes = (drawn := figure(WIDE, 6.2)).subplots()
    for number, mode in enumerate(("zeros", "constant", "reflect", "replicate", "circular")):
        y, read = number * step, bordered(mode, side)
        for position, value in enumerate(read, -side):
            beside = not 0 <= position < pixels
            cell(axes, position, y, str(value), RING if beside else PALE, SIZE)
            if beside and mode not in ("zeros", "constant"):
                pixel = value - 1
                rise = 0.28 if position > pixel else -0.28
                ends = (position + 0.5, y - 0.03), (pixel + 0.5 + 0.1 * (position - pixel > 0) - 0.05, y - 0.03)
                _arc(axes, *ends, rise)
        outline(axes, 0, y, pixels, 1, INK, 1.6)
        label(axes, -side - 0.3, y + 0.5, mode, "right", size=SIZE)
    label(axes, pixels / 2, -0.5, "the image", size=SIZE)
    frame(axes, -side - 2.9, pixels + side + 0.1, -1.0, 4 * step + 1.1, "")
    return drawn


def pooling() -> Figure:
    """Four windows that overlap, their indices of both kinds, and what becomes of four values that go back."""
    x, size, stride = POOLED[None, None], 3, 2
    y, positions = torchops.max_pool2d(x, size, stride=stride, return_indices=True)
    _, offsets = torchops.max_pool2d(x, size, stride=stride, return_indices="offset")
    values = torch.tensor([[10.0, 20], [30, 40]])
    back = torchops.max_unpool2d(values[None, None], positions, size, stride=stride)[0, 0]
    axes = (drawn := figure(WIDE, 5.7)).subplots()
    hit = [RING if n == int(positions[0, 0, 0, 0]) else PALE for n in range(POOLED.numel())]
    _grid(axes, 0, 0, POOLED, hit, "image, four windows")
    for number in range(4):
        p, q = divmod(number, 2)
        inset = 0.06 + 0.07 * (number in (1, 2))
        corner = q * stride + inset, p * stride + inset
        outline(axes, *corner, size - 2 * inset, size - 2 * inset, WINDOWS[number], 2.4)
    for left, name, of in ((6, "maxima", y), (9, "positions", positions), (12, "offsets", offsets)):
        _grid(axes, left, 1.5, of[0, 0].double(), WINDOWS, name)
    label(axes, 10, 4.1, "h W + w", size=9)
    label(axes, 13, 4.1, "r S + s", size=9)
    below = 7.2
    _grid(axes, 0, below + 1.5, values, WINDOWS, "values, put back")
    target = 5 + int(positions[0, 0, 0, 0]) % 5, below + int(positions[0, 0, 0, 0]) // 5
    _grid(axes, 5, below, back, [WINDOWS[-1] if value else PALE for value in back.flatten().tolist()], "unpooled")
    arrow(axes, (2.1, below + 3), (target[0] - 0.05, target[1] + 0.6), MARK)
    label(axes, 10.4, below + 2.4, "10, 20 and 30 are lost:", "left", MARK, SIZE)
    label(axes, 10.4, below + 3.1, "the last window stays,", "left", MARK, SIZE)
    label(axes, 10.4, below + 3.8, "their gradient is 0", "left", MARK, SIZE)
    frame(axes, -0.6, 14.6, -1.1, below + 5.1, "")
    return drawn


def windows() -> Figure:
    """Windows with and without ceil mode; average unpooling where windows overlap."""
    size, stride = 3, 2
    row = torch.arange(1.0, 7).view(1, 1, 1, -1)
    floor, ceil = (torchops.avg_pool2d(row, (1, size), (1, stride), ceil_mode=on)[0, 0] for on in (False, True))
    means = torch.tensor([[2.0, 4, 8]])
    back = torchops.avg_unpool2d(means[None, None], (1, size), (1, stride))[0, 0]
    axes = (drawn := figure(WIDE, 5.4)).subplots()
    _grid(axes, 0, 0, row[0, 0], (PALE,), "")
    cell(axes, 6, 0, "none", RING, 9)
    for number in range(ceil.shape[1]):
        left, y = number * stride, 1.55 + 1.15 * (number % 2)
        beyond = number >= floor.shape[1]
        bracket(axes, left + 0.08, left + size - 0.08, y, -0.35)
        text = f"mean {ceil[0, number]:g}" + (", only with ceil_mode" if beyond else "")
        if beyond:
            label(axes, left + size + 0.15, y, text, "left", MARK, SIZE)
        else:
            label(axes, left + size / 2, y + 0.42, text, size=SIZE)
    label(axes, 0, -0.6, "a pool: windows of 3 pixels, stride 2", "left", size=SIZE)
    top = 5.0
    label(axes, 0, top - 0.6, "average unpooling of three means", "left", size=SIZE)
    for number, mean in enumerate(means[0].tolist()):
        cell(axes, number * stride + 1, top, f"{mean:g}", HUES[number], SIZE)
        for under in range(size):
            arrow(axes, (number * stride + 1.5, top + 1.05), (number * stride + under + 0.5, top + 2.45), HUES[number])
    for w, value in enumerate(back[0].tolist()):
        over = [n for n in range(means.shape[1]) if 0 <= w - n * stride < size]
        cell(axes, w, top + 2.5, f"{value:g}", PALE if len(over) > 1 else HUES[over[0]], SIZE)
    label(axes, 7.4, top + 2.75, "pale: under two windows,", "left", MARK, SIZE)
    label(axes, 7.4, top + 3.3, "the mean of both", "left", MARK, SIZE)
    frame(axes, -0.1, 12.4, -1.0, top + 3.7, "")
    return drawn


TIERS = (
    ("aten", "the operator on CPU tensors", "values, gradients, strides,\ntransforms, export, errors"),
    ("interpreter", "the text of the kernels", "the same, in the kernels"),
    ("ir", "what the compiler makes of it", "accesses out of bounds, races,\nmemory nobody wrote, bfloat16"),
    ("compile", "machine code", "spills, narrow loads, long loops,\nwasted traffic"),
    ("gpu", "hardware", "what only hardware shows"),
)
"""Of each tier its name, what it looks at, and what it catches."""


def tiers() -> Figure:
    """What each tier looks at, from the formula down to the hardware."""
    axes = (drawn := figure(WIDE, 5.6)).subplots()
    _box(axes, 0, 0, 12.4, 0.9, RING, "the formula in float64: what every tier is compared with, but compile")
    for number, (name, what, catches) in enumerate(TIERS):
        y = 1.7 + number * 1.75
        _box(axes, 0, y, 5.0, 1.2, HUES[number % len(HUES)] if name != "gpu" else PALE, f"{name}\n{what}")
        label(axes, 5.5, y + 0.6, catches, "left", size=SIZE)
        arrow(axes, (2.5, y - (0.8 if number == 0 else 0.53)), (2.5, y - 0.02))
    frame(axes, -0.1, 12.5, -0.1, 1.7 + 5 * 1.75 - 0.4, "")
    return drawn


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, text: str) -> None:
    axes.fill((x, x + width, x + width, x), (y, y, y + height, y + height), facecolor=colour, edgecolor="white")
    label(axes, x + width / 2, y + height / 2, text, size=SIZE)


def served(backend: str, device: str) -> str:
    """Which implementation serves tensors of a device: "ATen", "Triton" or "refused"."""
    try:
        with torchops.use_backend(backend):  # type: ignore[arg-type]
            return {"aten": "ATen", "triton": "Triton"}[choose(torch.device(device)).implementation]
    except RuntimeError:
        return "refused"


def backends() -> Figure:
    """Which implementation serves which tensors, by the backend in force."""
    axes = (drawn := figure(WIDE, 2.9)).subplots()
    colours = {"ATen": HUES[0], "Triton": HUES[2], "refused": RING}
    for column, (device, name) in enumerate((("cpu", "CPU tensors"), ("cuda", "GPU tensors"))):
        label(axes, 4.6 + 4.5 * column, -0.4, name, size=SIZE)
        for row, backend in enumerate(("auto", "aten", "triton")):
            served_by = served(backend, device)
            note = "\nunless TRITON_INTERPRET=1" if served_by == "refused" else ""
            _box(axes, 2.45 + 4.5 * column, row * 1.5, 4.3, 1.3, colours[served_by], served_by + note)
            if column == 0:
                label(axes, 2.2, row * 1.5 + 0.65, backend, "right", size=SIZE)
    frame(axes, 0.3, 11.4, -0.8, 4.4, "")
    return drawn


def waves() -> Figure:
    """Programs of a launch over time, on two multiprocessors that hold two each. Times are invented."""
    start, loop, end, programs, slots = 1.5, 4.0, 1.5, 7, 4
    axes = (drawn := figure(WIDE, 3.2)).subplots()
    for program in range(programs):
        wave, slot = divmod(program, slots)
        begin = wave * (start + 2 * loop + end) + (slot % 2) * loop
        y = slot * 1.15 + (slot // 2) * 0.6
        parts = (("start", start, PALE), (f"loop {program}", loop, HUES[wave]), ("end", end, RING))
        for text, width, colour in parts:
            cell(axes, begin, y, text, colour, 8, width)
            begin += width
    total = start + 2 * loop + end
    for multiprocessor in range(2):
        label(axes, -0.3, multiprocessor * 2.9 + 1.1, f"multi-\nprocessor {multiprocessor}", "right", size=9)
    for wave in range(2):
        bracket(axes, wave * total + 0.15, (wave + 1) * total - 0.15, -0.45, 0.3)
        label(axes, (wave + 0.5) * total, -0.95, f"wave {wave}", size=9)
    label(axes, 2 * total, 3 * 1.15 + 1.1, "nobody: the wave is not full", "right", MARK, 9)
    frame(axes, -4.4, 2 * total + 0.2, -1.5, 5.3, "")
    axes.set_aspect("auto")
    return drawn


def maxima(row: Tensor) -> list[tuple[int, int, Tensor]]:
    """How maxima of five are made: how many a line is of, how far the line before was shifted, and the line."""
    two = torch.maximum(row[:-1], row[1:])
    four = torch.maximum(two[:-2], two[2:])
    return [(1, 0, row), (2, 1, two), (4, 2, four), (5, 1, torch.maximum(four[:-1], four[1:]))]


def separable() -> Figure:
    """Maxima of two, four and five pixels, each of two of the line before."""
    row, step = torch.tensor([1.0, 4, 2, 0, 3, 5, 1, 2]), 2.1
    axes = (drawn := figure(WIDE, 3.4)).subplots()
    for number, (count, shift, line) in enumerate(maxima(row)):
        y = number * step
        _grid(axes, 0, y, line[None], (HUES[number - 1] if number else PALE,))
        label(axes, -0.3, y + 0.5, f"maxima of {count}" if number else "pixels", "right", size=SIZE)
        for n in range(len(line) if number else 0):
            arrow(axes, (n + 0.5, y - step + 1.05), (n + 0.42, y - 0.05))
            arrow(axes, (n + shift + 0.5, y - step + 1.05), (n + 0.58, y - 0.05), MARK)
        if number:
            label(axes, len(line) + 0.3, y + 0.5, f"the line above and\nitself, {shift} further", "left", MARK, 9)
    frame(axes, -3.6, 12.2, -0.1, 3 * step + 1.1, "")
    return drawn


ORDERS = (
    (BIG, np.float32(1), np.float32(1), -BIG),
    (BIG, np.float32(1), -BIG, np.float32(1)),
    (np.float32(1), np.float32(1), BIG, -BIG),
)
"""The same four numbers."""


def sums(terms: Sequence[np.float32]) -> list[np.float32]:
    """The sums of the first, of the first two and so on, each rounded to float32."""
    found = [terms[0]]
    for term in terms[1:]:
        found.append(np.float32(found[-1] + term))
    return found


def order() -> Figure:
    """Four numbers added in three orders."""
    axes = (drawn := figure(WIDE, 4.3)).subplots()
    width = 3.0
    for number, terms in enumerate(ORDERS):
        y = number * 3.1
        found = sums(terms)
        for n, (term, total) in enumerate(zip(terms, found, strict=True)):
            sign = "" if n == 0 else "+ " if term >= 0 else "- "
            cell(axes, n * width, y, f"{sign}{abs(term):.0f}", PALE, SIZE, width)
            last = n == len(terms) - 1
            cell(axes, n * width, y + 1.05, f"{total:.0f}", RING if last else HUES[number], SIZE, width)
            if last:
                outline(axes, n * width + 0.05, y + 1.1, width - 0.1, 0.9, MARK, 2)
        label(axes, -0.2, y + 0.5, "terms", "right", size=9)
        label(axes, -0.2, y + 1.55, "sum so far", "right", size=9)
    frame(axes, -2.3, 4 * width + 0.1, -0.1, 2 * 3.1 + 2.2, "")
    return drawn


PICTURES: dict[str, Callable[[], Figure]] = {
    "explained-product": product, "explained-borders": borders, "explained-pooling": pooling,
    "explained-windows": windows, "explained-tiers": tiers, "explained-backends": backends,
    "explained-model": waves, "explained-separable": separable, "explained-order": order,
}  # fmt: skip


if __name__ == "__main__":
    for file in write(PICTURES):
        print(f"written: {file}")
