"""Fair timing of several ways to do one thing, for the demo and the benchmarks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def race(
    contenders: Mapping[str, Callable[[], Any]], *, rounds: int = 15, seconds: float = 0.1
) -> dict[str, list[float]]:
    """Time contenders interleaved, so that a machine that slows down slows all of them.

    In every round each contender runs for about `seconds`, after one run that is thrown away: it pays for what the one before
    left in the caches and in the allocator. The order turns from round to round.

    Args:
        contenders: functions by name, without arguments.
        rounds: times per contender that are kept.
        seconds: length of a contender's turn; it gets one run at least.

    Returns:
        Seconds per run for every contender, one entry a round; entries of one round belong together.
    """
    names = list(contenders)
    once = {name: min(_seconds(contenders[name], 1) for _ in range(2)) for name in names}
    runs = {name: max(1, min(1000, int(seconds / max(once[name], 1e-6)))) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            contenders[name]()
            times[name].append(_seconds(contenders[name], runs[name]) / runs[name])
    return times


def _seconds(function: Callable[[], Any], runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        function()
    return time.perf_counter() - start


def ratio(times: dict[str, list[float]], name: str, baseline: str) -> float:
    """Median, over the rounds, of the time of `name` over that of `baseline`; below 1, `name` is faster."""
    return statistics.median(a / b for a, b in zip(times[name], times[baseline], strict=True))
