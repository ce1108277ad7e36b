"""The one door of all launches of kernels, which can record them; torchops/recording.py records calls of operators.

Because there is only one, a launch can be recorded instead of run: `explain` shows what a call would do, `inspect`
compiles it for a GPU that is not there, and both see the real launcher with the real arguments.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from triton.runtime.jit import JITFunction

from .planning.hardware import INTERPRETER, Device, device_of
from .planning.protocol import Cost


@dataclass(frozen=True)
class Launch:
    """One recorded kernel launch: enough to compile it, and to say what it costs."""

    kernel: Any
    grid: tuple[int, ...]
    args: tuple[Any, ...]
    meta: dict[str, Any]
    config: Any
    cost: Cost
    device: Device
    problem: Any = None
    """The problem that its config was picked for, where a table of configs may know it."""
    pass_name: str = ""
    """"forward", "input_grad", "weight_grad" or "bias_grad" of a convolution; else "", where only the caller can tell."""

    @property
    def name(self) -> str:
        return str(self.kernel.__name__)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """What the kernel reads and writes, by the names of its arguments without "_ptr".

        A tensor that several arguments are given, as an output that is its own residual, is found by its first name only.
        """
        found: dict[int, tuple[str, torch.Tensor]] = {}
        for name, a in zip(self.kernel.arg_names, self.args, strict=False):
            if isinstance(a, torch.Tensor):
                found.setdefault(id(a), (name.removesuffix("_ptr"), a))
        return dict(found.values())

    @property
    def programs(self) -> int:
        count = 1
        for extent in self.grid:
            count *= extent
        return count


@dataclass
class Recording:
    device: Device
    launches: list[Launch] = field(default_factory=list)


class _Here(threading.local):
    """The recording of this thread: another thread's launches go on."""

    recording: Recording | None = None


_here = _Here()


@contextlib.contextmanager
def record(device: Device) -> Iterator[list[Launch]]:
    """Launches inside the block are planned for `device` and recorded, not run: their outputs stay uninitialised."""
    outer = _here.recording
    recording = _here.recording = Recording(device)
    try:
        yield recording.launches
    finally:
        _here.recording = outer


def current_recording() -> Recording | None:
    """What launches of this thread are recorded in; None where they are run."""
    return _here.recording


def is_recording() -> bool:
    return _here.recording is not None


def target_device(x: torch.Tensor) -> Device:
    """The hardware that a launch on x is planned for."""
    if _here.recording is not None:
        return _here.recording.device
    return device_of(x) if x.is_cuda else INTERPRETER


def _assembled_by_ptxas(kernel: Any) -> bool:
    return isinstance(kernel, JITFunction) and torch.version.hip is None


def launch(
    kernel: Any,
    programs: int,
    *args: Any,
    config: Any,
    cost: Callable[[], Cost],
    num_warps: int,
    problem: Any = None,
    pass_name: str = "",
    all_registers: bool = False,
    **meta: Any,
) -> None:
    """Launch `programs` programs of `kernel` on the device of its first argument, which need not be the current one.

    With `all_registers` a thread may have all 255 of an NVIDIA GPU. Otherwise ptxas aims at fewer where one program more would
    be resident, at 168 with 4 warps and 128 with 8, and spills up to a dozen rather than miss that.

    Raises:
        RuntimeError: for bfloat16 in Triton's interpreter, whose matrix products of it are garbage and whose other results are
            truncated instead of rounded.
    """
    x = args[0]
    meta["num_warps"] = num_warps
    recording = _here.recording
    if all_registers and (recording.device.arch.startswith("sm_") if recording else _assembled_by_ptxas(kernel)):
        meta["maxnreg"] = 255
    if recording:
        recording.launches.append(
            Launch(kernel, (programs,), args, meta, config, cost(), recording.device, problem, pass_name)
        )
        return
    if not isinstance(kernel, JITFunction) and any(getattr(a, "dtype", None) == torch.bfloat16 for a in args):
        raise RuntimeError(
            f"Triton's interpreter computes torch.bfloat16 wrongly, and {kernel.__name__} was given it: use float32 or float16 "
            "with TRITON_INTERPRET=1, or set TORCHOPS_BACKEND=aten"
        )
    with torch.cuda.device_of(x):
        kernel[(programs,)](*args, **meta)
