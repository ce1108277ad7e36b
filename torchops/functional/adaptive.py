"""Adaptive pooling: as many windows as are asked for, whatever the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

from torch import Tensor

from torchops.ops import adaptive_avg_pool2d as _avg
from torchops.ops import adaptive_max_pool2d as _max
from torchops.ops.cpu.quick import quick_adaptive_avg_pool2d
from torchops.ops.memory import is_channels_last

from . import arguments, sizes

_Size: TypeAlias = int | Sequence[int | None]


def adaptive_avg_pool2d(input: Tensor, output_size: _Size) -> Tensor:
    r"""Mean of every window, of as many windows as are asked for.

    .. math:: y_{ncpq} = \frac{1}{|\Omega_p| |\Omega_q|} \sum_{h \in \Omega_p,\, w \in \Omega_q} x_{nchw}, \qquad
        \Omega_p = \{\lfloor p H / P \rfloor, \ldots, \lceil (p + 1) H / P \rceil - 1\}

    with P x Q windows, of which neighbours overlap where P does not divide H. With one window it is the mean of the image.

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        output_size: P x Q: one number, or (rows, columns); None for as many as `input` has. May be larger than the image.

    Returns:
        (N, C, P, Q) or (C, P, Q), in the dtype and the memory format of `input`. float16 and bfloat16 are summed in float32 and
        rounded once, and so is the gradient.

    Raises:
        TypeError: if an argument is of the wrong type, or `input` not dense or not floating point.
        ValueError: if a shape or a number is out of its range.

    Differs from `torch.nn.functional.adaptive_avg_pool2d` in the errors, in leaving integers to torch, in refusing an
    `output_size` of 0, and in a gradient that is the same every run on a GPU too.

    Source: K. He et al., "Spatial pyramid pooling in deep convolutional networks for visual recognition", 2014; M. Lin,
    Q. Chen, S. Yan, "Network in network", 2013, for one window.

    >>> import torch, torchops
    >>> torchops.adaptive_avg_pool2d(torch.tensor([[[1.0, 3, 2, 4, 8]]]), (1, 2))
    tensor([[[2.0000, 4.6667]]])
    >>> torchops.adaptive_avg_pool2d(torch.rand(2, 512, 7, 7), 1).shape
    torch.Size([2, 512, 1, 1])
    """
    y = quick_adaptive_avg_pool2d(input, output_size)
    if y is not None:
        return y
    arguments.check_pooled(input)
    size = sizes.adaptive_size(input.shape, output_size)
    x = input if input.dim() == 4 else input.unsqueeze(0)
    y = _avg.adaptive_avg_pool2d(x, size, False, is_channels_last(x))
    return y if input.dim() == 4 else y.squeeze(0)


@overload
def adaptive_max_pool2d(input: Tensor, output_size: _Size, return_indices: Literal[False] = False) -> Tensor: ...
@overload
def adaptive_max_pool2d(input: Tensor, output_size: _Size, return_indices: Literal[True]) -> tuple[Tensor, Tensor]: ...
@overload
def adaptive_max_pool2d(input: Tensor, output_size: _Size, return_indices: bool = False) -> Any: ...
def adaptive_max_pool2d(input: Tensor, output_size: _Size, return_indices: bool = False) -> Any:
    r"""Maximum of every window, of as many windows as are asked for. A NaN is larger than anything.

    .. math:: y_{ncpq} = \max_{h \in \Omega_p,\, w \in \Omega_q} x_{nchw}

    over the windows of :func:`adaptive_avg_pool2d`.

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        output_size: P x Q: one number, or (rows, columns); None for as many as `input` has. May be larger than the image.
        return_indices: also where the maxima lie, as flat positions h W + w, which are torch's.

    Returns:
        (N, C, P, Q) or (C, P, Q), in the dtype and the memory format of `input`. With `return_indices`, a pair: that, and int64
        of its shape. Of equal maxima the first in row-major order counts, of several NaN the last.

    Raises:
        TypeError: if an argument is of the wrong type, or `input` not dense or not floating point.
        ValueError: if a shape or a number is out of its range.

    Differs from `torch.nn.functional.adaptive_max_pool2d` in the errors, in leaving integers to torch, in refusing an
    `output_size` of 0, and in a gradient that is the same every run on a GPU too; it adds what the windows over a pixel send to
    it, and is rounded once.

    Source: K. He et al., "Spatial pyramid pooling in deep convolutional networks for visual recognition", 2014.

    >>> import torch, torchops
    >>> torchops.adaptive_max_pool2d(torch.tensor([[[1.0, 3, 2, 4, 8]]]), (1, 2), return_indices=True)
    (tensor([[[3., 8.]]]), tensor([[[1, 4]]]))
    """
    arguments.check_pooled(input)
    size = sizes.adaptive_size(input.shape, output_size)
    arguments.flag("return_indices", return_indices)
    y, indices = _max.adaptive_max_pool2d(input if input.dim() == 4 else input.unsqueeze(0), size)
    if input.dim() == 3:
        y, indices = y.squeeze(0), indices.squeeze(0)
    return (y, indices) if return_indices else y
