"""Names of the language: functions and methods enter themselves here."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from . import dtypes
from .tensors import Tensor

WORDS: dict[str, Any] = {}
"""The language, by name."""

METHODS: dict[str, Callable[..., Any]] = {}
"""What can be called as a method of a block."""


def word(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__.rstrip("_")
    function.__name__ = function.__qualname__ = name  # what Python calls it where it is called wrongly
    WORDS[name] = function
    return function


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    METHODS[word(function).__name__] = function
    return function


class constexpr:  # noqa: N801 (as Triton has it)
    """A value that is known when a kernel is compiled; as an annotation it says that an argument is one."""

    def __init__(self, value: Any) -> None:
        self.value: Any = value.value if isinstance(value, constexpr) else value


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


WORDS |= {
    "constexpr": constexpr,
    "static_range": static_range,
    "range": range_,
    "tensor": Tensor,
    "dtype": dtypes.DType,
}
WORDS |= {repr(one).removeprefix("triton.language."): one for one in dtypes.ALL}
