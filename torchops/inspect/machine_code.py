"""Kernels compiled for GPUs that are not there, and read off their machine code: NVIDIA's SASS and AMD's GCN."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch


def target_of(arch: str, warp_size: int) -> Any:
    """An architecture ("sm_90", "gfx942") as Triton's compiler wants to be told."""
    from triton.backends.compiler import GPUTarget

    family, name = ("cuda", int(arch[3:])) if arch.startswith("sm_") else ("hip", arch)
    return GPUTarget(family, name, warp_size)


@contextlib.contextmanager
def stand_in_driver(arch: str, warp_size: int, device: str | None = None) -> Iterator[None]:
    """A driver that answers for a GPU that is not there, for as long as something is compiled for it.

    Kernels are cached per device, by name: the architecture's, or `device`.
    """
    import triton
    from triton.backends.driver import DriverBase

    target = target_of(arch, warp_size)

    class StandInDriver(DriverBase):
        def __init__(self) -> None:
            pass

        @classmethod
        def is_active(cls) -> bool:
            return True

        def get_current_target(self) -> Any:
            return target

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cpu")

        def get_current_device(self) -> str:
            return device or arch

        def get_current_stream(self, device: Any = None) -> int:
            return 0

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_benchmarker(self) -> None:
            return None

    driver = triton.runtime.driver
    try:
        outer = driver.active
    except RuntimeError:  # Triton raises this where there is no GPU
        outer = None
    driver.set_active(StandInDriver())
    try:
        yield
    finally:
        driver.set_active(outer)


@dataclass(frozen=True)
class Instruction:
    opcode: str
    target: str | None
    """The label it may jump to."""
    label: str | None
    """The label in front of it."""


@dataclass(frozen=True)
class MachineCode:
    kernel: str
    instructions: list[Instruction]
    registers: int
    spills: int
    stack_bytes: int
    dropped_constants: tuple[str, ...]
    """See :func:`dropped_constants`; none of AMD's."""
    code: dict[str, str]


class Resources(NamedTuple):
    """What a kernel takes of a GPU; a thread's."""

    registers: int
    stack_bytes: int
    """What spills lies there, on NVIDIA's GPUs."""


_disassembled: dict[str, MachineCode] = {}


def machine_code(compiled: Any) -> MachineCode:
    """Disassemble a kernel, once: NVIDIA's tools take longer than the compiler."""
    if compiled.hash not in _disassembled:
        _disassembled[compiled.hash] = _nvidia(compiled) if "cubin" in compiled.asm else _amd(compiled)
    return _disassembled[compiled.hash]


def disassembled() -> dict[str, MachineCode]:
    """All kernels that this process has disassembled, by their hash in Triton's cache."""
    return dict(_disassembled)


MATRIX = re.compile(r"HGMMA|UTC.*MMA|[HID]MMA|v_mfma")
LOAD = re.compile(r"LDG(?:STS)?\b|global_load|buffer_load")
STORE = re.compile(r"STG\b|global_store|buffer_store")
_WIDTH = re.compile(r"\.(64|128|256)\b|\.[US](8|16)\b|dwordx(2|3|4)|_[us]?(byte|short)(?:_|$)|_[ui](8|16)\b")


def widths(opcodes: list[str], kind: re.Pattern[str]) -> dict[int, int]:
    """Count the opcodes of one kind by the bits they move."""

    def bits(opcode: str) -> int:
        match = _WIDTH.search(opcode)
        if not match:
            return 32
        wide, narrow, dwords, name, amd_narrow = match.groups()
        if dwords:
            return 32 * int(dwords)
        return {"byte": 8, "short": 16}[name] if name else int(wide or narrow or amd_narrow)

    return dict(sorted(Counter(bits(op) for op in opcodes if kind.match(op)).items()))


def main_loop(instructions: list[Instruction]) -> list[Instruction]:
    """The longest stretch that ends in a jump back to its start, and holds no loop of its own.

    It multiplies matrices if any does: a loop that finishes the tile may be longer. Else it loads.
    """
    starts = {i.label: n for n, i in enumerate(instructions) if i.label}
    loops = [
        (starts[i.target], end + 1)
        for end, i in enumerate(instructions)
        if i.target in starts and starts[i.target] < end
    ]
    innermost = [
        instructions[a:b] for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)
    ]
    for kind in (MATRIX, LOAD):
        if loops_of_kind := [loop for loop in innermost if any(kind.match(i.opcode) for i in loop)]:
            return max(loops_of_kind, key=len)
    return []


_DROPPED = re.compile(r"\bVIADD\.16x2\s[^;]*,\s*0x0\b")


def dropped_constants(sass: str) -> tuple[str, ...]:
    """The additions of packed 16-bit numbers in SASS that lost their constant to a faulty ptxas (see kernels/canary.py).

    They add 0x0. A zero that was meant is written RZ by all versions that were looked at, 12.8 to 13.3.
    """
    return tuple(" ".join(found.split()) for found in _DROPPED.findall(sass))


def _parse(text: str, label: re.Pattern[str], instruction: re.Pattern[str]) -> list[Instruction]:
    """Instructions with the labels in front of them. `instruction` captures the opcode and a label jumped to."""
    found, pending = [], None
    for line in text.splitlines():
        if match := label.match(line):
            pending = match[1]
        elif match := instruction.match(line):
            found.append(Instruction(match[1], match[2], pending))
            pending = None
    return found


_SASS_LABEL = re.compile(r"^(\.L_x_\d+):")
_SASS = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(?:.*`\((\.L_x_\d+)\))?")


def disassemble(cubin: Path) -> str:
    """The SASS of a file of NVIDIA's machine code."""
    from triton import knobs

    return _run(knobs.nvidia.nvdisasm.path, "-c", str(cubin))


def resources(compiled: Any) -> Resources:
    """Registers and stack of NVIDIA's machine code: a hundred times faster than to disassemble it."""
    with _cubin(compiled) as file:
        return _resources(file)


_ADDS_HALVES = re.compile(r"\b(?:add|sub|mad)(?:\.\w+)?\.[su]16(?:x2)?\b")


def adds_halves(ptx: str) -> bool:
    """Whether PTX adds 16-bit integers: what a faulty ptxas can drop a constant of (see :func:`dropped_constants`)."""
    return bool(_ADDS_HALVES.search(ptx))


@contextlib.contextmanager
def _cubin(compiled: Any) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        yield Path(file.name)


def _resources(cubin: Path) -> Resources:
    from triton import knobs

    usage = dict(re.findall(r"(REG|STACK):(\d+)", _run(knobs.nvidia.cuobjdump.path, "-res-usage", str(cubin))))
    return Resources(int(usage["REG"]), int(usage["STACK"]))


def _nvidia(compiled: Any) -> MachineCode:
    with _cubin(compiled) as file:
        registers, stack_bytes = _resources(file)
        sass = disassemble(file)
    # NOPs after the last exit are padding
    instructions = [i for i in _parse(sass, _SASS_LABEL, _SASS) if i.opcode != "NOP"]
    return MachineCode(
        compiled.name,
        instructions,
        registers,
        spills=sum(i.opcode.startswith(("STL", "LDL")) for i in instructions),
        stack_bytes=stack_bytes,
        dropped_constants=dropped_constants(sass),
        code={**_stages(compiled, "ttir", "ttgir", "llir", "ptx"), "sass": sass},
    )


_GCN_LABEL = re.compile(r"^(\.LBB\w+):")
_GCN = re.compile(r"^\t([svgb][a-z]*_\w+|ds_\w+|global_\w+|buffer_\w+|flat_\w+|scratch_\w+)(?:\s+(\.LBB\w+))?")


def _stages(compiled: Any, *names: str) -> dict[str, str]:
    """The code of these stages, as far as Triton's cache holds it: what was unpacked has machine code alone."""
    return {name: compiled.asm[name] for name in names if name in compiled.asm}


def _amd(compiled: Any) -> MachineCode:
    if "amdgcn" not in compiled.asm:
        raise RuntimeError("the cache holds no code to read of this kernel: set TRITON_ALWAYS_COMPILE=1")
    text = compiled.asm["amdgcn"]

    def metadata(key: str) -> int:
        return int(re.findall(rf"\.{key}:\s+(\d+)", text)[-1])

    return MachineCode(
        compiled.name,
        _parse(text, _GCN_LABEL, _GCN),
        registers=metadata("vgpr_count"),
        spills=metadata("vgpr_spill_count"),
        stack_bytes=metadata("private_segment_fixed_size"),
        dropped_constants=(),
        code=_stages(compiled, "ttir", "ttgir", "llir", "amdgcn"),
    )


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
