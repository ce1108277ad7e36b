"""Every op in a few lines of plain PyTorch: the specification that tests, benchmarks and the course share.

Nothing here is fast. Run it in float64 for an oracle; autograd differentiates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.activations import ACTIVATIONS
from torchops.kernels.geometry import conv_transpose_size, pool_size


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
    elif isinstance(padding, tuple) and len(padding) == 4:
        sides = padding
    else:
        top, left = (0, 0) if padding == "valid" else (padding, padding) if isinstance(padding, int) else padding
        sides = (left, left, top, top)
    y = F.conv2d(pad(input, sides, padding_mode, padding_value), weight, bias, stride, 0, dilation, groups)
    y = y if residual is None else y + residual
    return y if activation is None else ACTIVATIONS[activation].function(y)


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


def _positions(size: Any, pooled: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> Tensor:
    """The flat positions of the pixels of every window in an image of that size, (P, Q, taps); -1 beyond it."""
    rows, cols = (
        torch.arange(count)[:, None] * u + torch.arange(k) * d - t
        for count, k, u, t, d in zip(
            pooled,
            *map(_pair, (kernel_size, kernel_size if stride is None else stride, padding, dilation)),
            strict=True,
        )
    )
    rows, cols = rows[:, None, :, None], cols[None, :, None, :]
    inside = (rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1])
    return torch.where(inside, rows * size[1] + cols, -1).flatten(2)


def _pooled(size: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> list[int]:
    args = map(_pair, (kernel_size, kernel_size if stride is None else stride, padding, dilation))
    return [pool_size(n, k, u, t, d, ceil_mode) for n, k, u, t, d in zip(size, *args, strict=True)]


def _pixels(input: Tensor, positions: Tensor, fill: float) -> Tensor:
    """The pixels of every window, (N, C, P, Q, taps)."""
    return torch.where(positions >= 0, input.flatten(2)[..., positions.clamp(min=0)], fill)


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: Any = False,
) -> Any:  # fmt: skip
    """Maximum of every window, and where it lies: the last NaN, or else the first of the largest in the image."""
    pooled = _pooled(input.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    positions = _positions(input.shape[2:], pooled, kernel_size, stride, padding, dilation)
    x = _pixels(input, positions, -torch.inf)
    taps = torch.arange(x.shape[-1])
    first = torch.where((x == x.amax(-1, keepdim=True)) & (positions >= 0), taps, len(taps)).amin(-1)
    last_nan = torch.where(x.isnan(), taps, -1).amax(-1)
    tap = torch.where(last_nan >= 0, last_nan, first).unsqueeze(-1)
    y = x.gather(-1, tap).squeeze(-1)
    if return_indices == "offset":
        return y, tap.squeeze(-1).to(torch.uint8)
    return (y, positions.expand(x.shape).gather(-1, tap).squeeze(-1)) if return_indices else y


def min_pool2d(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Minimum of every window: the maximum of -input, negated."""
    y = max_pool2d(-input, *args, **kwargs)
    return (-y[0], y[1]) if isinstance(y, tuple) else -y


def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Mean of every window; padding counts as far as it goes, and no further."""
    pooled = _pooled(input.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    positions = _positions(input.shape[2:], pooled, kernel_size, stride, padding)
    counted = positions
    if count_include_pad:
        padded = [n + 2 * p for n, p in zip(input.shape[2:], _pair(padding), strict=True)]
        counted = _positions(padded, pooled, kernel_size, stride, 0)
    divisor = (counted >= 0).sum(-1) if divisor_override is None else divisor_override
    return _pixels(input, positions, 0.0).sum(-1) / divisor


def max_unpool2d(
    input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None,
    *, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """Every value to where its index points; of several the last. (N, C, H, W)."""
    size = _unpooled(input.shape[2:], kernel_size, stride, padding, output_size, dilation)
    if indices.dtype == torch.uint8:
        positions = _positions(size, input.shape[2:], kernel_size, stride, padding, dilation)
        indices = positions.expand(*input.shape, -1).gather(-1, indices.long().unsqueeze(-1)).squeeze(-1)
    windows = torch.arange(input[0, 0].numel()).expand(*input.shape[:2], -1)
    none = torch.full((*input.shape[:2], size[0] * size[1]), -1)
    last = none.scatter_reduce(2, indices.flatten(2), windows, "amax")
    return torch.where(last >= 0, input.flatten(2).gather(2, last.clamp(min=0)), 0.0).unflatten(2, size)


def avg_unpool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
) -> Tensor:
    """Every pixel is the mean of the windows that cover it, 0 where none does; (N, C, H, W)."""
    h, w = _unpooled(input.shape[2:], kernel_size, stride, padding, output_size)
    positions = _positions((h, w), input.shape[2:], kernel_size, stride, padding)
    # what lies beyond the image goes to a pixel that is cut off
    to = torch.where(positions >= 0, positions, h * w).flatten()
    values = input.flatten(2).repeat_interleave(positions.shape[-1], dim=2)
    total = input.new_zeros(*input.shape[:2], h * w + 1).index_add(2, to, values)
    count = input.new_zeros(h * w + 1).index_add(0, to, input.new_ones(len(to))).clamp(min=1)
    return (total / count)[..., :-1].unflatten(2, (h, w))


def _unpooled(size: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any, dilation: Any = 1) -> list[int]:
    if output_size is not None:
        return list(output_size[-2:])
    args = map(_pair, (kernel_size, kernel_size if stride is None else stride, padding, dilation))
    return [conv_transpose_size(n, k, u, 2 * t, 0, d) for n, k, u, t, d in zip(size, *args, strict=True)]


def _adaptive(size: int, count: int) -> list[slice]:
    """The windows of an adaptive pool along one dimension."""
    return [slice(p * size // count, -(-(p + 1) * size // count)) for p in range(count)]


def _adaptive_windows(input: Tensor, output_size: Any) -> list[list[tuple[slice, slice]]]:
    sizes = (n if wanted is None else wanted for n, wanted in zip(input.shape[2:], _pair(output_size), strict=True))
    rows, cols = (_adaptive(n, count) for n, count in zip(input.shape[2:], sizes, strict=True))
    return [[(h, w) for w in cols] for h in rows]


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Mean of every window, (N, C, P, Q)."""
    rows = _adaptive_windows(input, output_size)
    return torch.stack([torch.stack([input[:, :, h, w].mean((2, 3)) for h, w in row], -1) for row in rows], -2)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maximum of every window, and where it lies: the last NaN, or else the first of the largest."""
    positions = torch.arange(input[0, 0].numel()).view(input.shape[2:])

    def pooled(h: slice, w: slice) -> tuple[Tensor, Tensor]:
        y, tap = max_pool2d(input[:, :, h, w], positions[h, w].shape, return_indices=True)
        return y, positions[h, w].flatten()[tap]

    rows = [[pooled(h, w) for h, w in row] for row in _adaptive_windows(input, output_size)]
    y, indices = (torch.cat([torch.cat([window[i] for window in row], -1) for row in rows], -2) for i in range(2))
    return (y, indices) if return_indices else y


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest") -> Tensor:
    """Every pixel as a rectangle of its value, (N, C, a H, b W)."""
    h, w = input.shape[2:]
    a, b = _pair(scale_factor) if size is None else (wanted // n for wanted, n in zip(_pair(size), (h, w), strict=True))
    return input.repeat_interleave(int(a), 2).repeat_interleave(int(b), 3)
