"""The functions of the language that say which program this is, make blocks, load, store and print."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from . import dtypes, tensors
from .dtypes import DType, int1, int32
from .memory import Buffer
from .program import running, session
from .tensors import Tensor, as_tensor, cast, fit, number
from .vocabulary import METHODS, WORDS, method, word

# ---- which program this is


def _axis(name: str, axis: int) -> int:
    if axis not in (0, 1, 2):
        raise ValueError(f"{name} axis must be 0, 1, or 2 but got {axis}")
    return axis


@word
def program_id(axis: int) -> Tensor:
    return number(running().id[_axis("program_id", axis)], int32)


@word
def num_programs(axis: int) -> Tensor:
    return number(running().grid[_axis("num_programs", axis)], int32)


# ---- blocks


@word
def arange(start: int, end: int) -> Tensor:
    running()
    if not isinstance(start, int) or not isinstance(end, int):
        raise ValueError("arange's arguments must be of type tl.constexpr")
    if start >> 32 or end >> 32:
        raise ValueError("arange must fit in int32")
    if end <= start:
        raise ValueError("arange's end argument must be greater than the start argument")
    if (end - start) & (end - start - 1):
        raise ValueError("arange's range must be a power of 2")
    return Tensor(np.arange(start, end, dtype=np.int32), int32)


def _shape(shape: Any) -> tuple[int, ...]:
    for i, n in enumerate(shape):
        if not isinstance(n, int):
            raise TypeError(f"Shape element {i} must have type `constexpr[int]`, got `constexpr[{type(n)}]")
        if n < 1 or n & (n - 1):
            raise ValueError(f"Shape element {i} must be a power of 2")
    if math.prod(shape) > 1 << 20:
        raise ValueError(f"numel ({math.prod(shape)}) exceeds triton maximum tensor numel ({1 << 20})")
    return tuple(shape)


@word
def full(shape: Any, value: Any, dtype: DType) -> Tensor:
    running()
    one = cast(value, dtype) if isinstance(value, Tensor) else number(value, dtype)
    assert one.numel == 1, "only accepts size-1 tensor"
    return Tensor(np.full(_shape(shape), one.data), dtype)


@word
def zeros(shape: Any, dtype: DType) -> Tensor:
    return full(shape, 0, dtype)


@word
def zeros_like(input: Tensor) -> Tensor:
    return full(input.shape, 0, input.dtype)


@method
def reshape(input: Tensor, *shape: Any) -> Tensor:
    asked = _shape(shape[0] if isinstance(shape[0], tuple) else shape)
    if math.prod(asked) != input.numel:
        raise ValueError("reshape() cannot change total number of elements in tensor")
    return input.with_data(input.data.reshape(asked))


@method
def broadcast_to(input: Tensor, *shape: Any) -> Tensor:
    return tensors.broadcast_to(input, _shape(shape[0] if isinstance(shape[0], tuple) else shape))


@method
def expand_dims(input: Any, axis: int) -> Tensor:
    return tensors.expand_dims(as_tensor(input), axis)


@method
def trans(input: Tensor, *dims: Any) -> Tensor:
    n = len(input.shape)
    if not dims:
        if n < 2:
            raise ValueError("tl.trans invoked with a 0- or 1-dimensional tensor")
        dims = (*builtins.range(n - 2), n - 1, n - 2)
    order = dims[0] if isinstance(dims[0], tuple) else dims
    if sorted(order) != list(builtins.range(n)):
        raise ValueError(f"permute dims must be a permutation of 0, 1, ..., n-1, but were {list(order)}")
    return input.with_data(input.data.transpose(order))


@method
def to(input: Any, dtype: DType, fp_downcast_rounding: str | None = None, bitcast: bool = False) -> Tensor:
    value = as_tensor(input)
    if not bitcast:
        return cast(value, dtype)
    if dtypes.bfloat16 in (value.dtype, dtype) or value.dtype.primitive_bitwidth != dtype.primitive_bitwidth:
        bits = value.dtype.primitive_bitwidth
        raise ValueError(f"Cannot bitcast data-type of size {bits} to data-type of size {dtype.primitive_bitwidth}")
    return Tensor(np.ascontiguousarray(value.data).view(dtype.storage).reshape(value.shape), dtype)


METHODS["cast"] = WORDS["cast"] = to
del WORDS["to"]


# ---- memory


@word
def load(
    pointer: Any,
    mask: Any = None,
    other: Any = None,
    boundary_check: Any = (),
    padding_option: str = "",
    cache_modifier: str = "",
    eviction_policy: str = "",
    volatile: bool = False,
) -> Tensor:
    buffer = _pointed_to(pointer, "Unsupported ptr type {} in `tl.load`")
    if mask is None and other is not None:
        raise ValueError("`other` cannot be provided without `mask`")
    lanes, rest = (None if one is None else as_tensor(one) for one in (mask, other))
    for name, one in (("Mask", lanes), ("Other", rest)):
        if one is not None and one.shape and not pointer.shape:
            raise ValueError(f"{name} argument cannot be block type if pointer argument is not a block")
    if lanes is not None:
        pointer, lanes = fit(pointer, lanes)
    if rest is not None:
        pointer, rest = fit(pointer, rest)
    where = None if lanes is None else np.asarray(lanes.data).astype(bool)
    values = running().memory.load(
        buffer, np.asarray(pointer.data), where, None if rest is None else cast(rest, buffer.dtype).data
    )
    return Tensor(values, buffer.dtype)


@method
def store(
    pointer: Any,
    value: Any,
    mask: Any = None,
    boundary_check: Any = (),
    cache_modifier: str = "",
    eviction_policy: str = "",
) -> None:
    buffer = _pointed_to(pointer, "Unsupported ptr type {} in `tl.store`")
    at, values, lanes = _written(pointer, value, mask)
    running().memory.store(buffer, at, cast(values, buffer.dtype).data, lanes)


@method
def atomic_add(pointer: Any, val: Any, mask: Any = None, sem: str | None = None, scope: str | None = None) -> Tensor:
    buffer = _pointed_to(pointer, "Pointer argument of store instruction is {}")
    element = buffer.dtype
    if element.primitive_bitwidth < 16 or element in (dtypes.int16, dtypes.uint16):
        raise ValueError(f"atomic_add does not support {element}")
    at, values, lanes = _written(pointer, val, mask)
    return Tensor(running().memory.add(buffer, at, cast(values, element).data, lanes), element)


def _pointed_to(pointer: Any, otherwise: str) -> Buffer:
    if not isinstance(pointer, Tensor) or pointer.buffer is None:
        raise ValueError(otherwise.format(repr(as_tensor(pointer).type)))
    return pointer.buffer


def _written(pointer: Tensor, value: Any, mask: Any) -> tuple[np.ndarray, Tensor, np.ndarray | None]:
    """Where to, what, and which lanes, in one shape."""
    values, lanes = as_tensor(value), None if mask is None else as_tensor(mask)
    if not pointer.shape:
        for name, one in (("Value", values), ("Mask", lanes)):
            if one is not None and one.shape:
                raise ValueError(f"{name} argument cannot be block type if pointer argument is not a block")
    at, values = fit(pointer, values)
    if lanes is not None:
        at, lanes = fit(at, lanes)
        at, values = fit(at, values)
    if at.shape != pointer.shape:
        raise ValueError(
            f"Expected pointer argument to have shape {_printed(at.shape)} but got {_printed(pointer.shape)}"
        )
    if lanes is not None and lanes.dtype is not int1:
        raise ValueError("Mask must have boolean scalar type")
    return np.asarray(at.data), values, None if lanes is None else np.asarray(lanes.data)


def _printed(shape: tuple[int, ...]) -> str:
    return str([f"constexpr[{n}]" for n in shape])


# ---- what is said


@word
def device_print(prefix: str, *args: Any, hex: bool = False) -> None:
    assert isinstance(prefix, str), f"{prefix} is not string"
    program = running()
    head = f" {prefix.strip().removesuffix(':')}: "
    if not program.compiling:
        session().printed += [f"{program.id} {head}{np.asarray(as_tensor(one).data)}" for one in args]


@word
def static_assert(cond: Any, msg: str = "") -> None:
    if not isinstance(cond, bool):
        raise NotImplementedError(
            "Assertion condition could not be determined at compile-time. Make sure that it depends only on `constexpr` values"
        )
    assert cond, msg


@word
def multiple_of(input: Tensor, values: Any) -> Tensor:
    """A hint for a GPU."""
    return input


WORDS |= {"max_contiguous": multiple_of, "device_assert": lambda cond, msg="", mask=None: None}
