"""The public functions: typed, documented, validating. Each checks its arguments, then calls a registered op."""

import functools
from typing import NoReturn

import torch

from torchops.ops.checks import PADDING_MODES

from .adaptive import adaptive_avg_pool2d, adaptive_max_pool2d
from .convolution import conv2d, conv_transpose2d
from .edges import sobel, spatial_gradient
from .pooling import avg_pool2d, avg_unpool2d, interpolate, max_pool2d, max_unpool2d, min_pool2d

__all__ = [
    "PADDING_MODES",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "avg_unpool2d",
    "conv2d",
    "conv_transpose2d",
    "interpolate",
    "max_pool2d",
    "max_unpool2d",
    "min_pool2d",
    "sobel",
    "spatial_gradient",
]


def unscriptable(what: str) -> NoReturn:
    """Raise what `torch.jit.script` should say of a function or a layer; its own words are of an annotation in it."""
    raise RuntimeError(
        f"torch.jit.script cannot compile torchops's {what}: export the model by torch.export.export, and its "
        "program to C++ or ONNX by torchops.export, or script it with torch.nn's layers, as torchops.revert gives them back"
    )


for _name in __all__[1:]:
    # a traced graph calls them as they are: their checks look at values that a proxy does not have
    torch.fx.wrap(_name)
    # TorchScript calls this before it compiles
    globals()[_name].__prepare_scriptable__ = functools.partial(unscriptable, f"function {_name}")
