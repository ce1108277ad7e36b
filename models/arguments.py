"""Arguments of the networks, checked: numbers when one is built, images when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MOST = 2**31 - 1


def check_whole(least: int = 1, most: int = MOST, **values: Any) -> None:
    """Raise for the first of the named values that is no whole number from `least` to `most`.

    Raises:
        TypeError: if it is no whole number.
        ValueError: if it is too small or too large.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"`{name}` must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}")
        if value > most:
            raise ValueError(f"`{name}` must be at most {most}, got {value}")


def check_wholes(name: str, values: Any, count: range, most: int = MOST) -> None:
    """Raise if `values` are not as many whole numbers, from 1 to `most`, as `count` allows."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"`{name}` must be whole numbers, got {type(values).__name__}")
    if len(values) not in count:
        wanted = f"{count[0]}" if len(count) == 1 else f"{count[0]} to {count[-1]}"
        raise ValueError(f"`{name}` must be {wanted} numbers, got {len(values)}")
    for value in values:
        check_whole(1, most, **{name: value})


def check_images(x: Any, channels: int, size: int | None = None, least: int = 1) -> None:
    """Raise if a network cannot take `x`, saying what it takes.

    Args:
        x: (N, channels, H, W). Of one that stands for any tensor while a network is traced, nothing is asked.
        channels: of the images.
        size: height and width, or None if they may be any.
        least: the smallest height and width.

    Raises:
        TypeError: if `x` is no tensor.
        ValueError: if its shape does not fit.
    """
    if isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing():
        return
    if not isinstance(x, Tensor):
        raise TypeError(f"`x` must be a tensor, got {type(x).__name__}")
    sides = "H, W" if size is None else f"{size}, {size}"
    if x.dim() != 4 or x.shape[1] != channels or (size is not None and (x.shape[2] != size or x.shape[3] != size)):
        raise ValueError(f"`x` must be (N, {channels}, {sides}), got {tuple(x.shape)}")
    if size is None and (x.shape[2] < least or x.shape[3] < least):
        raise ValueError(f"`x` must be at least {least} x {least} pixels, got {x.shape[2]} x {x.shape[3]}")
