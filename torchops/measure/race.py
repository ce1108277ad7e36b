"""Fair timing of several ways to do one thing, for the demo and the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from torchops.torch_internals import gpu_sleep


def seconds(function: Callable[[], Any], runs: int) -> float:
    """What so many runs take on the CPU."""
    start = time.perf_counter()
    for _ in range(runs):
        function()
    return time.perf_counter() - start


SLEEP = 3e-4, 0.1
"""Seconds that the GPU sleeps before a run, at least and at most."""
_CYCLES_A_SECOND = 3e9
"""More cycles than any GPU's clock has: a sleep is rather longer than asked for."""


def _queueing_seconds(function: Callable[[], Any]) -> float:
    """Seconds that the CPU takes to queue a run on the current GPU while it is idle, the longer of two."""
    longest = 0.0
    for _ in range(2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        longest = max(longest, time.perf_counter() - start)
    return longest


def device_seconds(function: Callable[[], Any], runs: int) -> float:
    """What so many runs take on the current GPU, each finding its L2 cache overwritten, as between the layers of a network.

    Before each run the GPU sleeps for twice as long as Python takes to queue one, so that all of it is queued when the GPU gets
    to it: the time is the GPU's, launches are not in it. A run that takes more than half of 0.1 s to queue, or that waits
    for the GPU in between, is not covered by that.
    """
    scratch = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    shortest, longest = SLEEP
    cycles = int(min(max(shortest, 2 * _queueing_seconds(function)), longest) * _CYCLES_A_SECOND)
    for start, end in events:
        gpu_sleep(cycles)
        scratch.zero_()
        start.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return sum(start.elapsed_time(end) for start, end in events) / 1e3


def race(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 15,
    turn: float = 0.1,
    clock: Callable[[Callable[[], Any], int], float] = seconds,
    most: int = 1000,
) -> dict[str, list[float]]:
    """Time contenders interleaved, so that a machine that slows down slows all of them.

    In every round each contender runs for about `turn` seconds, after one run that is thrown away: it pays for what the one
    before left in the caches and in the allocator. The order turns from round to round.

    Args:
        contenders: functions by name, without arguments.
        rounds: times per contender that are kept.
        turn: length of a contender's turn in seconds; it gets one run at least.
        clock: takes a function and how often to run it, returns the seconds.
        most: runs of a turn.

    Returns:
        Seconds per run for every contender, one entry a round; entries of one round belong together.
    """
    names = list(contenders)
    once = {name: min(clock(contenders[name], 1) for _ in range(2)) for name in names}
    runs = {name: max(1, min(most, int(turn / max(once[name], 1e-6)))) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            contenders[name]()
            times[name].append(clock(contenders[name], runs[name]) / runs[name])
    return times


def ratio(times: dict[str, list[float]], name: str, baseline: str) -> float:
    """Median, over the rounds, of the time of `name` over that of `baseline`; below 1, `name` is faster."""
    return statistics.median(a / b for a, b in zip(times[name], times[baseline], strict=True))
