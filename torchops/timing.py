"""Fair timing of several ways to do one thing, for the demo and the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def race(contenders: Mapping[str, Callable[[], Any]], *, rounds: int = 15, burst: int = 2) -> dict[str, list[float]]:
    """Time contenders interleaved, so that a machine that slows down slows all of them.

    In every round each contender runs `burst` + 1 times in a row, and the first run is thrown away: it pays for what the
    one before left in the caches and in the allocator. The order turns from round to round.

    Args:
        contenders: functions by name, without arguments.
        rounds: times per contender that are kept, `burst` runs each.

    Returns:
        Seconds per run for every contender, one entry a round; entries of one round belong together.
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            function = contenders[name]
            function()
            times[name].append(_seconds(function, burst) / burst)
    return times


def _seconds(function: Callable[[], Any], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        function()
    return time.perf_counter() - start


def ratio(times: dict[str, list[float]], name: str, baseline: str) -> float:
    """Median, over the rounds, of the time of `name` over that of `baseline`; below 1, `name` is faster."""
    return statistics.median(a / b for a, b in zip(times[name], times[baseline], strict=True))
