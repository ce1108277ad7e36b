"""Kernels of a student's file, tried out: in a notebook, or at a prompt.

from torchops.course.trial import load, run

mine = load("unpooling.py")
run(mine.unpool, x, tap, 3, 2).value
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .engine import SECONDS
from .lesson import module
from .machine import Machine
from .machine import machine as _machine
from .report import Finding, Ran, Traffic
from .trace import traffic
from .words import told

machine: Callable[[], Machine] = functools.cache(_machine)
"""Which runs the kernels here."""
_loaded: list[Path] = []
"""The file that was loaded last."""


def load(file: str | Path) -> ModuleType:
    """A file of kernels as a module; `import triton` in it is what runs kernels here.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file `{file}` in {Path.cwd()}")
    machine().prepare()
    _loaded[:] = [path]
    return module(path, path.stem)


def run(function: Callable[..., Any], *inputs: Any, order: str = "", **more: Any) -> Ran:
    """Call a function of such a file, and keep what its kernels did.

    Args:
        function: that launches kernels; one that lies in no file, as in a notebook, goes with the file that was loaded last.
        inputs: of the function; tensors on the CPU.
        order: in which programs run: "forward", first to last; "backward", last to first. A race does not stop them, as it does
            not on a GPU. Where it is "", which is the same everywhere, it does.
        more: of the function, by keyword.

    Returns:
        what the function returned (`value`), and its launches.

    Raises:
        ValueError: if there is no such order.
        RuntimeError: if the run has been stopped: the message says why, with the line of the file.
    """
    if order not in ("", "forward", "backward"):
        raise ValueError(f"`order` is 'forward' or 'backward', got {order!r}")
    file = Path(inspect.getfile(function))
    if not file.is_file() and _loaded:  # of a notebook's cell, or of a prompt
        file = _loaded[0]
    ran = machine().run(lambda: function(*inputs, **more), file, SECONDS, order=order)
    if ran.fault is not None:
        found = Finding(ran.fault.kind, fault=ran.fault, line=ran.fault.line, detail=ran.fault.detail)
        raise RuntimeError(told(found, file.read_text(encoding="utf-8")))
    return ran


def moved(function: Callable[..., Any], *inputs: Any, **more: Any) -> tuple[Traffic, ...]:
    """The bytes that each launch of a function moves: an element once a program."""
    return tuple(traffic(launch) for launch in run(function, *inputs, **more).launches)
