"""The quick way of a quiet call on a CPU (see `is_quiet`): one look at the arguments, then ATen's own function.

Each function here returns None where ATen might not do what torchops does, and where it refuses. The long way then does all of
it: it takes more, and says in its own words what is wrong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torchops.activations import ACTIVATIONS
from torchops.ops.conv2d.aten import as_pair, is_direct, is_direct_transpose, plain_conv2d
from torchops.ops.max_unpool2d import unpool_tiles
from torchops.ops.memory import is_channels_last
from torchops.ops.shortcut import BARE, is_bare, is_quiet
from torchops.torch_internals import any_requires_grad, in_any_autocast, nn_builtins

from . import tiles
from .separable import MANY

SMALL = 1 << 14
"""Elements of all images together up to which nothing is faster than ATen's unpooling."""
FRESH = 1 << 23
"""Elements of an enlarged image from which on malloc maps fresh memory in every call, for which the long way has huge pages."""
_POWERS = frozenset((1, 2, 4, 8, 16))
"""Factors that ATen, which computes with float32 which pixel is repeated, divides by exactly. 41 * float32(1 / 41) is not 1."""
_REFUSALS = RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError


def _are_ints(a: Any, b: Any, c: Any) -> bool:
    """Whether each is an int or a tuple of one or two: of a pair ATen checks the first alone, and takes True for 1."""
    return (
        (type(a) is int or (type(a) is tuple and type(a[0]) is type(a[-1]) is int))
        and (type(b) is int or (type(b) is tuple and type(b[0]) is type(b[-1]) is int))
        and (type(c) is int or (type(c) is tuple and type(c[0]) is type(c[-1]) is int))
    )


def quick_conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: Any,
    padding_mode: str, padding_value: float, activation: str | None, residual: Tensor | None,
) -> Tensor | None:  # fmt: skip
    if not (
        padding_mode == "zeros"
        and type(padding_value) is float
        and padding_value == 0.0
        and is_quiet(input)
        and not in_any_autocast()
        and type(weight) in BARE
        and weight.is_cpu
        and (bias is None or is_bare(bias))
        and type(groups) is int
    ):
        return None
    more = residual is not None or activation is not None
    if more and torch.is_grad_enabled() and any_requires_grad(input, weight, bias, residual):
        return None
    try:
        if not (
            _are_ints(stride, padding, dilation)
            and is_direct(input.shape, input.stride(), weight.shape, weight.stride(), stride, padding, dilation)
        ):
            return None
        y = plain_conv2d(input, weight, bias, stride, padding, dilation, groups)
        return _finished(y, activation, residual) if more else y
    except _REFUSALS:
        return None


def quick_conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, output_padding: Any, groups: Any,
    dilation: Any,
) -> Tensor | None:  # fmt: skip
    """Without output padding. A bias whose gradient is asked for is added afterwards, as the long way has it: oneDNN would sum
    the gradient with a larger error."""
    if not (
        is_quiet(input)
        and not in_any_autocast()
        and type(weight) in BARE
        and weight.is_cpu
        # ATen takes other dtypes of a bias here
        and (bias is None or (is_bare(bias) and bias.dtype == input.dtype))
        and type(groups) is int
    ):
        return None
    try:
        if not (
            _are_ints(stride, padding, dilation)
            and _are_ints(output_padding, 0, 0)
            and output_padding in (0, (0,), (0, 0))
            and is_direct_transpose(
                input.shape, input.stride(), weight.shape, weight.stride(), stride, padding, dilation
            )
        ):
            return None
        # to read what it has by default takes ATen half a microsecond
        more = () if groups == 1 else (0, groups)
        if bias is None or not (bias.requires_grad and torch.is_grad_enabled()):
            return torch.conv_transpose2d(input, weight, bias, stride, padding, *more)
        y = torch.conv_transpose2d(input, weight, None, stride, padding, *more)
        return y.add_(bias.view(-1, 1, 1)) if bias.shape == y.shape[1:2] else None
    except _REFUSALS:
        return None


def _finished(y: Tensor, activation: str | None, residual: Tensor | None) -> Tensor | None:
    """A convolution with its residual added and its activation applied, in place."""
    if activation is not None and activation not in ACTIVATIONS:
        return None
    if residual is not None:
        if not (is_bare(residual) and residual.dtype == y.dtype and residual.shape == y.shape):
            return None
        y.add_(residual)
    return y if activation is None else ACTIVATIONS[activation].in_place(y)


def _is_for_aten(input: Tensor, kernel_size: Any, stride: Any, taps: int) -> bool:
    """Whether nothing is faster than ATen's pool: windows have few pixels together, or the image is channels_last and they
    step, or have no more than so many taps."""
    elements = input.numel()
    if stride == kernel_size:
        # a pixel is in one of them
        return 0 < elements <= tiles.FEW or is_channels_last(input)
    rows, cols = as_pair(kernel_size)
    if 0 < elements * rows * cols <= tiles.FEW:
        return True
    return is_channels_last(input) and (
        as_pair(stride) != (1, 1) or (rows * cols <= taps and input.shape[1] >= 8 and elements <= MANY)
    )


def quick_max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, indices: bool
) -> Any:
    """Without indices, or with positions."""
    if not (type(ceil_mode) is bool and is_quiet(input) and input.dim() == 4):
        return None
    # ATen takes longer to read the () that it has for the kernel size
    stride = kernel_size if stride is None else stride
    try:
        if not (
            _are_ints(kernel_size, stride, padding)
            and _is_for_aten(input, kernel_size, stride, 9)
            and type(dilation) is int
            and dilation == 1
        ):
            return None
        pool = nn_builtins.max_pool2d_with_indices if indices else torch.max_pool2d
        return pool(input, kernel_size, stride, padding, dilation, ceil_mode)
    except _REFUSALS:
        return None


def quick_avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: Any
) -> Tensor | None:
    if not (type(ceil_mode) is type(count_include_pad) is bool and is_quiet(input) and input.dim() == 4):
        return None
    stride = kernel_size if stride is None else stride
    try:
        if not (_are_ints(kernel_size, stride, padding) and _is_for_aten(input, kernel_size, stride, 49)):
            return None
        y: Tensor = nn_builtins.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)
        return y
    except _REFUSALS:
        return None


def quick_adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor | None:
    """With a gradient not of channels_last images, whose format the gradient of a mean forgets."""
    if not (is_quiet(input) and input.dim() == 4 and input.numel() != 0):
        return None
    if torch.is_grad_enabled() and input.requires_grad and is_channels_last(input):
        return None
    try:
        if not (_are_ints(output_size, 1, 1) and 0 < min(as_pair(output_size)) <= max(as_pair(output_size)) < 2**31):
            return None
        y: Tensor = nn_builtins.adaptive_avg_pool2d(input, output_size)
        return y
    except _REFUSALS:
        return None


def quick_interpolate(
    input: Tensor, size: Any, scale_factor: Any, mode: Any, align_corners: Any, antialias: Any
) -> Tensor | None:
    """By powers of two. With a gradient not of channels_last images: ATen's has the format of the gradient that comes."""
    if not (
        type(mode) is str
        and mode in ("nearest", "nearest-exact")
        and align_corners is None
        and antialias is False
        and is_quiet(input)
        and input.dim() == 4
        and input.numel() != 0
    ):
        return None
    if torch.is_grad_enabled() and input.requires_grad and is_channels_last(input):
        return None
    try:
        _, _, h, w = input.shape
        if size is None:
            a, b = scale_factor if type(scale_factor) is tuple else (scale_factor, scale_factor)
        elif scale_factor is None and _are_ints(size, 1, 1):
            rows, cols = as_pair(size)
            a, b = rows // h, cols // w
            if (a * h, b * w) != (rows, cols):
                return None
        else:
            return None
        if not (type(a) in (int, float) and type(b) in (int, float) and a in _POWERS and b in _POWERS):
            return None
        if input.numel() * a * b >= FRESH:
            return None
        y: Tensor = nn_builtins.upsample_nearest2d(input, (h * int(a), w * int(b)), None)
        return y
    except _REFUSALS:
        return None


def quick_max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Tensor | None:
    """Of small images, from positions, to as many pixels as windows without overlap have."""
    if not (
        is_quiet(input)
        and is_bare(indices)
        and indices.dtype == torch.int64
        and input.dim() == 4
        and 0 < input.numel() <= SMALL
        and indices.shape == input.shape
        and indices.is_contiguous()
        and input.is_contiguous()
        and not is_channels_last(input)
    ):
        return None
    stride = kernel_size if stride is None else stride
    try:
        if not (
            _are_ints(kernel_size, stride, padding)
            and stride == kernel_size
            and padding in (0, (0,), (0, 0))
            and type(dilation) is int
            and dilation == 1
        ):
            return None
        kernel = as_pair(kernel_size)
        return unpool_tiles(input, indices, kernel) if 0 < min(kernel) <= max(kernel) < 2**31 else None
    except _REFUSALS:
        return None
