"""Look inside a call: which implementation and block sizes it takes, and what its kernels become on a GPU.

No GPU is needed: launches are recorded at the door they go through (`kernels/launch.py`), compiled by Triton for the GPU asked
for, and read off the machine code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from . import catalog
from .backend import Choice, choose, use_backend
from .machine_code import LOAD, MATRIX, STORE, machine_code, main_loop, stand_in_driver, widths

if TYPE_CHECKING:
    from .kernels.hardware import Device
    from .kernels.launch import Launch
    from .recording import Spec


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
        """As "3 launches"."""
        return f"{self.launches} launch{'' if self.launches == 1 else 'es'}"

    def __str__(self) -> str:
        time = "" if self.modelled_us is None else f", modelled {self.modelled_us:.1f} us"
        return f"{self.counted}, {self.bytes_moved / 1e6:.1f} MB moved{time}"


@dataclass(frozen=True)
class Explanation:
    """What a call does, or every call of a module; `print` it."""

    op: str
    """The function or, of a call inside a module, the operator `torch.ops.torchops.<op>`; of a module, its class."""
    implementation: str
    """"triton" or "aten"."""
    reason: str
    launches: tuple[tuple[str, int, Any], ...]
    """(kernel, programs, block sizes) of every launch of the forward; empty for ATen."""
    modelled: tuple[tuple[float, str] | None, ...]
    """(microseconds, what bounds them) of every launch, modelled before compilation; None in Triton's interpreter."""
    passes: tuple[str, ...] = ()
    """The pass of every launch."""
    bytes_moved: tuple[int, ...] = ()
    """DRAM traffic of every launch, counted: halos once per program."""
    inputs: tuple[tuple[str, Spec], ...] = ()
    """Name, and shape, strides and dtype, of every tensor that a call is given; none of a module."""
    name: str = ""
    """Of the module that makes the call, as in its `named_modules`, after the class of the outermost."""
    calls: tuple[Explanation, ...] = ()
    """Of a module: its calls, in their order. Its launches are theirs."""

    @property
    def total(self) -> Total:
        times = None if None in self.modelled else sum(m[0] for m in self.modelled if m)
        return Total(len(self.launches), times, sum(self.bytes_moved))

    def _lines(self) -> Iterator[str]:
        """A line of what it is given, and one of each launch."""
        yield ", ".join(f"{name} {spec}" for name, spec in self.inputs)
        launches = zip(self.passes, self.launches, self.bytes_moved, self.modelled, strict=True)
        for of, (kernel, programs, config), moved, modelled in launches:
            time = f", modelled {modelled[0]:.1f} us, bound by {modelled[1]}" if modelled else ""
            yield f"  {of}, {kernel}: {programs} programs of {config}, {moved / 1e6:.1f} MB moved{time}"

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.implementation}, because {self.reason}"]
        for call in self.calls:
            given, *launches = call._lines()
            lines += [f"  {call.name}, {call.op} of {given}", *(f"  {line}" for line in launches)]
        if self.launches and not self.calls:
            given, *launches = self._lines()
            lines += [f"  of {given}", *launches]
        if len(self.launches) > 1:
            lines.append(f"  total: {self.total}")
        return "\n".join(lines)


def explain(op: Callable[..., Any] | str | nn.Module, *args: Any, **kwargs: Any) -> Explanation:
    """Say which implementation and which block sizes a call would take, and why. Nothing is computed.

    Times of launches are modelled before anything is compiled: the slowest of DRAM, L2 and matrix units, by how full the last
    wave of programs is. What a kernel takes to issue its instructions is known once it is compiled: see :func:`inspect`.

    Args:
        op: a function of torchops, or its name; or a module that calls some, as a layer of `torchops.nn` or a model after
            `torchops.convert` or `torchops.fuse`, or inside `torchops.override`. The forward of a module is explained, in the
            mode (train, eval) it is in, and without gradients.
        args, kwargs: the arguments of the call, or of the module's forward. The first tensor's device is where it runs.

    Raises:
        TypeError: if the function does not take such arguments.
        ValueError: if `op` is not known, or is a module that calls no operator of torchops; or the arguments are wrong.
        RuntimeError: if the backend in force cannot serve them; of a module, also if it does not take them, asks for values on
            its way, or is asked about under autocast.

    >>> import torch, torchops
    >>> print(torchops.explain(torchops.sobel, torch.rand(1, 3, 64, 64)))
    sobel: aten, because the backend is auto, and ATen serves cpu tensors
    >>> layers = torch.nn.Sequential(torchops.nn.Conv2d(3, 8, 3, bias=False), torch.nn.ReLU())
    >>> print(torchops.explain(layers, torch.rand(1, 3, 64, 64)))
    Sequential: aten, because the backend is auto, and ATen serves cpu tensors
      Sequential.0, conv2d of x 1x3x64x64 float32 contiguous, weight 8x3x3x3 float32 contiguous
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", type(op).__name__)
    if name not in catalog.OPS and not isinstance(op, nn.Module):
        raise ValueError(f"`op` must be one of {', '.join(catalog.OPS)}, or a torch.nn.Module, got {name!r}")
    # a module may take them in lists and dictionaries
    given = tree_leaves((args, kwargs)) if isinstance(op, nn.Module) else (*args, *kwargs.values())
    tensors = [a for a in given if isinstance(a, Tensor)]
    if not tensors:
        raise ValueError("`args` must hold the tensors of the call, got none")
    choice = choose(tensors[0].device)
    if isinstance(op, nn.Module):
        return _explain_module(op, args, kwargs, choice, tensors[0])
    function = catalog.OPS[name].function
    # not before it is needed: `import torchops` is quick
    from .recording import Spec

    arguments = signature(function).bind(*args, **kwargs).arguments
    inputs = [(key, Spec.of(a)) for key, a in arguments.items() if isinstance(a, Tensor)]
    if choice.implementation == "aten":
        return _explanation(name, choice, inputs, [])
    from .kernels.launch import record, target_device

    with record(target_device(tensors[0])) as launches, torch.no_grad():
        function(*args, **kwargs)
    return _explanation(name, choice, inputs, launches)


def _explanation(
    op: str, choice: Choice, inputs: Iterable[tuple[str, Spec]], launches: list[Launch], name: str = ""
) -> Explanation:
    """Of the forward of one call."""
    models = [_model_before_compilation(launch) for launch in launches]
    return Explanation(
        op,
        choice.implementation,
        choice.reason,
        tuple((launch.name, launch.programs, launch.config) for launch in launches),
        tuple((m.us, m.bound) if m else None for m in models),
        ("forward",) * len(launches),
        tuple(launch.cost.bytes_moved for launch in launches),
        tuple(inputs),
        name,
    )


def _model_before_compilation(launch: Launch) -> Model | None:
    from .kernels.hardware import INTERPRETER

    return None if launch.device is INTERPRETER else model(launch)


def _explain_module(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], choice: Choice, x: Tensor
) -> Explanation:
    from .recording import Spec, module_calls

    if x.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(x.device.type):
        raise RuntimeError(
            "a module is explained on tensors without values, which autocast does not see: leave autocast, and give a module "
            "and inputs of the dtype that it would cast them to"
        )
    name = type(module).__name__
    with torch.no_grad():
        calls = module_calls(name, module, *args, kwargs=kwargs, backend=choice.implementation)
    if not calls:
        raise ValueError(
            f"`op`, a {name}, calls no operator of torchops: use torchops.convert or torchops.fuse, or ask inside "
            "torchops.override"
        )
    found = []
    for call in calls:
        arguments = getattr(torch.ops.torchops, call.operator).default._schema.arguments
        inputs = [(a.name, given) for a, given in zip(arguments, call.args, strict=False) if isinstance(given, Spec)]
        launches: list[Launch] = []
        if choice.implementation == "triton":
            from .kernels.launch import target_device

            launches = call.launches(target_device(x))
        # its own name comes before its number and operator
        found.append(_explanation(call.operator, choice, inputs, launches, call.name.rsplit(".", 2)[0]))
    launches_of, modelled, passes, moved = (
        tuple(one for e in found for one in getattr(e, key))
        for key in ("launches", "modelled", "passes", "bytes_moved")
    )
    return Explanation(
        name, choice.implementation, choice.reason, launches_of, modelled, passes, moved, calls=tuple(found)
    )


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
    from .kernels.hardware import issue_us, l2_us, matrix_us, memory_us, resident_programs, wave_efficiency

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
    """Modelled time of each of these on its own, microseconds, before waves."""
    wave_efficiency: float
    """Share of the device that works, averaged over the waves of programs."""
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
        """As JSON has it, without the code: `pass_name` is "pass"."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("code", "pass_name")}
        tensors = {name: spec.as_dict() for name, spec in self.tensors.items()}
        return {**row, "pass": self.pass_name, "tensors": tensors, "traffic": self.traffic}


def total(reports: Iterable[LaunchReport]) -> Total:
    """What the launches of some reports take together."""
    found = list(reports)
    return Total(len(found), sum(r.modelled_us for r in found), sum(r.bytes_moved for r in found))


def record_launches(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], device: Device, *, backward: bool = True, **kwargs: Any
) -> list[Launch]:
    """The launches of a call on CPU tensors, forward and backward, as they would be on `device`. No kernel runs."""
    forward, further = _record_passes(function, inputs, device, backward=backward, **kwargs)
    return forward + further


def _record_passes(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], device: Device, *, backward: bool = True, **kwargs: Any
) -> tuple[list[Launch], list[Launch]]:
    """As :func:`record_launches`: those of the forward, and those of the backward, which know their passes."""
    from .kernels.launch import record

    differentiable = backward and inputs[0].is_floating_point()
    leaves = tuple(x.detach().requires_grad_(differentiable and x.is_floating_point()) for x in inputs)
    with record(device) as launches, use_backend("triton"):
        out = function(*leaves, **kwargs)
        count = len(launches)
        out = out[0] if isinstance(out, tuple) else out
        if differentiable:
            torch.autograd.grad(out, [x for x in leaves if x.requires_grad], torch.empty_like(out))
    # a transposed convolution is an input gradient, and has a convolution as its own
    transposed = any(launch.pass_name == "input_grad" for launch in launches[:count])
    names = {"": "backward", "forward": "input_grad" if transposed else "forward"}
    return (
        [replace(launch, pass_name="forward") for launch in launches[:count]],
        [replace(launch, pass_name=names.get(launch.pass_name, launch.pass_name)) for launch in launches[count:]],
    )


def report(launch: Launch) -> LaunchReport:
    """Compile a recorded launch for the device it was recorded for, and read the result.

    Raises:
        RuntimeError: if Triton interprets kernels in this process, or cannot compile this one.
    """
    from triton.runtime.jit import JITFunction

    from .recording import Spec

    if not isinstance(launch.kernel, JITFunction):
        raise RuntimeError("kernels are interpreted in this process: unset TRITON_INTERPRET to compile them")
    device = launch.device
    with stand_in_driver(device.arch, device.warp_size):
        compiled = launch.kernel.warmup(*launch.args, grid=launch.grid, **launch.meta)
    machine = machine_code(compiled)
    loop = main_loop(machine.instructions)
    warp_instructions = (
        launch.programs
        * launch.meta["num_warps"]
        * (len(loop) * launch.cost.trips + len(machine.instructions) - len(loop))
    )
    modelled = model(launch, warp_instructions, machine.registers, compiled.metadata.shared)
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
        wave_efficiency=modelled.wave_efficiency,
        dropped_constants=len(machine.dropped_constants),
        code=machine.code,
        pass_name=launch.pass_name,
        tensors={name: Spec.of(t) for name, t in launch.tensors.items()},
    )


def check_further(op: str, names: Iterable[str]) -> None:
    """Check that these are arguments of an op, other than its input and its weight. A bias may be set to None.

    Raises:
        ValueError: if one is not.
    """
    parameters = signature(catalog.OPS[op].function).parameters
    known = [n for n, p in parameters.items() if p.default is not Parameter.empty or n in catalog.OPS[op].kwargs]
    for name in names:
        if name not in known:
            raise ValueError(f"further arguments of {op} must be among {', '.join(known)}, got {name!r}")


_INDICES = {"offset": torch.uint8, "position": torch.int64}


def plan(
    op: str, arch: str = "sm_90", dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None,
    *, weight: tuple[int, ...] | None = None, channels_last: bool = False, indices: str | None = None, **kwargs: Any,
) -> tuple[list[Launch], list[Launch]]:  # fmt: skip
    """The launches of an op's forward, and of its backward, on a GPU that need not be there. Nothing is compiled.

    Arguments and errors are those of :func:`inspect`, except that kernels may be interpreted in this process.
    """
    from .kernels.hardware import find

    if op not in catalog.OPS:
        raise ValueError(f"`op` must be one of {', '.join(catalog.OPS)}, got {op!r}")
    device = find(arch)
    entry = catalog.OPS[op]
    if dtype not in entry.dtypes:
        raise ValueError(f"`dtype` must be one of {', '.join(map(str, entry.dtypes))}, got {dtype}")
    check_further(op, kwargs)
    parameters = signature(entry.function).parameters
    if weight is not None and "weight" not in parameters:
        raise ValueError(f"`weight` must be None, since {op} has none, got {weight}")
    if weight is not None and len(weight) != 4:
        raise ValueError(f"`weight` must have 4 sizes, got {weight}")
    if indices is not None and not entry.offsets:
        raise ValueError(f"`indices` must be None, since {op} takes none, got {indices!r}")
    if indices not in (None, *_INDICES):
        raise ValueError(f"`indices` must be one of {', '.join(_INDICES)}, got {indices!r}")
    groups = kwargs.get("groups", 1)
    # what is no number of groups is the op's to refuse
    valid = isinstance(groups, int) and groups > 0
    inputs = entry.inputs(shape or entry.shape, dtype, weight, groups if valid else 1, _INDICES[indices or "offset"])
    inputs = tuple(x for name, x in zip(parameters, inputs, strict=False) if name not in kwargs)
    if channels_last:
        inputs = tuple(torch.empty_like(x, memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs)
    return _record_passes(entry.function, inputs, device, **{**entry.kwargs, **kwargs})


def inspect(
    op: str, arch: str = "sm_90", dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None,
    *, weight: tuple[int, ...] | None = None, channels_last: bool = False, indices: str | None = None, **kwargs: Any,
) -> list[LaunchReport]:  # fmt: skip
    """Compile every kernel of an op, forward and backward, for a GPU that need not be there, and report on each.

    Args:
        op: name of the op, as in `torchops.<op>`.
        arch: "sm_80", "sm_89", "sm_90", "sm_100", "sm_120" or "gfx942", or a listed GPU, as "H200" or "RTX 4090".
        dtype: of the input, and of weight and bias.
        shape: (N, C, H, W) of the input; the op's own example where it is None.
        weight: size of the weight, (K, C/groups, R, S) for conv2d and (C, K/groups, R, S) for conv_transpose2d; 3x3 from as
            many channels to as many where it is None. The size of the bias follows.
        channels_last: the memory format of input, weight and indices.
        indices: of max_unpool2d: "offset" (one byte, where it is None) or "position" (eight).
        kwargs: further arguments of the op, over those of its example (padding=1 for convolutions, kernel_size=2 for pools);
            `bias=None` for none.

    Raises:
        TypeError: if the op rejects the type of an argument.
        ValueError: if an argument is not one of those listed, or the op rejects it.
        RuntimeError: if kernels are interpreted in this process, or the compiler fails.
    """
    forward, backward = plan(
        op, arch, dtype, shape, weight=weight, channels_last=channels_last, indices=indices, **kwargs
    )
    return [report(launch) for launch in (*forward, *backward)]


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
