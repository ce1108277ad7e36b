"""Every op in a few lines of plain PyTorch: the specification that tests, benchmarks and the course share.

Nothing here is fast. Run it in float64 for an oracle; autograd differentiates it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import conv_transpose_size, pool_size


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


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


def _windows(
    input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, fill: float
) -> tuple[Tensor, Tensor]:
    """The pixels of every window, (N, C, P, Q, taps), with `fill` beyond the image; and their positions, -1 there."""
    (r, s), (top, left), (dy, dx) = map(_pair, (kernel_size, padding, dilation))
    sy, sx = _pair(kernel_size if stride is None else stride)
    h, w = input.shape[-2:]
    p, q = pool_size(h, r, sy, top, dy, ceil_mode), pool_size(w, s, sx, left, dx, ceil_mode)
    rows = (torch.arange(p)[:, None] * sy + torch.arange(r) * dy - top).view(p, 1, r, 1)
    cols = (torch.arange(q)[:, None] * sx + torch.arange(s) * dx - left).view(1, q, 1, s)
    inside = ((rows >= 0) & (rows < h) & (cols >= 0) & (cols < w)).flatten(2)
    positions = torch.where(inside, (rows * w + cols).flatten(2), -1)
    return torch.where(inside, input.flatten(2)[..., positions.clamp(min=0)], fill), positions


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: Any = False,
) -> Any:  # fmt: skip
    """Maximum of every window, and where it lies: the last NaN, or else the first of the largest in the image."""
    x, positions = _windows(input, kernel_size, stride, padding, dilation, ceil_mode, -torch.inf)
    taps = torch.arange(x.shape[-1])
    first = torch.where((x == x.amax(-1, keepdim=True)) & (positions >= 0), taps, len(taps)).amin(-1)
    last_nan = torch.where(x.isnan(), taps, -1).amax(-1)
    tap = torch.where(last_nan >= 0, last_nan, first)
    y = x.gather(-1, tap.unsqueeze(-1)).squeeze(-1)
    if return_indices == "offset":
        return y, tap.to(torch.uint8)
    return (y, positions.expand(x.shape).gather(-1, tap.unsqueeze(-1)).squeeze(-1)) if return_indices else y


def min_pool2d(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Minimum of every window: the maximum of -input, negated."""
    y = max_pool2d(-input, *args, **kwargs)
    return (-y[0], y[1]) if isinstance(y, tuple) else -y


def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Mean of every window; padding counts as far as it goes."""
    x, positions = _windows(input, kernel_size, stride, padding, 1, ceil_mode, 0.0)
    counted = positions >= 0
    if count_include_pad:
        padded = pad(
            torch.ones(1, 1, *input.shape[-2:]), [side for p in _pair(padding)[::-1] for side in (p, p)], "constant", 1
        )
        counted = _windows(padded, kernel_size, stride, 0, 1, ceil_mode, 0.0)[0][0, 0, : x.shape[2], : x.shape[3]] > 0
    return x.sum(-1) / (counted.sum(-1) if divisor_override is None else divisor_override)


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None,
    *, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """Every value to where its index points; of several the last. (N, C, H, W)."""
    size = _unpool_size(input, kernel_size, stride, padding, output_size, dilation)
    positions = indices
    if indices.dtype == torch.uint8:
        (_, s), (top, left), (dy, dx) = map(_pair, (kernel_size, padding, dilation))
        sy, sx = _pair(kernel_size if stride is None else stride)
        taps, (p, q) = indices.long(), input.shape[2:]
        rows, cols = torch.arange(p)[:, None] * sy - top + taps // s * dy, torch.arange(q) * sx - left + taps % s * dx
        positions = rows * size[1] + cols
    windows = torch.arange(input[0, 0].numel()).expand(*input.shape[:2], -1)
    last = torch.full((*input.shape[:2], size[0] * size[1]), -1).scatter_reduce(
        2, positions.flatten(2), windows, "amax"
    )
    return torch.where(last >= 0, input.flatten(2).gather(2, last.clamp(min=0)), 0.0).unflatten(2, size)


def _unpool_size(
    input: Tensor, kernel_size: Any, stride: Any, padding: Any, output_size: Any, dilation: Any = 1
) -> tuple[int, int]:
    if output_size is not None:
        return tuple(output_size[-2:])
    args = map(_pair, (kernel_size, kernel_size if stride is None else stride, padding, dilation))
    h, w = (conv_transpose_size(n, k, s, 2 * p, 0, d) for n, k, s, p, d in zip(input.shape[2:], *args, strict=True))
    return h, w


def avg_unpool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Every pixel is the mean of the windows that cover it, 0 where none does; (N, C, H, W)."""
    (r, s), (top, left) = _pair(kernel_size), _pair(padding)
    sy, sx = _pair(kernel_size if stride is None else stride)
    h, w = _unpool_size(input, kernel_size, stride, padding, output_size)
    p, q = input.shape[2:]
    rows, cols = (
        torch.arange(h) + top - sy * torch.arange(p)[:, None],
        torch.arange(w) + left - sx * torch.arange(q)[:, None],
    )
    over_rows, over_cols = ((rows >= 0) & (rows < r)).to(input.dtype), ((cols >= 0) & (cols < s)).to(input.dtype)
    total = torch.einsum("ncpq,ph,qw->nchw", input, over_rows, over_cols)
    count = over_rows.sum(0)[:, None] * over_cols.sum(0)
    return total / count.clamp(min=1)
