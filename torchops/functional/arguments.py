"""Checks of single arguments, and of the tensors of one call. Each names the argument and its value; all run while a call is
traced, with symbolic sizes too."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import Pair, Sides, Window
from torchops.ops.autocast import in_autocast
from torchops.ops.checks import FLOATS, check_padding_mode
from torchops.torch_internals import FakeTensor, FunctionalTensor, tracing_state

_IMAGE_DTYPES = (torch.uint8, *FLOATS)


def check_dimensions(input: Sequence[int]) -> None:
    if len(input) not in (3, 4):
        raise ValueError(f"`input` must have shape (C, H, W) or (N, C, H, W), got {tuple(input)}")


def check_image(input: Tensor) -> None:
    if not isinstance(input, Tensor):
        raise TypeError(f"`input` must be a tensor, got {type(input).__name__}")
    check_dimensions(input.shape)
    if input.dtype not in _IMAGE_DTYPES:
        raise TypeError(f"`input` must be uint8 or floating point (16, 32 or 64 bits), got {input.dtype}")
    if input.layout != torch.strided:
        raise TypeError(f"`input` must be a dense tensor, got layout {input.layout}")
    if input.shape[-1] == 0 or input.shape[-2] == 0:
        raise ValueError(f"`input` must have at least one pixel, got shape {tuple(input.shape)}")


def check_padding_value(padding_mode: str, padding_value: float) -> None:
    if padding_mode == "zeros" and type(padding_value) is float and padding_value == 0.0:
        return
    check_padding_mode(padding_mode)
    if isinstance(padding_value, bool) or not isinstance(padding_value, (numbers.Real, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"`padding_value` must be a number, got {padding_value!r}")
    if padding_value != 0.0 and padding_mode != "constant":
        raise ValueError(f"`padding_value` (={padding_value}) needs `padding_mode` 'constant', got {padding_mode!r}")


_INTS = (int, torch.SymInt)


def _check_float(name: str, t: Any) -> None:
    if not isinstance(t, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {type(t).__name__}")
    if t.dtype not in FLOATS:
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
    return t.dtype in FLOATS and t.layout == torch.strided and is_plain(t)


def is_plain(t: Tensor) -> bool:
    return type(t) in _PLAIN


def check_bias(bias: Tensor | None, channels: int) -> None:
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != channels):
        raise ValueError(f"`bias` must have shape ({channels},), got {tuple(bias.shape)}")


def integer(value: Any) -> Any:
    """An int, from NumPy's too, or a symbolic one, or a size in a trace; None for anything else, True and False among them."""
    if isinstance(value, _INTS):
        return None if isinstance(value, bool) else value
    if isinstance(value, Tensor):
        sized = value.dim() == 0 and value.dtype == torch.int64 and tracing_state() is not None
        return as_numbers((cast(Any, value),))[0] if sized else None
    return int(value) if hasattr(value, "__index__") else None


def group_count(groups: int) -> int:
    number = integer(groups)
    if number is None:
        raise TypeError(f"`groups` must be an integer, got {groups!r}")
    return number


_TOO_MANY = 2**31
"""Pixels that neither ATen's pools and gradients nor the kernels can count."""


def pair(name: str, value: int | Sequence[int], least: int) -> Pair:
    """(rows, columns) of an argument that may be one number for both, each at least 0 or 1."""
    given = value if isinstance(value, (tuple, list)) and len(value) in (1, 2) else (value,)
    first, second = integer(given[0]), integer(given[-1])
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


def check_pooled(input: Tensor) -> None:
    _check_float("input", input)
    check_dimensions(input.shape)
    if 0 in input.shape[-3:]:
        raise ValueError(f"`input` must have at least one channel and one pixel, got shape {tuple(input.shape)}")


def flag(name: str, value: bool) -> bool:
    if not isinstance(value, (bool, torch.SymBool)):
        raise TypeError(f"`{name}` must be True or False, got {value!r}")
    return value


def divisor(value: int) -> int:
    number = integer(value)
    if number is None:
        raise TypeError(f"`divisor_override` must be an integer, got {value!r}")
    if number == 0 or not -(2**63) <= number < 2**63:
        raise ValueError(f"`divisor_override` must be a number of 64 bits other than 0, got {number}")
    return number


def window(kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    """The windows of a pool; their stride is the kernel size by default."""
    kernel_size = pair("kernel_size", kernel_size, 1)
    # these are torch's ways to leave it out
    left_out = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    stride = kernel_size if left_out else pair("stride", stride, 1)
    padding, dilation = pair("padding", padding, 0), pair("dilation", dilation, 1)
    if 2 * padding[0] > kernel_size[0] or 2 * padding[1] > kernel_size[1]:
        raise ValueError(f"`padding` (={padding}) must be at most half of `kernel_size` (={kernel_size})")
    return Window(kernel_size, stride, padding, dilation)


def as_numbers(shape: Sequence[Any]) -> Sequence[int]:
    """Sizes as numbers: `torch.jit.trace` makes tensors of them, which an operator does not take."""
    if torch.compiler.is_compiling() or tracing_state() is None:
        return shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return tuple(int(n) for n in shape)


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
