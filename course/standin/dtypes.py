"""Types of the language: what a value is made of, and what comes of two that meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, repr=False)
class DType:
    """The type of an element."""

    name: str
    """As Triton prints it: "int32", "fp32"."""
    storage: Any
    """What NumPy computes it in; bfloat16, which it does not know, in float32, rounded after every operation."""
    primitive_bitwidth: int
    signed: bool = True

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"triton.language.{_LONG.get(self.name, self.name)}"

    @property
    def scalar(self) -> DType:
        return self

    def is_floating(self) -> bool:
        return self.name.startswith(("fp", "bf"))

    def is_int(self) -> bool:
        return self.name.startswith(("int", "uint"))

    @property
    def kind(self) -> int:
        """0 of truth values, 1 of integers, 2 of floats."""
        return 2 if self.is_floating() else int(self.primitive_bitwidth > 1)

    def holds(self, number: float) -> bool:
        """Whether an integer type has room for a number."""
        bits = self.primitive_bitwidth - self.signed
        return -(1 << bits) * self.signed <= number < 1 << bits


class PointerType(DType):
    """The type of a pointer to elements."""

    def __init__(self, element_ty: DType) -> None:
        super().__init__(f"pointer<{element_ty}>", np.int64, 64)
        object.__setattr__(self, "element_ty", element_ty)

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, repr=False)
class BlockType:
    """The type of a block of elements."""

    element_ty: DType
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"<{[str(n) for n in self.shape]}, {self.element_ty}>"

    __repr__ = __str__

    @property
    def scalar(self) -> DType:
        return self.element_ty


_LONG = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}

int1 = DType("int1", np.bool_, 1, signed=False)
int8 = DType("int8", np.int8, 8)
int16 = DType("int16", np.int16, 16)
int32 = DType("int32", np.int32, 32)
int64 = DType("int64", np.int64, 64)
uint8 = DType("uint8", np.uint8, 8, signed=False)
uint16 = DType("uint16", np.uint16, 16, signed=False)
uint32 = DType("uint32", np.uint32, 32, signed=False)
uint64 = DType("uint64", np.uint64, 64, signed=False)
float16 = DType("fp16", np.float16, 16)
bfloat16 = DType("bf16", np.float32, 16)
float32 = DType("fp32", np.float32, 32)
float64 = DType("fp64", np.float64, 64)

ALL = (int1, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64)

OF_TORCH = {
    torch.bool: int1, torch.int8: int8, torch.int16: int16, torch.int32: int32, torch.int64: int64, torch.uint8: uint8,
    torch.uint16: uint16, torch.uint32: uint32, torch.uint64: uint64,
    torch.float16: float16, torch.bfloat16: bfloat16, torch.float32: float32, torch.float64: float64,
}  # fmt: skip


def of_number(number: float) -> DType:
    """The type of a Python number that meets no other."""
    if isinstance(number, bool):
        return int1
    if isinstance(number, int):
        fits = [one for one in (int32, uint32, int64, uint64) if one.holds(number)]
        if not fits:
            raise ValueError(f"Nonrepresentable integer {number}.")
        return fits[0]
    size = abs(number)
    normal = 2.0**-126 <= size <= (2 - 2.0**-23) * 2.0**127
    return float32 if normal or size in (0.0, float("inf")) or number != number else float64


def wider(a: DType, b: DType) -> DType:
    """Of two integer types the wider; of equally wide ones the unsigned."""
    if a.signed == b.signed:
        return a if a.primitive_bitwidth > b.primitive_bitwidth else b
    unsigned, other = (b, a) if a.signed else (a, b)
    return unsigned if unsigned.primitive_bitwidth >= other.primitive_bitwidth else other


def common(a: DType, a_is_number: bool, b: DType, b_is_number: bool, dividing: bool) -> DType:
    """The type that two operands are computed in.

    Args:
        a, b: types of the operands.
        a_is_number, b_is_number: whether one stands as a number in the program: it takes the type of the other, if it can.
        dividing: half precision is divided in float32.
    """
    if a_is_number != b_is_number:
        number, block = (a, b) if a_is_number else (b, a)
        if number.kind <= block.kind:
            return float32 if dividing and block in (float16, bfloat16) else block
    for one in (float64, float32):
        if one in (a, b):
            return one
    if float16 in (a, b):
        return float32 if dividing else float16
    if bfloat16 in (a, b):
        return bfloat16 if a == b and not dividing else float32
    if dividing and a.signed != b.signed:
        raise TypeError(
            f"Cannot use /, #, or % with {a!r} and {b!r} because they have different signedness;"
            "this is unlikely to result in a useful answer. Cast them to the same signedness."
        )
    return wider(a, b)
