"""Block sizes of kernels over windows: what can be picked, what it costs, and which the model picks."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Protocol

from .compilers import Version, compiler_version, sliding_before_3_7, windows_before_3_7
from .hardware import INTERPRETER, Device, dram_us, issue_us, resident_programs, wave_efficiency
from .protocol import Cost, frugal, power_of_2


class Reads(Protocol):
    """Rows, or columns, of an output of `size`, and what of an input they read."""

    @property
    def size(self) -> int: ...

    def __hash__(self) -> int: ...

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


@dataclass(frozen=True)
class Slide:
    """What a program does that goes down a strip of an output."""

    rows: int
    """Of a window."""
    cols: int
    """Taps of a row that an output reads at most."""
    stride: int
    """Rows from a window to the next."""
    windows: bool
    """Whether outputs are windows: then a turn of the loop reads `stride` rows and writes one, else it is the other way
    round."""
    places: bool
    """Whether indices are made, or followed: there is one for each value."""
    reduces: bool
    """Whether one of the taps of a row is picked, once for all windows that the row lies in."""

    @property
    def open(self) -> int:
        """Windows that a row lies in at most."""
        return -(-self.rows // self.stride)

    @property
    def loads(self) -> int:
        """In a turn, of an element."""
        return self.cols * (self.stride if self.windows else 1 + self.places)

    @property
    def stores(self) -> int:
        """In a turn, of an element; the results of as many wait `open` turns."""
        return 1 if self.windows else self.stride

    def turns(self, rows: int) -> int:
        """Of the loop, for so many rows of the output."""
        return -(-rows // self.stores) + self.open - 1


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
    slide: Slide | None = None
    """Where programs can go down strips."""


@dataclass(frozen=True)
class Config:
    """Rows and columns of the tile of a program."""

    rows: int
    """Of a tile that slides: of as many planes, one each."""
    cols: int
    num_warps: int
    strip: int = 0
    """Rows down which a tile slides; 0 where it stays."""


def programs(problem: Problem, config: Config) -> int:
    """How many programs a launch has."""
    blocks = -(-problem.cols.size * problem.lanes // config.cols)
    if config.strip:
        return -(-problem.planes // config.rows) * -(-problem.rows.size // config.strip) * blocks
    return -(-problem.planes * problem.rows.size // config.rows) * blocks


def _turns(problem: Problem, config: Config) -> float:
    """How often a program goes through its loop."""
    if problem.slide and config.strip:
        return problem.slide.turns(config.strip)
    return problem.taps / problem.unroll


@functools.lru_cache(maxsize=4096)
def _rows_read(rows: Reads, high: int) -> int:
    """By all tiles below each other, of so many rows."""
    return sum(rows.read(first, min(first + high, rows.size) - 1) for first in range(0, rows.size, high))


@functools.lru_cache(maxsize=4096)
def _cols_read(cols: Reads, lanes: int, wide: int) -> float:
    """By all tiles beside each other, of so many columns."""
    found = 0.0
    for first in range(0, cols.size * lanes, wide):
        last = min(first + wide, cols.size * lanes) - 1
        pixels = last // lanes - first // lanes + 1
        # a tile may begin and end in the middle of a pixel
        found += cols.read(first // lanes, last // lanes) * (last - first + 1) / pixels
    return found


def cost(problem: Problem, config: Config) -> Cost:
    """DRAM bytes; what two tiles both read is counted for each. Tiles count as if one began with every plane."""
    rows, cols, lanes = problem.rows, problem.cols, problem.lanes
    read = _rows_read(rows, config.strip or config.rows) * _cols_read(cols, lanes, config.cols)
    written = problem.planes * rows.size * cols.size * lanes * problem.bytes_out
    least = rows.read(0, rows.size - 1) * cols.read(0, cols.size - 1) * lanes
    return Cost(
        bytes_moved=max(math.ceil(read), least) * problem.planes * problem.bytes_in + written,
        bytes_least=least * problem.planes * problem.bytes_in + written,
        trips=_turns(problem, config),
    )


def candidates(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """The configs that can be picked: a thread has 16 bytes of an output, or, where tiles stay, twice that.

    Args:
        compiler: major and minor version of Triton; by default, of the one that is installed.
    """
    num_warps = 4
    chunks = (1,) if problem.heavy else (1, 2)
    sizes = [num_warps * device.warp_size * n * (16 // problem.itemsize) for n in chunks]
    found = [Config(2**i, size // 2**i, num_warps) for size in sizes for i in range(7)]
    sliding = _sliding(problem, device)
    if (compiler or compiler_version()) < (3, 7):
        found = windows_before_3_7(found, problem.itemsize, device.arch)
        sliding = sliding_before_3_7(sliding, problem.lanes, problem.itemsize, device.arch)
    return found + sliding


def _sliding(problem: Problem, device: Device) -> list[Config]:
    """The configs of tiles that slide: down a whole plane, or a part of it, all parts of about as many rows."""
    if not problem.slide:
        return []
    rows = problem.rows.size
    strips = {-(-rows // part) for n in range(16) for part in (2**n, 3 * 2**n)}
    least = min(rows, problem.slide.open)
    # windows that wait take registers: triton 3.8 spills 24 instructions (40 bytes) in 8x128 on sm_90 in the gradient of 7x7
    # windows by positions with 8 elements a thread, and none with 4
    most = min(16 // problem.itemsize, 8 if max(problem.slide.rows, problem.slide.cols) <= 3 else 4)
    return [
        Config(2**i, num_warps * device.warp_size * most // 2**i, num_warps, strip)
        for num_warps in (4, 8)
        for i in range(7)
        for strip in sorted(strips)
        if strip >= least
    ]


def _instructions(problem: Problem, config: Config, device: Device) -> float:
    """About as many as a warp issues: the counts were read off the machine code of 2x2 pools and of unpooling, and of 3x3 pools
    that slide and their gradients, for an H100."""
    elements = config.rows * config.cols / (config.num_warps * device.warp_size)
    if config.strip:
        assert problem.slide is not None
        s = problem.slide
        a_tap = 3 if s.places else 1
        an_element = 4.5 * s.loads + a_tap * s.rows * s.cols + 2 * s.stores
        return 220 + s.turns(config.strip) * (40 + elements * an_element)
    return 130 + elements * (6 + 9 * problem.taps)


def _registers(problem: Problem, config: Config, device: Device) -> int:
    """About as many as a thread has: all loads of a loop that is unrolled are under way at once."""
    elements = config.rows * config.cols / (config.num_warps * device.warp_size)
    if config.strip:
        assert problem.slide is not None
        s = problem.slide
        an_element = 2 + s.open * s.stores + (2 + s.places * (s.open + 1) if s.reduces else s.loads)
        # lanes of a pixel share masks and addresses
        share = 1.0 if problem.lanes == 1 else 0.6 if s.places else 0.55 if s.windows else 0.35
        return min(255, int(20 + elements * an_element * share))
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
        if problem.slide:
            # strips that join, even of small images
            return Config(min(power_of_2(problem.planes), max(1, 16384 // cols)), cols, 4, -(-problem.rows.size // 2))
        rows = min(power_of_2(problem.planes * problem.rows.size), max(1, 16384 // cols))
        return Config(rows, cols, 4)

    def modelled_us(config: Config) -> float:
        count = programs(problem, config)
        registers = _registers(problem, config, device)
        if problem.slide:
            # programs that slide take long, and the last wave of them as long as the others; how many are in a wave depends on
            # registers, of which the count is off by a sixth
            counts = (registers * 6 // 7, registers, registers * 7 // 6)
            waves = [wave_efficiency(count, resident_programs(device, config.num_warps, n)) for n in counts]
            full = sum(waves) / len(waves)
        else:
            # threads beyond the end of a row fill no GPU
            used = problem.planes * problem.rows.size * row / (count * config.rows * config.cols)
            full = min(1.0, count * used / resident_programs(device, config.num_warps, registers))
        memory = dram_us(cost(problem, config).bytes_moved, device)
        issue = issue_us(count * config.num_warps * _instructions(problem, config, device), device)
        # of two configs that wait for the same, the one that needs less of the other is the better
        return (max(memory, issue) + 0.1 * (memory + issue)) / full

    # a tile is no narrower than a line of the cache, unless a row is
    least = min(power_of_2(row), 128 // problem.itemsize)
    wide = [c for c in candidates(problem, device) if c.cols >= least]
    # strips share rows: the model weighs these, too
    return min(wide if problem.slide else frugal(wide, functools.partial(cost, problem)), key=modelled_us)
