"""What Triton makes of a kernel, no further than ttsem reads it, and what it says of a kernel that it cannot compile."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import triton
from ttsem import harness, mlir

from .report import Fault

CAPABILITY = 90
"""Of the GPU that is compiled for."""


class Compiler:
    """Compiles up to Triton's own intermediate language, and keeps it for further launches of the same kind."""

    def __init__(self) -> None:
        harness._install_fake_driver(CAPABILITY)
        mlir.enable_generic_printing()
        self.target = harness.target_for("cpu", CAPABILITY)
        self._made: dict[Any, str] = {}

    def __call__(self, record: Any, *_: Any) -> str:
        """The module of a launch as text, instead of `ttsem.harness.ir_for_launch`, which compiles down to machine code."""
        options, signature, constants, attributes = harness._specialize(
            record.fn, record.args, record.kwargs, self.target
        )
        key = record.fn.cache_key, str(signature), str(constants), str(attributes), str(options)
        if key not in self._made:
            self._made[key] = mlir.to_generic(harness._stage_text(record, "ttir", self.target), None)
        return self._made[key]


parse = functools.lru_cache(maxsize=64)(mlir.parse)
"""The module that a text is; running it leaves it as it is."""


def complaint(error: triton.CompilationError, file: Path) -> Fault:
    """The line of the file that Triton cannot compile, and why; it counts lines from where a function begins."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    line = 0
    cause: BaseException | None = error
    while isinstance(cause, triton.CompilationError):
        # of functions that call each other, the innermost that is the student's and not Triton's
        first = (cause.src or "").splitlines()[:1]
        start = next((n for n, text in enumerate(lines) if first and text.strip() == first[0].strip()), None)
        if start is not None:
            line = start + getattr(cause.node, "lineno", 0)
        error, cause = cause, cause.__cause__
    words = error.error_message or (str(cause).strip() if cause is not None else str(error).strip().splitlines()[-1])
    return Fault("compile", line, detail=re.sub(r"^\w+Error\(['\"](.*)['\"]\)$", r"\1", words))
