"""A case is raced once, all its providers interleaved; pytest-benchmark stores what each took.

pytest-benchmark times one function after another, which a machine that changes its speed turns into nonsense. So the race is
run by `torchops.timing.race`, and its times are replayed to pytest-benchmark through a clock that only the replay moves. Its
JSON, statistics and comparisons then work as usual.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from torchops.timing import device_seconds, race, ratio, seconds


class ReplayClock:
    """A clock for pytest-benchmark that stands still but for `advance`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = ReplayClock()


@dataclass
class Contest:
    """The times of one case: seconds a run, by provider, and the most memory a run took."""

    times: dict[str, list[float]]
    peak_mib: dict[str, float]
    bytes_least: int
    flops: int = 0
    info: dict[str, Any] = field(default_factory=dict)


def hold(
    contenders: dict[str, Callable[[], Any]],
    *,
    check: Callable[[str, Any], None],
    bytes_least: int,
    flops: int = 0,
    rounds: int,
    device: str = "cpu",
) -> Contest:
    """Check every contender's result, measure its memory, then race them all."""
    for name, function in contenders.items():
        check(name, function())
    peak, clock = (_device_peak_mib, device_seconds) if device == "cuda" else (_peak_mib, seconds)
    peaks = {name: peak(function) for name, function in contenders.items()}
    return Contest(race(contenders, rounds=rounds, clock=clock), peaks, bytes_least, flops)


def replay(benchmark: Any, contest: Contest, provider: str) -> None:
    """Hand one provider's times to pytest-benchmark, with the figures of the report."""
    times = contest.times[provider]
    remaining = iter(times)
    benchmark.pedantic(lambda: CLOCK.advance(next(remaining)), rounds=len(times), iterations=1)
    cuts = statistics.quantiles(times, n=5, method="inclusive")
    benchmark.extra_info.update(
        contest.info,
        provider=provider,
        ms_p20=cuts[0] * 1e3,
        ms_p50=statistics.median(times) * 1e3,
        ms_p80=cuts[3] * 1e3,
        tflops=contest.flops / statistics.median(times) / 1e12,
        gb_per_s=contest.bytes_least / statistics.median(times) / 1e9,
        peak_mib=contest.peak_mib[provider],
        torchops_over_this=ratio(contest.times, "torchops", provider),
    )


def _device_peak_mib(function: Callable[[], Any]) -> float:
    """Most memory that a run adds to torch's allocator, MiB."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _peak_mib(function: Callable[[], Any]) -> float:
    """Most memory that a run adds to the process, MiB: resident, as the kernel counts it."""
    with contextlib.suppress(OSError), _peak_counter() as peak:
        function()
        return peak()
    return float("nan")


@contextlib.contextmanager
def _peak_counter() -> Iterator[Callable[[], float]]:
    """Linux can reset its high-water mark; elsewhere a thread looks every millisecond."""
    before = psutil.Process().memory_info().rss
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        seen, done = [before], threading.Event()

        def watch() -> None:
            while not done.wait(0.001):
                seen.append(psutil.Process().memory_info().rss)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        yield lambda: (max(seen) - before) / 2**20
        done.set()
        thread.join()
    else:
        yield lambda: max(0.0, (_high_water() - before) / 2**20)


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status")


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float, name: str) -> None:
    """A wrong result is never timed."""
    error = float((actual.double() - expected.double()).abs().max())
    if not error <= tolerance:
        raise AssertionError(f"{name} is off by {error:.2e}, more than {tolerance:.0e}: not timed")
