"""What is promised of a result: its dtype, and its format to the strides of dimensions of one element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true as known

from torchops.ops.memory import memory_format

Ints = Sequence[int]
Table = Mapping[Any, Callable[..., Any]]
"""Operators, and what each is made of."""


def format_of(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


def empty(size: Ints, like: Tensor, channels_last: bool, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(
        tuple(size), dtype=dtype or like.dtype, device=like.device, memory_format=format_of(channels_last)
    )


def is_empty(t: Tensor) -> bool:
    return any(known(n == 0) for n in t.shape)


def _has_strides(t: Tensor, channels_last: bool) -> bool:
    """Whether t has the strides of `empty`."""
    _, c, h, w = t.shape
    wanted = (c * h * w, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)
    return all(known(a == b) for a, b in zip(t.stride(), wanted, strict=True))


def promised(t: Tensor, channels_last: bool, dtype: torch.dtype, *, by_elements: bool = False) -> Tensor:
    """t with the dtype and the strides of `empty`.

    Args:
        by_elements: whether what has made t goes over elements. In dimensions of one element of channels_last tensors that
            takes other strides than its fake foresees.
    """
    t = t if t.dtype == dtype else t.to(dtype)
    sure = not (by_elements and channels_last and any(known(n == 1) for n in t.shape[1:]))
    return t if sure and _has_strides(t, channels_last) else t.clone(memory_format=format_of(channels_last))


def settled(t: Tensor) -> Tensor:
    """t with the strides of `empty` where it has dimensions of one element: `ops/conv2d/aten.py` says what becomes of others.

    What ATen makes of others has strides of its own choice, too.
    """
    if not any(known(n == 1) for n in t.shape) or _has_strides(t, False) or _has_strides(t, True):
        return t
    return t.clone(memory_format=memory_format(t.shape, t.stride()))
