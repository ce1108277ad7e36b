"""What `import triton` gives where the stand-in runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch.utils._triton import has_triton_package

from .function import Function
from .vocabulary import WORDS


def jit(function: Callable[..., Any] | None = None, **_options: Any) -> Any:
    """The decorator of kernels; what else it is told is for a GPU."""
    return Function if function is None else Function(function)


def cdiv(x: int, y: int) -> int:
    return (x + y - 1) // y


def next_power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length() if n > 0 else 0


def _modules() -> dict[str, ModuleType]:
    triton, language = ModuleType("triton", __doc__), ModuleType("triton.language", __doc__)
    language.__dict__.update(WORDS)
    triton.__dict__.update(
        jit=jit, cdiv=cdiv, next_power_of_2=next_power_of_2, language=language, __version__="stand-in"
    )
    return {"triton": triton, "triton.language": language}


MODULES = _modules()


def install() -> None:
    """Nobody imports another Triton in this process from here on; torch, which asks more of one, is told that there is none."""
    if sys.modules.get("triton") is MODULES["triton"]:
        return
    for name in [one for one in sys.modules if one.partition(".")[0] == "triton"]:
        del sys.modules[name]
    sys.modules["triton"] = None  # type: ignore[assignment]  # for Python: not to be found
    has_triton_package.cache_clear()
    has_triton_package()
    sys.modules.update(MODULES)
