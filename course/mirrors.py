"""Convolutions by the kernel that a lesson mirrors, where torchops would pick another one for so small a problem.

They are of torchops, and so need Triton; only tests call them.
"""

from __future__ import annotations

import torch
from torch import Tensor

import torchops


def plain(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
) -> Tensor:
    """By kernels/conv2d/plain.py, which has no bias: it is added."""
    from torchops.kernels.conv2d import PlainConfig, conv2d_fwd
    from torchops.kernels.geometry import Conv2d

    top, left = (padding, padding) if isinstance(padding, int) else padding
    empty = torchops.conv2d(x.to("meta"), weight.to("meta"), None, stride, padding, dilation)
    y = torch.empty_like(empty, device=x.device)
    conv = Conv2d((stride, stride), (left, left, top, top), (dilation, dilation), 1, "zeros")
    conv2d_fwd(x, weight, None, None, y, conv, "none", config=PlainConfig(16, 16, 16, 4, 1))
    return y if bias is None else y + bias[:, None, None]


def direct(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """By kernels/conv2d/direct.py, which takes groups of few channels: two of them here, that are the same."""
    twice = torchops.conv2d(torch.cat((x, x), 1), torch.cat((weight, weight)), None, stride, 0, dilation, groups=2)
    return twice[:, : weight.shape[0]]


def weight_grad_direct(dy: Tensor, x: Tensor, taps: tuple[int, int], stride: int, padding: int) -> Tensor:
    """By kernels/conv2d/weight_grad_direct.py, for the same groups."""
    sides = (padding,) * 4
    twice, _ = torch.ops.torchops.conv2d_weight_grad(
        torch.cat((dy, dy), 1), torch.cat((x, x), 1), taps, (stride, stride), sides, (1, 1), 2, "zeros", 0.0, False, False
    )  # fmt: skip
    return twice[: dy.shape[1]]
