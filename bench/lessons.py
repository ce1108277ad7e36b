"""`python -m bench.lessons`: the pictures of kernels/conv2d/README.md. Their numbers are those of recorded launches.

Nothing here is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchops.files.plots import WIDTH, figure
from torchops.kernels.conv2d import PlainConfig, conv2d_fwd, conv2d_input_grad, conv2d_weight_grad
from torchops.kernels.geometry import Conv2d, Pair
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.conv2d import Config
from torchops.kernels.planning.hardware import DEVICES
from torchops.workloads import ConvLayer

from .drawing import HUES, INK, MARK, PALE, RING, arrow, bracket, cell, frame, label, outline, write

H100 = DEVICES["sm_90"]


def input_grad(image: Pair, kernel: Pair, conv: Conv2d) -> list[Launch]:
    """The launches of the gradient of an image of so many pixels, for an H100."""
    dx, dy = torch.empty(1, 64, *image), torch.empty(1, 64, *conv.output_size(image, kernel))
    with record(H100) as launches:
        conv2d_input_grad(dy, torch.empty(64, 64, *kernel), None, dx, conv)
    return launches


def operands(layer: ConvLayer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Conv2d]:
    """x, weight and y of a layer in bfloat16 and channels_last, and its geometry."""
    x, weight, y = (
        torch.empty(shape, dtype=torch.bfloat16, memory_format=torch.channels_last)
        for shape in (layer.input_shape, layer.weight_shape, layer.output_shape)
    )
    stride, padding, dilation = (layer.stride,) * 2, (layer.padding,) * 4, (layer.dilation,) * 2
    return x, weight, y, Conv2d(stride, padding, dilation, layer.groups, layer.padding_mode)


def forward(layer: ConvLayer, config: Config | None = None) -> Launch:
    """The forward pass of a layer, for an H100."""
    x, weight, y, conv = operands(layer)
    with record(H100) as launches:
        conv2d_fwd(x, weight, None, None, y, conv, "none", config=config)
    return launches[0]


def weight_grad(layer: ConvLayer, config: Config) -> list[Launch]:
    """The launches of the gradient of the weight of a layer, for an H100."""
    x, dw, dy, conv = operands(layer)
    with record(H100) as launches:
        conv2d_weight_grad(dy, x, dw, None, conv, config=config)
    return launches


def argument(launch: Launch, name: str) -> Any:
    """What a recorded launch gave a kernel for an argument."""
    return launch.args[launch.kernel.arg_names.index(name)]


def taps_of_phase(phase: int, taps: int, stride: int, before: int, dilation: int) -> Iterator[tuple[int, int]]:
    """The taps along one axis that reach pixels phase + i stride, each with the output that it reads, counted from i."""
    for tap in range(taps):
        position = phase + before - tap * dilation
        if position % stride == 0:
            yield tap, position // stride


def _phase(axes: Axes, conv: Conv2d, kernel: Pair, phase: Pair, colour: str) -> int:
    """Draw the filter, and in it the taps of a phase; return how many they are."""
    left, _, top, _ = conv.padding
    rows = dict(taps_of_phase(phase[0], kernel[0], conv.stride[0], top, conv.dilation[0]))
    cols = dict(taps_of_phase(phase[1], kernel[1], conv.stride[1], left, conv.dilation[1]))
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            reached = r in rows and s in cols
            text = f"i{rows[r]:+d}\nj{cols[s]:+d}" if reached else ""
            cell(axes, s, r, text.replace("+0", ""), colour if reached else PALE)
    return len(rows) * len(cols)


def phases() -> Figure:
    """For two dilations: the image in the colours of its phases, then the taps of each."""
    image, kernel = (6, 6), (3, 3)
    drawn = figure(WIDTH, 4.2)
    for row, dilation in zip(drawn.subplots(2, 5), (1, 2), strict=True):
        conv = Conv2d((2, 2), (1, 1, 1, 1), (dilation, dilation), 1, "zeros")
        launch = input_grad(image, kernel, conv)[-1]
        (stride, _), (step, _), (jump, _) = (argument(launch, name) for name in ("stride", "step", "jump"))
        colours = []
        for number, axes in enumerate(row[1:]):
            phase = number // stride, number % stride
            count = _phase(axes, conv, kernel, phase, HUES[number])
            colours.append(HUES[number] if count else PALE)
            taps = f"{count} tap{'' if count == 1 else 's'}" if count else "no tap: it is 0"
            frame(axes, -0.1, 3.1, -0.1, 3.1, f"phase ({phase[0]}, {phase[1]})\n{taps}")
        for h in range(image[0]):
            for w in range(image[1]):
                number = h % stride * stride + w % stride
                cell(row[0], w, h, f"{h % stride}{w % stride}", colours[number], 7.5)
        title = f"dilation {dilation}:\njump {jump}, step {step}"
        frame(row[0], -0.1, 6.1, -0.1, 6.1, title)
    drawn.suptitle(
        "dx, the gradient of the image, for a 3 x 3 filter of stride 2 and padding 1: pixels by phase, and their taps"
    )
    return drawn


def ring() -> Figure:
    """For each border mode: the pixel that every position of the padding reads, and those that read one pixel."""
    image, kernel, side, chosen = (4, 5), (5, 5), 2, {"reflect": (1, 1), "replicate": (0, 0), "circular": (1, 1)}
    numbers = torch.arange(float(image[0] * image[1])).view(1, 1, *image)
    drawn = figure(WIDTH, 3.2)
    for axes, (border, (h, w)) in zip(drawn.subplots(1, 3), chosen.items(), strict=True):
        conv = Conv2d((1, 1), (side,) * 4, (1, 1), 1, border)
        positions = input_grad(image, kernel, conv)[0].tensors["y"].shape[3]
        reads = F.pad(numbers, conv.padding, mode=border)[0, 0].int()
        for i, row in enumerate(reads.tolist(), -side):
            for j, pixel in enumerate(row, -side):
                beside = not (0 <= i < image[0] and 0 <= j < image[1])
                cell(axes, j, i, str(pixel), RING if beside else PALE)
                if pixel == h * image[1] + w:
                    outline(axes, j + 0.06, i + 0.06, 0.88, 0.88, MARK, 1.8)
        outline(axes, 0, 0, image[1], image[0], INK, 1.5)
        readers = int((reads == h * image[1] + w).sum()) - 1
        title = f"{border}: a ring of {positions} positions\npixel {h * image[1] + w} gets the gradient of {readers} of them"
        frame(axes, -side - 0.1, image[1] + side + 0.1, -side - 0.1, image[0] + side + 0.1, title)
    return drawn


def shift() -> Figure:
    """Two tiles of a run of pixels that overlap; then the accumulators of the first, and what lanes of y add up."""
    image, lanes = (4, 7), 16
    launch = forward(ConvLayer("", "", 1, 64, *image, 64, 3, 3, padding=1), Config(lanes, 64, 32, 4, 3, taps=3))
    meta, pixels = launch.meta, image[0] * image[1]
    span, before = (meta["S"] - 1) * meta["DILATION"], meta["BEFORE"]
    drawn = figure(WIDTH, 3.7)
    above, below = drawn.subplots(2, 1, height_ratios=(1, 1.55))
    for m in range(pixels):
        cell(above, m, 0, str(m), HUES[m // image[1]], 7.5)
    for tile in range(launch.programs):
        first, up = tile * (lanes - span) - before, 1.15 + 0.75 * tile
        bracket(above, first, first + lanes, up, 0.3)
        text = f"tile {tile} of {lanes} lanes: stores pixels {first + before} to {first + before + lanes - span - 1}"
        label(above, first + lanes / 2, up + 0.36, text)
    title = f"pixels of a {image[0]} x {image[1]} image as one run; tiles overlap by {span} lanes"
    frame(above, -1.2, pixels + 1.2, -0.1, 2.9, title)
    for s in range(meta["S"]):
        for lane in range(lanes):
            m = lane - before
            cell(below, lane, s * 1.2, "" if m < 0 else str(m), HUES[m // image[1]] if m >= 0 else PALE, 7.5)
        label(below, -0.2, s * 1.2 + 0.5, f"z[{s}]", "right", size=9)
    bottom = meta["S"] * 1.2 + 1.3
    for lane in range(lanes):
        whole = before <= lane < lanes - span + before
        text, colour = (str(lane - before), HUES[(lane - before) // image[1]]) if whole else ("", PALE)
        cell(below, lane, bottom, text, colour, 7.5)
    label(below, -0.2, bottom + 0.5, "y", "right", size=9)
    for m in (3, image[1]):
        for s in range(meta["S"]):
            away = s * meta["DILATION"] - before  # columns from the pixel to what this tap reads
            there = 0 <= m % image[1] + away < image[1]
            start, end = (m + before + away + 0.5, s * 1.2 + 0.85), (m + before + 0.5 + (s - 1) * 0.22, bottom)
            arrow(below, start, end, *(() if there else (MARK, ":")))
    note = "dotted: pixel 7 begins a row, so\nthat its left neighbour in the run\nis none of its own; it counts as 0"
    label(below, lanes + 0.4, bottom - 0.9, note, "left", MARK)
    title = "the three accumulators of tile 0, and what two of its pixels add up"
    frame(below, -1.2, lanes + 8, -0.2, bottom + 1.1, title)
    return drawn


def counters(launch: Launch) -> list[list[tuple[int, int, int]]]:
    """Row and column of the tap and first channel of each product of a program, a list for each start of the inner loop."""
    rows, cols = range(launch.meta["R"]), range(launch.meta["S"])
    channels = range(0, argument(launch, "x_size")[1], launch.meta["BLOCK_K"])
    if isinstance(launch.config, PlainConfig):
        return [[(r, s, c) for c in channels] for r in rows for s in cols]
    return [[(r, s, c) for c in channels for r in rows for s in cols]]


def loops() -> Figure:
    """When a program copies its tiles and when it multiplies them: with three loops, then with one. Times are invented."""
    layer, tile = ConvLayer("", "", 32, 128, 28, 28, 128, 3, 3, padding=1), (128, 128, 64, 8, 4)
    launches = forward(layer, PlainConfig(*tile)), forward(layer, Config(*tile))
    titles = "the inner loop starts {} times, with {} products each", "the loop starts once, with {1} products"
    ahead = launches[0].meta["num_stages"] - 1  # copies that are under way; each is drawn as long as so many products
    longest = sum(ahead + len(inner) for inner in counters(launches[0]))
    rows = {
        "copies": ahead / 2,
        "products": ahead + 0.7,
        "row": ahead + 1.7,
        "column": ahead + 2.5,
        f"channel / {(block := tile[2])}": ahead + 3.3,
    }
    drawn = figure(WIDTH, 3.2)
    above, below = drawn.subplots(2, 1)
    for axes, launch, title in zip((above, below), launches, titles, strict=True):
        order, begin, number = counters(launch), 0, 0
        for inner in order:
            cell(axes, begin, ahead + 0.2, width=ahead)
            for i, at in enumerate(inner):
                colour, now = HUES[number % len(HUES)], begin + ahead + i
                cell(axes, begin if i < ahead else now - ahead, i % ahead, str(number), colour, 7.5, ahead)
                cell(axes, now, ahead + 0.2, str(number), colour, 7.5)
                r, s, c = at
                for y, counter in zip(list(rows.values())[2:], (r, s, c // block), strict=True):
                    label(axes, now + 0.5, y, str(counter), size=7.5)
                number += 1
            begin += ahead + len(inner)
        for name, y in rows.items():
            label(axes, -0.4, y, name, "right")
        frame(axes, -5.4, longest + 0.2, -0.1, ahead + 3.8, f"{launch.name}: {title.format(len(order), len(inner))}")
    note = "pale: no product runs until the first copies\nhave come; one loop waits for that once"
    label(below, begin + 1, ahead + 0.7, note, "left", MARK)
    return drawn


def tile_of(program: int, launch: Launch) -> tuple[int, int, int]:
    """The range of pixels, tile of channels out, and tile of taps and channels in of a program of the weight gradient."""
    meta, c, k = launch.meta, argument(launch, "x_size")[1], argument(launch, "y_size")[0]
    tiles_j = meta["R"] * meta["S"] // meta["TAPS"] * -(-c // meta["BLOCK_N"])
    tiles_k = -(-k // meta["BLOCK_M"])
    return program // tiles_j // tiles_k, program // tiles_j % tiles_k, program % tiles_j


def splits() -> Figure:
    """A run of pixels in ranges, the slices that their programs write, and the sum of the slices."""
    layer = ConvLayer("", "", 2, 32, 7, 9, 64, 3, 3, padding=1)
    product, total = weight_grad(layer, Config(32, 32, 16, 4, 3, taps=3, splits=4))
    block, steps, count = product.meta["BLOCK_K"], argument(product, "steps"), argument(total, "splits")
    plane, channels = math.prod(layer.output_size), product.meta["BLOCK_M"]
    pixel, tile, whole = 5.2 / block, 3.0, 5.2 * steps  # widths of a pixel, of a tile of weights and of a range
    axes = (drawn := figure(WIDTH, 2.9)).subplots()
    for image in range(layer.N):
        left, right = image * plane * pixel, (image + 1) * plane * pixel
        bracket(axes, left + 0.1, right - 0.1, -0.5, 0.3)
        label(axes, (left + right) / 2, -0.9, f"image {image}")
    for first in range(0, count * steps * block, block):
        end = min(first + block, layer.N * plane)
        cell(axes, first * pixel, 0, f"{first}-{end - 1}", HUES[first // block // steps], 7, (end - first) * pixel)
    cell(axes, end * pixel, 0, width=(first + block - end) * pixel)
    for program in range(product.programs):
        split, row, column = tile_of(program, product)
        left, sums = split * whole + 0.6 + column * tile, 1.5 * whole + 0.6 + column * tile
        cell(axes, left, 3.4 + row, str(program), HUES[split], width=tile)
        if split == 0:
            cell(axes, sums, 8 + row, colour=RING, width=tile)
        if row == 0:
            label(axes, left + tile / 2, 3, f"r {column}", size=7.5)
        if split == column == 0:
            for x, y in ((left, 3.9), (sums, 8.5)):
                label(axes, x - 0.2, y + row, f"k {row * channels}-{(row + 1) * channels - 1}", "right", size=7.5)
    for split in range(count):
        middle = (split + 0.5) * whole
        arrow(axes, (middle, 1.1), (middle, 2.6))
        label(axes, middle + 0.3, 1.8, f"range {split}, slice {split}", "left")
        arrow(axes, (middle, 5.5), (2 * whole + (split - 1.5) * tile / 2, 7.9))
    workspace = "workspace\n" + " x ".join(map(str, argument(total, "splits_ptr").shape))
    for x, y, text in ((-0.4, 0.5, "pixels m"), (-2.9, 4.4, workspace), (1.5 * whole - 2.4, 9, "dw")):
        label(axes, x, y, text, "right")
    note = (
        f"{total.programs} programs of {total.meta['BLOCK_N']} weights each\nadd slices 0 to {count - 1}, in one order"
    )
    label(axes, 2.5 * whole + 0.2, 9, f"{total.name}:\n{note}", "left")
    title = f"{product.name}: {layer.N * plane} pixels in {count} ranges of {steps} steps of {block}"
    frame(axes, -6.6, count * whole + 0.2, -1.3, 10.1, title)
    return drawn


PICTURES: dict[str, Callable[[], Figure]] = {
    "conv2d-loops": loops, "conv2d-phases": phases, "conv2d-ring": ring, "conv2d-shift": shift, "conv2d-splits": splits,
}  # fmt: skip


if __name__ == "__main__":
    for file in write(PICTURES):
        print(f"written: {file}")
