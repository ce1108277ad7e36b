"""The memory of outputs: its format, and its pages."""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def memory_format(size: Sequence[int], stride: Sequence[int]) -> torch.memory_format:
    """The memory format of the output for an (N, C, H, W) input, by ATen's rule (`suggest_memory_format`).

    channels_last if the strides grow in the order C, W, H, N, also where the input is a slice of something larger;
    contiguous otherwise, and where sizes of 1 leave the order open.
    """
    n, c, h, w = size
    of_n, of_c, of_h, of_w = stride
    # the first comparison settles most contiguous tensors
    grows = c * of_c <= of_w and w * of_w <= of_h and h * of_h <= of_n and 0 < of_c != of_n
    return torch.channels_last if grows and n != 0 and c != 0 and h != 0 and w != 0 else torch.contiguous_format


def is_channels_last(x: Tensor) -> bool:
    """Whether an output takes the channels_last format from x, (N, C, H, W)."""
    return memory_format(x.shape, x.stride()) == torch.channels_last


@functools.cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


def prefer_huge_pages(t: Tensor) -> None:
    """Ask Linux for 2 MiB pages behind a large, fresh CPU tensor, as NumPy does for its arrays.

    The first touch of every page costs a trip into the kernel; for an op that writes each element once, those of 4 KiB take
    about as long as the arithmetic. The system may ignore the advice.
    """
    size = t.numel() * t.element_size()
    if t.device.type != "cpu" or size < 4 << 20 or (madvise := _madvise()) is None:
        return
    start = -(-t.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (t.data_ptr() + size - start) // mmap.PAGESIZE * mmap.PAGESIZE
    madvise(start, length, mmap.MADV_HUGEPAGE)
