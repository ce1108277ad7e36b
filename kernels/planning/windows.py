"""Block sizes of kernels over windows: what can be picked, what it costs, and which the model picks."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from .compilers import Version, compiler_version, windows_before_3_7
from .hardware import INTERPRETER, Device, issue_us, memory_us, resident_programs
from .protocol import Cost, frugal, power_of_2


class Reads(Protocol):
    """Rows, or columns, of an output of `size`, and what of an input they read."""

    @property
    def size(self) -> int: ...

    def read(self, first: int, last: int) -> int:
        """How many of the input the outputs from first to last read."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Rows, or columns, of an output of `size`, and what of an input of `size_in` they read."""

    size: int
    size_in: int
    extent: int
    """From the first pixel of a window to its last, both counted."""
    stride: int
    padding: int
    windows: bool
    """Whether outputs are windows, which read pixels; else they are pixels, which read the windows over them."""

    def read(self, first: int, last: int) -> int:
        if not self.windows:
            begin = -(-(first + self.padding - self.extent + 1) // self.stride)
            end = (last + self.padding) // self.stride
        elif self.extent < self.stride:
            return min((last - first + 1) * self.extent, self.size_in)
        else:
            begin = first * self.stride - self.padding
            end = last * self.stride - self.padding + self.extent - 1
        return max(0, min(end, self.size_in - 1) - max(begin, 0) + 1)


@dataclass(frozen=True, kw_only=True)
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
    """Whether a thread needs so many registers that it cannot have 32 bytes of an output."""


@dataclass(frozen=True)
class Config:
    """Rows and columns of the tile of a program."""

    rows: int
    cols: int
    num_warps: int


def programs(problem: Problem, config: Config) -> int:
    """How many programs a launch has."""
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


def candidates(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """The configs that can be picked: a thread has 16 bytes of an output, or twice that.

    Args:
        compiler: major and minor version of Triton; by default, of the one that is installed.
    """
    num_warps = 4
    chunks = (1,) if problem.heavy else (1, 2)
    sizes = [num_warps * device.warp_size * n * (16 // problem.itemsize) for n in chunks]
    found = [Config(2**i, size // 2**i, num_warps) for size in sizes for i in range(7)]
    if (compiler or compiler_version()) >= (3, 7):
        return found
    return windows_before_3_7(found, problem.itemsize, device.arch)


def _instructions(problem: Problem, config: Config, device: Device) -> float:
    """About as many as a warp issues: the counts were read off the machine code of 2x2 pools and of unpooling, for an H100."""
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
        cols = min(power_of_2(row), 4096)
        rows = min(power_of_2(problem.planes * problem.rows.size), max(1, 16384 // cols))
        return Config(rows, cols, 4)

    def modelled_us(config: Config) -> float:
        count = programs(problem, config)
        used = problem.planes * problem.rows.size * row / (count * config.rows * config.cols)
        # threads beyond the end of a row fill no GPU
        slots = resident_programs(device, config.num_warps, _registers(problem, config, device))
        full = min(1.0, count * used / slots)
        memory = memory_us(cost(problem, config).bytes_moved, device)
        issue = issue_us(count * config.num_warps * _instructions(problem, config, device), device)
        # of two configs that wait for the same, the one that needs less of the other is the better
        return (max(memory, issue) + 0.1 * (memory + issue)) / full

    # a tile is no narrower than a line of the cache, unless a row is
    least = min(power_of_2(row), 128 // problem.itemsize)
    wide = [c for c in candidates(problem, device) if c.cols >= least]
    return min(frugal(wide, functools.partial(cost, problem)), key=modelled_us)
