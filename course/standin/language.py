"""The functions of the language: what a kernel may call, as `tl.load` and its kin."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import dtypes, tensors
from .dtypes import DType, float32, int1, int8, int32, uint32
from .program import running
from .tensors import Tensor, as_tensor, cast, fit, meet, number, select

WORDS: dict[str, Any] = {}
"""The language, by name."""

METHODS: dict[str, Callable[..., Any]] = {}
"""What can be called as a method of a block."""


def _word(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__.rstrip("_")
    function.__name__ = function.__qualname__ = name  # what Python calls it where it is called wrongly
    WORDS[name] = function
    return function


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    word = _word(function)
    METHODS[word.__name__] = word
    return word


class constexpr:  # noqa: N801 (as Triton has it)
    """A value that is known when a kernel is compiled; as an annotation it says that an argument is one."""

    def __init__(self, value: Any) -> None:
        self.value = value.value if isinstance(value, constexpr) else value


class static_range:  # noqa: N801
    """A loop that is written out: its variable is known when the kernel is compiled."""

    def __init__(self, arg1: Any, arg2: Any = None, step: Any = None) -> None:
        for one, what in ((arg1, "start"), (arg2, "end"), (step, "step")):
            assert not isinstance(one, Tensor), f"{one} used as tl.static_range {what} value is not a constexpr"
        self.range = builtins.range(*(one for one in (arg1, arg2, step) if one is not None))


class range_:  # noqa: N801
    """A loop; what else it is told is for a GPU."""

    def __init__(self, arg1: Any, arg2: Any = None, step: Any = None, num_stages: Any = None, **_hints: Any) -> None:
        self.bounds = tuple(one for one in (arg1, arg2, step) if one is not None)


WORDS |= {"constexpr": constexpr, "static_range": static_range, "range": range_, "tensor": Tensor, "dtype": DType}
WORDS |= {repr(one).removeprefix("triton.language."): one for one in dtypes.ALL}


# ---- which program this is


def _axis(name: str, axis: int) -> int:
    if axis not in (0, 1, 2):
        raise ValueError(f"{name} axis must be 0, 1, or 2 but got {axis}")
    return axis


@_word
def program_id(axis: int) -> Tensor:
    return number(running().id[_axis("program_id", axis)], int32)


@_word
def num_programs(axis: int) -> Tensor:
    return number(running().grid[_axis("num_programs", axis)], int32)


# ---- blocks


@_word
def arange(start: int, end: int) -> Tensor:
    running()
    if not isinstance(start, int) or not isinstance(end, int):
        raise ValueError("arange's arguments must be of type tl.constexpr")
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


@_word
def full(shape: Any, value: Any, dtype: DType) -> Tensor:
    running()
    one = cast(value, dtype) if isinstance(value, Tensor) else number(value, dtype)
    assert one.numel == 1, "only accepts size-1 tensor"
    return Tensor(np.full(_shape(shape), one.data), dtype)


@_word
def zeros(shape: Any, dtype: DType) -> Tensor:
    return full(shape, 0, dtype)


@_word
def zeros_like(input: Tensor) -> Tensor:
    return full(input.shape, 0, input.dtype)


@_method
def reshape(input: Tensor, *shape: Any) -> Tensor:
    asked = _shape(shape[0] if isinstance(shape[0], tuple) else shape)
    if math.prod(asked) != input.numel:
        raise ValueError("reshape() cannot change total number of elements in tensor")
    return input.with_data(input.data.reshape(asked))


@_method
def broadcast_to(input: Tensor, *shape: Any) -> Tensor:
    return tensors.broadcast_to(input, _shape(shape[0] if isinstance(shape[0], tuple) else shape))


@_method
def expand_dims(input: Any, axis: int) -> Tensor:
    return tensors.expand_dims(as_tensor(input), axis)


@_method
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


@_method
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


@_word
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
    if not isinstance(pointer, Tensor) or not pointer.points:
        raise ValueError(f"Unsupported ptr type {as_tensor(pointer).type!r} in `tl.load`")
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
    dtype = pointer.dtype.element_ty
    values = running().memory.load(
        pointer, None if lanes is None else lanes.data.astype(bool), None if rest is None else cast(rest, dtype).data
    )
    return Tensor(values, dtype)


@_method
def store(
    pointer: Any,
    value: Any,
    mask: Any = None,
    boundary_check: Any = (),
    cache_modifier: str = "",
    eviction_policy: str = "",
) -> None:
    if not isinstance(pointer, Tensor) or not pointer.points:
        raise ValueError(f"Unsupported ptr type {as_tensor(pointer).type!r} in `tl.store`")
    at, values, lanes = _written(pointer, value, mask)
    running().memory.store(at, np.asarray(values.data), lanes)


@_method
def atomic_add(pointer: Any, val: Any, mask: Any = None, sem: str | None = None, scope: str | None = None) -> Tensor:
    if not isinstance(pointer, Tensor) or not pointer.points:
        raise ValueError(f"Pointer argument of store instruction is {as_tensor(pointer).type!r}")
    element = pointer.dtype.element_ty
    if element.primitive_bitwidth < 16 or element in (dtypes.int16, dtypes.uint16):
        raise ValueError(f"atomic_add does not support {element}")
    at, values, lanes = _written(pointer, val, mask)
    return Tensor(running().memory.add(at, np.asarray(values.data), lanes), element)


def _written(pointer: Tensor, value: Any, mask: Any) -> tuple[Tensor, Tensor, np.ndarray | None]:
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
    return at, cast(values, pointer.dtype.element_ty), None if lanes is None else np.asarray(lanes.data)


def _printed(shape: tuple[int, ...]) -> str:
    return str([f"constexpr[{n}]" for n in shape])


# ---- elementwise


@_word
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


@_word
def maximum(x: Any, y: Any, propagate_nan: Any = None) -> Tensor:
    return _larger(x, y)


@_word
def minimum(x: Any, y: Any, propagate_nan: Any = None) -> Tensor:
    return _smaller(x, y)


@_word
def clamp(x: Any, min: Any, max: Any, propagate_nan: Any = None) -> Tensor:
    return _smaller(_larger(x, min), max)


@_method
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
    _method(of)


for _name in ("exp", "exp2", "log", "log2", "sqrt", "sin", "cos", "floor", "ceil"):
    _float_function(_name, getattr(np, _name))
_float_function("rsqrt", lambda x: 1 / np.sqrt(x))
_float_function("erf", np.vectorize(math.erf, otypes=[np.float64]))


@_method
def sigmoid(x: Any) -> Tensor:
    return tensors.true_division(1, tensors.BINARY["Add"](1, WORDS["exp"](tensors.negative(as_tensor(x)))))


@_method
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


@_method
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


@_method
def max_(
    input: Tensor,
    axis: int | None = None,
    return_indices: bool = False,
    return_indices_tie_break_left: bool = True,
    keep_dims: bool = False,
) -> Any:
    return _extreme(input, axis, return_indices, keep_dims, larger=True)


@_method
def min_(
    input: Tensor,
    axis: int | None = None,
    return_indices: bool = False,
    return_indices_tie_break_left: bool = True,
    keep_dims: bool = False,
) -> Any:
    return _extreme(input, axis, return_indices, keep_dims, larger=False)


@_method
def argmax(input: Tensor, axis: int, tie_break_left: bool = True, keep_dims: bool = False) -> Tensor:
    return _extreme(input, axis, True, keep_dims, larger=True)[1]


@_method
def argmin(input: Tensor, axis: int, tie_break_left: bool = True, keep_dims: bool = False) -> Tensor:
    return _extreme(input, axis, True, keep_dims, larger=False)[1]


_SHORTEST = {8: 32, 16: 16, 32: 8, 64: 4}
"""Elements that a matrix product has to sum over at least, by their bits."""


@_word
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


# ---- what is said


@_word
def device_print(prefix: str, *args: Any, hex: bool = False) -> None:
    assert isinstance(prefix, str), f"{prefix} is not string"
    program = running()
    head = f" {prefix.strip().removesuffix(':')}: "
    if not program.compiling:
        program.printed += [f"{program.id}{head}{np.asarray(as_tensor(one).data)}" for one in args]


@_word
def static_assert(cond: Any, msg: str = "") -> None:
    if not isinstance(cond, bool):
        raise NotImplementedError(
            "Assertion condition could not be determined at compile-time. Make sure that it depends only on `constexpr` values"
        )
    assert cond, msg


@_word
def multiple_of(input: Tensor, values: Any) -> Tensor:
    """A hint for a GPU."""
    return input


WORDS |= {"max_contiguous": multiple_of, "device_assert": lambda cond, msg="", mask=None: None}
