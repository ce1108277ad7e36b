"""ATen's operators that torchops has one for: convolutions, pools and unpools of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchops import functional

Ints = Sequence[int]
_aten = torch.ops.aten


def _conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    padding = padding if isinstance(padding, str) else _pair(padding)
    return functional.conv2d(input, weight, bias, _pair(stride), padding, _pair(dilation), groups)


def _convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, transposed: bool,
    output_padding: Ints, groups: int,
) -> Tensor:  # fmt: skip
    if transposed:
        return functional.conv_transpose2d(
            input, weight, bias, _pair(stride), _pair(padding), _pair(output_padding), groups, _pair(dilation)
        )
    return _conv2d(input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    pairs = _pair(stride), _pair(padding), _pair(output_padding)
    return functional.conv_transpose2d(input, weight, bias, *pairs, groups, _pair(dilation))


def _max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    return functional.max_pool2d(
        input, _pair(kernel_size), _pair(stride) or None, _pair(padding), _pair(dilation), ceil_mode, return_indices
    )


def _with_indices(
    input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    return _max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = (), padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    return functional.avg_pool2d(
        input, _pair(kernel_size), _pair(stride) or None, _pair(padding), ceil_mode, count_include_pad, divisor_override
    )


def _adaptive_max_pool2d(input: Tensor, output_size: Ints) -> Any:
    return functional.adaptive_max_pool2d(input, output_size, True)


def _nearest(input: Tensor, output_size: Ints | None, *scales: Any) -> Tensor:
    # `.vec` has a list of factors, the others have one for each dimension
    factors = scales[0] if len(scales) == 1 else scales
    if output_size is None:
        return functional.interpolate(input, scale_factor=tuple(factors))
    return functional.interpolate(input, size=tuple(output_size))


def _pair(numbers: Any) -> Any:
    """A list of one number, which stands for all dimensions, or of two."""
    if not isinstance(numbers, (list, tuple)):
        return numbers
    return tuple(numbers) * 2 if len(numbers) == 1 else tuple(numbers)


COUNTERPARTS: Mapping[Any, Callable[..., Any]] = {
    _aten.convolution.default: _convolution,
    _aten.conv2d.default: _conv2d,
    _aten.conv2d.padding: _conv2d,
    _aten.conv_transpose2d.input: _conv_transpose2d,
    _aten.max_pool2d.default: _max_pool2d,
    _aten.max_pool2d_with_indices.default: _with_indices,
    _aten.avg_pool2d.default: _avg_pool2d,
    _aten.adaptive_avg_pool2d.default: functional.adaptive_avg_pool2d,
    _aten._adaptive_avg_pool2d.default: functional.adaptive_avg_pool2d,
    _aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
    _aten.upsample_nearest2d.default: _nearest,
    _aten.upsample_nearest2d.vec: _nearest,
    _aten._upsample_nearest_exact2d.default: _nearest,
    _aten._upsample_nearest_exact2d.vec: _nearest,
}
"""ATen's operators, and functions of their arguments that do the same by torchops's."""
