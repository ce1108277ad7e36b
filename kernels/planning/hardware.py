"""What a GPU can do: its peaks, and the rates that it sustains.

Peaks are a data sheet's: nothing is faster. Beside them stand the rates that good kernels were seen to sustain, of which
model.py makes a time.
"""

from __future__ import annotations

import functools
import re
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


# Shared memory, warps and registers are those of NVIDIA's tuning guides for Ampere, Ada, Hopper and Blackwell.
GPUS = {
    # the A100 80GB data sheet gives the rates, the Ampere architecture white paper gives clock and L2
    "A100": Device("A100-SXM4-80GB", "sm_80", 108, 1.41, 2039, 166_912, 40 << 20, (312, 156, 19.5, 19.5)),
    # the L40S data sheet leaves out clock and L2, which TechPowerUp's GPU database gives
    "L40S": Device("L40S", "sm_89", 142, 2.52, 864, 101_376, 48 << 20, (362, 183, 91.6, 1.4), warps=48),
    # the Ada GPU architecture white paper gives these rates, with 16-bit products added up in float32
    "RTX 4090": Device(
        "GeForce RTX 4090", "sm_89", 128, 2.52, 1008, 101_376, 72 << 20, (165.2, 82.6, 82.6, 1.3), warps=48
    ),
    # the H100 data sheet (SXM) gives the rates, the Hopper architecture white paper gives SMs, clock and L2
    "H100": Device("H100-SXM5", "sm_90", 132, 1.83, 3350, 232_448, 50 << 20, (989, 495, 67, 67)),
    # the H200 data sheet (SXM) describes an H100 with other memory; L2, which it leaves out, is what torch reports of one
    "H200": Device("H200-SXM", "sm_90", 132, 1.83, 4800, 232_448, 60 << 20, (989, 495, 67, 67)),
    # the HGX B200 data sheet gives the rates, the Blackwell tuning guide gives L2
    "B200": Device("B200", "sm_100", 148, 1.85, 8000, 232_448, 126 << 20, (2250, 1125, 75, 37)),
    # the RTX Blackwell architecture white paper gives these rates, with 16-bit products added up in float32
    "RTX 5090": Device("RTX 5090", "sm_120", 170, 2.41, 1792, 101_376, 96 << 20, (209.5, 104.8, 104.8, 1.6), warps=48),
    # the Instinct MI300X data sheet gives the rates, the CDNA 3 white paper registers, waves, LDS and Infinity Cache
    "MI300X": Device(
        "MI300X", "gfx942", 304, 2.1, 5300, 65_536, 256 << 20, (1307, 653, 163, 163),
        registers=131_072, warps=32, warp_size=64,
    ),
}  # fmt: skip
"""The listed GPUs, by a name that is part of what torch calls them."""

DEVICES = {GPUS[name].arch: GPUS[name] for name in ("A100", "L40S", "H100", "B200", "RTX 5090", "MI300X")}
"""The listed GPU that stands for each architecture."""

# Triton's interpreter runs programs one after another, at a cost per loop iteration and hardly any per element.
INTERPRETER = Device("interpreter", "cpu", 1, 1.0, 1.0, 1 << 30, 1 << 30, (1, 1, 1, 1))


def listed(name: str) -> str | None:
    """The name in GPUS that stands in a device's name as words of its own: "H100" in "NVIDIA H100 80GB HBM3"."""
    return next((short for short in GPUS if re.search(rf"(?<!\w){re.escape(short)}(?!\w)", name)), None)


def find(name: str) -> Device:
    """The listed GPU of an architecture ("sm_90") or of a name ("H200"; case and spaces do not matter).

    Raises:
        ValueError: if there is none.
    """
    plain = {short.lower().replace(" ", ""): device for short, device in (*DEVICES.items(), *GPUS.items())}
    if (device := plain.get(name.lower().replace(" ", ""))) is None:
        raise ValueError(f"`arch` must be one of {', '.join((*DEVICES, *GPUS))}, got {name!r}")
    return device


def _like(major: int, minor: int) -> str:
    """The listed architecture nearest to an NVIDIA GPU's."""
    if (exact := f"sm_{major}{minor}") in DEVICES:
        return exact
    if major >= 12:
        return "sm_120"
    if major >= 10:
        return "sm_100"
    if major == 9:
        return "sm_90"
    # sm_86 is Ampere without the data centre's shared memory, and has as much of it as sm_89
    return "sm_89" if (major, minor) == (8, 6) else "sm_80"


@functools.cache
def _cuda_device(index: int) -> Device:
    props = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        arch, like = props.gcnArchName.split(":")[0], "gfx942"
    else:
        arch, like = f"sm_{props.major}{props.minor}", _like(props.major, props.minor)
    short = listed(props.name)
    nearest = GPUS[short] if short and GPUS[short].arch == arch else DEVICES[like]
    return replace(nearest, name=props.name, arch=arch, sms=props.multi_processor_count)


def device_of(x: torch.Tensor) -> Device:
    """The GPU that x lies on; its rates are those of the listed GPU of its name, or else of its architecture."""
    return _cuda_device(x.device.index)


def wave_efficiency(programs: int, slots: int) -> float:
    """Share of the `slots` (programs resident at once) that work, averaged over the waves of a launch."""
    waves = -(-programs // slots)
    return programs / (slots * waves)


def resident_programs(device: Device, num_warps: int, registers: int = 64, shared: int = 0) -> int:
    """Programs resident at once on the whole device, by warps, registers (a thread) and shared memory (a program)."""
    # a warp gets its registers 8 a thread at a time, and a program 1 KiB of shared memory more than it asks for
    by_registers = device.registers // (-(-max(1, registers) // 8) * 8 * device.warp_size * num_warps)
    by_shared = device.shared_bytes // (shared + 1024) if shared else device.warps
    return max(1, min(device.warps // num_warps, by_registers, by_shared, _MOST_PROGRAMS)) * device.sms


_MOST_PROGRAMS = 32
"""Resident on one multiprocessor at most; so say NVIDIA's tuning guides for sm_80, sm_90 and sm_100."""
_DRAM_SHARE = 0.9
"""Of DRAM's peak, that a long copy sustains."""
_MATRIX_SHARE = 0.68
"""Of the matrix units' peak, that cuBLAS sustains in large products on Hopper and Blackwell."""
_L2_BYTES_A_CLOCK = 32
"""That a multiprocessor gets from L2 while all of them load; 7.7 TB/s on an H100. Large products need at least as much."""


def memory_us(bytes_moved: float, device: Device) -> float:
    """Time of bytes at DRAM's peak: nothing is faster."""
    return bytes_moved / (device.hbm_gb_s * 1e3)


def dram_us(bytes_moved: float, device: Device) -> float:
    """Time of bytes at the rate that DRAM sustains."""
    return memory_us(bytes_moved, device) / _DRAM_SHARE


def l2_us(bytes_moved: float, device: Device) -> float:
    """Time of bytes that all multiprocessors together load from L2, or write to it."""
    return bytes_moved / (device.sms * device.clock_ghz * _L2_BYTES_A_CLOCK * 1e3)


def matrix_us(flops: float, device: Device, itemsize: int, tf32: bool) -> float:
    """Time of multiply-adds (two operations each) at the peak of the matrix units, by the size of the elements."""
    kind = {2: 0, 4: 1 if tf32 else 2, 8: 3}[itemsize]
    return flops / (device.tflops[kind] * 1e6)


def tensor_us(flops: float, device: Device, itemsize: int, tf32: bool) -> float:
    """Time of multiply-adds at the rate that the matrix units sustain."""
    return matrix_us(flops, device, itemsize, tf32) / _MATRIX_SHARE


def issue_us(warp_instructions: float, device: Device) -> float:
    """Time of instructions that all multiprocessors together issue, a warp's counted once."""
    return warp_instructions / (device.sms * device.schedulers * device.clock_ghz * 1e3)
