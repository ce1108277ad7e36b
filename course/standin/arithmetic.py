"""The functions of the language that compute: of elements, over an axis, of matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes, tensors
from .dtypes import DType, float32, int8, int32, uint32
from .program import running
from .tensors import Tensor, as_tensor, cast, meet, select
from .vocabulary import WORDS, method, word

# ---- elementwise


@word
def where(condition: Any, x: Any, y: Any) -> Tensor:
    return select(condition, x, y)


def _pick(ints: Callable[[Any, Any], Any], floats: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    """The larger or the smaller one: a number rather than NaN; bfloat16 is compared in float32."""

    def of(x: Any, y: Any) -> Tensor:
        a, b = (cast(one, float32) if one.dtype is dtypes.bfloat16 else one for one in (as_tensor(x), as_tensor(y)))
        a, b = meet(a, b)
        return Tensor((floats if a.dtype.is_floating() else ints)(a.data, b.data), a.dtype)

    return of


_larger, _smaller = _pick(np.maximum, np.fmax), _pick(np.minimum, np.fmin)


@word
def maximum(x: Any, y: Any, propagate_nan: Any = None) -> Tensor:
    return _larger(x, y)


@word
def minimum(x: Any, y: Any, propagate_nan: Any = None) -> Tensor:
    return _smaller(x, y)


@word
def clamp(x: Any, min: Any, max: Any, propagate_nan: Any = None) -> Tensor:
    return _smaller(_larger(x, min), max)


@method
def abs_(x: Any) -> Tensor:
    value = as_tensor(x)
    return value.with_data(np.abs(value.data)) if value.dtype.signed else value


def _float_function(name: str, compute: Callable[[Any], Any]) -> None:
    def of(x: Any) -> Tensor:
        running()
        value = as_tensor(x)
        if value.dtype not in (float32, dtypes.float64):
            raise ValueError(f"Expected dtype ['fp32', 'fp64'] but got {value.dtype}")
        return Tensor(compute(value.data.astype(np.float64)).astype(value.dtype.storage), value.dtype)

    of.__name__ = name
    method(of)


for _name in ("exp", "exp2", "log", "log2", "sqrt", "sin", "cos", "floor", "ceil"):
    _float_function(_name, getattr(np, _name))
_float_function("rsqrt", lambda x: 1 / np.sqrt(x))
_float_function("erf", np.vectorize(math.erf, otypes=[np.float64]))


@method
def sigmoid(x: Any) -> Tensor:
    return tensors.true_division(1, tensors.BINARY["Add"](1, WORDS["exp"](tensors.negative(as_tensor(x)))))


@method
def cdiv(x: Any, div: Any) -> Any:
    if not isinstance(x, Tensor) and not isinstance(div, Tensor):
        return (x + (div - 1)) // div
    less = tensors.BINARY["Sub"](div, 1) if isinstance(div, Tensor) else div - 1
    return tensors.division(tensors.BINARY["Add"](x, less), div)


# ---- over an axis, and products


def _folded(input: Tensor, axis: int | None, keep_dims: bool, combine: Callable[[Any, Any], Tensor]) -> Tensor:
    """Neighbours are combined, then those with their neighbours, and so on."""
    n = len(input.shape)
    if axis is not None and not -n <= axis < n:
        raise ValueError(f"invalid axis {axis}. Expected {-n} <= axis < {n}")
    data = input.data.reshape(-1) if axis is None else np.moveaxis(input.data, axis, 0)
    part = input.with_data(data)
    while len(part.data) > 1:
        part = combine(part.with_data(part.data[0::2]), part.with_data(part.data[1::2]))
    found = part.with_data(part.data[0])
    if keep_dims:
        found = found.with_data(
            np.expand_dims(found.data, axis) if axis is not None else np.reshape(found.data, (1,) * n)
        )
    return found


def _at_least_32_bits(input: Tensor) -> Tensor:
    if input.dtype.primitive_bitwidth >= 32:
        return input
    return cast(input, float32 if input.dtype.is_floating() else int32)


@method
def sum_(input: Tensor, axis: int | None = None, keep_dims: bool = False, dtype: DType | None = None) -> Tensor:
    if dtype is None and input.dtype.is_int() and input.dtype.primitive_bitwidth < 32:
        dtype = int32 if input.dtype.signed else uint32
    return _folded(input if dtype is None else cast(input, dtype), axis, keep_dims, tensors.BINARY["Add"])


def _extreme(input: Tensor, axis: int | None, indices: bool, keep_dims: bool, larger: bool) -> Any:
    values = _folded(_at_least_32_bits(input), axis, keep_dims, _larger if larger else _smaller)
    if not indices:
        return values
    where = (np.argmax if larger else np.argmin)(input.data, axis=axis, keepdims=keep_dims)
    return cast(values, input.dtype), Tensor(where.astype(np.int32), int32)


@method
def max_(
    input: Tensor,
    axis: int | None = None,
    return_indices: bool = False,
    return_indices_tie_break_left: bool = True,
    keep_dims: bool = False,
) -> Any:
    return _extreme(input, axis, return_indices, keep_dims, larger=True)


@method
def min_(
    input: Tensor,
    axis: int | None = None,
    return_indices: bool = False,
    return_indices_tie_break_left: bool = True,
    keep_dims: bool = False,
) -> Any:
    return _extreme(input, axis, return_indices, keep_dims, larger=False)


@method
def argmax(input: Tensor, axis: int, tie_break_left: bool = True, keep_dims: bool = False) -> Tensor:
    return _extreme(input, axis, True, keep_dims, larger=True)[1]


@method
def argmin(input: Tensor, axis: int, tie_break_left: bool = True, keep_dims: bool = False) -> Tensor:
    return _extreme(input, axis, True, keep_dims, larger=False)[1]


_SHORTEST = {8: 32, 16: 16, 32: 8, 64: 4}
"""Elements that a matrix product has to sum over at least, by their bits."""


@word
def dot(
    input: Tensor,
    other: Tensor,
    acc: Tensor | None = None,
    input_precision: str | None = None,
    allow_tf32: bool | None = None,
    max_num_imprecise_acc: int | None = None,
    out_dtype: DType | None = None,
) -> Tensor:
    assert len(input.shape) == len(other.shape) >= 2, "input and other must have equal ranks >= 2"
    assert input.shape[:-2] == other.shape[:-2], "input and other must have equal batch shapes"
    assert input.shape[-1] == other.shape[-2], "input and other must have equal reduction dimensions"
    shape = (*input.shape[:-1], other.shape[-1])
    assert acc is None or acc.shape == shape, "accumulator shape is incompatible"
    assert input.dtype == other.dtype, f"Both operands must be same dtype. Got {input.dtype} and {other.dtype}"
    assert input.dtype.is_floating() or input.dtype is int8, f"Unsupported lhs dtype {input.dtype}"
    least = _SHORTEST[input.dtype.primitive_bitwidth]
    assert input.shape[-1] >= least, f"Input shapes should have M >= 1, N >= 1 and K >= {least}"
    asked = out_dtype or (acc.dtype if acc is not None else float32)
    kinds: dict[DType, Any] = {int8: int32, float32: float32, dtypes.bfloat16: float32, dtypes.float64: dtypes.float64}
    dtype = kinds.get(input.dtype, asked)
    assert acc is None or acc.dtype == asked, (
        f"expected accumulator dtype {asked}, got {acc.dtype}; pass out_dtype={acc.dtype} to use this accumulator dtype"
    )
    precision = input_precision or ("ieee" if allow_tf32 is False else "tf32")
    assert precision in ("ieee", "tf32", "tf32x3"), f"input_precision must be ieee, tf32 or tf32x3. Got {precision}"
    a, b = (_tf32(one.data) if one.dtype is float32 and precision == "tf32" else one.data for one in (input, other))
    wide = np.int64 if dtype is int32 else np.float64
    product = a.astype(wide) @ b.astype(wide)
    return Tensor((product if acc is None else product + acc.data).astype(dtype.storage), dtype)


def _tf32(data: np.ndarray) -> np.ndarray:
    """As a matrix unit reads float32 where it is not asked for `ieee`: without the last 13 bits."""
    return (np.ascontiguousarray(data).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
