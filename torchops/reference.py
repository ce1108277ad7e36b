"""Every op in a few lines of plain PyTorch: the specification that tests, benchmarks and the course share.

Nothing here is fast. Run it in float64 for an oracle; autograd differentiates it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pad(input: Tensor, padding: int, padding_mode: str, padding_value: float = 0.0) -> Tensor:
    """(N, C, H, W) with `padding` more pixels on every side."""
    sides = (padding,) * 4
    if padding_mode in ("zeros", "constant"):
        return F.pad(input, sides, value=padding_value if padding_mode == "constant" else 0.0)
    return F.pad(input, sides, mode=padding_mode)


def spatial_gradient(
    input: Tensor, normalized: bool = True, *, padding_mode: str = "replicate", padding_value: float = 0.0
) -> Tensor:
    """Sobel gradients, (N, C, 2, H, W): along x, then along y."""
    x = pad(input, 1, padding_mode, padding_value)
    smooth_y = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    smooth_x = x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    gx = smooth_y[..., 2:] - smooth_y[..., :-2]
    gy = smooth_x[..., 2:, :] - smooth_x[..., :-2, :]
    return torch.stack((gx, gy), dim=2) / (8 if normalized else 1)


def sobel(
    input: Tensor, normalized: bool = True, eps: float = 1e-6, *,
    padding_mode: str = "replicate", padding_value: float = 0.0,
) -> Tensor:  # fmt: skip
    """Magnitude of the Sobel gradients, (N, C, H, W)."""
    g = spatial_gradient(input, normalized, padding_mode=padding_mode, padding_value=padding_value)
    return (g.square().sum(2) + eps).sqrt()
