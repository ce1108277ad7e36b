"""Look inside a call: which implementation and block sizes it takes, and what its kernels become on a GPU.

No GPU is needed: launches are recorded at the door they go through (`kernels/launch.py`), compiled by Triton for the GPU asked
for, and read off the machine code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import catalog
from .backend import choose, use_backend
from .machine_code import LOAD, MATRIX, STORE, machine_code, main_loop, widths

if TYPE_CHECKING:
    from .kernels.launch import Launch


@dataclass(frozen=True)
class Explanation:
    """What a call does; `print` it."""

    op: str
    implementation: str
    """"triton" or "aten"."""
    reason: str
    launches: tuple[tuple[str, int, Any], ...]
    """(kernel, programs, block sizes) of every launch of the forward; empty for ATen."""

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.implementation}, because {self.reason}"]
        lines += [f"  {kernel}: {programs} programs of {config}" for kernel, programs, config in self.launches]
        return "\n".join(lines)


def explain(op: Callable[..., Tensor] | str, *args: Any, **kwargs: Any) -> Explanation:
    """Say which implementation and which block sizes a call would take, and why. Nothing is computed.

    Args:
        op: a function of torchops, or its name.
        args, kwargs: the arguments of the call.

    Raises:
        ValueError: if `op` is not known, or the arguments are wrong.
        RuntimeError: if the backend in force cannot serve them.

    >>> import torch, torchops
    >>> print(torchops.explain(torchops.sobel, torch.rand(1, 3, 64, 64)))
    sobel: aten, because the backend is auto, and ATen serves cpu tensors
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", str(op))
    if name not in catalog.OPS:
        raise ValueError(f"`op` must be one of {', '.join(catalog.OPS)}, got {name!r}")
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
    if not tensors:
        raise ValueError("`args` must hold the tensors of the call, got none")
    choice = choose(tensors[0].device)
    launches: tuple[tuple[str, int, Any], ...] = ()
    if choice.implementation == "triton":
        from .kernels.launch import record, target_device

        with record(target_device(tensors[0])) as recorded, torch.no_grad():
            catalog.OPS[name].function(*args, **kwargs)
        launches = tuple((launch.name, launch.programs, launch.config) for launch in recorded)
    return Explanation(name, choice.implementation, choice.reason, launches)


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
    """Length of the main loop: the longest one that loads."""
    instructions: int
    bytes_moved: int
    """DRAM traffic, counted: halos once per program."""
    bytes_least: int
    modelled_us: float
    """Modelled, not measured."""
    bound: str
    """What the modelled time is bound by: DRAM, L2, tensor or issue."""
    times_us: dict[str, float]
    """Modelled time of each of these on its own, microseconds, before waves."""
    wave_efficiency: float
    """Share of the device that works, averaged over the waves of programs."""
    code: dict[str, str] = field(repr=False, default_factory=dict)
    """ttir, ttgir, llir, ptx, sass or amdgcn."""

    @property
    def traffic(self) -> float:
        """Bytes moved against the least possible."""
        return self.bytes_moved / self.bytes_least

    def as_dict(self) -> dict[str, Any]:
        row = asdict(self)
        del row["code"]
        return {**row, "traffic": self.traffic}


def architectures() -> tuple[str, ...]:
    """The GPUs that `inspect` compiles for."""
    from .kernels.hardware import DEVICES

    return tuple(DEVICES)


@contextlib.contextmanager
def _stand_in_driver(arch: str) -> Iterator[None]:
    """A driver that answers for a GPU that is not there, for as long as something is compiled for it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.driver import DriverBase

    from .kernels.hardware import DEVICES

    family, name = ("cuda", int(arch[3:])) if arch.startswith("sm_") else ("hip", arch)
    target = GPUTarget(family, name, DEVICES[arch].warp_size)

    class StandInDriver(DriverBase):
        def __init__(self) -> None:
            pass

        @classmethod
        def is_active(cls) -> bool:
            return True

        def get_current_target(self) -> GPUTarget:
            return target

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cpu")

        # kernels are cached per device: every architecture needs a name of its own
        def get_current_device(self) -> str:
            return arch

        def get_current_stream(self, device: Any = None) -> int:
            return 0

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_benchmarker(self) -> None:
            return None

    driver = triton.runtime.driver
    try:
        outer = driver.active
    except RuntimeError:  # Triton's word for "no GPU"
        outer = None
    driver.set_active(StandInDriver())
    try:
        yield
    finally:
        driver.set_active(outer)


def record_launches(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], arch: str, *, backward: bool = True, **kwargs: Any
) -> list[Launch]:
    """The launches of a call on CPU tensors, forward and backward, as they would be on `arch`. Nothing is computed."""
    from .kernels.hardware import DEVICES
    from .kernels.launch import record

    differentiable = backward and inputs[0].is_floating_point()
    leaves = tuple(x.detach().requires_grad_(differentiable and x.is_floating_point()) for x in inputs)
    with record(DEVICES[arch]) as launches, use_backend("triton"):
        out = function(*leaves, **kwargs)
        if differentiable:
            torch.autograd.grad(out, leaves, torch.empty_like(out))
    return launches


def report(launch: Launch) -> LaunchReport:
    """Compile a recorded launch for the device it was recorded for, and read the result.

    Raises:
        RuntimeError: if Triton interprets kernels in this process, or cannot compile this one.
    """
    from triton.runtime.jit import JITFunction

    from .kernels.hardware import issue_us, l2_us, matrix_us, memory_us, resident_programs, wave_efficiency

    if not isinstance(launch.kernel, JITFunction):
        raise RuntimeError("kernels are interpreted in this process: unset TRITON_INTERPRET to compile them")
    device = launch.device
    with _stand_in_driver(device.arch):
        compiled = launch.kernel.warmup(*launch.args, grid=launch.grid, **launch.meta)
    machine = machine_code(compiled)
    loop = main_loop(machine.instructions)
    warp_instructions = (
        launch.programs
        * launch.meta["num_warps"]
        * (len(loop) * launch.cost.trips + len(machine.instructions) - len(loop))
    )
    cost = launch.cost
    times = {
        "DRAM": memory_us(cost.bytes_moved, device),
        "L2": l2_us(cost.bytes_l2, device),
        "tensor": matrix_us(cost.flops, device, cost.itemsize, cost.tf32),
        "issue": issue_us(warp_instructions, device),
    }
    bound = max(times, key=lambda name: times[name])
    # a program that streams through L2 keeps its multiprocessor busy; one that waits for DRAM does not
    slots = device.sms
    if not cost.bytes_l2:
        slots = resident_programs(device, launch.meta["num_warps"], machine.registers, compiled.metadata.shared)
    waves = wave_efficiency(launch.programs, slots)
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
        modelled_us=times[bound] / waves,
        bound=bound,
        times_us=times,
        wave_efficiency=waves,
        code=machine.code,
    )


def inspect(
    op: str, arch: str = "sm_90", dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None,
    *, channels_last: bool = False, **kwargs: Any,
) -> list[LaunchReport]:  # fmt: skip
    """Compile every kernel of an op, forward and backward, for a GPU that need not be there, and report on each.

    Args:
        op: name of the op, as in `torchops.<op>`.
        arch: "sm_80", "sm_90", "sm_100", "sm_120" or "gfx942".
        dtype: of the input.
        shape: (N, C, H, W) of the input; the op's own example where it is None.
        channels_last: the input's memory format.
        kwargs: further arguments of the op.

    Raises:
        ValueError: if an argument is not one of those listed, or the op rejects it.
        RuntimeError: if kernels are interpreted in this process, or the compiler fails.
    """
    if op not in catalog.OPS:
        raise ValueError(f"`op` must be one of {', '.join(catalog.OPS)}, got {op!r}")
    if arch not in architectures():
        raise ValueError(f"`arch` must be one of {', '.join(architectures())}, got {arch!r}")
    entry = catalog.OPS[op]
    if dtype not in entry.dtypes:
        raise ValueError(f"`dtype` must be one of {', '.join(map(str, entry.dtypes))}, got {dtype}")
    inputs = entry.inputs(shape or entry.shape, dtype)
    if channels_last:
        inputs = tuple(torch.empty_like(x, memory_format=torch.channels_last) for x in inputs)
    return [report(launch) for launch in record_launches(entry.function, inputs, arch, **kwargs)]


def dump(reports: list[LaunchReport], folder: Path) -> list[Path]:
    """Write the code of every launch, stage by stage, to `folder`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for r in reports:
        for stage, text in r.code.items():
            file = folder / f"{r.kernel}.{r.arch}.{stage}"
            file.write_text(text)
            files.append(file)
    return files
