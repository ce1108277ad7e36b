"""Sizes and memory formats of outputs: pure functions of sizes and strides."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def memory_format(size: Sequence[int], stride: Sequence[int]) -> torch.memory_format:
    """The memory format of the output for an (N, C, H, W) input, by ATen's rule (`suggest_memory_format`).

    channels_last if the strides grow in the order C, W, H, N, also where the input is a slice of something larger;
    contiguous otherwise, and where sizes of 1 leave the order open.
    """
    n, c, h, w = size
    of_n, of_c, of_h, of_w = stride
    # the first of these settles most contiguous tensors
    grows = c * of_c <= of_w and w * of_w <= of_h and h * of_h <= of_n and 0 < of_c != of_n
    return torch.channels_last if grows and n != 0 and c != 0 and h != 0 and w != 0 else torch.contiguous_format


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether an output takes the channels_last format from x, (N, C, H, W)."""
    return memory_format(x.shape, x.stride()) == torch.channels_last


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Outputs of a convolution along one dimension; `padding` is that of both ends together."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_transpose_size(size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int) -> int:
    """Outputs of a transposed convolution along one dimension; `padding` is that of both ends together."""
    return (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding


def overlap(kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int] = (1, 1)) -> bool:
    """Whether a pixel may lie in several windows."""
    return any(d * (k - 1) >= s for k, s, d in zip(kernel_size, stride, dilation, strict=True))


def pool_size(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> int:
    """Windows of a pool along one dimension, by ATen's rule; `padding` is that of one end.

    With `ceil_mode` a last window may reach beyond the padding, but has to start in the image or in the padding before it.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return span // stride + 1
    count = -(-span // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count
