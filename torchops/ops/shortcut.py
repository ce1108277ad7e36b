"""The short way of a plain eager call, past the dispatcher: which calls may not take it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchops.backend import uses_triton
from torchops.torch_internals import is_profiling, key_set, keys_in_force, keys_of

_PLAIN = frozenset((Tensor, torch.nn.Parameter, type(None)))
_AT_REST = [key_set("BackendSelect", "ADInplaceOrView"), key_set("BackendSelect")]
"""The keys of a thread in which nothing is in force, outside of inference mode and inside."""
_DENSE = [
    key_set(device, f"Autocast{device}", *more)
    for device in ("CPU", "CUDA")
    for more in ((f"Autograd{device}", "ADInplaceOrView"), ())
]
"""The keys of a tensor that is memory and nothing else, on each device, made outside of inference mode and inside."""


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
