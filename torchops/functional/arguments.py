"""Checks of arguments. Each names the argument and its value; all run while a call is traced, with symbolic sizes too."""

from __future__ import annotations

import functools
import numbers
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import Window, conv_size, conv_transpose_size
from torchops.ops.checks import PADDING_MODES
from torchops.ops.registration import in_autocast
from torchops.torch_internals import FakeTensor, FunctionalTensor, tracing_state

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]

_IMAGE_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_image(input: Tensor) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"`input` must be a tensor, got {type(input).__name__}")
    if input.dim() not in (3, 4):
        raise ValueError(f"`input` must have shape (C, H, W) or (N, C, H, W), got {tuple(input.shape)}")
    if input.dtype not in _IMAGE_DTYPES:
        raise TypeError(f"`input` must be uint8 or floating point (16, 32 or 64 bits), got {input.dtype}")
    if input.layout != torch.strided:
        raise TypeError(f"`input` must be a dense tensor, got layout {input.layout}")
    if input.shape[-1] == 0 or input.shape[-2] == 0:
        raise ValueError(f"`input` must have at least one pixel, got shape {tuple(input.shape)}")


def check_padding_mode(padding_mode: str) -> None:
    if padding_mode not in PADDING_MODES:
        raise ValueError(f"`padding_mode` must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")


def check_padding_value(padding_mode: str, padding_value: float) -> None:
    if padding_mode == "zeros" and type(padding_value) is float and padding_value == 0.0:
        return
    check_padding_mode(padding_mode)
    if isinstance(padding_value, bool) or not isinstance(padding_value, (numbers.Real, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"`padding_value` must be a number, got {padding_value!r}")
    if padding_value != 0.0 and padding_mode != "constant":
        raise ValueError(f"`padding_value` (={padding_value}) needs `padding_mode` 'constant', got {padding_mode!r}")


def check_border(size: Sequence[int], rows: int, cols: int, padding_mode: str) -> None:
    """rows and cols: how far windows reach beyond the border of an input of that size."""
    # reflection leaves out the border itself
    least = {"reflect": 1, "circular": 0}.get(padding_mode)
    if least is not None and (size[-2] < rows + least or size[-1] < cols + least):
        raise ValueError(
            f"`padding_mode` {padding_mode!r} with a padding of {rows} rows and {cols} columns needs an `input` of at least "
            f"{rows + least} x {cols + least} pixels, got shape {tuple(size)}"
        )


_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_INTS = (int, torch.SymInt)


def _check_float(name: str, t: Any) -> None:
    if not isinstance(t, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {type(t).__name__}")
    if t.dtype not in _FLOATS:
        raise TypeError(f"`{name}` must be floating point (16, 32 or 64 bits), got {t.dtype}")
    if t.layout != torch.strided:
        raise TypeError(f"`{name}` must be a dense tensor, got layout {t.layout}")


def check_float_tensors(input: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None) -> None:
    """Dense, floating point, of one device, and of one dtype unless autocast will see to that."""
    _check_float("input", input)
    dtype, device = input.dtype, input.device
    for name, t in (("weight", weight), ("bias", bias), ("residual", residual)):
        if t is None and name != "weight":
            continue
        _check_float(name, t)
        assert t is not None
        if t.device != device:
            raise RuntimeError(f"`{name}` must be on the device of `input` (={device}), got {t.device}")
        if t.dtype != dtype and (torch.float64 in (t.dtype, dtype) or not in_autocast(device.type)):
            raise RuntimeError(f"`{name}` must have the dtype of `input` (={dtype}), got {t.dtype}")


_PLAIN = (Tensor, nn.Parameter, nn.Buffer, FakeTensor, FunctionalTensor)


def is_floating(t: Tensor) -> bool:
    """Whether an op takes it: dense, floating point, and not of a subclass with a mind of its own."""
    return t.dtype in _FLOATS and t.layout == torch.strided and is_plain(t)


def is_plain(t: Tensor) -> bool:
    return type(t) in _PLAIN


def check_bias(bias: Tensor | None, channels: int) -> None:
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != channels):
        raise ValueError(f"`bias` must have shape ({channels},), got {tuple(bias.shape)}")


def _integer(value: Any) -> Any:
    """An int, from NumPy's too, or a symbolic one, or a size in a trace; None for anything else, True and False among them."""
    if isinstance(value, _INTS):
        return None if isinstance(value, bool) else value
    if isinstance(value, Tensor):
        sized = value.dim() == 0 and value.dtype == torch.int64 and tracing_state() is not None
        return _sizes((cast(Any, value),))[0] if sized else None
    return int(value) if hasattr(value, "__index__") else None


def group_count(groups: int) -> int:
    number = _integer(groups)
    if number is None:
        raise TypeError(f"`groups` must be an integer, got {groups!r}")
    return number


_TOO_MANY = 2**31
"""Pixels that neither ATen's pools and gradients nor the kernels can count."""


def pair(name: str, value: int | Sequence[int], least: int) -> Pair:
    """(rows, columns) of an argument that may be one number for both, each at least 0 or 1."""
    given = value if isinstance(value, (tuple, list)) and len(value) in (1, 2) else (value,)
    first, second = _integer(given[0]), _integer(given[-1])
    if first is None or second is None:
        raise TypeError(f"`{name}` must be an integer or a pair of integers, got {value!r}")
    if first < least or second < least:
        raise ValueError(f"`{name}` must {'be positive' if least else 'not be negative'}, got {value!r}")
    if first >= _TOO_MANY or second >= _TOO_MANY:
        raise ValueError(f"`{name}` must be smaller than 2^31, got {value!r}")
    return first, second


def conv_padding(value: int | Sequence[int] | str) -> Pair | Sides | str:
    """(rows, columns), or all four sides, or the word that stands for them."""
    if isinstance(value, str):
        return value
    if not isinstance(value, (tuple, list)) or len(value) != 4:
        return pair("padding", value, 0)
    left, right = pair("padding", value[:2], 0)
    top, bottom = pair("padding", value[2:], 0)
    return left, right, top, bottom


def check_activation(activation: str | None) -> None:
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f"`activation` must be None or one of {', '.join(ACTIVATIONS)}, got {activation!r}")


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
    if len(input) not in (3, 4):
        raise ValueError(f"`input` must have shape (C, H, W) or (N, C, H, W), got {tuple(input)}")
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
) -> tuple[Sides, tuple[int, ...]]:  # fmt: skip
    """Left, right, top and bottom padding, and the shape of the result, for inputs of these shapes."""
    _check_conv_shapes(input, weight, groups)
    *batch, c, h, w = _sizes(input)
    k, channels, r, s = _sizes(weight)
    if channels * groups != c:
        raise ValueError(
            f"`weight` of shape {tuple(weight)} with `groups` (={groups}) takes {channels * groups} channels, "
            f"got `input` of shape {tuple(input)}"
        )
    if k % groups != 0:
        raise ValueError(f"`groups` (={groups}) must divide `out_channels` (={k})")
    sides = left, right, top, bottom = _conv_padding(padding, (r, s), stride, dilation)
    check_border(input, max(top, bottom), max(left, right), padding_mode)
    p = conv_size(h, r, stride[0], top + bottom, dilation[0])
    q = conv_size(w, s, stride[1], left + right, dilation[1])
    if p < 1 or q < 1:
        raise ValueError(
            f"`weight` of shape {tuple(weight)} with `dilation` {dilation} is larger than the padded `input`, "
            f"{h + top + bottom} x {w + left + right} pixels"
        )
    return sides, (*batch, k, p, q)


@_remembered
def conv_transpose_geometry(
    input: Sequence[int], weight: Sequence[int], stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair,
    groups: int,
) -> tuple[Sides, Pair]:  # fmt: skip
    """Padding (left, right, top, bottom) of the convolution that maps the result to exactly this input; rows and columns of the
    result."""
    _check_conv_shapes(input, weight, groups)
    c, h, w = _sizes(input[-3:])
    channels, _, r, s = _sizes(weight)
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
    return (left, left - beside, top, top - below), (p, q)


def check_pooled(input: Tensor) -> None:
    _check_float("input", input)
    if input.dim() not in (3, 4):
        raise ValueError(f"`input` must have shape (C, H, W) or (N, C, H, W), got {tuple(input.shape)}")
    if 0 in input.shape[-3:]:
        raise ValueError(f"`input` must have at least one channel and one pixel, got shape {tuple(input.shape)}")


def flag(name: str, value: bool) -> bool:
    if not isinstance(value, (bool, torch.SymBool)):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")
    return value


def divisor(value: int) -> int:
    number = _integer(value)
    if number is None:
        raise TypeError(f"`divisor_override` must be an integer, got {value!r}")
    if number == 0 or not -(2**63) <= number < 2**63:
        raise ValueError(f"`divisor_override` must be a number of 64 bits other than 0, got {number}")
    return number


def window(kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    """The windows of a pool; their stride is the kernel size by default."""
    kernel_size = pair("kernel_size", kernel_size, 1)
    # torch's ways to leave it out
    left_out = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    stride = kernel_size if left_out else pair("stride", stride, 1)
    padding, dilation = pair("padding", padding, 0), pair("dilation", dilation, 1)
    if 2 * padding[0] > kernel_size[0] or 2 * padding[1] > kernel_size[1]:
        raise ValueError(f"`padding` (={padding}) must be at most half of `kernel_size` (={kernel_size})")
    return Window(kernel_size, stride, padding, dilation)


def _sum_of_quotients(count: int, step: int, begin: int, divisor: int) -> int:
    """The sum of (begin + i step) // divisor over i < count, in as many turns as Euclid's algorithm takes."""
    total = 0
    while count > 0:
        total += step // divisor * (count * (count - 1) // 2) + begin // divisor * count
        step, begin = step % divisor, begin % divisor
        # the points below a line, counted along the other axis
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


def _sizes(shape: Sequence[Any]) -> Sequence[int]:
    """Sizes as numbers: `torch.jit.trace` makes tensors of them, which an operator does not take."""
    if torch.compiler.is_compiling() or tracing_state() is None:
        return shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return tuple(int(n) for n in shape)


@_remembered
def pooled_size(input: Sequence[int], window: Window, ceil_mode: bool) -> Pair:
    """Rows and columns of the result."""
    h, w = _sizes(input[-2:])
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
        for n, (k, s, p, d) in zip(_sizes(input[-2:]), window.axes(), strict=True)
    )
    if output_size is None:
        size = usual
    else:
        if not isinstance(output_size, (tuple, list)) or len(output_size) not in (2, 4):
            raise ValueError(f"`output_size` must have 2 or 4 elements, got {output_size!r}")
        numbers = tuple(_integer(number) for number in _sizes(output_size[-2:]))
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
    size = tuple(n if wanted is None else _integer(wanted) for n, wanted in zip(_sizes(input[-2:]), given, strict=True))
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
        rows, cols = pair("size", tuple(_sizes(size)) if isinstance(size, (tuple, list)) else size, 1)
        h, w = _sizes(input[-2:])
        if rows % h != 0 or cols % w != 0:
            raise ValueError(f"`size` must be a multiple of {(h, w)}, the pixels of `input`, got {size!r}")
        return rows // h, cols // w
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    if len(factors) != 2 or not all(is_whole_factor(factor) for factor in factors):
        raise ValueError(f"`scale_factor` must be a whole number or a pair of them, got {scale_factor!r}")
    return int(factors[0]), int(factors[1])


def is_whole_factor(factor: Any) -> bool:
    """Whether images can be enlarged by it, each pixel to as many."""
    return (
        isinstance(factor, numbers.Real)
        and not isinstance(factor, bool)
        and float(factor) >= 1
        and float(factor).is_integer()
    )


def check_indices(indices: Tensor, input: Tensor) -> None:
    if not isinstance(indices, Tensor):
        raise TypeError(f"`indices` must be a tensor, got {type(indices).__name__}")
    if indices.dtype not in (torch.int64, torch.uint8):
        raise TypeError(
            "`indices` must be int64 (flat positions, as torch's) or uint8 (offsets in the window, of "
            f"return_indices='offset'), got {indices.dtype}"
        )
    if indices.layout != torch.strided:
        raise TypeError(f"`indices` must be a dense tensor, got layout {indices.layout}")
    if indices.shape != input.shape:
        raise ValueError(f"`indices` must have the shape of `input`, {tuple(input.shape)}, got {tuple(indices.shape)}")
    if indices.device != input.device:
        raise RuntimeError(f"`indices` must be on the device of `input` (={input.device}), got {indices.device}")
