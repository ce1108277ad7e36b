"""Values of a program: blocks of elements, and what can be computed of them.

A number of Python's that meets a block takes its type, as in Triton; integers wrap, `//` and `%` cut towards zero, as in C.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .dtypes import BlockType, DType, PointerType, bfloat16, common, float32, int1, of_number
from .program import Undefined, running

if TYPE_CHECKING:
    from .memory import Buffer


class Tensor:
    """A block of elements, or one; of pointers it is the elements of `buffer` that they point to."""

    __slots__ = ("buffer", "data", "dtype")

    def __init__(self, data: Any, dtype: DType, buffer: Buffer | None = None) -> None:
        self.data = data
        self.dtype = dtype
        self.buffer = buffer

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def numel(self) -> int:
        return int(self.data.size)

    @property
    def type(self) -> BlockType | DType:
        return BlockType(self.dtype, self.shape) if self.data.ndim else self.dtype

    @property
    def points(self) -> bool:
        return self.buffer is not None

    def with_data(self, data: Any) -> Tensor:
        return Tensor(data, self.dtype, self.buffer)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(f'constexpr[{n}]' for n in self.shape)}]"


# what Python, torch and NumPy call it where they complain about it
Tensor.__name__ = Tensor.__qualname__ = "tensor"
Tensor.__module__ = "triton.language.core"


def as_tensor(value: Any) -> Tensor:
    """A value of Python's as the language has it."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, bool | int | float):
        return number(value, of_number(value))
    raise TypeError(f"cannot convert {value} of type {type(value)} to tensor")


def number(value: float, dtype: DType) -> Tensor:
    return Tensor(rounded(np.asarray(value).astype(dtype.storage), dtype), dtype)


def rounded(data: Any, dtype: DType) -> Any:
    """Data of bfloat16 as it can be held."""
    if dtype is not bfloat16:
        return data
    return torch.from_numpy(np.asarray(data, np.float32)).bfloat16().float().numpy()


def cast(value: Tensor, dtype: DType) -> Tensor:
    if value.dtype == dtype:
        return value
    if value.points and dtype is int1:
        return Tensor(np.ones(value.shape, bool), int1)
    if value.points or isinstance(dtype, PointerType):
        raise TypeError(f"cannot cast {value} to {dtype}")
    if dtype is int1:
        return Tensor(value.data != 0, int1)
    if dtype.is_int() and value.dtype.is_floating():  # as a processor does it: by way of int64
        return Tensor(value.data.astype(np.int64).astype(dtype.storage), dtype)
    return Tensor(rounded(value.data.astype(dtype.storage), dtype), dtype)


# ---- blocks that meet


def fit(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Two values in their common shape."""
    if a.shape == b.shape:
        return a, b
    shape = common_shape(a.shape, b.shape)
    return _to_shape(a, shape), _to_shape(b, shape)


def _to_shape(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    return value if value.shape == shape else value.with_data(np.broadcast_to(value.data, shape))


def common_shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if a == b or not a or not b:
        return a or b
    n = max(len(a), len(b))
    a, b = (1,) * (n - len(a)) + a, (1,) * (n - len(b)) + b
    for i, (left, right) in enumerate(zip(a, b, strict=True)):
        if left != right and 1 not in (left, right):
            raise ValueError(f"Cannot make_shape_compatible: incompatible dimensions at index {i}: {left} and {right}")
    return tuple(map(max, a, b))


def broadcast_to(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    old = value.shape
    if old and len(old) != len(shape):
        raise ValueError(f"Cannot broadcast, rank mismatch: {list(old)}, {list(shape)}")
    for i, n in enumerate(old):
        if n not in (1, shape[i]):
            raise ValueError(
                f"Cannot broadcast, the expanded size of the tensor ({shape[i]}) must match the existing size ({n}) "
                f"at non-singleton dimension {i}: {list(old)}, {list(shape)}"
            )
    return _to_shape(value, shape)


def meet(a: Any, b: Any, *, dividing: bool = False, pointers: str = "") -> tuple[Tensor, Tensor]:
    """Two operands in their common type, and of shapes that fit; they may be numbers of Python's.

    Args:
        a, b: the operands.
        dividing: half precision is divided in float32.
        pointers: which of them may point: "", "left" or "both".
    """
    a_is_number, b_is_number = not isinstance(a, Tensor), not isinstance(b, Tensor)
    x, y = as_tensor(a), as_tensor(b)
    if x.points or y.points:
        pointer, other = (x.dtype, y.dtype) if x.points else (y.dtype, x.dtype)
        allowed = pointers == "both" or (pointers == "left" and x.points and not y.points)
        if not allowed or other.is_floating() or (x.points and y.points and pointer != other):
            raise TypeError(f"invalid operands of type {pointer!r} and {other!r}")
    elif x.dtype is not y.dtype or dividing or a_is_number != b_is_number:
        dtype = common(x.dtype, a_is_number, y.dtype, b_is_number, dividing)
        x = _numbered(a, dtype) if a_is_number else cast(x, dtype)
        y = _numbered(b, dtype) if b_is_number else cast(y, dtype)
    common_shape(x.shape, y.shape)
    return x, y


def _numbered(value: float, dtype: DType) -> Tensor:
    """A number that takes the type of a block."""
    if dtype.is_int() and not dtype.holds(value):
        if value < 0 and not dtype.signed:
            raise ValueError(
                "Cannot perform a binary operation between an unsigned tensor and a negative scalar. "
                "Perform a explicit cast on one of them."
            )
        raise ValueError(f"Scalar {value} is out of range for type {dtype}")
    return number(value, dtype)


# ---- operators


def _arithmetic(compute: Callable[[Any, Any], Any], pointers: str = "") -> Callable[[Any, Any], Tensor]:
    def of(a: Any, b: Any) -> Tensor:
        x, y = meet(a, b, pointers=pointers)
        if x.points and y.points:
            raise TypeError("cannot add pointers together")
        if x.points or y.points:
            return (x if x.points else y).with_data(compute(x.data, y.data))
        if x.dtype is int1:  # one bit, which wraps
            return Tensor(compute(x.data.astype(np.int8), y.data.astype(np.int8)) & 1 != 0, int1)
        return Tensor(rounded(compute(x.data, y.data), x.dtype), x.dtype)

    return of


def true_division(a: Any, b: Any) -> Tensor:
    x, y = meet(a, b, dividing=True)
    dtype = x.dtype if x.dtype.is_floating() else float32
    x, y = cast(x, dtype), cast(y, dtype)
    return Tensor(x.data / y.data, dtype)


def division(a: Any, b: Any) -> Tensor:
    x, y = meet(a, b, dividing=True)
    if not x.dtype.is_int():
        raise TypeError(f"unexpected type {x.dtype}")
    return Tensor((x.data - _remainder(x, y)) // y.data, x.dtype)  # exact


def remainder(a: Any, b: Any) -> Tensor:
    x, y = meet(a, b, dividing=True)
    return Tensor(_remainder(x, y) if x.dtype.is_int() else np.fmod(x.data, y.data), x.dtype)


def _remainder(x: Tensor, y: Tensor) -> Any:
    if running().compiling:
        return x.data * y.data
    if not np.all(y.data):
        raise Undefined("integer division by zero")
    if x.dtype.signed and np.any((x.data == np.iinfo(x.data.dtype).min) & (y.data == -1)):
        raise Undefined("signed division overflow (MIN / -1)")
    return np.fmod(x.data, y.data)


def _bits(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    def of(a: Any, b: Any) -> Tensor:
        x, y = meet(a, b)
        if not x.dtype.is_int() or not y.dtype.is_int():
            raise TypeError(f"invalid operands of type {x.dtype!r} and {y.dtype!r}")
        return Tensor(compute(x.data, y.data), x.dtype)

    return of


def _comparison(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    def of(a: Any, b: Any) -> Tensor:
        # a number is a value of its own type here: half precision is compared in float32
        x, y = meet(as_tensor(a), as_tensor(b))
        return Tensor(compute(x.data, y.data), int1)

    return of


BINARY: dict[str, Callable[[Any, Any], Tensor]] = {
    "Add": _arithmetic(operator.add, "both"), "Sub": _arithmetic(operator.sub, "left"), "Mult": _arithmetic(operator.mul),
    "Div": true_division, "FloorDiv": division, "Mod": remainder,
    "BitAnd": _bits(operator.and_), "BitOr": _bits(operator.or_), "BitXor": _bits(operator.xor),
    "LShift": _bits(operator.lshift), "RShift": _bits(operator.rshift),
    "Lt": _comparison(operator.lt), "LtE": _comparison(operator.le), "Gt": _comparison(operator.gt),
    "GtE": _comparison(operator.ge), "Eq": _comparison(operator.eq), "NotEq": _comparison(operator.ne),
}  # fmt: skip
"""By the names of Python's syntax tree."""


def truth(value: Any) -> Tensor:
    """A value as `and`, `or` and `not` take it."""
    one = as_tensor(value)
    bits = one.dtype.primitive_bitwidth
    if bits != 1:
        raise ValueError(f"Cannot bitcast data-type of size {bits} to data-type of size 1")
    return one


def negative(value: Tensor) -> Tensor:
    if value.points:
        raise ValueError(f"wrong type argument to unary minus ({value.dtype!r})")
    return value.with_data(-value.data) if value.dtype.is_floating() else BINARY["Sub"](0, value)


def inverted(value: Tensor) -> Tensor:
    if not value.dtype.is_int():
        raise ValueError(f"wrong type argument to unary invert ({value.dtype!r})")
    return value.with_data(~value.data)


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "USub": negative,
    "UAdd": lambda value: value,
    "Invert": inverted,
    "Not": lambda value: inverted(truth(value)),
}


def expand_dims(value: Tensor, axis: int) -> Tensor:
    return value.with_data(np.expand_dims(value.data, axis))


def subscript(value: Tensor, keys: Any) -> Tensor:
    """`value[:, None]` and the like: nothing else can be asked of a block."""
    for axis, key in enumerate(keys if isinstance(keys, tuple) else (keys,)):
        if key is None:
            value = expand_dims(value, axis)
        elif key != slice(None):
            raise ValueError(f"unsupported tensor index: {key}")
    return value


def select(condition: Any, a: Any, b: Any) -> Tensor:
    where = cast(as_tensor(condition), int1)
    x, y = meet(a, b, pointers="both")
    if x.points and x.buffer is not y.buffer:
        raise TypeError("pointers into different tensors cannot be told apart here")
    common_shape(where.shape, common_shape(x.shape, y.shape))
    return x.with_data(np.where(where.data, x.data, y.data))
