"""What a launch of a convolution costs with a config, before it is compiled: programs, traffic, and estimates for the model."""

from __future__ import annotations

from .conv2d_problem import Config, Problem, reads_shared, rows_a_trip, rows_of_operands, shared_bytes
from .hardware import Device
from .model import Work
from .protocol import Cost


def _strips(problem: Problem, config: Config) -> int:
    """Strips of the images that a launch slides down."""
    columns = config.block_m * (problem.slides if problem.spreads else 1)
    return problem.m // problem.plane * -(-problem.height // config.rows) * -(-problem.width // columns)


def _rows_read(problem: Problem, config: Config) -> float:
    """Rows of y, on average, for which a program that slides down a strip of them reads rows of x, in whole trips; rows of dy
    that one reads which spreads them."""
    whole, rest = divmod(problem.height, config.rows)
    at_once, strips = rows_a_trip(problem), [config.rows] * whole + [rest] * (rest > 0)
    if problem.kind == "weight_grad" and not problem.depthwise:
        # the first rows of x of a strip are loaded before its first row of dy
        read = [rows + 1 for rows in strips]
    elif problem.spreads:
        read = [-(-(rows + problem.taps // problem.row - 1) // problem.slides) for rows in strips]
    else:
        read = [rows + problem.waiting - 1 for rows in strips]
    return sum(-(-rows // at_once) * at_once for rows in read) / len(strips)


def _is_flat_slide(problem: Problem, config: Config) -> bool:
    """Whether a program slides by matrix products (see conv2d/flat_slide.py): a depthwise one has none."""
    return config.rows > 0 and not problem.depthwise


def steps(problem: Problem, config: Config) -> int:
    """How many strips or, without sliding, blocks of pixels each range of a weight gradient sums."""
    found = _strips(problem, config) if config.rows else -(-problem.m // config.block_k)
    return -(-found // config.splits)


def programs(problem: Problem, config: Config) -> int:
    """How many programs a launch has."""
    if config.rows:
        ranges = config.splits if problem.kind == "weight_grad" else _strips(problem, config)
        if problem.depthwise:
            return ranges * -(-problem.groups // config.block_n)
        return ranges * problem.groups * -(-problem.k // config.block_n)
    if problem.kind == "weight_grad":
        if problem.method == "direct":
            per_split = -(-problem.groups * problem.k // config.block_n) * problem.taps // config.taps * problem.c
        elif problem.method == "flat":
            per_split = (
                -(-problem.taps * problem.c // config.block_n) * -(-problem.k // config.block_m) * problem.groups
            )
        else:
            per_split = problem.taps // config.taps * -(-problem.c // config.block_n)
            per_split *= -(-problem.k // config.block_m) * problem.groups
        return per_split * config.splits
    if problem.method == "direct":
        return -(-problem.m // config.block_m) * -(-problem.groups * problem.k // config.block_n) * problem.phases
    if config.tile_rows > 1:
        tiles = -(-problem.height // config.tile_rows) * -(-problem.width // config.block_m)
        return problem.m // problem.plane * tiles * -(-problem.k // config.block_n) * problem.groups
    pixels = config.block_m - (problem.span if config.taps > 1 else 0)
    return -(-problem.m // pixels) * -(-problem.k // config.block_n) * problem.groups * problem.phases


def trips(problem: Problem, config: Config) -> float:
    """Iterations of the main loop of a program."""
    if config.rows:
        strips = steps(problem, config) if problem.kind == "weight_grad" else 1
        return strips * _rows_read(problem, config) / rows_a_trip(problem)
    if problem.kind == "weight_grad":
        return steps(problem, config)
    if problem.method == "direct":
        # a depthwise loop goes through rows of taps, which it unrolls; others take a trip for every tap of a channel
        return problem.columns / (problem.row if problem.c == 1 else 1)
    if problem.method == "flat":
        return -(-problem.columns // config.block_k)
    taps = problem.taps // problem.row if config.tile_rows > 1 else config.taps
    return problem.taps / problem.phases / taps * -(-problem.c // config.block_k)


def accumulator_bytes(problem: Problem) -> int:
    return 8 if problem.itemsize == 8 else 4


def _workspace(problem: Problem, config: Config) -> int:
    """Bytes that the sums of all ranges of pixels take."""
    return accumulator_bytes(problem) * config.splits * problem.groups * problem.k * problem.c * problem.taps


def _filled(size: int, block: int) -> float:
    """Share of the lanes that exist, where an axis is cut into blocks."""
    return size / (-(-size // block) * block)


def cost(problem: Problem, config: Config) -> Cost:
    """What a launch moves and multiplies.

    L2 traffic is what programs load: an implicit product loads a pixel anew for every tap, past L1. Direct kernels load
    through L1, where neighbouring taps of a row find what the first one brought. Those that slide load a row once a strip.
    """
    count, loops = programs(problem, config), trips(problem, config)
    if config.rows:
        if problem.spreads:
            columns = config.block_m + problem.row // problem.slides
        else:
            columns = ((config.block_m - 1) * problem.slides + problem.row) * problem.slides
        rows = loops * rows_a_trip(problem)
        loads, flops = rows * columns, 0
        if problem.kind == "weight_grad":
            read = steps(problem, config) * problem.height / -(-problem.height // config.rows) * config.block_m
            loads += read if problem.depthwise else read * config.block_n / problem.c
        loads *= config.block_n if problem.depthwise else problem.c
        if not problem.depthwise:
            loads += problem.taps * problem.c * config.block_n if problem.kind != "weight_grad" else 0
            products = config.block_m * config.block_n * config.block_k * problem.taps // problem.row
            flops = round(2.0 * products * rows * count)
        loads *= problem.itemsize
    elif problem.method == "direct":
        pixels, taps = config.block_m, problem.row
        rows = problem.columns / taps
        if problem.kind == "weight_grad":
            pixels, taps, rows = config.block_k, config.taps, loops
        columns = pixels + problem.span * (taps - 1) // (problem.row - 1) if problem.span else taps * pixels
        loads = rows * (columns + (pixels if problem.kind == "weight_grad" else 0)) * config.block_n * problem.itemsize
        flops = 0
    else:
        # lanes beyond the channels load nothing, though matrix units multiply their zeros
        inputs = problem.columns if problem.method == "flat" else problem.c
        products = problem.taps // problem.row * config.tile_rows if config.tile_rows > 1 else config.taps
        if config.tile_rows > 1:
            operands, of_k = float(rows_of_operands(problem, config)), _filled(inputs, config.block_k)
        elif problem.kind == "weight_grad":
            operands, of_k = _filled(problem.k, config.block_m) * config.block_m, 1.0
            operands += _filled(inputs, config.block_n) * config.taps * config.block_n
        else:
            operands = config.block_m + _filled(problem.k, config.block_n) * config.taps * config.block_n
            of_k = _filled(inputs, config.block_k)
        loads = loops * operands * of_k * config.block_k * problem.itemsize
        flops = round(2.0 * config.block_m * products * config.block_n * config.block_k * loops * count)
    workspace = _workspace(problem, config) if config.splits > 1 else 0
    outputs = problem.c * problem.taps if problem.kind == "weight_grad" else problem.m * problem.phases
    if config.rows and problem.kind != "weight_grad":
        # a row is written as soon as it is whole
        outputs = 0
    return Cost(
        bytes_moved=problem.bytes_least + workspace,
        bytes_least=problem.bytes_least,
        trips=loops,
        bytes_l2=round(loads * count),
        bytes_out=workspace or outputs * problem.groups * problem.k * problem.itemsize,
        flops=flops,
        itemsize=problem.itemsize,
        tf32=problem.tf32,
    )


def _instructions(problem: Problem, config: Config) -> tuple[float, float]:
    """Assumed lengths of the main loop and of the rest, in instructions a warp, fitted to machine code for sm_90."""
    lanes = 32 * config.num_warps
    values = config.block_m * config.block_n / lanes
    if _is_flat_slide(problem, config):
        loaded = rows_a_trip(problem) * problem.slides * config.block_m * config.block_k / lanes
        if problem.kind == "weight_grad":
            height = problem.taps // problem.row
            met, sums = (height * side * config.block_k / lanes for side in (config.block_m, config.block_n))
            return 30 + 4 * loaded + 2.6 * met + 8 * height, 350 + 10 * sums
        taps = problem.taps // problem.row * config.block_k * config.block_n / lanes
        return 30 + 8 * loaded + values * (problem.waiting + 1.5 * rows_a_trip(problem)), 250 + 8 * taps
    # what a ring may owe is asked for every tile that is stored, and is rarely loaded
    fold = 330 if problem.kind == "fold" else 0
    if problem.spreads and config.rows:
        # of a row, columns of dy are loaded and widened, and four tiles of dx are stored
        loop = problem.taps * values + (1 + problem.row // 2) * (2 + values) + 4 * (14 + values / 2 + fold)
        return 10 + loop * rows_a_trip(problem), 280 + 3 * problem.taps * values
    if config.rows:
        loop = problem.slides * problem.row * (9 + values) + problem.taps * values
        if problem.kind == "weight_grad":
            # a strip has about 100 instructions of its own; in the end lanes are added up for each tap
            loop += 40 + 100 / _rows_read(problem, config)
            return 10 + loop * rows_a_trip(problem), 500 + 28 * problem.taps
        return 10 + (loop + values + fold) * rows_a_trip(problem), 250 + 3 * problem.taps * values
    if problem.method == "direct":
        if problem.kind == "weight_grad":
            values = config.block_k * config.block_n / lanes
            return config.taps * (16 + 5.4 * values if problem.c == 1 else 31 + 7.2 * values), 550 + 4 * values
        if problem.c == 1:
            return 20 + (28 + 3.5 * values) * problem.row, 170 + 8 * values + fold
        return 30 + 7.7 * values, 550 + 17 * values + fold
    if config.tile_rows > 1:
        # a thread copies so many times 128 bits
        copies = rows_of_operands(problem, config) * config.block_k * problem.itemsize / 16 / lanes
        products = problem.taps // problem.row * config.tile_rows
        return 6 * products + 14.5 * copies, 450 + 3.6 * config.tile_rows * values
    outside = 500 + (14 if problem.kind == "weight_grad" else 9) * config.taps * values
    of_m, of_n = config.block_m * config.block_k / lanes, config.block_n * config.block_k / lanes
    if problem.method == "flat":
        if problem.kind == "weight_grad":
            return 90 + 11.3 * of_m + 7.5 * of_n, outside
        return 70 + (13 if problem.lean else 22) * of_m + 3 * of_n, outside
    if not problem.coalesced:
        return 70 + 7 * (of_m + of_n), outside
    # a thread copies so many times 128 bits for each row of a tile
    rows = config.block_k * problem.itemsize / 16 / lanes
    if problem.kind == "weight_grad":
        return 80 + (12 * config.block_m + (6 + 14 * config.taps) * config.block_n) * rows, outside
    copies, loop = config.block_m * rows, 55 + 15 * config.taps
    if config.taps > 1:
        return loop + 9 * copies + 3.5 * config.taps * config.block_n * rows, outside
    # where results are narrower than the tile is deep, threads that store have other pixels than threads that copy
    outside = 200 + (9 if problem.lean else 16) * values + (42 * copies if config.block_n < config.block_k else 0)
    if problem.taps == 1:
        return loop - 25 + 6 * copies + 3 * config.block_n * rows, outside
    return loop + 9 * copies + 3.5 * config.block_n * rows, outside + 28 * copies


def _registers(problem: Problem, config: Config, device: Device) -> int:
    """About as many as a thread has: its sums, and what they are made of. The counts were read off machine code."""
    lanes = 32 * config.num_warps
    if _is_flat_slide(problem, config):
        loaded = rows_a_trip(problem) * problem.slides * config.block_m * config.block_k / lanes
        if problem.kind == "weight_grad":
            # narrow operands lie in registers, too
            met, sums = (
                problem.taps // problem.row * side * config.block_k / lanes for side in (config.block_m, config.block_n)
            )
            return min(255, int(50 + 2.4 * sums + (2.1 * met if config.block_n < 64 else 0)))
        waiting = problem.waiting * config.block_m * config.block_n / lanes
        return min(255, int(32 + 1.05 * waiting + 1.6 * loaded))
    if config.rows:
        # the taps, or the sums of them, the rows that wait, and the addresses of the columns
        values = config.block_m * config.block_n / lanes
        if problem.spreads:
            waiting, loaded = 2 * max(0, problem.taps // problem.row - 2), rows_a_trip(problem) * (1 + problem.row // 2)
            return min(255, int(52 + (problem.taps + waiting + loaded * problem.itemsize / 4) * values))
        return min(255, int(32 + (problem.taps + 3) * values + 4.8 * problem.row))
    if problem.method == "direct":
        pixels = config.block_k if problem.kind == "weight_grad" else config.block_m
        return min(255, int(36 + 3.5 * pixels * config.block_n / lanes))
    if stages(problem, config) == 1:
        # elements that are loaded one by one have an address each
        if problem.method == "flat" and problem.kind == "weight_grad":
            sums, of_m = config.block_m * config.block_n / lanes, config.block_m * config.block_k / lanes
            return min(255, int(30 + sums + of_m + 2.5 * config.block_n * config.block_k / lanes))
        return min(255, int(12 + 2 * config.block_n + 1.5 * config.block_m * config.block_k / lanes))
    operands = 0
    if problem.kind == "weight_grad" and config.taps > 1 and not reads_shared(device.arch):
        operands = 25 * config.taps
    sums = max(config.taps, config.tile_rows)
    return min(255, int(32 + operands + 1.4 * sums * config.block_m * config.block_n / lanes))


def stages(problem: Problem, config: Config) -> int:
    """One more than the trips of the loop that wait for memory together: several where copies are asynchronous, or where what
    the channels of a narrow group read lies in one line of the cache."""
    if _is_flat_slide(problem, config):
        return 1
    if problem.method == "direct":
        return 1 + problem.c
    return config.num_stages if problem.method == "gemm" and problem.coalesced else 1


def work(problem: Problem, config: Config, device: Device) -> Work:
    """A launch as the model sees it before it is compiled; `torchops inspect` reads the machine code instead."""
    loop, outside = _instructions(problem, config)
    in_registers = problem.method == "direct" and not _is_flat_slide(problem, config)
    shared = 0 if in_registers else shared_bytes(problem, config) // config.num_stages
    return Work(
        programs=programs(problem, config), num_warps=config.num_warps, cost=cost(problem, config), loop=loop, outside=outside,
        registers=_registers(problem, config, device), shared_bytes=shared * stages(problem, config),
        stages=stages(problem, config),
    )  # fmt: skip
