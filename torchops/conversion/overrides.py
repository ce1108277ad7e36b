"""`torch.nn.functional`'s calls, inside a block, on torchops's ops."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from torchops import functional
from torchops.functional.arguments import is_floating, is_plain
from torchops.ops.registration import is_implementing
from torchops.torch_internals import count_function_modes, pop_function_mode, push_function_mode


def _max_pool2d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """What `F.max_pool2d` with indices calls: it returns them, whatever `return_indices` says."""
    return functional.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """What `F.adaptive_max_pool2d` with indices calls: it returns them, whatever `return_indices` says."""
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


_blocks: ContextVar[tuple[override, ...]] = ContextVar("torchops_override", default=())
"""The blocks that this thread or task is inside. torch's stack of modes is a thread's: all its tasks call what lies there."""


def _is_of_an_op(error: Exception) -> bool:
    """Whether an op was running when the error was raised: arguments are checked before any op runs."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith("torchops.ops.") for frame, _ in frames)


class override(TorchFunctionMode):  # noqa: N801  a context manager, named as torch.no_grad is
    """Inside the block, `F.conv2d`, `F.conv_transpose2d`, `F.max_pool2d`, `F.avg_pool2d`, `F.adaptive_max_pool2d`,
    `F.adaptive_avg_pool2d`, `F.max_unpool2d` and `F.interpolate` are torchops's.

    For models whose forward calls functions, where :func:`torchops.convert` finds no layer to swap; torch.nn's layers call
    them too. Blocks nest; other threads see nothing of it, and neither do other asyncio tasks, but for those started inside,
    nor the backends inside torchops. Blocks that overlap leave nothing behind.

    Calls that torchops has no kernel for stay torch's: of integer, complex, quantized and sparse tensors, and of subclasses of
    Tensor. So do calls whose arguments torchops's functions refuse by a TypeError or a ValueError: torch raises its own error,
    most often a RuntimeError, or computes what ours will not, as a convolution of no channels or bilinear interpolation. Errors
    from within a computation are torchops's.

    A backward sees nothing of it either: checkpointed code, which runs again there, needs the block inside itself. While code
    is compiled, every block of the thread is seen, those of other tasks too.

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
        self._is_of_a_task = False

    def __enter__(self) -> override:
        # compiled code does not wait, and so no other task runs inside its blocks
        if not torch.compiler.is_compiling():
            self._is_of_a_task = True
            _blocks.set((*_blocks.get(), self))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if torch.compiler.is_compiling():
            super().__exit__(*error)
            return
        blocks = list(_blocks.get())
        if self in blocks:
            blocks.remove(self)
            _blocks.set(tuple(blocks))
        # a task that entered later may still be inside its block, which then lies above this one
        above = []
        while count_function_modes() and (mode := pop_function_mode()) is not self:
            above.append(mode)
        for mode in reversed(above):
            push_function_mode(mode)

    def _is_elsewhere(self) -> bool:
        """Whether another task of this thread is inside the block, and not this one."""
        return self._is_of_a_task and self not in _blocks.get()

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        ours = COUNTERPARTS.get(func)
        compiling = torch.compiler.is_compiling()
        if ours is None or (not compiling and (is_implementing() or self._is_elsewhere())):
            return func(*args, **kwargs)
        first = args[0] if args else kwargs.get("input")
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        served = isinstance(first, Tensor) and is_floating(first) and all(map(is_plain, tensors))
        name = ours.__name__.removeprefix("_").removesuffix("_with_indices")
        if served:
            try:
                result = ours(*args, **kwargs)
            except (TypeError, ValueError) as error:
                # a compiler runs no op, and cannot look at tracebacks
                if not compiling and _is_of_an_op(error):
                    raise
            else:
                if not compiling:
                    self.swapped[name] += 1
                return result
        if not compiling:
            self.kept[name] += 1
        return func(*args, **kwargs)
