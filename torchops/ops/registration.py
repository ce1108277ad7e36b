"""What the op families share: registering an operator, and picking its implementation."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchops.backend import choose


def uses_triton(x: Tensor) -> bool:
    """Whether the Triton kernels serve x, by the backend in force."""
    return choose(x.device).implementation == "triton"


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything else."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


def prefer_huge_pages(t: Tensor) -> None:
    """Ask Linux for 2 MiB pages behind a large, fresh CPU tensor, as NumPy does for its arrays.

    The first touch of every page costs a trip into the kernel; for an op that writes each element once, those of 4 KiB take
    about as long as the arithmetic. The system may ignore the advice.
    """
    size = t.numel() * t.element_size()
    if t.device.type != "cpu" or size < 4 << 20 or (madvise := _madvise()) is None:
        return
    start = -(-t.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (t.data_ptr() + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
    madvise(start, length, mmap.MADV_HUGEPAGE)


def register(
    name: str,
    schema: str,
    *,
    impl: Callable[..., Tensor],
    fake: Callable[..., Tensor],
    setup: Callable[..., None],
    grad: Callable[..., tuple[Any, ...]],
    vmap: Callable[..., tuple[Tensor, int]],
) -> Callable[..., Tensor]:
    """Register `torchops::<name>` for all devices and return the function to call it by.

    That function is the registered operator, except under `torch.func`'s transforms and forward-mode differentiation: they
    cannot see a gradient that is registered with the dispatcher, and are given the same formulas as an `autograd.Function`,
    which differentiates for the former and refuses the latter.

    Args:
        schema: its arguments and results.
        impl: computes it; looks at the backend in force.
        fake: an uninitialised output of the right size, strides, dtype and device.
        setup, grad: `setup_context` and `backward`, as in `torch.autograd.Function`.
        vmap: rule for a mapped dimension, as in `torch.library.register_vmap`.
    """
    qualified = f"torchops::{name}"
    torch.library.define(qualified, schema)
    torch.library.impl(qualified, "default", impl)
    torch.library.register_fake(qualified, fake)
    torch.library.register_autograd(qualified, grad, setup_context=setup)
    torch.library.register_vmap(qualified, vmap)
    operator = getattr(torch.ops.torchops, name).default
    function = type(
        name,
        (torch.autograd.Function,),
        {
            "generate_vmap_rule": True,
            "forward": staticmethod(operator),
            "setup_context": staticmethod(setup),
            "backward": staticmethod(grad),
        },
    )

    def call(*args: Any) -> Tensor:
        if not torch.compiler.is_compiling() and (
            torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0
        ):
            return function.apply(*args)  # type: ignore[attr-defined]
        return operator(*args)

    return call


def each_image(name: str, tensors: int) -> Callable[..., tuple[Tensor, int]]:
    """The vmap rule of an op that treats every (C, H, W) image alike: the mapped dimension joins the batch.

    Args:
        name: of the op; its first `tensors` arguments are its only tensors, each with a leading batch dimension.
    """

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
        batched = [
            x.unsqueeze(0).expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(args[:tensors], in_dims, strict=False)
        ]
        out = getattr(torch.ops.torchops, name)(*(x.flatten(0, 1) for x in batched), *args[tensors:])
        return out.unflatten(0, batched[0].shape[:2]), 0

    return rule
