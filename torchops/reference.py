"""Every op in a few lines of plain PyTorch: the specification that tests, benchmarks and the course share.

Nothing here is fast. Run it in float64 for an oracle; autograd differentiates it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def pad(input: Tensor, padding: Sequence[int], padding_mode: str, padding_value: float = 0.0) -> Tensor:
    """(N, C, H, W) with more pixels on the left, right, top and bottom."""
    if padding_mode in ("zeros", "constant"):
        return F.pad(input, padding, value=padding_value if padding_mode == "constant" else 0.0)
    return F.pad(input, padding, mode=padding_mode)


def spatial_gradient(
    input: Tensor, normalized: bool = True, *, padding_mode: str = "replicate", padding_value: float = 0.0
) -> Tensor:
    """Sobel gradients, (N, C, 2, H, W): along x, then along y."""
    x = pad(input, (1, 1, 1, 1), padding_mode, padding_value)
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


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "silu": F.silu,
    "gelu": F.gelu, "tanh": torch.tanh, "sigmoid": torch.sigmoid,
}  # fmt: skip


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1, *, padding_mode: str = "zeros", padding_value: float = 0.0,
    activation: str | None = None, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """activation(conv(pad(input)) + bias + residual), (N, K, P, Q)."""
    dy, dx = (dilation, dilation) if isinstance(dilation, int) else dilation
    if padding == "same":
        rows, cols = dy * (weight.shape[2] - 1), dx * (weight.shape[3] - 1)
        sides = (cols // 2, cols - cols // 2, rows // 2, rows - rows // 2)
    else:
        top, left = (0, 0) if padding == "valid" else (padding, padding) if isinstance(padding, int) else padding
        sides = (left, left, top, top)
    y = F.conv2d(pad(input, sides, padding_mode, padding_value), weight, bias, stride, 0, dilation, groups)
    y = y if residual is None else y + residual
    return y if activation is None else _ACTIVATIONS[activation](y)


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """Every pixel of the input adds a weighted copy of the kernel to the output, (N, K, H, W)."""
    (sy, sx), (dy, dx), (top, left), (oy, ox) = (
        (v, v) if isinstance(v, int) else v for v in (stride, dilation, padding, output_padding)
    )
    (n, _, h, w), (_, k, r, s) = input.shape, weight.shape
    rows, cols = (h - 1) * sy + dy * (r - 1) + 1 + oy, (w - 1) * sx + dx * (s - 1) + 1 + ox
    full = input.new_zeros(n, k * groups, rows, cols)
    taps = torch.einsum("ngchw,gckrs->rsngkhw", input.unflatten(1, (groups, -1)), weight.unflatten(0, (groups, -1)))
    for i in range(r):
        for j in range(s):
            lands = (slice(i * dy, i * dy + (h - 1) * sy + 1, sy), slice(j * dx, j * dx + (w - 1) * sx + 1, sx))
            full[:, :, lands[0], lands[1]] += taps[i, j].flatten(1, 2)
    y = full[:, :, top : rows - top, left : cols - left]
    return y if bias is None else y + bias[:, None, None]
