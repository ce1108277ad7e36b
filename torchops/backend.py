"""Which implementation runs, and why.

    auto     Triton for GPU tensors, ATen for all others
    triton   Triton for every tensor; CPU tensors then need `TRITON_INTERPRET=1` or a driver that can run them
    aten     ATen for every tensor: the escape hatch, and the oracle

Set for the process by `TORCHOPS_BACKEND` before the first use, and for a block by `torchops.use_backend`. There is no silent
fallback: what a backend cannot do raises.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "triton", "aten"]
Implementation = Literal["triton", "aten"]


class Choice(NamedTuple):
    implementation: Implementation
    reason: str


def _checked(name: str, source: str) -> Backend:
    if name not in get_args(Backend):
        raise ValueError(f"{source} must be one of {', '.join(get_args(Backend))}, got {name!r}")
    return name  # type: ignore[return-value]


_blocks: ContextVar[tuple[list[Backend], ...]] = ContextVar("torchops_backend", default=())
"""The blocks that this thread or task is inside, the innermost last. A list is told from another of the same backend."""


@functools.cache
def _backend_of_process() -> Backend:
    """Asked at the first use: an import never fails for it."""
    return _checked(os.environ.get("TORCHOPS_BACKEND", "auto"), "TORCHOPS_BACKEND")


def get_backend() -> Backend:
    """The backend in force here: "auto", "triton" or "aten"; that of the innermost block, or else of the process.

    Raises:
        ValueError: if TORCHOPS_BACKEND is none of these.
    """
    blocks = _blocks.get()
    return blocks[-1][0] if blocks else _backend_of_process()


@contextlib.contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Run the ops inside the block on one backend.

    It holds for the thread or the asyncio task that is inside the block, and for tasks that are started there. Other threads
    keep the backend of the process, TORCHOPS_BACKEND; `contextvars.copy_context().run` takes the block to one of them, as
    `asyncio.to_thread` does. Blocks that overlap leave nothing behind.

    A backward runs on the backend that its forward saw, inside the block or not and in whatever thread autograd runs it.
    There are two exceptions. Code that checkpointing runs again, which for a GPU is in a thread of autograd's, needs the block
    inside itself. A graph that `torch.compile` made runs, forward and backward, on the backend in force where each is called;
    on a GPU, torch before 2.14 runs the backward in a thread that sees the backend of the process.

    Args:
        backend: "auto", "triton" or "aten".

    Raises:
        ValueError: if `backend` is none of these.
        RuntimeError: inside code that is compiled: a graph is not tied to a backend. With `fullgraph=True` the error is
            torch's, and quotes this one; without, the function that has the block in it is not compiled.

    >>> import torch, torchops
    >>> with torchops.use_backend("aten"):
    ...     edges = torchops.sobel(torch.rand(1, 3, 8, 8))
    """
    if torch.compiler.is_compiling():
        raise RuntimeError(
            f"`use_backend` ({backend!r}) cannot be inside compiled code, whose graph runs on the backend in force where it is "
            "called: put the block around that call"
        )
    block = [_checked(backend, "`backend`")]
    _blocks.set((*_blocks.get(), block))
    try:
        yield
    finally:
        # it may lie anywhere: generators share a context, and their blocks may overlap
        _blocks.set(tuple(other for other in _blocks.get() if other is not block))


def checks_indices(device: torch.device) -> bool:
    """Whether indices are checked before kernels see them: on a CPU, and with TORCHOPS_CHECK_INDICES=1 on a GPU too, though
    that has to wait for the answer."""
    if os.environ.get("TORCHOPS_CHECK_INDICES") == "1":
        return True
    return device.type == "cpu" and not _triton_is_recording()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


@functools.cache
def _triton_runs_cpu_tensors() -> bool:
    """Whether Triton interprets kernels, or its active driver works on CPU tensors."""
    import triton
    from triton.runtime.jit import JITFunction

    from torchops.kernels.sobel import sobel_fwd_kernel

    if not isinstance(sobel_fwd_kernel, JITFunction):
        return True
    try:
        return bool(triton.runtime.driver.active.get_active_torch_device().type == "cpu")
    except RuntimeError:  # Triton raises this where there is no GPU
        return False


def _triton_is_recording() -> bool:
    from torchops.kernels.launch import is_recording

    return is_recording()


def choose(device: torch.device) -> Choice:
    """The implementation for tensors on `device`, with the reason.

    Raises:
        RuntimeError: if the backend in force cannot serve the device.
    """
    backend = get_backend()
    if backend == "aten":
        return Choice("aten", "the backend is aten")
    if backend == "auto" and device.type != "cuda":
        return Choice("aten", f"the backend is auto, and ATen serves {device.type} tensors")
    if not _has_triton():
        raise RuntimeError(
            f"tensors on {device} need triton, which is not installed: pip install triton, or set TORCHOPS_BACKEND=aten"
        )
    if device.type == "cuda":
        return Choice("triton", f"the backend is {backend}, and Triton serves cuda tensors")
    if device.type == "meta":
        return Choice("triton", "the backend is triton, and tensors on meta have no values to compute")
    if device.type == "cpu" and _triton_is_recording():
        return Choice("triton", "launches are being recorded")
    if device.type == "cpu" and _triton_runs_cpu_tensors():
        return Choice("triton", "the backend is triton, and Triton interprets kernels on the CPU here")
    raise RuntimeError(
        f"the backend is triton, but the input is on {device}: Triton runs such tensors only if TRITON_INTERPRET=1 is "
        "set before the first use; set it, or use backend 'auto' or 'aten'"
    )


def uses_triton(x: Tensor) -> bool:
    """Whether the Triton kernels serve x, by the backend in force."""
    # this is the common case, which needs no words of a reason
    if not x.is_cuda and get_backend() == "auto":
        return False
    return choose(x.device).implementation == "triton"
