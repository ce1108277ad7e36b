"""The short way of a plain eager call, past the dispatcher: which calls may not take it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_dynamo_compiling

from torchops.backend import get_backend, uses_triton
from torchops.torch_internals import (
    are_transforms_active,
    count_dispatch_modes,
    count_function_modes,
    in_forward_mode,
    is_profiling,
    key_set,
    keys_in_force,
    keys_of,
    tracing_state,
)

BARE = frozenset((Tensor, torch.nn.Parameter))
_PLAIN = BARE | {type(None)}
_AT_REST = [key_set("BackendSelect", "ADInplaceOrView"), key_set("BackendSelect")]
"""The keys of a thread in which nothing is in force, outside of inference mode and inside."""
_DENSE = [
    key_set(device, f"Autocast{device}", *more)
    for device in ("CPU", "CUDA")
    for more in ((f"Autograd{device}", "ADInplaceOrView"), ())
]
"""The keys of a tensor that is memory and nothing else, on each device, made outside of inference mode and inside."""
_STRIDED = torch.strided
_EXACT = frozenset((torch.float32, torch.float64))
"""What ATen computes with as it is."""


def is_watched(args: tuple[Any, ...]) -> bool:
    """Whether the dispatcher has more to do than to find the gradient and the implementation.

    A mode, a tracer, a transform and a batched gradient are keys of the thread, the profiler is a flag. A tensor that is not a
    plain one has a type of its own, or keys: it is the negative of its memory, or zeros without any, or a wrapper. ATen's calls
    heed the keys of the others as they do those of the first; a kernel gets addresses.
    """
    if keys_in_force() not in _AT_REST or is_profiling():
        return True
    first = args[0]
    if keys_of(first) not in _DENSE:
        return True
    by_address = uses_triton(first)
    for a in args:
        if type(a) not in _PLAIN:
            # tensors come first, so that the first other argument ends them
            return isinstance(a, Tensor)
        if by_address and a is not None and keys_of(a) not in _DENSE:
            return True
    return False


def is_quiet(x: Tensor) -> bool:
    """Whether a call is of a bare tensor of float32 or float64, and nobody but autograd looks on: no mode, transform, tracer,
    compiler, profiler or tangent, and no backend but ATen's.

    Where there are elements and the arguments are good, ATen's own call then does all that torchops's would; a convolution's,
    where there is no autocast either. ATen itself heeds what the keys of a tensor say, of negation or of a batch of gradients.
    """
    return (
        not is_dynamo_compiling()
        and type(x) in BARE
        and x.is_cpu
        and x.dtype in _EXACT
        and x.layout is _STRIDED
        and not count_function_modes()
        and not count_dispatch_modes()
        and not are_transforms_active()
        and not in_forward_mode()
        and not is_profiling()
        and tracing_state() is None
        and get_backend() != "triton"
    )


def is_bare(t: Tensor) -> bool:
    """Whether a tensor is a plain one of CPU memory: ATen also takes weights without any memory, or of oneDNN's layout."""
    return type(t) in BARE and t.is_cpu and t.layout is _STRIDED
