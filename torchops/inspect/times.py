"""The modelled time of a launch, which is never measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch


@dataclass(frozen=True)
class Model:
    """The modelled time of a launch, which is never measured."""

    times_us: dict[str, float]
    """Time of DRAM, L2, tensor and, if the kernel is compiled, issue, each on its own, microseconds, before waves."""
    wave_efficiency: float
    """Share of the device that works, averaged over the waves of programs."""

    @property
    def bound(self) -> str:
        """What takes longest: DRAM, L2, tensor or issue."""
        return max(self.times_us, key=lambda name: self.times_us[name])

    @property
    def us(self) -> float:
        return self.times_us[self.bound] / self.wave_efficiency


def model(launch: Launch, warp_instructions: float | None = None, registers: int = 64, shared_bytes: int = 0) -> Model:
    """The modelled time of a recorded launch.

    Args:
        launch: recorded for a GPU.
        warp_instructions: issued by all its warps together; None before the kernel is compiled, and then issue is left out.
        registers: of a thread.
        shared_bytes: of a program.
    """
    from torchops.kernels.planning.hardware import (
        issue_us,
        l2_us,
        matrix_us,
        memory_us,
        resident_programs,
        wave_efficiency,
    )

    cost, device = launch.cost, launch.device
    times = {
        "DRAM": memory_us(cost.bytes_moved, device),
        "L2": l2_us(cost.bytes_l2, device),
        "tensor": matrix_us(cost.flops, device, cost.itemsize, cost.tf32),
    }
    if warp_instructions is not None:
        times["issue"] = issue_us(warp_instructions, device)
    # a program that streams through L2 keeps its multiprocessor busy; one that waits for DRAM does not
    slots = device.sms
    if not cost.bytes_l2:
        slots = resident_programs(device, launch.meta["num_warps"], registers, shared_bytes)
    return Model(times, wave_efficiency(launch.programs, slots))
