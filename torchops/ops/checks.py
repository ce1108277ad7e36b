"""What kernels trust. Public functions refuse more, and in the words of their arguments; an operator that is called by itself,
`torch.ops.torchops.<name>`, refuses this before it reads or writes anything.

Fakes refuse the same. They ask nothing of symbolic sizes that a public function has not asked already, so that a graph of such
sizes is bound by nothing more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from torchops.kernels.geometry import Window, pool_size

FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64
PADDING_MODES = "replicate", "reflect", "circular", "zeros", "constant"


def check_tensors(
    dims: int, *, like: Tensor | None = None, dtypes: Collection[torch.dtype] = (), **tensors: Tensor | None
) -> None:  # fmt: skip
    """Check that tensors are dense, of so many dimensions, on the device of `like`, of one of these dtypes or of like's."""
    dtypes = dtypes or ((like.dtype,) if like is not None else FLOATS)
    for name, t in tensors.items():
        if t is None:
            continue
        if t.layout != torch.strided:
            raise TypeError(f"`{name}` must be a dense tensor, got layout {t.layout}")
        if t.dtype not in dtypes:
            raise TypeError(f"`{name}` must be of {' or '.join(map(str, dtypes))}, got {t.dtype}")
        if t.dim() != dims:
            raise ValueError(f"`{name}` must have {dims} dimensions, got shape {tuple(t.shape)}")
        if like is not None and t.device != like.device:
            raise RuntimeError(f"`{name}` must be on the device of the first tensor (={like.device}), got {t.device}")


def check_shape(name: str, shape: Sequence[int], expected: Sequence[int]) -> None:
    if tuple(shape) != tuple(expected):
        raise ValueError(f"`{name}` must have shape {tuple(expected)}, got {tuple(shape)}")


def check_numbers(least: int, **numbers: Sequence[int]) -> None:
    for name, values in numbers.items():
        for value in values:
            if value < least:
                raise ValueError(f"`{name}` must {'be positive' if least else 'not be negative'}, got {tuple(values)}")


def check_word(name: str, word: str, words: Collection[str]) -> None:
    if word not in words:
        raise ValueError(f"`{name}` must be one of {', '.join(words)}, got {word!r}")


def check_padding_mode(padding_mode: str) -> None:
    check_word("padding_mode", padding_mode, PADDING_MODES)


def check_border(size: Sequence[int], padding: Sequence[int], padding_mode: str, image: str = "image") -> None:
    """Check that `padding` (left, right, top, bottom) fits what errors call `image`, whose size ends in rows and columns."""
    check_padding_mode(padding_mode)
    # reflection leaves out the border itself
    least = {"reflect": 1, "circular": 0}.get(padding_mode)
    if least is None:
        return
    rows, cols = max(padding[2:]), max(padding[:2])
    if size[-2] < rows + least or size[-1] < cols + least:
        raise ValueError(
            f"`padding_mode` {padding_mode!r} with a padding of {rows} rows and {cols} columns needs an {image} of at least "
            f"{rows + least} x {cols + least} pixels, got shape {tuple(size)}"
        )


def check_windows(size: Sequence[int], windows: Sequence[int], window: Window, *, inside: bool = False) -> None:
    """Check that an image of that size has room for these windows, but perhaps the last; with `inside`, that begins in it."""
    kernel_size, stride, padding, dilation = window
    check_numbers(1, kernel_size=kernel_size, stride=stride, dilation=dilation, size=size)
    check_numbers(0, padding=padding)
    for n, count, (k, s, p, d) in zip(size, windows, window.axes(), strict=True):
        if 2 * p > k:
            raise ValueError(f"`padding` {padding} must be at most half of `kernel_size` {kernel_size}")
        fit = pool_size(n, k, s, p, d, ceil_mode=False)
        # the larger number is computed last, since it would bind symbolic sizes
        if count < 1 or (count != fit and count != (pool_size(n, k, s, p, d, ceil_mode=True) if inside else fit + 1)):
            raise ValueError(
                f"{tuple(windows)} windows of `kernel_size` {kernel_size} with `stride` {stride}, `padding` "
                f"{padding} and `dilation` {dilation} are not those of an image of {tuple(size)} pixels"
            )
