"""The launches of an op, forward and backward, on a GPU that need not be there, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchops import catalog
from torchops.backend import use_backend

from .reports import LaunchReport, report

if TYPE_CHECKING:
    from torchops.kernels.launch import Launch
    from torchops.kernels.planning.hardware import Device


def record_launches(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], device: Device, *, backward: bool = True, **kwargs: Any
) -> list[Launch]:
    """The launches of a call on CPU tensors, forward and backward, as they would be on `device`. No kernel runs."""
    forward, further = _record_passes(function, inputs, device, backward=backward, **kwargs)
    return forward + further


def _record_passes(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], device: Device, *, backward: bool = True, **kwargs: Any
) -> tuple[list[Launch], list[Launch]]:
    """Record as :func:`record_launches` does; return the launches of the forward and of the backward apart, named by pass."""
    from torchops.kernels.launch import record

    differentiable = backward and inputs[0].is_floating_point()
    leaves = tuple(x.detach().requires_grad_(differentiable and x.is_floating_point()) for x in inputs)
    with record(device) as launches, use_backend("triton"):
        out = function(*leaves, **kwargs)
        count = len(launches)
        out = out[0] if isinstance(out, tuple) else out
        if differentiable:
            torch.autograd.grad(out, [x for x in leaves if x.requires_grad], torch.empty_like(out))
    # a transposed convolution is an input gradient, and its own input gradient is a convolution
    transposed = any(launch.pass_name == "input_grad" for launch in launches[:count])
    names = {"": "backward", "forward": "input_grad" if transposed else "forward"}
    return (
        [replace(launch, pass_name="forward") for launch in launches[:count]],
        [replace(launch, pass_name=names.get(launch.pass_name, launch.pass_name)) for launch in launches[count:]],
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

    Arguments and errors are those of :func:`torchops.inspect.inspect`, except that kernels may be interpreted in this process.
    """
    from torchops.kernels.planning.hardware import find

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
    # the op itself refuses what is no number of groups
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
