"""Block sizes of convolutions: which is picked.

What can be picked stands in conv2d_candidates.py, what it costs in conv2d_cost.py. Times are those of model.py, with registers
and instructions estimated; a table of rows for named GPUs comes first (see tables.py).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from . import tables
from .compilers import PINNED, Version
from .conv2d_candidates import candidates
from .conv2d_cost import accumulator_bytes, steps, work
from .conv2d_cost import cost as cost
from .conv2d_cost import programs as programs
from .conv2d_problem import KINDS, Config, Problem
from .conv2d_problem import method as method
from .conv2d_problem import rows_a_trip as rows_a_trip
from .hardware import INTERPRETER, Device
from .model import LAUNCH_US, Work, model
from .protocol import Cost, power_of_2


def sum_cost(bytes_in: int, bytes_out: int, trips: int, device: Device) -> Cost:
    """What it costs to add up ranges in so many trips: L2 holds what was written just before, as far as it fits."""
    moved = bytes_out + max(0, bytes_in - device.l2_bytes)
    return Cost(moved, moved, trips, bytes_l2=bytes_in)


def _sum_us(tile: tuple[int, int], splits: int, outputs: int, itemsize: int, device: Device) -> float:
    """The time of a sum of ranges in a tile, as read off machine code for sm_90; what it writes is little."""
    rows, columns = tile
    need = sum_cost(splits * outputs * itemsize, 0, -(-splits // rows), device)
    values, halvings = rows * columns / 128, rows.bit_length()
    adds = Work(
        programs=-(-outputs // columns), num_warps=4, cost=need, loop=10 + 3.4 * values + 6 * halvings,
        outside=120 + 0.4 * columns, registers=48, shared_bytes=0,
    )  # fmt: skip
    return model(adds, device).us


@functools.lru_cache(maxsize=4096)
def sum_tile(splits: int, outputs: int, itemsize: int, device: Device) -> tuple[int, int]:
    """Ranges and elements that a program of the kernel that adds up ranges of pixels loads at a time; `itemsize` is the sums'.

    Every trip waits for memory, so few outputs are loaded many ranges at a time, in rows that leave a program to each
    multiprocessor, though never fewer than the 32 bytes that memory hands over at once. Where outputs are many, short columns
    of them waste no lanes on ranges that do not exist.
    """
    widest, narrowest = min(512, power_of_2(-(-outputs // device.sms))), 32 // itemsize
    heights = [rows for rows in (4, 8, 16, 32, 64, 128, 256, 512) if rows <= power_of_2(splits)] or [power_of_2(splits)]
    tiles = [(rows, max(narrowest, min(2048 // rows, widest))) for rows in heights]
    return min(tiles, key=lambda tile: _sum_us(tile, splits, outputs, itemsize, device))


def _modelled(problem: Problem, config: Config, device: Device) -> tuple[float, float]:
    """The time of `modelled_us`, and what decides between equal ones: the sum of what DRAM, L2, matrix units and issue take."""
    found = model(work(problem, config, device), device)
    us = found.us
    if config.splits > 1:
        outputs, itemsize = problem.groups * problem.k * problem.c * problem.taps, accumulator_bytes(problem)
        tile = sum_tile(config.splits, outputs, itemsize, device)
        us += LAUNCH_US + _sum_us(tile, config.splits, outputs, itemsize, device)
    return us, sum(found.times_us.values())


def modelled_us(problem: Problem, config: Config, device: Device) -> float:
    """Modelled time of a launch before it is compiled, with the sum of its ranges of pixels."""
    return _modelled(problem, config, device)[0]


def _in_strips(problem: Problem, config: Config) -> list[Config]:
    """A config that slides, for images in one, two, four or eight strips of equal heights."""
    heights = {-(-problem.height // n) for n in (1, 2, 4, 8)} if config.rows else {0}
    return [replace(config, rows=rows) for rows in sorted(heights)]


def _with_splits(problem: Problem, config: Config, device: Device) -> list[Config]:
    """A weight gradient in so many ranges that they fill the device one to four times."""
    if problem.kind != "weight_grad":
        return [config]
    one, every = programs(problem, config), steps(problem, config)
    counts = {max(1, min(every, round(device.sms * waves / one))) for waves in (1, 2, 3, 4)}
    counts |= {max(1, min(every, device.sms * waves // one)) for waves in (1, 2, 3, 4)}
    # a range of no pixels would be a program that does nothing: fewer ranges of as many steps hold all pixels
    exact = {-(-every // -(-every // n)) for n in counts}
    return [replace(config, splits=n) for n in sorted(exact)]


def parse_row(row: dict[str, Any]) -> tuple[Problem, Config]:
    """A row of a table.

    Raises:
        ValueError: if it is none.
    """
    problem, config = tables.checked(Problem, row.get("problem")), tables.checked(Config, row.get("config"))
    sizes = problem.m, problem.k, problem.c, problem.taps, problem.row, problem.phases, problem.groups
    wrong = problem.kind not in KINDS or problem.itemsize not in (2, 4, 8) or min(sizes) < 1
    image = problem.plane
    if (
        wrong
        or problem.taps % problem.row
        or (image > 0) != (problem.slides > 0 or problem.shares_rows)
        or (image and problem.m % image)
    ):
        raise ValueError(f"{problem} is none")
    return key(problem), config


@functools.cache
def table(device: Device) -> dict[Problem, Config]:
    """The rows for a GPU (see tables.py), as far as they are configs that may be picked: none is run that was never tested."""

    def parse(row: dict[str, Any]) -> tuple[Problem, Config]:
        problem, config = parse_row(row)
        if config not in choices(problem, device, PINNED) + choices(problem, device):
            raise ValueError(f"{config} is none that may be picked")
        return problem, config

    # a config that only another compiler takes is left out without a warning, as the file is not at fault
    return {p: c for p, c in tables.read(device, parse) if c in choices(p, device)}


def key(problem: Problem) -> Problem:
    """The problem as tables know it: without its bytes, which a bias changes.

    A residual, and the bias of a transposed convolution, make it another problem, as they take registers: see `lean`.
    """
    return replace(problem, bytes_least=0)


_preferred: dict[Problem, Config] = {}


@contextlib.contextmanager
def prefer(problem: Problem, config: Config) -> Iterator[None]:
    """Inside the block a problem gets this config, whatever the tables say.

    That holds for all threads of the process, because a backward pass runs in threads of its own.
    """
    outer = dict(_preferred)
    _preferred[key(problem)] = config
    pick_config.cache_clear()
    try:
        yield
    finally:
        _preferred.clear()
        _preferred.update(outer)
        pick_config.cache_clear()


def forget_tables() -> None:
    """Have the tables read anew when they are next needed."""
    table.cache_clear()
    pick_config.cache_clear()


@functools.lru_cache(maxsize=4096)
def pick_config(problem: Problem, device: Device) -> Config:
    """The block sizes for a problem: a pure function of the problem, the device and the tables."""
    if preferred := _preferred.get(key(problem)):
        return preferred
    if device is INTERPRETER:
        # the interpreter takes its time for every iteration of a loop, and hardly any for an element
        width = min(256, max(16, power_of_2(problem.c)))
        if problem.slides:
            sizes = problem.width, problem.groups if problem.depthwise else problem.k
            columns, channels = (min(64, max(16, power_of_2(n))) for n in sizes)
            return Config(columns, channels, problem.depth, 4, 1, rows=problem.height)
        if problem.kind == "weight_grad":
            return Config(16, 64, min(1024, max(16, power_of_2(problem.m))), 4, 1)
        shifts = problem.method == "gemm" and 0 < problem.span <= 64
        return Config(256, 16, width, 4, 1, taps=problem.row if shifts else 1)
    return table(device).get(key(problem)) or model_config(problem, device)


def choices(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """All that may be picked: the candidates, in strips of all heights and, for a weight gradient, in all numbers of splits."""
    found = (c for base in candidates(problem, device, compiler) for c in _in_strips(problem, base))
    return [c for base in found for c in _with_splits(problem, base, device)]


def ranking(problem: Problem, device: Device, compiler: Version | None = None) -> list[Config]:
    """All that may be picked, in the order of their modelled times."""
    return sorted(choices(problem, device, compiler), key=lambda c: _modelled(problem, c, device))


def model_config(problem: Problem, device: Device, compiler: Version | None = None) -> Config:
    """What the model picks."""
    return ranking(problem, device, compiler)[0]


def row(problem: Problem, config: Config, source: str, case: str) -> dict[str, object]:
    """A row of configs/<GPU>.json; `source` is "model" or "measured"."""
    return {"case": case, "source": source, "problem": asdict(key(problem)), "config": asdict(config)}
