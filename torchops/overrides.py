"""`torch.nn.functional`'s calls, inside a block, on torchops's ops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from . import functional
from .arguments import is_floating, is_plain, upsampling
from .ops.registration import is_implementing


def _max_pool2d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """What `F.max_pool2d` with indices calls: it returns them, whatever `return_indices` says."""
    return functional.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """What `F.adaptive_max_pool2d` with indices calls, likewise."""
    return functional.adaptive_max_pool2d(input, output_size, True)


COUNTERPARTS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: functional.conv2d,
    F.conv_transpose2d: functional.conv_transpose2d,
    F.avg_pool2d: functional.avg_pool2d,
    F.max_unpool2d: functional.max_unpool2d,
    F.max_pool2d: functional.max_pool2d,
    torch.max_pool2d: functional.max_pool2d,
    F.max_pool2d_with_indices: _max_pool2d_with_indices,
    F.adaptive_avg_pool2d: functional.adaptive_avg_pool2d,
    F.adaptive_max_pool2d: functional.adaptive_max_pool2d,
    F.adaptive_max_pool2d_with_indices: _adaptive_max_pool2d_with_indices,
    F.interpolate: functional.interpolate,
}
"""torch's functions, as a mode or a tracer sees them, and ours, which take the same arguments."""


def _enlarges(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: Any = None,
    recompute_scale_factor: Any = None, antialias: bool = False,
) -> bool:  # fmt: skip
    """Whether our interpolation does what is asked for."""
    try:
        upsampling(input.shape, size, scale_factor, mode, align_corners, antialias)
    except (TypeError, ValueError):
        return False
    return True


class override(TorchFunctionMode):  # noqa: N801  a context manager, named as torch.no_grad is
    """Inside the block, `F.conv2d`, `F.conv_transpose2d`, `F.max_pool2d`, `F.avg_pool2d`, `F.adaptive_max_pool2d`,
    `F.adaptive_avg_pool2d`, `F.max_unpool2d` and `F.interpolate` are torchops's.

    For models whose forward calls functions, where :func:`torchops.convert` finds no layer to swap; torch.nn's layers call
    them too. Blocks nest; other threads see nothing of it, and neither do the backends inside torchops. Calls that torchops
    has no kernel for stay torch's: of integer, complex, quantized and sparse tensors, of subclasses of Tensor, under
    forward-mode differentiation, and interpolation that is not of images, by the nearest pixel and by whole factors.

    A backward sees nothing of it either: checkpointed code, which runs again there, needs the block inside itself.

    Attributes:
        swapped: how often each function was called on torchops's op in this block, a `collections.Counter`.
        kept: how often each was left to torch. Calls in compiled code are counted when it is traced, or not at all.

    >>> import torch, torchops
    >>> import torch.nn.functional as F
    >>> x, w = torch.rand(1, 3, 8, 8), torch.rand(4, 3, 3, 3)
    >>> with torchops.override() as calls:
    ...     y = F.max_pool2d(F.conv2d(x, w), 2)
    >>> calls.swapped
    Counter({'conv2d': 1, 'max_pool2d': 1})
    """

    def __init__(self) -> None:
        super().__init__()
        self.swapped: Counter[str] = Counter()
        self.kept: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        ours = COUNTERPARTS.get(func)
        if ours is None or (not torch.compiler.is_compiling() and is_implementing()):
            return func(*args, **kwargs)
        first = args[0] if args else kwargs.get("input")
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        # which our ops refuse
        forward_mode = torch.autograd.forward_ad._current_level >= 0
        served = not forward_mode and isinstance(first, Tensor) and is_floating(first) and all(map(is_plain, tensors))
        served = served and (func is not F.interpolate or _enlarges(*args, **kwargs))
        if not torch.compiler.is_compiling():
            (self.swapped if served else self.kept)[ours.__name__.removeprefix("_").removesuffix("_with_indices")] += 1
        return (ours if served else func)(*args, **kwargs)
