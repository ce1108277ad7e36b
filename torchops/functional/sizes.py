"""What follows from the sizes of arguments that are valid one by one: sizes of results, and where windows lie.

What does not fit together is refused, by the names of the arguments, with symbolic sizes too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from torchops.kernels.geometry import Conv2d, Pair, Sides, Window, conv_transpose_size
from torchops.ops.checks import check_border
from torchops.torch_internals import tracing_state

from .arguments import as_numbers, check_dimensions, integer, is_whole_factor, pair

_Geometry = TypeVar("_Geometry", bound=Callable[..., Any])


def _remembered(function: _Geometry) -> _Geometry:
    """The function, computed once for the same sizes: a network asks for the same few again and again."""
    cached = functools.lru_cache(maxsize=1024)(function)

    @functools.wraps(function)
    def call(*sizes: Any) -> Any:
        if torch.compiler.is_compiling() or tracing_state() is not None:
            return function(*sizes)
        try:
            return cached(*sizes)
        except TypeError:
            # symbolic sizes outside a compiler cannot be hashed
            return function(*sizes)

    return call  # type: ignore[return-value]


def _check_conv_shapes(input: Sequence[int], weight: Sequence[int], groups: int) -> None:
    check_dimensions(input)
    if len(weight) != 4:
        raise ValueError(f"`weight` must have 4 dimensions, got shape {tuple(weight)}")
    c, h, w = input[-3:]
    if c < 1 or h < 1 or w < 1:
        raise ValueError(f"`input` must have at least one channel and one pixel, got shape {tuple(input)}")
    first, second, r, s = weight
    if first < 1 or second < 1 or r < 1 or s < 1:
        raise ValueError(f"`weight` must have no dimension of size 0, got shape {tuple(weight)}")
    if groups < 1:
        raise ValueError(f"`groups` must be positive, got {groups}")
    if c % groups != 0:
        raise ValueError(f"`groups` (={groups}) must divide `in_channels` (={c})")


def _conv_padding(padding: Pair | Sides | str, kernel_size: Pair, stride: Pair, dilation: Pair) -> Sides:
    """Left, right, top, bottom."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f"`padding` 'same' needs `stride` 1, got {stride}")
        rows, cols = dilation[0] * (kernel_size[0] - 1), dilation[1] * (kernel_size[1] - 1)
        return cols // 2, cols - cols // 2, rows // 2, rows - rows // 2
    if isinstance(padding, str):
        raise ValueError(f"`padding` must be numbers, 'same' or 'valid', got {padding!r}")
    if len(padding) == 4:
        return padding
    top, left = padding
    return left, left, top, top


@_remembered
def conv_geometry(
    input: Sequence[int], weight: Sequence[int], stride: Pair, padding: Pair | Sides | str, dilation: Pair,
    groups: int, padding_mode: str,
) -> tuple[Conv2d, tuple[int, ...]]:  # fmt: skip
    """The convolution of inputs of these shapes, with a border of 0 if it is constant, and the shape of its result."""
    _check_conv_shapes(input, weight, groups)
    *batch, c, h, w = as_numbers(input)
    k, channels, r, s = as_numbers(weight)
    if channels * groups != c:
        raise ValueError(
            f"`weight` of shape {tuple(weight)} with `groups` (={groups}) takes {channels * groups} channels, "
            f"got `input` of shape {tuple(input)}"
        )
    if k % groups != 0:
        raise ValueError(f"`groups` (={groups}) must divide `out_channels` (={k})")
    sides = left, right, top, bottom = _conv_padding(padding, (r, s), stride, dilation)
    check_border(input, sides, padding_mode, "`input`")
    conv = Conv2d(stride, sides, dilation, groups, padding_mode)
    p, q = conv.output_size((h, w), (r, s))
    if p < 1 or q < 1:
        raise ValueError(
            f"`weight` of shape {tuple(weight)} with `dilation` {dilation} is larger than the padded `input`, "
            f"{h + top + bottom} x {w + left + right} pixels"
        )
    return conv, (*batch, k, p, q)


@_remembered
def conv_transpose_geometry(
    input: Sequence[int], weight: Sequence[int], stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair,
    groups: int,
) -> tuple[Conv2d, Pair]:  # fmt: skip
    """The convolution that maps the result to exactly this input, and rows and columns of the result."""
    _check_conv_shapes(input, weight, groups)
    c, h, w = as_numbers(input[-3:])
    channels, _, r, s = as_numbers(weight)
    if channels != c:
        raise ValueError(
            f"`weight` of shape {tuple(weight)} takes {channels} channels, got `input` of shape {tuple(input)}"
        )
    (top, left), (below, beside) = padding, output_padding
    if below >= max(stride[0], dilation[0]) or beside >= max(stride[1], dilation[1]):
        raise ValueError(
            f"`output_padding` (={output_padding}) must be smaller than `stride` (={stride}) or `dilation` (={dilation})"
        )
    p = conv_transpose_size(h, r, stride[0], 2 * top, below, dilation[0])
    q = conv_transpose_size(w, s, stride[1], 2 * left, beside, dilation[1])
    if p < 1 or q < 1:
        raise ValueError(
            f"`padding` (={padding}) leaves {p} x {q} pixels of the output of `input` of shape {tuple(input)}"
        )
    return Conv2d(stride, (left, left - beside, top, top - below), dilation, groups, "zeros"), (p, q)


def _sum_of_quotients(count: int, step: int, begin: int, divisor: int) -> int:
    """The sum of (begin + i step) // divisor over i < count, in as many turns as Euclid's algorithm takes."""
    total = 0
    while count > 0:
        total += step // divisor * (count * (count - 1) // 2) + begin // divisor * count
        step, begin = step % divisor, begin % divisor
        # the points below a line are counted along the other axis
        (count, begin), divisor, step = divmod(step * count + begin, divisor), step, divisor
    return total


def _steps_over(n: int, step: int, before: int, apart: int) -> bool:
    """Whether a window that begins in the padding before n pixels, its own `apart`, has none of them in reach."""
    count, begin = -(-before // step), -before % apart
    # the first of its pixels at 0 or beyond lies at n or beyond: then the quotient is one more
    return _sum_of_quotients(count, step, begin + apart - n, apart) != _sum_of_quotients(count, step, begin, apart)


def _check_windows(size: Sequence[int], window: Window) -> None:
    """Refuse windows that begin in the padding and step over the whole image: their maximum would lie nowhere."""
    for name, n, (_, step, before, apart) in zip(("rows", "columns"), size, window.axes(), strict=True):
        if apart > n and _steps_over(n, step, before, apart):
            raise ValueError(
                f"`dilation` {window.dilation} with `padding` {window.padding} leaves windows without a pixel of the image, "
                f"which has {n} {name}"
            )


@_remembered
def pooled_size(input: Sequence[int], window: Window, ceil_mode: bool) -> Pair:
    """Rows and columns of the result."""
    h, w = as_numbers(input[-2:])
    _check_windows((h, w), window)
    p, q = window.output_size((h, w), ceil_mode)
    if p < 1 or q < 1:
        raise ValueError(
            f"`kernel_size` {window.kernel} with `dilation` {window.dilation} is larger than the padded `input`, "
            f"{h + 2 * window.padding[0]} x {w + 2 * window.padding[1]} pixels"
        )
    return p, q


def unpool_size(input: Sequence[int], window: Window, output_size: Any) -> Pair:
    """Rows and columns of the result: those of `output_size`, which may differ by less than a stride from the usual."""
    usual = tuple(
        conv_transpose_size(n, k, s, 2 * p, 0, d)
        for n, (k, s, p, d) in zip(as_numbers(input[-2:]), window.axes(), strict=True)
    )
    if output_size is None:
        size = usual
    else:
        if not isinstance(output_size, (tuple, list)) or len(output_size) not in (2, 4):
            raise ValueError(f"`output_size` must have 2 or 4 elements, got {output_size!r}")
        numbers = tuple(integer(number) for number in as_numbers(output_size[-2:]))
        if None in numbers:
            raise TypeError(f"`output_size` must be of integers, got {output_size!r}")
        size = numbers
        if not all(n - s < given < n + s for n, s, given in zip(usual, window.stride, size, strict=True)):
            least, most = (
                tuple(n + sign * (s - 1) for n, s in zip(usual, window.stride, strict=True)) for sign in (-1, 1)
            )
            raise ValueError(f"`output_size` must lie between {least} and {most}, got {tuple(output_size)}")
    if size[0] < 1 or size[1] < 1:
        raise ValueError(
            f"`padding` (={window.padding}) leaves {size[0]} x {size[1]} pixels of the output of `input` of shape "
            f"{tuple(input)}"
        )
    _check_windows(size, window)
    return size[0], size[1]


def adaptive_size(input: Sequence[int], output_size: Any) -> Pair:
    """Rows and columns of the result of an adaptive pool; None for as many as `input` has."""
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    if len(given) != 2 or output_size is None:
        raise TypeError(f"`output_size` must be an integer or a pair of integers or None, got {output_size!r}")
    size = tuple(
        n if wanted is None else integer(wanted) for n, wanted in zip(as_numbers(input[-2:]), given, strict=True)
    )
    if None in size:
        raise TypeError(f"`output_size` must be an integer or a pair of integers or None, got {output_size!r}")
    if size[0] < 1 or size[1] < 1:
        raise ValueError(f"`output_size` must be positive, got {output_size!r}")
    return size[0], size[1]


def upsampling(
    input: Sequence[int], size: Any, scale_factor: Any, mode: str, align_corners: bool | None, antialias: bool
) -> Pair:
    """The whole factors by which rows and columns are repeated."""
    if mode not in ("nearest", "nearest-exact"):
        raise ValueError(f"`mode` must be 'nearest' or 'nearest-exact': torchops has no other, got {mode!r}")
    if align_corners is not None:
        raise ValueError(f"`align_corners` must be None for `mode` {mode!r}, got {align_corners!r}")
    if antialias:
        raise ValueError(f"`antialias` must be False for `mode` {mode!r}, got {antialias!r}")
    if len(input) != 4:
        raise ValueError(f"`input` must have shape (N, C, H, W), got {tuple(input)}")
    if (size is None) == (scale_factor is None):
        raise ValueError(f"one of `size` and `scale_factor` must be given, got {size!r} and {scale_factor!r}")
    if size is not None:
        rows, cols = pair("size", tuple(as_numbers(size)) if isinstance(size, (tuple, list)) else size, 1)
        h, w = as_numbers(input[-2:])
        if rows % h != 0 or cols % w != 0:
            raise ValueError(f"`size` must be a multiple of {(h, w)}, the pixels of `input`, got {size!r}")
        return rows // h, cols // w
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    if len(factors) != 2 or not all(is_whole_factor(factor) for factor in factors):
        raise ValueError(f"`scale_factor` must be a whole number or a pair of them, got {scale_factor!r}")
    return int(factors[0]), int(factors[1])
