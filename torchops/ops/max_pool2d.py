"""Maxima and minima of windows: `torchops::max_pool2d`, and with their indices `torchops::max_pool2d_with_indices`.

The gradient is `max_unpool2d` with the sum of duplicates. Without indices it computes them once more: whoever will need them
asks for them at once.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torchops.backend import uses_triton
from torchops.kernels.geometry import Window

from .checks import check_tensors, check_windows
from .cpu import tiles
from .cpu.separable import best_of_windows, takes_best
from .cpu.threads import share_out
from .cpu.tiles import Scratch, parts
from .cpu.turned import Block, for_blocks, turned
from .cpu.unpooling import offsets_of
from .derivatives import Derivative
from .max_unpool2d import OFFSETS, Ints, check_kind, max_unpool2d, max_unpool2d_backward
from .memory import is_channels_last, memory_format, prefer_huge_pages
from .packing import Packed
from .registration import each_image, register


def _kernels() -> ModuleType:
    from torchops.kernels import max_pool2d

    return max_pool2d


def kept_indices(x: Tensor, window: Window) -> str:
    """The indices that a gradient gets by with, where the user has asked for none: what is cheapest to make and to keep."""
    if window.kernel[0] * window.kernel[1] > OFFSETS:
        return "position"
    # a graph is not tied to the backend that was in force when it was traced; both kinds serve both
    on_triton = x.is_cuda if torch.compiler.is_compiling() else uses_triton(x)
    return "offset" if on_triton else "position"


def _empty(x: Tensor, output_size: Ints, dtype: torch.dtype) -> Tensor:
    form = memory_format(x.shape, x.stride())
    return torch.empty((*x.shape[:2], *output_size), dtype=dtype, device=x.device, memory_format=form)


def _empty_max_pool2d(x: Tensor, window: Window, output_size: Ints, smallest: bool) -> Tensor:
    return _empty(x, output_size, x.dtype)


def _empty_with_indices(
    x: Tensor, window: Window, output_size: Ints, smallest: bool, indices: str
) -> tuple[Tensor, Tensor]:
    return _empty(x, output_size, x.dtype), _empty(x, output_size, torch.uint8 if indices == "offset" else torch.int64)


def _check(x: Tensor, window: Window, output_size: Ints, smallest: bool, indices: str = "position") -> None:
    check_tensors(4, x=x)
    check_kind(indices, window)
    check_windows(x.shape[2:], output_size, window, inside=True)


def _max_pool2d(x: Tensor, window: Window, output_size: Ints, smallest: bool) -> Tensor:
    if x.numel() == 0:
        return _empty(x, output_size, x.dtype)
    by_triton = uses_triton(x)
    if not by_triton and not takes_best(x, window, output_size):
        return _aten(x, window, output_size, smallest)[0]
    y = _empty(x, output_size, x.dtype)
    if by_triton:
        _kernels().max_pool2d_fwd(x, y, None, window, smallest)
    else:
        best_of_windows(x, y, window, smallest)
    return y


def _with_indices(x: Tensor, window: Window, output_size: Ints, smallest: bool, indices: str) -> tuple[Tensor, Tensor]:
    if x.numel() == 0:
        return _empty_with_indices(x, window, output_size, smallest, indices)
    if not uses_triton(x):
        return _aten(x, window, output_size, smallest, indices)
    y, found = _empty_with_indices(x, window, output_size, smallest, indices)
    _kernels().max_pool2d_fwd(x, y, found, window, smallest)
    return y, found


#
# ATen computes the positions whether they are wanted or not.

_pool = torch.ops.aten.max_pool2d_with_indices


def _turns(x: Tensor, window: Window, output_size: Ints) -> bool:
    """Whether ATen is given planes as channels, which is faster: see cpu/turned.py. Half a vector of them is enough."""
    planes, taps = x.shape[0] * x.shape[1], math.prod(output_size) * math.prod(window.kernel)
    few = 2 * planes < tiles.LANES or planes * taps < tiles.FEW or math.prod(window.stride) >= tiles.SPARSE
    return x.is_cpu and not few and not is_channels_last(x)


def _aten(
    x: Tensor, window: Window, output_size: Ints, smallest: bool, indices: str = "position"
) -> tuple[Tensor, Tensor]:
    # of the two modes, the one that makes that many windows
    ceil_mode = window.output_size(x.shape[2:]) != tuple(output_size)
    turns = _turns(x, window, output_size)
    asked = window.output_size(x.shape[2:], ceil_mode) == tuple(output_size)
    if asked and not smallest and not turns and indices == "position":
        return _pool(x, *window, ceil_mode)
    y, found = _empty_with_indices(x, window, output_size, smallest, indices)
    prefer_huge_pages(y)
    prefer_huge_pages(found)
    as_offsets = offsets_of(x.shape[2:], output_size, window, x.device) if indices == "offset" else None

    def write(values: Tensor, indices: Tensor, maxima: Tensor, where: Tensor) -> None:
        where.copy_(indices)
        if smallest:
            torch.neg(values, out=maxima)
        else:
            maxima.copy_(values)

    # ATen has no minimum: some images at a time are negated, and their maxima negated back

    def fill_block(block: Block) -> None:
        image = block.image.neg() if smallest else block.image
        values, positions = map(block.results, _pool(turned(image), *window, True))
        where = as_offsets(positions, block.first) if as_offsets else positions.add_(block.row * x.shape[3])
        write(values, where, *block.windows)

    def fill_part(part: tuple[Tensor, ...], scratch: Scratch) -> None:
        image, maxima, where = part
        image = image.neg() if smallest else image
        if not asked:
            # an operator may be asked for as many rows as one mode makes, and as many columns as the other
            pooled = _pool(image, *window, ceil_mode)
            values, positions = (t[:, :, : output_size[0], : output_size[1]] for t in pooled)
            write(values, as_offsets(positions) if as_offsets else positions, maxima, where)
            return
        positions = _scratch_like(where, scratch) if as_offsets else where
        _pool.out(image, *window, ceil_mode, out=maxima, indices=positions)
        if smallest:
            maxima.neg_()
        if as_offsets:
            where.copy_(as_offsets(positions))

    if turns:
        for_blocks(fill_block, x, window, y, found)
    else:
        # of an image that is only read, the positions stay in cache, each as large as two pixels
        pixels = math.prod(x.shape[2:]) if smallest else 2 * math.prod(output_size)
        share_out(parts(pixels, is_channels_last(x), x, y, found), lambda: Scratch(x.device), fill_part)
    return y, found


def _scratch_like(where: Tensor, scratch: Scratch) -> Tensor:
    """Positions to be found, in the memory format of the windows."""
    n, c, p, q = where.shape
    if is_channels_last(where):
        return scratch("positions", torch.Size((n, p, q, c)), torch.int64).permute(0, 3, 1, 2)
    return scratch("positions", where.shape, torch.int64)


def _is_plain(x: Tensor, window: Window, output_size: Ints, smallest: bool, indices: str) -> bool:
    """Whether it is ATen's pool and no more, with a gradient that rounds once: on a CPU, where that sums in one order."""
    exact = x.dtype in (torch.float32, torch.float64) or not window.overlap()
    plain = exact and not smallest and indices == "position" and x.is_cpu and x.numel() != 0 and not uses_triton(x)
    one_mode = tuple(output_size) in (window.output_size(x.shape[2:]), window.output_size(x.shape[2:], True))
    return plain and one_mode and not _turns(x, window, output_size)


def _setup_max_pool2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *ctx.constants = inputs
    ctx.save_for_backward(x)


def _grad_max_pool2d(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    window, _, _ = ctx.constants
    _, indices = max_pool2d_with_indices(x.detach(), *ctx.constants, kept_indices(x, window))
    return (_grad(dy, indices, x.shape, is_channels_last(x), window),)


def _setup_with_indices(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, ctx.window, _, _, _ = inputs
    ctx.size, ctx.channels_last = x.shape, is_channels_last(x)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])


def _grad_with_indices(ctx: Any, dy: Tensor | None, _: Any) -> tuple[Any, ...]:
    (indices,) = ctx.saved_tensors
    return (None if dy is None else _grad(dy, indices, ctx.size, ctx.channels_last, ctx.window),)


def _grad(dy: Tensor, indices: Tensor, size: Ints, channels_last: bool, window: Window) -> Tensor:
    dx: Tensor = max_unpool2d(dy, indices, size[2:], window, "sum", channels_last)
    return dx


def _tangent(t: Tensor, indices: Tensor, channels_last: bool, window: Window) -> Tensor:
    """Of the maxima: what `max_unpool2d` sends to where they lie, its transpose fetches from there."""
    y: Tensor = max_unpool2d_backward(t, indices, window, "sum", channels_last)
    return y


def _jvp_max_pool2d(args: tuple[Any, ...], _: Tensor, t: Tensor) -> Tensor:
    x, window, output_size, smallest = args
    _, indices = max_pool2d_with_indices(x.detach(), window, output_size, smallest, kept_indices(x, window))
    return _tangent(t, indices, is_channels_last(x), window)


def _jvp_with_indices(args: tuple[Any, ...], output: tuple[Tensor, Tensor], t: Tensor) -> tuple[Tensor, None]:
    x, window, _, _, _ = args
    return _tangent(t, output[1], is_channels_last(x), window), None


_WINDOW = Packed(Window, first=1, fields=4)
max_pool2d = register(
    "max_pool2d",
    "(Tensor x, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt[2] output_size, "
    "bool smallest) -> Tensor",
    check=_check, impl=_max_pool2d, fake=_empty_max_pool2d,
    derivative=Derivative(_setup_max_pool2d, _grad_max_pool2d, _jvp_max_pool2d),
    vmap=each_image("max_pool2d", 1), packed=_WINDOW,
)  # fmt: skip
max_pool2d_with_indices = register(
    "max_pool2d_with_indices",
    "(Tensor x, SymInt[2] kernel_size, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, SymInt[2] output_size, "
    "bool smallest, str indices) -> (Tensor, Tensor)",
    check=_check, impl=_with_indices, fake=_empty_with_indices,
    derivative=Derivative(_setup_with_indices, _grad_with_indices, _jvp_with_indices),
    vmap=each_image("max_pool2d_with_indices", 1), packed=_WINDOW, composed=_is_plain,
)  # fmt: skip
