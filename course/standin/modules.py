"""What `import triton` gives where the stand-in runs."""

from __future__ import annotations

import builtins
import sys
from types import FunctionType, ModuleType
from typing import Any

from torchops.torch_internals import has_triton

from .function import JITFunction
from .vocabulary import WORDS


def jit(function: FunctionType | None = None, **_options: Any) -> Any:
    """The decorator of kernels; what else it is told is for a GPU."""
    return JITFunction if function is None else JITFunction(function)


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
    """Nobody imports another Triton in this process from here on."""
    if sys.modules.get("triton") is MODULES["triton"]:
        return
    for name in [one for one in sys.modules if one.partition(".")[0] == "triton"]:
        del sys.modules[name]
    sys.modules.update(MODULES)
    builtins.__import__ = _import
    has_triton.cache_clear()  # torch may have found one


_plain_import = builtins.__import__


def _import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> ModuleType:
    """`import` as it is, but for torch, which asks more of a Triton than there is here: it finds none."""
    importer = str((globals or {}).get("__name__"))
    if name.partition(".")[0] == "triton" and importer.partition(".")[0] == "torch" and level == 0:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return _plain_import(name, globals, locals, fromlist, level)
