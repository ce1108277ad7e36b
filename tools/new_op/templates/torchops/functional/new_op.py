"""Every element, times a number."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchops.ops import new_op as _op

from . import arguments


def new_op(input: Tensor, scale: float = 2.0) -> Tensor:
    r"""Every element, times a number.

    .. math:: y = \text{scale} \cdot x

    Args:
        input: (N, C, H, W) or (C, H, W); float16, bfloat16, float32 or float64; any strides.
        scale: the number, without a unit; finite.

    Returns:
        Tensor of the shape of `input`, in its dtype and memory format.

    Raises:
        TypeError: if `input` is not a dense tensor of one of these dtypes, or `scale` no number.
        ValueError: if `input` has another number of dimensions, or no pixel, or `scale` is not finite.

    Differs from `torch.mul` in taking images and a number only.

    >>> import torch, torchops
    >>> torchops.new_op(torch.tensor([[[1.0, 2.0]]]), scale=3.0)
    tensor([[[3., 6.]]])
    """
    arguments.check_pooled(input)
    if isinstance(scale, bool) or not isinstance(scale, (int, float, torch.SymFloat)):
        raise TypeError(f"`scale` must be a number, got {scale!r}")
    if not -math.inf < scale < math.inf:
        raise ValueError(f"`scale` must be finite, got {scale}")
    if input.dim() == 3:
        return _op.new_op(input.unsqueeze(0), scale).squeeze(0)
    return _op.new_op(input, scale)
