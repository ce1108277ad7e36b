"""The activations of a convolution's epilogue, one row each: all that torch knows of them, for every part that asks.

The kernels have the same names in `kernels/device/activations.py`, one branch each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_aten = torch.ops.aten


class Activation(NamedTuple):
    """A function of every element alone."""

    name: str
    function: Callable[[Tensor], Tensor]
    """With torch's defaults, which all the others share."""
    in_place: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]
    """The gradient of what the function is applied to, of that of its result and of what is kept for this. It can be
    differentiated once more."""
    keeps: Literal["output", "input"]
    """What the gradient is computed of: the result, or, where that does not tell it, what the function is applied to."""
    layer: type[nn.Module]
    settings: Mapping[str, Any] = {}
    """Arguments of torch's function and layer, and their values here."""
    exact: bool = False
    """Whether rounding commutes with it."""


def _silu_backward(dy: Tensor, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return _aten.silu_backward(dy, x)
    # ATen's is not differentiable
    s = x.sigmoid()
    return dy * s * (1 + x * (1 - s))


def _gelu_backward(dy: Tensor, x: Tensor) -> Tensor:
    # oneDNN computes ATen's on a CPU and refuses memory that overlaps, which an incoming gradient's may; x is dense
    form = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return _aten.gelu_backward(dy.contiguous(memory_format=form), x)


_ROWS = (
    Activation(
        "relu", F.relu, torch.relu_, lambda dy, y: _aten.threshold_backward(dy, y, 0), "output", nn.ReLU, exact=True
    ),
    Activation(
        "relu6", F.relu6, lambda y: F.hardtanh_(y, 0.0, 6.0), lambda dy, y: _aten.hardtanh_backward(dy, y, 0.0, 6.0),
        "output", nn.ReLU6, exact=True,
    ),
    Activation(
        "leaky_relu", F.leaky_relu, F.leaky_relu_, lambda dy, y: _aten.leaky_relu_backward(dy, y, 0.01, True),
        "output", nn.LeakyReLU, {"negative_slope": 0.01},
    ),
    Activation("silu", F.silu, _aten.silu_, _silu_backward, "input", nn.SiLU),
    Activation("gelu", F.gelu, _aten.gelu_, _gelu_backward, "input", nn.GELU, {"approximate": "none"}),
    Activation("tanh", torch.tanh, torch.tanh_, _aten.tanh_backward, "output", nn.Tanh),
    Activation("sigmoid", torch.sigmoid, torch.sigmoid_, _aten.sigmoid_backward, "output", nn.Sigmoid),
    Activation(
        "hardsigmoid", F.hardsigmoid, _aten.hardsigmoid_, lambda dy, y: torch.where((y > 0) & (y < 1), dy / 6, 0),
        "output", nn.Hardsigmoid,
    ),
    Activation("hardswish", F.hardswish, _aten.hardswish_, _aten.hardswish_backward, "input", nn.Hardswish),
)  # fmt: skip
ACTIVATIONS = {row.name: row for row in _ROWS}
