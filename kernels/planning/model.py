"""How long a launch should take on a GPU: the model behind block sizes and `torchops inspect`.

A time from this module is modelled, never measured. A program waits for its first loads, then its loop takes what the slowest
of L2, matrix units and instruction issue takes, then it writes its results. While one program waits, others of the same
multiprocessor work, as far as registers and shared memory let them be resident together. Nothing is faster than DRAM.
tests/test_model.py holds the model to published times.
"""

from __future__ import annotations

from dataclasses import dataclass

from .hardware import Device, dram_us, issue_us, l2_us, resident_programs, tensor_us
from .protocol import Cost

_START_US = 0.3
"""From the start of a program to its loop."""
_LATENCY_US = 0.65
"""From a load that misses L1 to its use."""
_END_SHARE = 0.8
"""Of the instructions outside the loop, those at its end: until they are done, its results are not written."""
LAUNCH_US = 1.5
"""From the last program of a launch to the first of one that needs its results."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A launch as the model sees it. Bytes and operations are those of all its programs together."""

    programs: int
    num_warps: int
    cost: Cost
    loop: float
    """Instructions that a warp issues in a trip of the main loop."""
    outside: float
    """Those that it issues before and after the loop."""
    registers: int
    """Of a thread."""
    shared_bytes: int
    """Of a program."""
    stages: int = 1
    """One more than the trips that wait for memory together, as their loads are under way at once; 1 where each waits alone."""


@dataclass(frozen=True)
class Model:
    """The modelled time of a launch, which is never measured."""

    us: float
    times_us: dict[str, float]
    """What DRAM, L2, tensor and issue take, each on its own and all the time busy, in microseconds."""

    @property
    def bound(self) -> str:
        """What takes longest: DRAM, L2, tensor or issue."""
        return max(self.times_us, key=lambda name: self.times_us[name])

    @property
    def utilization(self) -> float:
        """Share of the time in which the bound is busy; in the rest, programs start and end, or there are too few of them."""
        return self.times_us[self.bound] / self.us


def model(work: Work, device: Device) -> Model:
    """How long a launch should take.

    Alone on its multiprocessor a program takes

        start + trips * max(step, latency / (stages - 1)) + end
        step = max(L2, tensor, issue) of a trip
        end  = 0.8 of the instructions outside the loop + what it writes

    and of the multiprocessor's time it takes trips * step, all instructions outside the loop, and what it writes. Programs come
    in waves of as many as are resident at once; a wave takes what one program takes alone, or what all of them take of their
    multiprocessors, whichever is longer.
    """
    cost, count = work.cost, work.programs
    times = {
        "DRAM": dram_us(cost.bytes_moved, device),
        "L2": l2_us(cost.bytes_l2 + cost.bytes_out, device),
        "tensor": tensor_us(cost.flops, device, cost.itemsize, cost.tf32),
        "issue": issue_us(count * work.num_warps * (work.loop * cost.trips + work.outside), device),
    }
    # what one program takes of its multiprocessor
    share = device.sms / count
    warps = device.sms * work.num_warps
    loop = max(
        l2_us(cost.bytes_l2, device) * share, times["tensor"] * share, issue_us(warps * work.loop * cost.trips, device)
    )
    outside, out = issue_us(warps * work.outside, device), l2_us(cost.bytes_out, device) * share
    waits = cost.trips * _LATENCY_US / max(1, work.stages - 1) if cost.trips > work.stages else 0.0
    alone = _START_US + max(loop, waits) + _END_SHARE * outside + out
    taken = loop + outside + out
    together = resident_programs(device, work.num_warps, work.registers, work.shared_bytes) // device.sms
    together = max(1, min(together, -(-count // device.sms)))
    waves, rest = divmod(count, device.sms * together)
    us = waves * max(together * taken, alone)
    if rest:
        us += max(-(-rest // device.sms) * taken, alone)
    if together > 1 and waves and together * taken > alone:
        # the first programs start with nobody beside them who has something to do
        us += _START_US
    return Model(max(us, times["DRAM"]), times)
