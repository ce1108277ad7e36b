"""Flat schemas of operators, and the geometries that their functions take instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class Packed:
    """Where an operator's flat arguments hold a geometry, which its functions take as one.

    Args:
        kind: the NamedTuple; its fields are arguments of the operator in its order, the last of them perhaps left out.
        first: position of its first field among the arguments.
        fields: how many of them are arguments.
    """

    def __init__(self, kind: Callable[..., tuple[Any, ...]], first: int, fields: int) -> None:
        self.kind, self.first, self.end, self.fields = kind, first, first + fields, fields

    def pack(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The operator's arguments as its functions take them."""
        found = (tuple(a) if isinstance(a, list) else a for a in args[self.first : self.end])
        return *args[: self.first], self.kind(*found), *args[self.end :]

    def unpack(self, args: Sequence[Any]) -> tuple[Any, ...]:
        """The operator's flat arguments, from those that its functions take."""
        return *args[: self.first], *args[self.first][: self.fields], *args[self.first + 1 :]

    def packing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, called with the operator's arguments."""
        return lambda *args: function(*self.pack(args))
