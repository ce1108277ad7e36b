"""Small kernels, tried on a machine."""

from __future__ import annotations

import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from torchops.course.machine import Machine
from torchops.course.report import Fault, Ran
from torchops.course.source import load
from torchops.course.standin.modules import MODULES

INF, NAN = float("inf"), float("nan")
HEAD = """\
import torch
import triton
import triton.language as tl

LENGTH = 8


@triton.jit
def two(a, b):
    return a + b, a - b


@triton.jit
def sign(a):
    if a < 0:
        return -1
    return 1


@triton.jit
def kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    i = tl.arange(0, 8)
"""
FIRST = len(HEAD.splitlines()) + 1
"""The line that the body of a kernel begins at."""


class Bench:
    """A machine, and kernels that are tried on it."""

    def __init__(self, machine: Machine, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.file = folder / "kernels.py"
        self.patch = patch

    def module(self, text: str) -> ModuleType:
        self.file.write_text(text, encoding="utf-8")
        with self.patch.context() as patch:
            if self.machine.name == "the stand-in":
                for name, module in MODULES.items():
                    patch.setitem(sys.modules, name, module)
            return load(self.file, text, "tried")

    def run(
        self,
        body: str,
        x: Any = (),
        *,
        n: Any = 5,
        block: int = 8,
        grid: Any = (1,),
        out: Any = None,
        **how: Any,
    ) -> Ran:
        """Run a kernel with that body; its result is what y_ptr then holds."""
        made = self.module(HEAD + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n")
        given = x if isinstance(x, torch.Tensor) else torch.tensor(x or [0.0])
        y = torch.zeros(8) if out is None else out()

        def call() -> torch.Tensor:
            made.kernel[grid](given, y, n, BLOCK=block)
            return y

        return self.tried(call, **how)

    def tried(self, call: Callable[[], Any], limit: float = 5.0, **how: Any) -> Ran:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as of `and` between blocks: no student sees them
            return self.machine.run(call, self.file, limit, **how)

    def values(self, body: str, x: Any = (), **more: Any) -> list[Any]:
        ran = self.run(body, x, **more)
        assert ran.fault is None
        return ran.value.tolist()

    def fault(self, body: str, x: Any = (), **more: Any) -> Fault:
        found = self.run(body, x, **more).fault
        assert found is not None
        return found


def of(dtype: torch.dtype, *values: float) -> torch.Tensor:
    return torch.tensor(values).to(dtype)


def zeros(dtype: torch.dtype, size: int = 8) -> Callable[[], torch.Tensor]:
    return lambda: torch.zeros(size, dtype=dtype)


INT = zeros(torch.int32)
LONG = zeros(torch.int64)
