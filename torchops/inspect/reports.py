"""What a launch becomes on a GPU that need not be there: compiled by Triton, and read off the machine code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .machine_code import LOAD, MATRIX, STORE, machine_code, main_loop, stand_in_driver, widths
from .times import Counted, model

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch
    from torchops.recording import Spec


@dataclass(frozen=True)
class Total:
    """What launches take together; `print` it."""

    launches: int
    modelled_us: float | None
    """Modelled microseconds, one launch after the other; None in Triton's interpreter."""
    bytes_moved: int
    """DRAM traffic."""

    @property
    def counted(self) -> str:
        """The number of launches in words, as "3 launches"."""
        return f"{self.launches} launch{'' if self.launches == 1 else 'es'}"

    def __str__(self) -> str:
        time = "" if self.modelled_us is None else f", modelled {self.modelled_us:.1f} us"
        return f"{self.counted}, {self.bytes_moved / 1e6:.1f} MB moved{time}"


@dataclass(frozen=True)
class LaunchReport:
    """One launch, as compiled for a GPU. Registers and stack are a thread's, shared memory a program's."""

    kernel: str
    arch: str
    gpu: str
    config: str
    programs: int
    num_warps: int
    num_stages: int
    registers: int
    spills: int
    """Instructions that store registers to local memory or load them back."""
    stack_bytes: int
    shared_bytes: int
    matrix_instructions: int
    loads: dict[int, int]
    """Global load instructions by width in bits (a thread's)."""
    stores: dict[int, int]
    loop_instructions: int
    """Length of the main loop: the longest one that multiplies matrices, or else that loads."""
    instructions: int
    bytes_moved: int
    """DRAM traffic, counted: halos once per program."""
    bytes_least: int
    modelled_us: float
    """Modelled, not measured."""
    bound: str
    """What the modelled time is bound by: DRAM, L2, tensor or issue."""
    times_us: dict[str, float]
    """What each of these takes on its own and all the time busy, microseconds, modelled."""
    utilization: float
    """Share of the modelled time in which its bound is busy; else programs start and end, or there are too few of them."""
    dropped_constants: int = 0
    """Additions that lost their constant to a faulty ptxas: where it is not 0, the kernel computes wrong values."""
    code: dict[str, str] = field(repr=False, default_factory=dict)
    """ttir, ttgir, llir, ptx, sass or amdgcn."""
    pass_name: str = ""
    """"forward", and "input_grad", "weight_grad" or "bias_grad" of a convolution or "backward" of another op; "" if unknown."""
    tensors: dict[str, Spec] = field(default_factory=dict)
    """Shape, strides and dtype of what the kernel was compiled to read and write, by the names of its arguments."""

    @property
    def traffic(self) -> float:
        """Bytes moved against the least possible."""
        return self.bytes_moved / self.bytes_least

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it, without the code: `pass_name` is "pass"."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("code", "pass_name")}
        tensors = {name: spec.as_dict() for name, spec in self.tensors.items()}
        return {**row, "pass": self.pass_name, "tensors": tensors, "traffic": self.traffic}


def total(reports: Iterable[LaunchReport]) -> Total:
    """What the launches of some reports take together."""
    found = list(reports)
    return Total(len(found), sum(r.modelled_us for r in found), sum(r.bytes_moved for r in found))


def compile_launch(launch: Launch) -> Any:
    """Compile a recorded launch for the device it was recorded for: Triton's compiled kernel.

    Raises:
        RuntimeError: if Triton interprets kernels in this process, or cannot compile this one.
    """
    from triton.runtime.jit import JITFunction

    if not isinstance(launch.kernel, JITFunction):
        raise RuntimeError("kernels are interpreted in this process: unset TRITON_INTERPRET to compile them")
    with stand_in_driver(launch.device.arch, launch.device.warp_size):
        return launch.kernel.warmup(*launch.args, grid=launch.grid, **launch.meta)


def report(launch: Launch) -> LaunchReport:
    """Compile a recorded launch, as :func:`compile_launch` does, and read the result."""
    from torchops.recording import Spec

    device, compiled = launch.device, compile_launch(launch)
    machine = machine_code(compiled)
    loop = main_loop(machine.instructions)
    counted = Counted(len(loop), len(machine.instructions) - len(loop), machine.registers, compiled.metadata.shared)
    modelled = model(launch, counted)
    opcodes = [i.opcode for i in machine.instructions]
    return LaunchReport(
        kernel=launch.name,
        arch=device.arch,
        gpu=device.name,
        config=str(launch.config),
        programs=launch.programs,
        num_warps=compiled.metadata.num_warps,
        num_stages=compiled.metadata.num_stages,
        registers=machine.registers,
        spills=machine.spills,
        stack_bytes=machine.stack_bytes,
        shared_bytes=compiled.metadata.shared,
        matrix_instructions=sum(bool(MATRIX.match(op)) for op in opcodes),
        loads=widths(opcodes, LOAD),
        stores=widths(opcodes, STORE),
        loop_instructions=len(loop),
        instructions=len(opcodes),
        bytes_moved=launch.cost.bytes_moved,
        bytes_least=launch.cost.bytes_least,
        modelled_us=modelled.us,
        bound=modelled.bound,
        times_us=modelled.times_us,
        utilization=modelled.utilization,
        dropped_constants=len(machine.dropped_constants),
        code=machine.code,
        pass_name=launch.pass_name,
        tensors={name: Spec.of(t) for name, t in launch.tensors.items()},
    )


def dump(reports: list[LaunchReport], folder: Path) -> list[Path]:
    """Write the code of every launch, stage by stage, to `folder`; return the files.

    The second launch of a kernel, which may be compiled to other code, is `<kernel>-2`, and so on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    seen: Counter[str] = Counter()
    for r in reports:
        seen[r.kernel] += 1
        name = r.kernel if seen[r.kernel] == 1 else f"{r.kernel}-{seen[r.kernel]}"
        for stage, text in r.code.items():
            file = folder / f"{name}.{r.arch}.{stage}"
            file.write_text(text)
            files.append(file)
    return files
