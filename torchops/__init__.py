"""torchops: the convolution toolkit. Readable Triton kernels, registered as PyTorch operators with a CPU path.

>>> import torch, torchops
>>> torchops.sobel(torch.rand(1, 3, 64, 64)).shape
torch.Size([1, 3, 64, 64])
"""

import importlib
from typing import Any

import torch

from . import functional, nn
from ._version import __version__
from .backend import get_backend, use_backend
from .conversion import convert, revert
from .conversion.fusion import fuse
from .conversion.overrides import override
from .functional import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    avg_unpool2d,
    conv2d,
    conv_transpose2d,
    interpolate,
    max_pool2d,
    max_unpool2d,
    min_pool2d,
    sobel,
    spatial_gradient,
)
from .inspect import explain
from .ops.writes import forget

__all__ = [
    "__version__",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "avg_unpool2d",
    "conv2d",
    "conv_transpose2d",
    "convert",
    "explain",
    "forget",
    "functional",
    "fuse",
    "get_backend",
    "interpolate",
    "max_pool2d",
    "max_unpool2d",
    "min_pool2d",
    "nn",
    "override",
    "revert",
    "sobel",
    "spatial_gradient",
    "use_backend",
]

# as in torchops.functional: the names by which most call them
for _name in functional.__all__[1:]:
    torch.fx.wrap(_name)


_LAZY = ("compile", "export", "models")
"""What imports torch's compilers, or networks, when it is first asked for."""


def __getattr__(name: str) -> Any:
    """`torchops.compile`, `torchops.export` and `torchops.models`."""
    if name in _LAZY:
        return importlib.import_module(f"torchops.{name}")
    raise AttributeError(f"module 'torchops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
