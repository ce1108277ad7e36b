"""Block sizes of kernels that reduce large windows of adaptive pools: what can be picked, what it costs, and which the model
picks."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from torchops.kernels.geometry import Pair

from .compilers import Version, compiler_version, large_windows_before_3_7
from .hardware import INTERPRETER, Device, dram_us, issue_us, resident_programs, wave_efficiency
from .protocol import Cost, power_of_2
from .windows import Config


def most(size: int, size_in: int) -> int:
    """How many inputs the longest of the windows has."""
    # with r = p * size_in % size, window p has ceil((r + size_in) / size) of them; the largest r is size - gcd(size, size_in)
    return (size_in - math.gcd(size, size_in) - 1) // size + 2


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
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


def programs(problem: Problem, config: Config) -> int:
    """How many programs a launch has; the rows of its tiles are planes."""
    return -(-problem.planes // config.rows) * problem.rows.size * problem.cols.size


def _trips(problem: Problem, config: Config) -> int:
    rows, cols = problem.window
    return rows * -(-cols // config.cols)


@functools.lru_cache(maxsize=4096)
def cost(problem: Problem, config: Config) -> Cost:
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


def candidates(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """The configs that can be picked: planes and columns of a tile, of 16 or 32 bytes a thread, no larger than the window.

    Where planes lie back to back, a tile has one to eight sectors of them, or one plane, where there are few; else it has as
    many columns as there are.

    Args:
        compiler: major and minor version of Triton; by default, of the one that is installed.
    """
    longest, most_planes = (power_of_2(n) for n in (problem.window[1], problem.planes))

    def configs() -> Iterator[Config]:
        for num_warps in (4, 16):
            for chunks in (1, 2):
                size = num_warps * device.warp_size * chunks * (16 // problem.itemsize)
                back_to_back = [1, *(_SECTOR * n // problem.itemsize for n in (1, 2, 4, 8))]
                for planes in back_to_back if problem.interleaved else [max(1, size // longest)]:
                    yield Config(min(planes, most_planes), min(size // planes, longest), num_warps)

    found = list(dict.fromkeys(configs()))
    if (compiler or compiler_version()) >= (3, 7):
        return found
    return large_windows_before_3_7(found, problem.itemsize, device.arch)


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
        wide = min(power_of_2(cols), 4096)
        return Config(min(power_of_2(problem.planes), 16384 // wide), wide, 4)

    def modelled_us(config: Config) -> float:
        count, trips = programs(problem, config), _trips(problem, config)
        elements = config.rows * config.cols / (config.num_warps * device.warp_size)
        tiles = count * trips * config.rows * config.cols
        used = problem.planes * problem.rows.size * problem.cols.size * rows * cols / tiles * min(1.0, elements)
        slots = resident_programs(device, config.num_warps, int(24 + elements))
        full = min(wave_efficiency(count, slots), count * used / slots)
        # memory fetches whole sectors, of which a tile of few planes among others uses a part
        sectors = max(1, _SECTOR // (problem.itemsize * config.rows)) if problem.interleaved else 1
        memory = dram_us(sectors * cost(problem, config).bytes_moved, device)
        # these counts were read off the machine code of means, for an H100
        instructions = 250 + 4 * elements + trips * (110 + elements)
        issue = issue_us(count * config.num_warps * instructions, device)
        return max(memory, issue) / full + 0.1 * issue + _TRIP_US * trips

    return min(candidates(problem, device), key=modelled_us)
