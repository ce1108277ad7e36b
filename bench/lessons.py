"""`python -m bench.lessons`: the pictures of kernels/conv2d/README.md. Their numbers are those of recorded launches.

With --table it prints the table of that page instead: what the model says of each kernel, compiled for an H100. Nothing here is
measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from torchops.files.plots import figure, save
from torchops.inspect import report
from torchops.kernels.conv2d import PlainConfig, conv2d_fwd, conv2d_input_grad
from torchops.kernels.geometry import Conv2d, Pair
from torchops.kernels.launch import Launch, record
from torchops.kernels.planning.conv2d import Config, ranking
from torchops.kernels.planning.hardware import DEVICES
from torchops.workloads import CASES, LAYERS, ConvLayer

from .model import floor_us

H100 = DEVICES["sm_90"]
FOLDER = Path(__file__).parent.parent / "assets"
INK, PALE, RING, MARK = "#26323d", "#e9eef2", "#f6dfb0", "#d1495b"
HUES = ("#8fb8de", "#f2b880", "#9fd0a8", "#d6a5c9")


def _cell(axes: Axes, column: float, row: float, text: str = "", colour: str = PALE, size: float = 8) -> None:
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size, color=INK)


def _frame(axes: Axes, left: float, right: float, top: float, bottom: float, title: str) -> None:
    """Cells of one size in rows that go down, without axes."""
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=9, color=INK)


def input_grad(image: Pair, kernel: Pair, conv: Conv2d) -> list[Launch]:
    """The launches of the gradient of an image of so many pixels, for an H100."""
    dx, dy = torch.empty(1, 64, *image), torch.empty(1, 64, *conv.output_size(image, kernel))
    with record(H100) as launches:
        conv2d_input_grad(dy, torch.empty(64, 64, *kernel), None, dx, conv)
    return launches


def argument(launch: Launch, name: str) -> tuple[int, ...]:
    """What a recorded launch gave a kernel for an argument that is a tuple."""
    found: tuple[int, ...] = launch.args[launch.kernel.arg_names.index(name)]
    return found


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
            _cell(axes, s, r, text.replace("+0", ""), colour if reached else PALE)
    return len(rows) * len(cols)


def phases() -> Figure:
    """For two dilations: the image in the colours of its phases, then the taps of each."""
    image, kernel = (6, 6), (3, 3)
    drawn = figure(9, 4.4)
    for row, dilation in zip(drawn.subplots(2, 5), (1, 2), strict=True):
        conv = Conv2d((2, 2), (1, 1, 1, 1), (dilation, dilation), 1, "zeros")
        launch = input_grad(image, kernel, conv)[-1]
        (stride, _), (step, _), (jump, _) = (argument(launch, name) for name in ("stride", "step", "jump"))
        colours = []
        for number, axes in enumerate(row[1:]):
            phase = number // stride, number % stride
            count = _phase(axes, conv, kernel, phase, HUES[number])
            colours.append(HUES[number] if count else PALE)
            taps = f"{count} tap{'' if count == 1 else 's'}" if count else "no tap: its gradient is 0"
            _frame(axes, -0.1, 3.1, -0.1, 3.1, f"phase ({phase[0]}, {phase[1]})\n{taps}")
        for h in range(image[0]):
            for w in range(image[1]):
                number = h % stride * stride + w % stride
                _cell(row[0], w, h, f"{h % stride}{w % stride}", colours[number], 7)
        title = f"dx of stride {stride}, dilation {dilation},\npadding 1: jump {jump}, step {step}"
        _frame(row[0], -0.1, 6.1, -0.1, 6.1, title)
    return drawn


def ring() -> Figure:
    """For each border mode: the pixel that every position of the padding reads, and those that read one pixel."""
    image, kernel, side, chosen = (4, 5), (5, 5), 2, {"reflect": (1, 1), "replicate": (0, 0), "circular": (1, 1)}
    numbers = torch.arange(float(image[0] * image[1])).view(1, 1, *image)
    drawn = figure(9, 3.2)
    for axes, (border, (h, w)) in zip(drawn.subplots(1, 3), chosen.items(), strict=True):
        conv = Conv2d((1, 1), (side,) * 4, (1, 1), 1, border)
        positions = input_grad(image, kernel, conv)[0].tensors["y"].shape[3]
        reads = F.pad(numbers, conv.padding, mode=border)[0, 0].int()
        for i, row in enumerate(reads.tolist(), -side):
            for j, pixel in enumerate(row, -side):
                beside = not (0 <= i < image[0] and 0 <= j < image[1])
                _cell(axes, j, i, str(pixel), RING if beside else PALE)
                if pixel == h * image[1] + w:
                    axes.add_patch(
                        Rectangle((j + 0.06, i + 0.06), 0.88, 0.88, fill=False, edgecolor=MARK, linewidth=1.8)
                    )
        axes.add_patch(Rectangle((0, 0), image[1], image[0], fill=False, edgecolor=INK, linewidth=1.5))
        readers = int((reads == h * image[1] + w).sum()) - 1
        title = f"{border}: a ring of {positions} positions\npixel {h * image[1] + w} gets the gradient of {readers} of them"
        _frame(axes, -side - 0.1, image[1] + side + 0.1, -side - 0.1, image[0] + side + 0.1, title)
    return drawn


def shift() -> Figure:
    """Two tiles of a run of pixels that overlap; then the accumulators of the first, and what lanes of y add up."""
    image, kernel, lanes = (4, 7), (3, 3), 16
    conv = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, "zeros")
    x, y = (torch.empty(1, 64, *image, memory_format=torch.channels_last) for _ in range(2))
    with record(H100) as launches:
        conv2d_fwd(
            x, torch.empty(64, 64, *kernel), None, None, y, conv, "none", config=Config(lanes, 64, 32, 4, 3, taps=3)
        )
    meta, pixels = launches[0].meta, image[0] * image[1]
    span, before = (meta["S"] - 1) * meta["DILATION"], meta["BEFORE"]
    drawn = figure(9, 4.0)
    above, below = drawn.subplots(2, 1, height_ratios=(1, 1.55))
    for m in range(pixels):
        _cell(above, m, 0, str(m), HUES[m // image[1]], 7)
    for tile in range(launches[0].programs):
        first, up = tile * (lanes - span) - before, 1.15 + 0.75 * tile
        above.plot(
            (first, first, first + lanes, first + lanes), (up + 0.3, up, up, up + 0.3), color=MARK, linewidth=1.3
        )
        text = f"tile {tile} of {lanes} lanes: stores pixels {first + before} to {first + before + lanes - span - 1}"
        above.text(first + lanes / 2, up + 0.36, text, ha="center", va="center", fontsize=8, color=INK)
    title = f"pixels of a {image[0]} x {image[1]} image as one run; tiles overlap by {span} lanes"
    _frame(above, -1.2, pixels + 1.2, -0.1, 2.9, title)
    for s in range(meta["S"]):
        for lane in range(lanes):
            m = lane - before
            _cell(below, lane, s * 1.2, "" if m < 0 else str(m), HUES[m // image[1]] if m >= 0 else PALE, 7)
        below.text(-0.2, s * 1.2 + 0.5, f"z[{s}]", ha="right", va="center", fontsize=9, color=INK)
    bottom = meta["S"] * 1.2 + 1.3
    for lane in range(lanes):
        whole = before <= lane < lanes - span + before
        _cell(
            below,
            lane,
            bottom,
            str(lane - before) if whole else "",
            HUES[(lane - before) // image[1]] if whole else PALE,
            7,
        )
    below.text(-0.2, bottom + 0.5, "y", ha="right", va="center", fontsize=9, color=INK)
    for m in (3, image[1]):
        for s in range(meta["S"]):
            away = s * meta["DILATION"] - before  # columns from the pixel to what this tap reads
            there = 0 <= m % image[1] + away < image[1]
            below.add_patch(
                FancyArrowPatch(
                    (m + before + away + 0.5, s * 1.2 + 0.85), (m + before + 0.5 + (s - 1) * 0.22, bottom),
                    arrowstyle="-|>", mutation_scale=8, zorder=2, linewidth=1.1,
                    color=INK if there else MARK, linestyle="-" if there else ":",
                )
            )  # fmt: skip
    note = "dotted: pixel 7 begins a row, so\nthat its left neighbour in the run\nis none of its own; it counts as 0"
    below.text(lanes + 0.4, bottom - 0.9, note, ha="left", va="center", fontsize=8, color=MARK)
    _frame(
        below,
        -1.2,
        lanes + 8,
        -0.2,
        bottom + 1.1,
        "the three accumulators of tile 0, and what two of its pixels add up",
    )
    return drawn


PICTURES: dict[str, Callable[[], Figure]] = {"conv2d-phases": phases, "conv2d-ring": ring, "conv2d-shift": shift}


SHOWN = (
    "pointwise", "stride2", "aspp", "body", "mid", "unet-up", "reflect", "stem", "unet-stem", "depthwise", "grouped",
)  # fmt: skip
PLAIN_TILES = (
    (128, 64, 32, 4, 3), (128, 128, 32, 8, 3), (256, 64, 64, 8, 3), (256, 128, 64, 8, 3), (128, 256, 64, 8, 3),
)  # fmt: skip


def forward(layer: ConvLayer, config: Config | None = None) -> Launch:
    """The forward pass of a layer in bfloat16 and channels_last, for an H100."""
    x, weight, y = (
        torch.empty(shape, dtype=torch.bfloat16, memory_format=torch.channels_last)
        for shape in (layer.input_shape, layer.weight_shape, layer.output_shape)
    )
    stride, padding, dilation = (layer.stride,) * 2, (layer.padding,) * 4, (layer.dilation,) * 2
    with record(H100) as launches:
        conv2d_fwd(
            x, weight, None, None, y, Conv2d(stride, padding, dilation, layer.groups, layer.padding_mode), "none",
            config=config,
        )  # fmt: skip
    return launches[0]


def _cell_of(launches: list[Launch]) -> str:
    """The fastest of some launches: its modelled time, the tile, and what bounds it."""
    found = ((report(launch), launch.config) for launch in launches)
    best, config = min(found, key=lambda one: one[0].modelled_us)
    return f"{best.modelled_us:.1f} ({config.block_m} x {config.block_n}, {best.bound})"


def table() -> Iterator[str]:
    """Of some layers, microseconds of a forward pass on an H100 by the model: the least possible, then by kernel."""
    yield "| layer | floor | plain | gemm | flat, direct or shift |"
    yield "|---|--:|---|---|---|"
    for layer in (one for name in SHOWN for one in CASES + LAYERS if one.name == name):
        picked = forward(layer)
        name = picked.name.removeprefix("conv2d_").removesuffix("_kernel")
        plain = gemm = special = "-"
        if layer.groups == 1 and layer.padding_mode == "zeros":
            deepest = max(16, 1 << (layer.C - 1).bit_length())
            tiles = {(m, n, min(k, deepest), *rest) for m, n, k, *rest in PLAIN_TILES if n <= layer.K}
            plain = _cell_of([forward(layer, PlainConfig(*tile)) for tile in sorted(tiles)])
        if name == "gemm":
            gemm = _cell_of([picked])
        else:
            special = f"{name} {_cell_of([picked])}"
        if name == "shift":
            gemm = _cell_of([forward(layer, next(c for c in ranking(picked.problem, H100) if c.taps == 1))])
        yield f"| {layer.name} | {floor_us(layer, H100):.1f} | {plain} | {gemm} | {special} |"


def draw(folder: Path = FOLDER) -> list[Path]:
    """Write the pictures to a folder; return the files."""
    return [save(make(), folder / f"{name}.png") for name, make in PICTURES.items()]


if __name__ == "__main__":
    if "--table" in sys.argv[1:]:
        for line in table():
            print(line, flush=True)
    else:
        for file in draw():
            print(f"written: {file}")
