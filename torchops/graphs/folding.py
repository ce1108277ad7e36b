"""Numbers for each channel, of a batch norm or of a scale and a shift, folded into the weights before them."""

from __future__ import annotations

import torch
from torch import Tensor, fx


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which weights are folded, so that only the result is rounded."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@fx.has_side_effect
def fit(weight: Tensor, bias: Tensor | None, spread: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether folded weights, wide and by output channel, can be had in the dtype: none overflows, and a channel's are not
    rounded by more than weights are, unless its results spread so little that this is lost beside others of about 1."""
    weights = weight.detach().flatten(1)
    rounded = weights.to(dtype)
    finite = rounded.isfinite().all() if bias is None else rounded.isfinite().all() & bias.to(dtype).isfinite().all()
    error, size = (rounded.to(weights.dtype) - weights).norm(dim=1), weights.norm(dim=1)
    return finite & (error * spread.clamp(max=1.0) <= torch.finfo(dtype).eps * size).all()
