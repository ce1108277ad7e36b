"""A case is raced once, all its providers interleaved; pytest-benchmark stores what each took.

pytest-benchmark times one function after another, which a machine that changes its speed turns into nonsense. So the race is
run by `torchops.measure.race`, and its times are replayed to pytest-benchmark through a clock that only the replay moves. Its
JSON and statistics then work as usual.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from torchops.kernels.planning.hardware import Device, device_of, matrix_us, memory_us
from torchops.measure.race import device_seconds, race, ratio, seconds


class ReplayClock:
    """A clock for pytest-benchmark that stands still but for `advance`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = ReplayClock()
GRAPH = "{} (graph)"
"""The name under which a captured CUDA graph of a provider races."""
DEVICE_TURN = 0.02
"""Seconds of a turn on a GPU, whose times hardly scatter."""
DEVICE_MOST = 20
"""Runs of a turn there: each waits for a sleep that is longer than most runs."""


@dataclass
class Contest:
    """The times of one case: seconds a run, by provider, and the most memory a run took."""

    times: dict[str, list[float]]
    peak_mib: dict[str, float]
    bytes_least: int
    flops: int = 0
    info: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    """The largest against float64, relative to the largest value; by provider, where the check says it."""
    no_graph: dict[str, str] = field(default_factory=dict)
    """Why a provider could not be captured as a CUDA graph."""
    floor: float = 0.0
    """Seconds that nothing can be faster than; 0 where none is known."""
    impossible: dict[str, str] = field(default_factory=dict)
    """Why a provider's figures cannot be right: they are kept, and nothing may be concluded from them."""
    apart: bool = False
    """A race of torchops against Inductor alone: its times belong together, and to no other race of the case."""


def floor_seconds(bytes_least: int, flops: int, itemsize: int, device: Device) -> float:
    """What no kernel can beat: every byte once from or to DRAM, every multiply-add on the matrix units.

    Products of float32 count at the rate of TF32, whatever is allowed: Winograd's algorithm needs fewer of them.
    """
    return max(memory_us(bytes_least, device), matrix_us(flops, device, itemsize, tf32=True)) / 1e6


def hold(
    contenders: dict[str, Callable[[], Any]],
    *,
    check: Callable[[str, Any], float | None],
    bytes_least: int,
    flops: int = 0,
    rounds: int,
    device: str = "cpu",
    floor_bytes: int | None = None,
    itemsize: int = 4,
    apart: bool = False,
) -> Contest:
    """Check every contender's result, measure its memory, then race them all; on a GPU also as CUDA graphs.

    Args:
        contenders: functions by provider, without arguments.
        check: takes provider and result, raises if it is wrong, and may return its error.
        bytes_least: what the problem moves at least, for the figure in GB/s.
        flops: a multiply-add is two.
        rounds: of the race.
        device: "cpu" or "cuda".
        floor_bytes: what it moves at least if everything that can stay in the L2 cache does; `bytes_least` where it is None.
        itemsize: bytes of an element.
        apart: whether this is the race of torchops against Inductor alone.

    What is faster than the floor of the GPU is said to be impossible. A CPU has no floor: its caches hold the data from one
    run to the next.

    Raises:
        AssertionError: if a result is wrong.
    """
    errors = {provider: check(provider, function()) for provider, function in contenders.items()}
    on_device = device == "cuda"
    peak, clock, turn = (_device_peak_mib, device_seconds, DEVICE_TURN) if on_device else (_peak_mib, seconds, 0.1)
    peaks = {provider: peak(function) for provider, function in contenders.items()}
    graphs, reasons = _graphs(contenders, check) if on_device else ({}, {})
    most = DEVICE_MOST if on_device else 1000
    times = race({**contenders, **graphs}, rounds=rounds, clock=clock, turn=turn, most=most)
    floor = 0.0
    if on_device:
        least = bytes_least if floor_bytes is None else floor_bytes
        gpu = device_of(torch.empty(0, device=device))
        # what is written last may still be in the cache when the clock stops
        floor = floor_seconds(max(0, least - gpu.l2_bytes), flops, itemsize, gpu)
    known = {provider: error for provider, error in errors.items() if error is not None}
    return Contest(
        times, peaks, bytes_least, flops, errors=known, no_graph=reasons, floor=floor, apart=apart,
        impossible=too_fast(times, floor),
    )  # fmt: skip


def too_fast(times: dict[str, list[float]], floor: float) -> dict[str, str]:
    """The providers with a result faster than the floor, or whose graph has one: a bug in the measurement, or in the floor."""
    found: dict[str, str] = {}
    for name, seconds_a_run in times.items():
        median = statistics.median(seconds_a_run)
        if median < floor:
            provider, graph, _ = name.partition(GRAPH.format(""))
            how = "as a CUDA graph, " if graph else ""
            found.setdefault(provider, f"{how}{median * 1e6:.2f} us is faster than the floor, {floor * 1e6:.2f} us")
    return found


def _graphs(
    contenders: dict[str, Callable[[], Any]], check: Callable[[str, Any], float | None]
) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """What can be captured, as functions that replay it; and for the others why it cannot."""
    graphs: dict[str, Callable[[], Any]] = {}
    reasons = {}
    for provider, function in contenders.items():
        try:
            graph, result = _capture(function)
        except RuntimeError as error:
            reasons[provider] = " ".join(str(error).split())[:200]
            torch.cuda.synchronize()
            continue
        graph.replay()
        check(provider, result)
        graphs[GRAPH.format(provider)] = graph.replay
    return graphs, reasons


def _capture(function: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
    """A few runs, then the capture, on the stream of all runs: autograd's backward goes where its forward went."""
    for _ in range(3):
        function()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        result = function()
    return graph, result


def judged(contest: Contest, provider: str) -> list[float]:
    """The times to judge a provider by: of its CUDA graph, into which no launch gets, where it has one."""
    return contest.times.get(GRAPH.format(provider)) or contest.times[provider]


def _ours_over(contest: Contest, provider: str) -> float:
    """The time of torchops over a provider's: of their graphs, where both have one."""
    graphs = GRAPH.format("torchops"), GRAPH.format(provider)
    return ratio(contest.times, *graphs if set(graphs) <= set(contest.times) else ("torchops", provider))


def figures(contest: Contest, provider: str) -> dict[str, Any]:
    """All that is stored of one provider, but for its times by events. Rates are those of its graph, where it has one."""
    low, median, high = spread(contest.times[provider])
    time = statistics.median(judged(contest, provider))
    found = {
        **contest.info,
        "provider": provider,
        "ms_p20": low * 1e3,
        "ms_p50": median * 1e3,
        "ms_p80": high * 1e3,
        "tflops": contest.flops / time / 1e12,
        "gb_per_s": contest.bytes_least / time / 1e9,
        "peak_mib": contest.peak_mib[provider],
        "torchops_over_this": _ours_over(contest, provider),
        "error": contest.errors.get(provider),
        "flops": contest.flops,
        "bytes_least": contest.bytes_least,
        "floor_ms": contest.floor * 1e3 or None,
    }
    graph = contest.times.get(GRAPH.format(provider))
    if graph:
        found["graph_ms_p50"] = statistics.median(graph) * 1e3
        found["graph_ms"] = [t * 1e3 for t in graph]
    elif provider in contest.no_graph:
        found["no_graph"] = contest.no_graph[provider]
    raced = ("torchops", provider) if contest.apart else (provider,)
    reasons = [f"{name}: {contest.impossible[name]}" for name in dict.fromkeys(raced) if name in contest.impossible]
    if reasons:
        found["impossible"] = "; ".join(reasons)
    if contest.apart:
        found["torchops_ms"] = [t * 1e3 for t in contest.times["torchops"]]
        found["torchops_graph_ms"] = [t * 1e3 for t in contest.times.get(GRAPH.format("torchops"), ())]
    return found


def replay(benchmark: Any, contest: Contest, provider: str) -> None:
    """Hand one provider's times to pytest-benchmark, with the figures of the report.

    Raises:
        pytest.fail.Exception: if they are impossible, once they are stored.
    """
    times = contest.times[provider]
    remaining = iter(times)
    benchmark.pedantic(lambda: CLOCK.advance(next(remaining)), rounds=len(times), iterations=1)
    found = figures(contest, provider)
    benchmark.extra_info.update(found)
    if "impossible" in found:
        pytest.fail(f"{contest.info.get('case')}, {found['impossible']}: the measurement is wrong", pytrace=False)


@contextlib.contextmanager
def company(busy: bool) -> Iterator[None]:
    """A block beside which another process keeps a core busy, as a loader of data does; or not."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def leave_default_stream() -> None:
    """CUDA graphs cannot be captured on the stream that torch starts with: what a case makes and runs belongs on another."""
    if torch.cuda.is_available() and torch.cuda.current_stream() == torch.cuda.default_stream():
        torch.cuda.set_stream(torch.cuda.Stream())


def laid_out(t: Tensor, channels_last: bool) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if channels_last and t.dim() == 4 else t


def normal(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator, channels_last: bool) -> Tensor:
    """Random values, made on the device of the generator: on a CPU a large case takes seconds."""
    t = torch.randn(shape, generator=generator, device=generator.device).to(dtype)
    return laid_out(t, channels_last)


def blank(shape: Sequence[int], dtype: torch.dtype, device: torch.device, channels_last: bool) -> Tensor:
    """Memory that nobody wrote, with the strides that `normal` gives, of one channel too. On a CPU it takes no room."""
    strides = laid_out(torch.empty(shape, device="meta"), channels_last).stride()
    return torch.empty_strided(shape, strides, dtype=dtype, device=device)


def spread(values: list[float]) -> tuple[float, float, float]:
    """A fifth of the values is below the first, half below the second, four fifths below the third."""
    cuts = statistics.quantiles(values, n=5, method="inclusive")
    return cuts[0], statistics.median(values), cuts[3]


def compete(
    contest: Callable[..., Contest], case: Any, provider: str, held: Any, benchmark: Any, request: pytest.FixtureRequest
) -> None:
    """The test of one provider: hold the contest of its case, or look it up, and hand the times to pytest-benchmark.

    Inductor, which compiles for seconds, has a contest of its own: where time is short, the others' figures are there.
    """
    apart = provider == "inductor"
    if apart and not has_compiler():
        pytest.skip("inductor: no C++ compiler on this machine")
    found = held((case, apart), lambda: contest(case, request.config.getoption("--rounds"), inductor=apart))
    if provider not in found.times:
        pytest.skip(f"{provider} does not take this case, or is not installed")
    replay(benchmark, found, provider)


def has_compiler() -> bool:
    """What torch.compile needs: Triton on a GPU, a C++ compiler on a CPU."""
    return torch.cuda.is_available() or any(shutil.which(name) for name in ("g++", "clang++", "c++"))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True, dynamic=False)


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


def close(actual: Tensor, expected: Tensor, tolerance: float, name: str) -> float:
    """A wrong result is never timed. Returns the largest error, relative to the largest value."""
    error = float((actual.double() - expected.double()).abs().max())
    if not error <= tolerance:
        raise AssertionError(f"{name} is off by {error:.2e}, more than {tolerance:.0e}: not timed")
    return error / (float(expected.double().abs().max()) or 1.0)


def short(dtype: torch.dtype) -> str:
    """f32, bf16, f16, f64, u8."""
    name = str(dtype).removeprefix("torch.")
    return name.replace("bfloat", "bf").replace("float", "f").replace("uint", "u")
