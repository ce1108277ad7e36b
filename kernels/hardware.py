"""What a GPU can do, and how long a launch should take there: the model behind block sizes and `torchops inspect`.

A time from this module is modelled, never measured. It is a floor with the known losses added: the slowest of memory, L2,
matrix units and instruction issue, divided by how full the last wave of programs is.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Device:
    """One GPU as the model sees it. Rates are peaks from the vendor's data sheet, dense (no sparsity)."""

    name: str
    arch: str
    """`sm_90`, `gfx942`, ...: what the compiler is asked for."""
    sms: int
    """Streaming multiprocessors, or compute units."""
    clock_ghz: float
    """Boost clock."""
    hbm_gb_s: float
    """DRAM bandwidth, GB/s."""
    shared_bytes: int
    """Shared memory that one program may take, bytes."""
    l2_bytes: int
    """Last cache before DRAM, bytes."""
    tflops: tuple[float, float, float, float]
    """Matrix products of 16-bit floats, of float32 as TF32, of float32 in full, of float64; TFLOP/s."""
    registers: int = 65536
    """32-bit registers of one multiprocessor."""
    warps: int = 64
    """Warps resident on one multiprocessor at most."""
    warp_size: int = 32
    schedulers: int = 4
    """Warp instructions issued per cycle and multiprocessor."""


# Sources: NVIDIA A100, H100 and H200 data sheets and the Ampere, Hopper and Blackwell tuning guides (shared memory,
# warps, registers); NVIDIA HGX B200 data sheet; NVIDIA RTX Blackwell architecture white paper; AMD Instinct MI300X
# data sheet and the CDNA 3 white paper.
DEVICES = {
    device.arch: device
    for device in (
        Device("A100-SXM4-80GB", "sm_80", 108, 1.41, 2039, 166_912, 40 << 20, (312, 156, 19.5, 19.5)),
        Device("H100-SXM5", "sm_90", 132, 1.83, 3350, 232_448, 50 << 20, (989, 495, 67, 67)),
        Device("B200", "sm_100", 148, 1.85, 8000, 232_448, 126 << 20, (2250, 1125, 75, 37)),
        Device("RTX 5090", "sm_120", 170, 2.41, 1792, 101_376, 96 << 20, (209.5, 104.8, 104.8, 1.6), warps=48),
        Device(
            "MI300X", "gfx942", 304, 2.1, 5300, 65_536, 256 << 20, (1307, 653, 163, 163),
            registers=131_072, warps=32, warp_size=64,
        ),
    )
}  # fmt: skip
H200 = replace(DEVICES["sm_90"], name="H200-SXM", hbm_gb_s=4800)

# Triton's interpreter runs programs one after another, at a cost per loop iteration and hardly any per element.
INTERPRETER = Device("interpreter", "cpu", 1, 1.0, 1.0, 1 << 30, 1 << 30, (1, 1, 1, 1))


@functools.cache
def _cuda_device(index: int) -> Device:
    props = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        arch, like = props.gcnArchName.split(":")[0], "gfx942"
    else:
        arch = f"sm_{props.major}{props.minor}"
        like = (
            "sm_120"
            if props.major >= 12
            else "sm_100"
            if props.major >= 10
            else "sm_90"
            if props.major == 9
            else "sm_80"
        )
    nearest = H200 if "H200" in props.name else DEVICES.get(arch, DEVICES[like])
    return replace(nearest, name=props.name, arch=arch, sms=props.multi_processor_count)


def device_of(x: torch.Tensor) -> Device:
    """The GPU that x lies on; its rates are those of the listed GPU of its architecture."""
    return _cuda_device(x.device.index)


def wave_efficiency(programs: int, slots: int) -> float:
    """Share of the `slots` (programs resident at once) that work, averaged over the waves of a launch."""
    waves = -(-programs // slots)
    return programs / (slots * waves)


def resident_programs(device: Device, num_warps: int, registers: int = 64, shared: int = 0) -> int:
    """Programs resident at once on the whole device, by warps, registers (a thread) and shared memory (a program)."""
    by_registers = device.registers // max(1, registers * device.warp_size * num_warps)
    by_shared = device.shared_bytes // shared if shared else device.warps
    return max(1, min(device.warps // num_warps, by_registers, by_shared)) * device.sms


def memory_us(bytes_moved: int, device: Device) -> float:
    return bytes_moved / (device.hbm_gb_s * 1e3)


_L2_BYTES_A_CLOCK = 23
"""Assumed: what a multiprocessor gets from L2 in a clock, all of them asking; 5.6 TB/s on an H100."""


def l2_us(bytes_moved: int, device: Device) -> float:
    return bytes_moved / (device.sms * device.clock_ghz * _L2_BYTES_A_CLOCK * 1e3)


def matrix_us(flops: float, device: Device, itemsize: int, tf32: bool) -> float:
    """Time of multiply-adds (two operations each) on the matrix units, by the size of the elements."""
    kind = {2: 0, 4: 1 if tf32 else 2, 8: 3}[itemsize]
    return flops / (device.tflops[kind] * 1e6)


def issue_us(warp_instructions: float, device: Device) -> float:
    return warp_instructions / (device.sms * device.schedulers * device.clock_ghz * 1e3)
