"""Sizes and memory formats of outputs: pure functions of sizes and strides."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def memory_format(size: Sequence[int], stride: Sequence[int]) -> torch.memory_format:
    """The memory format of the output for an (N, C, H, W) input, by ATen's rule (`suggest_memory_format`).

    channels_last if the strides grow in the order C, W, H, N, also where the input is a slice of something larger;
    contiguous otherwise, and where sizes of 1 leave the order open.
    """
    if stride[1] == 0:
        return torch.contiguous_format
    least = 0
    for d in (1, 3, 2, 0):
        if size[d] == 0 or stride[d] < least or (d == 0 and stride[0] == stride[1]):
            return torch.contiguous_format
        least = stride[d] * size[d]
    return torch.channels_last


def conv_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Outputs of a convolution along one dimension; `padding` is that of both ends together."""
    return (size + padding - dilation * (kernel - 1) - 1) // stride + 1


def conv_transpose_size(size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int) -> int:
    """Outputs of a transposed convolution along one dimension; `padding` is that of both ends together."""
    return (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - padding
