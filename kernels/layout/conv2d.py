"""How tensors are laid out for kernels of convolution: what may move 128 bits at a time, and what needs 64-bit offsets."""

from __future__ import annotations

import math

import torch

from torchops.kernels.geometry import Border, Conv2d
from torchops.kernels.launch import target_device
from torchops.kernels.planning.compilers import compiler_version
from torchops.kernels.planning.conv2d import method


def precision(x: torch.Tensor) -> str:
    """How float32 is multiplied: PyTorch's switch for convolutions decides, as it does for cuDNN's."""
    return "tf32" if x.dtype == torch.float32 and torch.backends.cudnn.conv.fp32_precision == "tf32" else "ieee"  # type: ignore[attr-defined]


def accumulator(x: torch.Tensor) -> torch.dtype:
    """The dtype that products of x are summed in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


PAD_CHANNELS = 256
"""Channels of the pixel beyond a constant border: no tile has more of x, neither of a gather nor of a weight gradient."""


def border(conv: Conv2d, x: torch.Tensor) -> tuple[str, torch.Tensor | None]:
    """The border as kernels know it, and what they read past a constant one: a pixel, unless its value is 0."""
    mode, value = Border(conv.border, conv.value).canonical()
    # it is not cached: a tensor that outlived the call would have to be right for every stream and graph
    return mode, torch.full((PAD_CHANNELS,), value, dtype=x.dtype, device=x.device) if value != 0.0 else None


def pads_by_address(x: torch.Tensor, pad: torch.Tensor | None) -> bool:
    """Whether pixels beyond a constant border get the address of its value: see `load_or_pad`."""
    if pad is None or not is_last(x):
        return False
    # triton 3.6 compiles no choice between addresses for gfx942: its pass TritonAMDGPUCanonicalizePointers fails
    return compiler_version() >= (3, 7) or not target_device(x).arch.startswith("gfx")


_NARROW = 2**30
"""What 32 bits hold with room for positions beyond the border and for the lanes of a last tile."""


def is_wide(*tensors: torch.Tensor | None) -> bool:
    """Whether an offset, or a number of pixels, may not fit into 32 bits."""
    return any(
        sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) >= _NARROW
        or t.shape[0] * t.shape[-1] * t.shape[-2] >= _NARROW
        for t in tensors
        if t is not None
    )


def check_weight(weight: torch.Tensor) -> None:
    """Refuse a weight whose offsets need 64 bits: kernels compute them in 32."""
    if sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True)) >= _NARROW:
        raise RuntimeError(
            f"`weight` of shape {tuple(weight.shape)} spans 2^30 elements or more: its offsets need 64 bits"
        )


def is_last(t: torch.Tensor) -> bool:
    """Whether channels lie back to back."""
    return t.stride(1) == 1


def _vector(itemsize: int, *numbers: int) -> int:
    """Elements that one access of 128 bits may move, where all of these sizes and strides are multiples of it."""
    return math.gcd(16 // itemsize, *numbers)


def vector_of(t: torch.Tensor, channels: int) -> int:
    """Elements that one access moves along the channels of t: they divide the `channels` of a group, strides and address."""
    if not is_last(t):
        return 1
    strides = (s for d, s in enumerate(t.stride()) if d != 1 and t.shape[d] > 1)
    return _vector(t.element_size(), channels, t.data_ptr() // t.element_size(), *strides)


def is_coalesced(t: torch.Tensor, channels: int, how: str) -> bool:
    """Whether neighbouring threads load neighbouring channels of t, 128 bits each where a matrix product copies whole tiles."""
    return vector_of(t, channels) * t.element_size() == 16 if how == "gemm" else is_last(t)


def bytes_of(*tensors: torch.Tensor | None) -> int:
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def channels_innermost(weight: torch.Tensor, groups: int, k: int, c: int) -> torch.Tensor:
    """The weight with dim 1 innermost, for a gemm that writes k channels of a group and reads c.

    These are the channels that a forward pass reads, and that an input gradient writes. The weight is copied unless it is laid
    out so already, or has one tap: reading channels one by one costs more.
    """
    if method(groups, k, c) != "gemm" or is_last(weight) or weight.shape[2] * weight.shape[3] == 1:
        return weight
    return weight.contiguous(memory_format=torch.channels_last)


Strides = tuple[int, int, int, int, int]


def taps_of(weight: torch.Tensor, k: int, c: int, transposed: bool) -> tuple[Strides, int]:
    """Strides of the weight as (groups, k channels out, c in, R, S), of which a transposed convolution swaps two; and how many
    elements one access moves, along those channels that lie back to back."""
    first, second, of_r, of_s = weight.stride()
    strides = (c * first, second, first, of_r, of_s) if transposed else (k * first, first, second, of_r, of_s)
    axis, across = (2, c) if strides[2] == 1 else (1, k)
    if strides[axis] != 1:
        return strides, 1
    sizes = weight.shape[0] // (c if transposed else k), k, c, *weight.shape[2:]
    others = (s for d, (s, n) in enumerate(zip(strides, sizes, strict=True)) if d != axis and n > 1)
    return strides, _vector(weight.element_size(), across, *others)
