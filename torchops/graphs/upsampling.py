"""Interpolation as one operator, where a trace would take it apart into the arithmetic of its indices and weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.torch_internals import below_autograd

_aten = torch.ops.aten
_OPERATORS = {
    "nearest": _aten.upsample_nearest2d.default,
    "nearest-exact": _aten._upsample_nearest_exact2d.default,
    "bilinear": _aten.upsample_bilinear2d.default,
    "bicubic": _aten.upsample_bicubic2d.default,
}


def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """What `torch.nn.functional.interpolate` does of arguments that it takes; without a gradient, and not taken apart.

    torch takes these operators apart where it dispatches to autograd.
    """
    is_taken_apart = not input.is_cpu and torch.are_deterministic_algorithms_enabled()
    if mode not in _OPERATORS or input.dim() != 4 or antialias or is_taken_apart:
        return F.interpolate(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    factors: Any = None, None
    if size is None:
        of = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
        size = [torch.sym_int(n * factor) for n, factor in zip(input.shape[2:], of, strict=True)]
        # the factors that are left out are those of the sizes
        factors = (None, None) if recompute_scale_factor else of
    size = list(size) if isinstance(size, (tuple, list)) else [size, size]
    corners = () if mode.startswith("nearest") else (bool(align_corners),)
    with below_autograd():
        y: Tensor = _OPERATORS[mode](input, size, *corners, *factors)
    return y
