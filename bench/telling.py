"""The few cases that say most, for a GPU that is lent for minutes: of convolutions, pools and unpools, and of Sobel.

Every file of benchmarks has the same functions: `every_case(gpu)` and `telling(gpu)` list what there is to time on a GPU or a
CPU, wherever they are called; `contest(case, rounds)` races a case on this machine; `rehearse(case, device)` does torchops's
part of it once, on blank tensors, so that its launches can be recorded for a GPU that is not there.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

TELLING = ("conv2d", "pooling", "sobel")
"""The files that have telling cases."""
_OTHERS = {path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")} - {*TELLING, "models"}
FILES = (*TELLING, *sorted(_OTHERS), "models")
"""All files of benchmarks, networks last."""


def benchmarks(name: str) -> ModuleType:
    """A file by its name in FILES. Networks import torchvision, which takes seconds: each is imported when asked for."""
    return import_module(f".bench_{name}", __package__)


def telling(gpu: bool) -> dict[str, list[Any]]:
    """The cases by file, the most telling first."""
    return {name: benchmarks(name).telling(gpu) for name in TELLING}
