"""What Triton makes of a kernel, no further than ttsem reads it, and what it says of a kernel that it cannot compile."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from ttsem import harness, mlir
from ttsem._fakedriver import unstub_torch_cuda

from .report import Fault

CAPABILITY = 90
"""Of the GPU that is compiled for."""


class Uncompilable(Exception):  # noqa: N818 (it is what a kernel is)
    """Triton's compiler has written why to the process's own stderr, with the line."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        first = re.search(r"^(.*):(\d+):\d+: error: (.*)$", said, re.MULTILINE)
        self.file, self.line, self.why = (first[1], int(first[2]), first[3]) if first else ("", 0, said)


@contextlib.contextmanager
def told_of_a_gpu() -> Iterator[None]:
    """In the block, Triton is told of a GPU that is not there, and torch is not; then Triton knows what it knew."""
    driver = triton.runtime.driver
    try:
        outer = driver.active
    except RuntimeError:  # Triton raises this where there is no GPU
        outer = None
    harness._install_fake_driver(CAPABILITY)
    unstub_torch_cuda()
    try:
        yield
    finally:
        driver.set_active(outer)
        unstub_torch_cuda()


class Compiler:
    """Compiles up to Triton's own intermediate language, and keeps it for further launches of the same kind."""

    def __init__(self) -> None:
        mlir.enable_generic_printing()
        self.target = harness.target_for("cpu", CAPABILITY)
        self.kept: dict[str, str] = {}
        """What has been made: of a kernel's source, with types and constants, its module."""

    def __call__(self, record: Any, *_: Any) -> str:
        """The module of a launch as text, instead of `ttsem.harness.ir_for_launch`, which compiles down to machine code."""
        # without the code that would look for overflows, which is none of the kernel's
        launch: Any = SimpleNamespace(
            fn=record.fn, args=record.args, kwargs={**record.kwargs, "sanitize_overflow": False}
        )
        options, signature, constants, attributes = harness._specialize(
            launch.fn, launch.args, launch.kwargs, self.target
        )
        key = "\n".join(map(str, (record.fn.cache_key, signature, constants, attributes, options)))
        if key not in self.kept:
            with _stderr() as said:
                try:
                    text = harness._stage_text(launch, "ttir", self.target)
                except RuntimeError as error:
                    raise Uncompilable(said() or str(error)) from error
            self.kept[key] = mlir.to_generic(text, None)
        return self.kept[key]


@contextlib.contextmanager
def _stderr() -> Iterator[Any]:
    """What C++ writes to the process's stderr is kept in the block; the module, which Triton prints, is dropped."""
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as kept, contextlib.redirect_stdout(io.StringIO()):
        os.dup2(kept.fileno(), 2)

        def said() -> str:
            kept.seek(0)
            return kept.read(1 << 16).decode(errors="replace")

        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)


parse = functools.lru_cache(maxsize=64)(mlir.parse)
"""The module that a text is; running it leaves it as it is."""


def complaint(error: Exception, file: Path) -> Fault | None:
    """What Triton cannot compile, and why, at its line; None if an exception is about something else."""
    text = file.read_text(encoding="utf-8", errors="replace")
    if isinstance(error, Uncompilable):
        return Fault("compile", error.line if Path(error.file) == file else 0, detail=error.why)
    if isinstance(error, triton.CompilationError):
        return _compilation(error, text)
    if found := re.search(r"^Unsupported function referenced: <(?:\S+ )*?'?([\w.]+)'?(?: at | of |>)", str(error)):
        return Fault("compile", _named(text, found[1]), detail=str(error))
    return None


def _compilation(error: triton.CompilationError, text: str) -> Fault:
    """Triton counts lines from where a function begins."""
    lines, line = text.splitlines(), 0
    cause: BaseException | None = error
    while isinstance(cause, triton.CompilationError):
        # of functions that call each other, the innermost that is the student's and not Triton's
        first = (cause.src or "").splitlines()[:1]
        start = next((n for n, one in enumerate(lines) if first and one.strip() == first[0].strip()), None)
        if start is not None:
            line = start + getattr(cause.node, "lineno", 0)
        error, cause = cause, cause.__cause__
    said = error.error_message or (str(cause).strip() if cause is not None else str(error).strip().splitlines()[-1])
    return Fault("compile", line, detail=said)


def _named(text: str, function: str) -> int:
    """The line of a kernel that names a function which is not Triton's."""
    name = function.rpartition(".")[2]
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(one) for one in node.decorator_list):
            for one in (
                one for part in node.body for one in ast.walk(part) if isinstance(one, ast.Name | ast.Attribute)
            ):
                named = ast.unparse(one)
                if named.rpartition(".")[2] == name and not named.startswith("tl."):
                    return one.lineno
    return 0
