"""Block sizes of kernels that slide down an image: what can be picked, what it costs, and which the model picks."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from .compilers import Version
from .hardware import INTERPRETER, Device, dram_us, resident_programs
from .protocol import Cost, frugal, power_of_2


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a launch has to do, as far as its block sizes depend on it."""

    planes: int
    height: int
    row: int
    """Elements of a row: W*L."""
    lanes: int
    bytes_in: int
    """Bytes that all inputs have for an element."""
    bytes_halo: int
    """Bytes that two neighbouring tiles both read, for an element of the border between them."""
    bytes_out: int
    """Bytes that are written for an element."""
    extra_trips: int
    """Rows that a strip filters beyond those it writes."""
    columns_a_thread: int
    """4 of them make 128-bit accesses of float32; the backward keeps 20 values a column in registers, and affords 2."""


@dataclass(frozen=True)
class Config:
    """Columns and rows of the tile that a program computes."""

    block: int
    rows: int
    num_warps: int


def programs(problem: Problem, config: Config) -> int:
    """How many programs a launch has."""
    return problem.planes * -(-problem.height // config.rows) * -(-problem.row // config.block)


def cost(problem: Problem, config: Config) -> Cost:
    """DRAM bytes, with the rows and columns that neighbouring tiles both read counted once a tile."""
    strips, blocks = -(-problem.height // config.rows), -(-problem.row // config.block)
    borders = (strips - 1) * problem.row + (blocks - 1) * problem.height * problem.lanes
    least = problem.planes * problem.height * problem.row * (problem.bytes_in + problem.bytes_out)
    return Cost(
        bytes_moved=least + problem.planes * borders * problem.bytes_halo,
        bytes_least=least,
        trips=problem.height / strips + problem.extra_trips,
    )


_ROW_US = 0.7
"""Assumed latency of one trip of a strip: what the last programs of a launch take after all others are done."""


def candidates(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """The configs that can be picked; neither triton 3.6 nor 3.8 spills in one."""
    return [
        Config(block, rows, max(1, block // (device.warp_size * problem.columns_a_thread)))
        for block in (128, 256, 512)
        for rows in (4, 8, 16, 32, 64)
    ]


@functools.lru_cache(maxsize=4096)
def pick_config(problem: Problem, device: Device) -> Config:
    """The block sizes for a problem: a pure function of the problem and the device.

    Tall strips share their halo rows with few neighbours; short ones fill a GPU that a small problem leaves idle, and let
    the last wave end early. The model weighs the two. What does not fit into L2 keeps its halos below 5% of the traffic.
    """
    if device is INTERPRETER:
        return Config(min(power_of_2(problem.row), 4096), problem.height, 4)
    configs = candidates(problem, device)

    def modelled_us(config: Config) -> float:
        need = cost(problem, config)
        full = min(1.0, programs(problem, config) / resident_programs(device, config.num_warps))
        # threads whose columns lie beyond the end of a row have nothing to do
        full *= problem.row / (-(-problem.row // config.block) * config.block)
        return dram_us(need.bytes_moved, device) / full + _ROW_US * need.trips

    if cost(problem, configs[0]).bytes_least > device.l2_bytes:
        configs = frugal(configs, functools.partial(cost, problem))
    return min(configs, key=modelled_us)
