"""Tiles for kernels over the windows of an image: what pooling and unpooling, of both kinds, share.

An image is P planes of H rows of W pixels of L interleaved lanes: P = N*C, L = 1 for NCHW, and P = N, L = C for
channels_last. All rows of all planes, G = P*H, lie under each other; a program owns a rectangle of them, so that small images
fill a program as well as large ones. A row's and a column's index arithmetic is done once, not once an element.

Window (p, q) covers the pixels h = p*stride - padding + r*dilation, r < R, and w likewise. Pixel h is covered by those of the
TAPS windows p = (h + padding)//stride - i that leave no remainder.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import triton
import triton.language as tl

from .compilers import Version, compiler_version, windows_before_3_7
from .hardware import INTERPRETER, Device, issue_us, memory_us, resident_programs
from .launch import Cost, launch, target_device

Pair = tuple[int, int]
Geometry = tuple[Pair, Pair, Pair, Pair]
"""Kernel size, stride, padding and dilation of the windows, each (rows, columns)."""


@triton.jit
def tile(
    G, H, W, L, VEC: tl.constexpr, VEC_IN: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_COLS: tl.constexpr,
):  # fmt: skip
    """The rectangle of this program, as rows and columns: plane and row in it; pixel and lane; what lies in the image; offsets
    in a dense tensor."""
    # rows, or a row's span of memory, of 2^31 elements: widen before anything is multiplied
    row = (tl.cast(W, tl.int64) if WIDE else W) * L
    pid = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    blocks = tl.cdiv(row, BLOCK_COLS)
    g = pid // blocks * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # [BLOCK_ROWS]
    j = pid % blocks * BLOCK_COLS + tl.arange(0, BLOCK_COLS)  # [BLOCK_COLS]
    mask_g = g < G
    # a row is a multiple of VEC, which the compiler cannot know
    mask_j = j // VEC < row // VEC
    rows = g.to(tl.int64) * row
    w, lane = j // L, j % L
    if VEC > 1:
        rows = tl.multiple_of(rows, VEC)
    if VEC_IN > 1:
        # neighbours are lanes of one pixel, and share what becomes of it: masks, above all
        w = tl.max_constancy(w, VEC_IN)
    return g // H, (g % H).to(tl.int32), w, lane, mask_g, mask_j, rows, j


@triton.jit
def plane_offset(plane, C, sn, sc):
    """Where a plane begins; C planes an image (1 where lanes are channels)."""
    return (plane // C).to(tl.int64) * sn + (plane % C).to(tl.int64) * sc


@triton.jit
def row_offset(planes, h, sh, VEC: tl.constexpr):
    offs = planes + h.to(tl.int64) * sh
    return tl.multiple_of(offs, VEC) if VEC > 1 else offs


@triton.jit
def col_offset(w, lane, sw, sc, VEC: tl.constexpr):
    """Offsets of pixels and lanes in a row, back to back in units of VEC."""
    offs = w * sw + lane * sc
    return tl.max_contiguous(tl.multiple_of(offs, VEC), VEC) if VEC > 1 else offs


@triton.jit
def covering(
    h, tap, SIZE, TAPS: tl.constexpr, R: tl.constexpr, STRIDE: tl.constexpr, PADDING: tl.constexpr, DILATION: tl.constexpr
):  # fmt: skip
    """The tap-th of the windows over pixel h, first to last: its number, which tap of it h is, and whether there is one."""
    p = (h + PADDING) // STRIDE - (TAPS - 1 - tap)
    distance = h + PADDING - p * STRIDE
    r = distance // DILATION
    return p, r, (p >= 0) & (p < SIZE) & (r < R) & (distance % DILATION == 0)


def taps(geometry: Geometry) -> dict[str, Any]:
    """How many windows may cover a pixel, by rows and by columns."""
    rows, cols = (
        -(-(dilation * (kernel - 1) + 1) // stride) for kernel, stride, _, dilation in zip(*geometry, strict=True)
    )
    return {"TAPS_H": rows, "TAPS_W": cols}


def _unroll(rows: int, cols: int) -> int:
    """How many taps a loop takes at once: all of a few, or else a row. More loads under way would take too many registers."""
    if rows * cols <= 4:
        return rows * cols
    return cols if cols <= 8 else 1


class Reads(Protocol):
    """Rows, or columns, of an output of `size`, and what of an input they read."""

    @property
    def size(self) -> int: ...

    def read(self, first: int, last: int) -> int:
        """How many of the input the outputs from first to last read."""


@dataclass(frozen=True)
class Axis:
    """Rows, or columns, of an output of `size`, and what of an input of `size_in` they read."""

    size: int
    size_in: int
    reach: int
    """From the first pixel of a window to its last, both counted."""
    stride: int
    padding: int
    windows: bool
    """Whether outputs are windows, which read pixels; else they are pixels, which read the windows over them."""

    def read(self, first: int, last: int) -> int:
        if not self.windows:
            begin = -(-(first + self.padding - self.reach + 1) // self.stride)
            end = (last + self.padding) // self.stride
        elif self.reach < self.stride:
            return min((last - first + 1) * self.reach, self.size_in)
        else:
            begin = first * self.stride - self.padding
            end = last * self.stride - self.padding + self.reach - 1
        return max(0, min(end, self.size_in - 1) - max(begin, 0) + 1)


@dataclass(frozen=True)
class Problem:
    """What a launch has to do, as far as its block sizes depend on it."""

    planes: int
    lanes: int
    rows: Reads
    cols: Reads
    bytes_in: int
    """Bytes read an element, all inputs."""
    bytes_out: int
    """Bytes written an element, all outputs."""
    itemsize: int
    """Bytes of an output."""
    taps: int
    """Inputs that an output reads."""
    unroll: int
    """Those that a loop takes at once."""
    heavy: bool
    """Whether a thread needs so many registers that it cannot have two outputs of 16 bytes."""


@dataclass(frozen=True)
class Config:
    """Rows and columns of the tile of a program."""

    rows: int
    cols: int
    num_warps: int


def programs(problem: Problem, config: Config) -> int:
    row = problem.cols.size * problem.lanes
    return -(-problem.planes * problem.rows.size // config.rows) * -(-row // config.cols)


def cost(problem: Problem, config: Config) -> Cost:
    """DRAM bytes; what two tiles both read is counted for each. Tiles count as if one began with every plane."""
    rows, cols, lanes = problem.rows, problem.cols, problem.lanes
    rows_read = sum(
        rows.read(first, min(first + config.rows, rows.size) - 1) for first in range(0, rows.size, config.rows)
    )
    cols_read = 0.0
    for first in range(0, cols.size * lanes, config.cols):
        last = min(first + config.cols, cols.size * lanes) - 1
        pixels = last // lanes - first // lanes + 1
        # a tile may begin and end in the middle of a pixel
        cols_read += cols.read(first // lanes, last // lanes) * (last - first + 1) / pixels
    written = problem.planes * rows.size * cols.size * lanes * problem.bytes_out
    least = rows.read(0, rows.size - 1) * cols.read(0, cols.size - 1) * lanes
    return Cost(
        bytes_moved=max(math.ceil(rows_read * cols_read), least) * problem.planes * problem.bytes_in + written,
        bytes_least=least * problem.planes * problem.bytes_in + written,
        trips=problem.taps / problem.unroll,
    )


def candidates(device: Device, itemsize: int, heavy: bool, compiler: Version | None = None) -> list[Config]:
    """The configs that can be picked: a thread has 16 bytes of every tensor, or twice that.

    Args:
        compiler: major and minor version of Triton; by default, of the one that is installed.
    """
    num_warps = 4
    sizes = [num_warps * device.warp_size * chunks * (16 // itemsize) for chunks in ((1,) if heavy else (1, 2))]
    found = [Config(2**i, size // 2**i, num_warps) for size in sizes for i in range(7)]
    return found if (compiler or compiler_version()) >= (3, 7) else windows_before_3_7(found, itemsize, device.arch)


def _instructions(problem: Problem, config: Config, device: Device) -> float:
    """About as many as a warp issues, read off the machine code of 2x2 pools and of unpooling, on an H100."""
    elements = config.rows * config.cols / (config.num_warps * device.warp_size)
    return 130 + elements * (6 + 9 * problem.taps)


def _registers(problem: Problem, config: Config, device: Device) -> int:
    """About as many as a thread has: all loads of a loop that is unrolled are under way at once."""
    elements = config.rows * config.cols / (config.num_warps * device.warp_size)
    return min(255, int(24 + elements * (1 + min(problem.unroll, 4))))


@functools.lru_cache(maxsize=4096)
def pick_config(problem: Problem, device: Device) -> Config:
    """The block sizes for a problem: a pure function of the problem and the device.

    Tiles as wide as a row leave no thread idle and share no columns; high ones share few rows; large ones do their index
    arithmetic less often; small ones fill a GPU that a small problem leaves idle. The model weighs them.
    """
    row = problem.cols.size * problem.lanes
    if device is INTERPRETER:
        cols = min(triton.next_power_of_2(row), 4096)
        rows = min(triton.next_power_of_2(problem.planes * problem.rows.size), max(1, 16384 // cols))
        return Config(rows, cols, 4)

    def modelled_us(config: Config) -> float:
        count = programs(problem, config)
        used = problem.planes * problem.rows.size * row / (count * config.rows * config.cols)
        # threads beyond the end of a row fill no GPU
        slots = resident_programs(device, config.num_warps, _registers(problem, config, device))
        full = min(1.0, count * used / slots)
        memory = memory_us(cost(problem, config).bytes_moved, device)
        issue = issue_us(count * config.num_warps * _instructions(problem, config, device), device)
        # of two that wait for the same, the one that needs less of the other
        return (max(memory, issue) + 0.1 * (memory + issue)) / full

    # a line of the cache, unless a row is shorter
    least = min(triton.next_power_of_2(row), 128 // problem.itemsize)
    wide = [c for c in candidates(device, problem.itemsize, problem.heavy) if c.cols >= least]
    return min(_frugal(problem, wide), key=modelled_us)


def _frugal(problem: Problem, configs: list[Config]) -> list[Config]:
    """Those that move hardly more than the least, where there are some."""
    costs = [cost(problem, config) for config in configs]
    frugal = [c for c, need in zip(configs, costs, strict=True) if need.bytes_moved <= 1.05 * need.bytes_least]
    return frugal or configs


def interleaved(out: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether the channels of a dense output are its lanes; where it has one pixel, as those of x lie."""
    if not out.is_contiguous():
        return True
    return out.shape[2] == out.shape[3] == 1 and x.stride(1) == 1


def _vector(out: torch.Tensor, lanes: int, width: int) -> int:
    """Elements of one access of a dense output."""
    return math.gcd(16 // out.element_size(), lanes if lanes > 1 else width)


def vector_in(t: torch.Tensor, vec: int, dim: int = 1) -> int:
    """Elements of one access along a dimension of an input, its channels, as far as its strides and its address allow."""
    if t.stride(dim) != 1:
        return 1
    strides = (s for d, s in enumerate(t.stride()) if d != dim and t.shape[d] > 1)
    return math.gcd(vec, t.data_ptr() // t.element_size(), *strides)


def at_equal_steps(*tensors: torch.Tensor) -> bool:
    """Whether the planes of each lie at equal steps: then it is all one image, or images of one plane."""
    return all(1 in t.shape[:2] or t.stride(0) == t.shape[1] * t.stride(1) for t in tensors)


def plane_step(t: torch.Tensor) -> int:
    return t.stride(0 if t.shape[1] == 1 else 1)


def _axes(out: torch.Tensor, x: torch.Tensor, windows: bool, geometry: Geometry) -> tuple[Axis, Axis]:
    rows, cols = (
        Axis(out.shape[2 + d], x.shape[2 + d], dilation * (kernel - 1) + 1, stride, padding, windows)
        for d, (kernel, stride, padding, dilation) in enumerate(zip(*geometry, strict=True))
    )
    return rows, cols


@dataclass(frozen=True)
class Tiles:
    """How a launch has cut up its output."""

    config: Config
    lanes: int
    programs: int
    programs_a_row: int
    reports: torch.Tensor | None
    """(programs,) int32: what each program has reported."""


def launch_tiles(
    kernel: Any, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor | None, ...], geometry: Geometry,
    config: Config | None, *, windows: bool, reports: bool = False, **meta: Any,
) -> Tiles:  # fmt: skip
    """Launch over the windows of a geometry, whose numbers the kernel takes as constants.

    `windows` says whether outputs are windows, and inputs pixels, or the other way round.
    """
    (kernel_h, kernel_w), (stride_h, stride_w), (pad_h, pad_w), (dil_h, dil_w) = geometry
    assert outputs[0] is not None
    # a loop goes through the pixels of a window, or through the windows over a pixel
    taps = (meta["TAPS_H"], meta["TAPS_W"]) if "TAPS_H" in meta else (kernel_h, kernel_w)
    return launch_axes(
        kernel, inputs, outputs, _axes(outputs[0], inputs[0], windows, geometry), taps, config, reports=reports,
        R=kernel_h, S=kernel_w, STRIDE_H=stride_h, STRIDE_W=stride_w, PAD_H=pad_h, PAD_W=pad_w, DIL_H=dil_h, DIL_W=dil_w,
        **meta,
    )  # fmt: skip


def launch_axes(
    kernel: Any, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor | None, ...],
    axes: tuple[Reads, Reads], taps: Pair, config: Config | None, *, reports: bool = False, **meta: Any,
) -> Tiles:  # fmt: skip
    """Lay out the planes and lanes of the first output (N, C, H, W), pick the block sizes, launch.

    The kernel takes inputs, outputs and, if it `reports`, an int32 a program; then G, H, W, L and C of the output, rows and
    columns of the first input, and the strides of the inputs, four each.

    Args:
        axes: rows and columns of the first output, and what of the first input they read.
        taps: rows and columns of the inputs that an output reads at most: what a loop of the kernel goes through.
    """
    out, x = outputs[0], inputs[0]
    assert out is not None
    n, c, h, w = out.shape
    planes, lanes, planes_an_image = (n, c, 1) if interleaved(out, x) else (n * c, 1, c)
    unroll = _unroll(*taps)
    # further inputs are of the size of the first, or else of the output, and are read as it is written
    beside = [t for t in inputs if t.shape[2:] != x.shape[2:]]
    problem = Problem(
        planes, lanes, *axes,
        bytes_in=sum(t.element_size() for t in inputs) - sum(t.element_size() for t in beside),
        bytes_out=sum(t.element_size() for t in (*outputs, *beside) if t is not None),
        itemsize=out.element_size(), taps=math.prod(taps), unroll=unroll, heavy=reports or math.prod(taps) > 1,
    )  # fmt: skip
    config = config or pick_config(problem, target_device(out))
    count = programs(problem, config)
    report = torch.empty(count, dtype=torch.int32, device=out.device) if reports else None
    vec = _vector(out, lanes, w)
    strides: list[int] = [stride for t in inputs for stride in t.stride()]
    if lanes == 1 and at_equal_steps(*inputs):
        # nothing to divide by
        planes_an_image = 1
        strides = [stride for t in inputs for stride in (plane_step(t), 0, *t.stride()[2:])]
    # the furthest that any column lies from the first, in elements
    reach = max((t.shape[3] - 1) * t.stride(3) + (c - 1) * t.stride(1) for t in (*inputs, out))
    launch(
        kernel, count,
        *inputs, *outputs, *(() if report is None else (report,)),
        planes * h, h, w, lanes, planes_an_image, *x.shape[2:],
        *strides,
        config=config, cost=lambda: cost(problem, config), num_warps=config.num_warps,
        UNROLL=unroll, ACC=tl.float64 if out.dtype == torch.float64 else tl.float32,
        VEC=vec, VEC_IN=min(vector_in(t, vec) for t in inputs) if lanes > 1 else 1,
        WIDE=max(reach, planes * h, w * lanes) >= 2**31,
        BLOCK_ROWS=config.rows, BLOCK_COLS=config.cols, **meta,
    )  # fmt: skip
    return Tiles(config, lanes, count, -(-w * lanes // config.cols), report)
