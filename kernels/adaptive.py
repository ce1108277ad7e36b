"""Windows of adaptive pools, which are given by how many there are, and tiles for kernels that reduce large ones.

Output p of `size` covers the inputs from floor(p*size_in/size) to ceil((p + 1)*size_in/size), this one left out. Windows
overlap where the sizes do not divide. Input h lies in the windows from floor(h*size/size_in) to ceil((h + 1)*size/size_in):
the same formula with the sizes swapped. So the gradient of a pool reads the windows of the pool the other way.

Small windows are gathered, with the tiles of windows.py. Of a large one, as the whole image of a classifier's last pool, the
pixels would come one after another; there a program owns one window of some planes, and reads many pixels at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from .compilers import compiler_version, large_windows_before_3_7
from .hardware import INTERPRETER, Device, issue_us, memory_us, resident_programs, wave_efficiency
from .launch import Cost, launch, target_device
from .windows import Config, Pair, at_equal_steps, launch_axes, plane_offset, plane_step, vector_in

LARGE = 32
"""Pixels from which a window is one program's."""


@triton.jit
def first_of(p, size, size_in, LONG: tl.constexpr):
    """The first input of output p."""
    return (p.to(tl.int64) if LONG else p) * size_in // size


@triton.jit
def end_of(p, size, size_in, LONG: tl.constexpr):
    """One more than its last."""
    return (((p + 1).to(tl.int64) if LONG else p + 1) * size_in + size - 1) // size


@triton.jit
def share_of(p, size, size_in, LONG: tl.constexpr, ACC: tl.constexpr):
    """1 over the number of its inputs."""
    return 1 / (end_of(p, size, size_in, LONG) - first_of(p, size, size_in, LONG)).to(ACC)


@triton.jit
def span_of(p, size, size_in, LONG: tl.constexpr, VEC_IN: tl.constexpr):
    """First input and end, for columns that lie VEC_IN to a pixel."""
    first, end = first_of(p, size, size_in, LONG), end_of(p, size, size_in, LONG)
    return (tl.max_constancy(first, VEC_IN), tl.max_constancy(end, VEC_IN)) if VEC_IN > 1 else (first, end)


def most(size: int, size_in: int) -> int:
    """Inputs of the longest of the windows."""
    return (size_in - math.gcd(size, size_in) - 1) // size + 2


@dataclass(frozen=True)
class Axis:
    """Rows, or columns, of an output of `size`, and what of an input of `size_in` they read."""

    size: int
    size_in: int

    def read(self, first: int, last: int) -> int:
        """How many of the input the outputs from first to last read."""
        return -(-(last + 1) * self.size_in // self.size) - first * self.size_in // self.size

    def read_apart(self) -> int:
        """How many they read, each for itself."""
        return sum(self.read(p, p) for p in range(self.size))


def _axes(out: torch.Tensor, x: torch.Tensor) -> tuple[Axis, Axis]:
    rows, cols = (Axis(out.shape[d], x.shape[d]) for d in (2, 3))
    return rows, cols


def _taps(out: torch.Tensor, x: torch.Tensor) -> Pair:
    return most(out.shape[2], x.shape[2]), most(out.shape[3], x.shape[3])


def is_large(out: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether windows of x that out is reduced to are large."""
    return math.prod(_taps(out, x)) >= LARGE


def is_long(out: torch.Tensor, x: torch.Tensor) -> bool:
    """Whether products of sizes, and of what lies a tile beyond them, need 64 bits."""
    return any((out.shape[d] + 4096) * (x.shape[d] + 4096) >= 2**31 for d in (2, 3))


def in_one_row(image: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """An image as one row of pixels, where its only window is all of it and its rows lie back to back."""
    n, c, h, w = image.shape
    if other.shape[2] * other.shape[3] > 1 or h == 1 or (w > 1 and image.stride(2) != w * image.stride(3)):
        return image
    step = image.stride(3 if w > 1 else 2)
    return image.as_strided((n, c, 1, h * w), (*image.stride()[:2], h * w * step, step))


def launch_gather(
    kernel: Any, inputs: tuple[torch.Tensor, ...], outputs: tuple[torch.Tensor, ...], config: Config | None, **meta: Any
) -> None:  # fmt: skip
    """Launch over outputs (N, C, P, Q), each of which reads its window of inputs (N, C, H, W)."""
    out, x = outputs[0], inputs[0]
    taps_h, taps_w = _taps(out, x)
    launch_axes(
        kernel, inputs, outputs, _axes(out, x), (taps_h, taps_w), config,
        TAPS_H=taps_h, TAPS_W=taps_w, LONG=is_long(out, x), **meta,
    )  # fmt: skip


#
# One program for a window of some planes.


@triton.jit
def window_tile(
    planes, C, H, W, P, Q, x_sn, x_sc,
    LONG: tl.constexpr, VEC_PLANES: tl.constexpr, BLOCK_PLANES: tl.constexpr,
):  # fmt: skip
    """The window of this program: its planes, where they begin, which there are; its row and column; first and end of both."""
    pid = tl.program_id(0)
    q, p = pid % Q, pid // Q % P
    plane = (pid // Q // P).to(tl.int64) * BLOCK_PLANES + tl.arange(0, BLOCK_PLANES)  # [BLOCK_PLANES]
    # channels are a multiple of VEC_PLANES, which the compiler cannot know
    mask = plane // VEC_PLANES < planes // VEC_PLANES
    offs = plane_offset(plane, C, x_sn, x_sc)
    if VEC_PLANES > 1:
        offs = tl.max_contiguous(tl.multiple_of(offs, VEC_PLANES), VEC_PLANES)
    h0, h1 = first_of(p, P, H, LONG), end_of(p, P, H, LONG)
    w0, w1 = first_of(q, Q, W, LONG), end_of(q, Q, W, LONG)
    return plane, offs, mask, p, q, h0, h1, w0, w1


@triton.jit
def window_cols(w, w1, VEC_COLS: tl.constexpr, WIDE: tl.constexpr, BLOCK_COLS: tl.constexpr):
    """Columns from w on, and which lie in the window."""
    j = tl.arange(0, BLOCK_COLS)
    cols = w + j  # [BLOCK_COLS]
    # windows begin and end at a multiple of VEC_COLS, which the compiler cannot know
    mask = j // VEC_COLS < (w1 - w) // VEC_COLS
    if VEC_COLS > 1:
        cols = tl.max_contiguous(tl.multiple_of(cols, VEC_COLS), VEC_COLS)
    return cols.to(tl.int64) if WIDE else cols, mask


@dataclass(frozen=True)
class Problem:
    """What a launch has to do, as far as its block sizes depend on it."""

    planes: int
    rows: Axis
    cols: Axis
    interleaved: bool
    """Whether planes lie back to back, and not columns."""
    itemsize: int
    """Bytes of an element read."""
    bytes_out: int
    """Bytes written a window, all outputs."""

    @property
    def window(self) -> Pair:
        return most(self.rows.size, self.rows.size_in), most(self.cols.size, self.cols.size_in)


def _programs(problem: Problem, config: Config) -> int:
    """Its rows are planes."""
    return -(-problem.planes // config.rows) * problem.rows.size * problem.cols.size


def _trips(problem: Problem, config: Config) -> int:
    rows, cols = problem.window
    return rows * -(-cols // config.cols)


@functools.lru_cache(maxsize=4096)
def _cost(problem: Problem, config: Config) -> Cost:
    """DRAM bytes; what two windows both read is counted for each."""
    rows, cols = problem.rows, problem.cols
    written = problem.planes * rows.size * cols.size * problem.bytes_out
    read = problem.planes * problem.itemsize
    return Cost(
        bytes_moved=rows.read_apart() * cols.read_apart() * read + written,
        bytes_least=rows.size_in * cols.size_in * read + written,
        trips=_trips(problem, config),
    )


_SECTOR = 32
"""Bytes of DRAM that are fetched together."""


def candidates(device: Device, problem: Problem) -> list[Config]:
    """The configs that can be picked: planes and columns of a tile, of 16 or 32 bytes a thread, no larger than the window.

    Where planes lie back to back, one to eight sectors of them, or one, where there are few; else as many columns as there are.
    """
    longest, most_planes = (triton.next_power_of_2(n) for n in (problem.window[1], problem.planes))

    def configs() -> Iterator[Config]:
        for num_warps in (4, 16):
            for chunks in (1, 2):
                size = num_warps * device.warp_size * chunks * (16 // problem.itemsize)
                back_to_back = [1, *(_SECTOR * n // problem.itemsize for n in (1, 2, 4, 8))]
                for planes in back_to_back if problem.interleaved else [max(1, size // longest)]:
                    yield Config(min(planes, most_planes), min(size // planes, longest), num_warps)

    found = list(dict.fromkeys(configs()))
    return found if compiler_version() >= (3, 7) else large_windows_before_3_7(found, problem.itemsize, device.arch)


_TRIP_US = 0.7
"""Assumed latency of one trip of a loop that waits for what it loads."""


@functools.lru_cache(maxsize=4096)
def pick_config(problem: Problem, device: Device) -> Config:
    """The block sizes for a problem: a pure function of the problem and the device.

    Long tiles take few trips, each of which waits for memory; small ones are more programs, for a GPU that a small problem
    leaves idle.
    """
    rows, cols = problem.window
    if device is INTERPRETER:
        wide = min(triton.next_power_of_2(cols), 4096)
        return Config(min(triton.next_power_of_2(problem.planes), 16384 // wide), wide, 4)

    def modelled_us(config: Config) -> float:
        count, trips = _programs(problem, config), _trips(problem, config)
        elements = config.rows * config.cols / (config.num_warps * device.warp_size)
        tiles = count * trips * config.rows * config.cols
        used = problem.planes * problem.rows.size * problem.cols.size * rows * cols / tiles * min(1.0, elements)
        slots = resident_programs(device, config.num_warps, int(24 + elements))
        full = min(wave_efficiency(count, slots), count * used / slots)
        # of a plane among others, whole sectors are fetched
        sectors = max(1, _SECTOR // (problem.itemsize * config.rows)) if problem.interleaved else 1
        memory = memory_us(sectors * _cost(problem, config).bytes_moved, device)
        # read off the machine code of means, on an H100
        instructions = 250 + 4 * elements + trips * (110 + elements)
        issue = issue_us(count * config.num_warps * instructions, device)
        return max(memory, issue) / full + 0.1 * issue + _TRIP_US * trips

    return min(candidates(device, problem), key=modelled_us)


def _vector_cols(x: torch.Tensor, size: int, vec: int) -> int:
    """Elements of one access along the columns of x, as far as its strides, its address and its windows allow."""
    width = x.shape[3]
    return vector_in(x, math.gcd(vec, width // size), 3) if width % size == 0 else 1


def _plane_strides(t: torch.Tensor) -> tuple[int, int, int]:
    """C, and the strides of images and channels."""
    return (1, plane_step(t), 0) if at_equal_steps(t) else (t.shape[1], t.stride(0), t.stride(1))


def launch_windows(
    kernel: Any, x: torch.Tensor, outputs: tuple[torch.Tensor, ...], config: Config | None, **meta: Any
) -> None:  # fmt: skip
    """Launch a program for every window of some planes of x (N, C, H, W); outputs (N, C, P, Q) have the strides of the first.

    The kernel takes x and outputs; the number of planes; C, H and W; C, P and Q; and the strides of x and of the outputs. C is
    1, and the stride of a channel 0, where planes lie at equal steps.
    """
    out = outputs[0]
    n, c, p, q = out.shape
    vec = 16 // x.element_size()
    vec_planes = vector_in(x, math.gcd(vec, c))
    interleaved = c > 1 and x.stride(1) == 1
    problem = Problem(
        n * c, *_axes(out, x), interleaved, x.element_size(), sum(t.element_size() for t in outputs)
    )  # fmt: skip
    config = config or pick_config(problem, target_device(out))
    (x_c, *x_strides), (y_c, *y_strides) = _plane_strides(x), _plane_strides(out)
    launch(
        kernel, _programs(problem, config),
        x, *outputs,
        n * c, x_c, *x.shape[2:], y_c, p, q,
        *x_strides, *x.stride()[2:], *y_strides, *out.stride()[2:],
        config=config, cost=lambda: _cost(problem, config), num_warps=config.num_warps,
        ACC=tl.float64 if x.dtype == torch.float64 else tl.float32,
        VEC_PLANES=vec_planes, VEC_COLS=1 if vec_planes > 1 else _vector_cols(x, q, vec),
        WIDE=(x.shape[3] + config.cols) * x.stride(3) >= 2**31, LONG=is_long(out, x),
        BLOCK_PLANES=config.rows, BLOCK_COLS=config.cols, **meta,
    )  # fmt: skip
