"""Sobel's filters: the magnitude, the gradients, and the way back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from torchops.ops.cpu.tiles import accumulation_dtype
from torchops.ops.memory import is_channels_last

from .borders import folded, padded
from .promises import Table, empty, is_empty, promised

_ours = torch.ops.torchops

_SIDES = 1, 1, 1, 1
_TINY = 1e-30
"""Below this eps, the square of a magnitude can be 0 in float32."""


def _gradients(x: Tensor, border: str, value: float) -> tuple[Tensor, Tensor]:
    """gx and gy, unscaled, in a dtype that holds their sums."""
    x = padded(x.to(accumulation_dtype(x.dtype)), _SIDES, border, value)
    upper, middle, lower = x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]
    smooth, diff = upper + lower + 2 * middle, lower - upper
    return smooth[..., 2:] - smooth[..., :-2], diff[..., 2:] + diff[..., :-2] + 2 * diff[..., 1:-1]


def _square(gx: Tensor, gy: Tensor, scale: float, eps: float) -> Tensor:
    offset = torch.full((), eps, dtype=gx.dtype, device=gx.device)
    return torch.addcmul(torch.addcmul(offset, gx, gx, value=scale * scale), gy, gy, value=scale * scale)


def _scale(normalized: bool) -> float:
    return 0.125 if normalized else 1.0


def _output_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.float32


def _sobel(x: Tensor, normalized: bool, eps: float, border: str, value: float) -> Tensor:
    channels_last, dtype = is_channels_last(x), _output_dtype(x)
    if is_empty(x):
        return empty(x.shape, x, channels_last, dtype)
    y = _square(*_gradients(x, border, value), _scale(normalized), eps).sqrt()
    return promised(y, channels_last, dtype, by_elements=True)


def _spatial_gradient(x: Tensor, normalized: bool, border: str, value: float) -> Tensor:
    n, c, h, w = x.shape
    dtype, form = _output_dtype(x), torch.channels_last_3d if is_channels_last(x) else torch.contiguous_format
    if is_empty(x):
        return torch.empty((n, c, 2, h, w), dtype=dtype, device=x.device, memory_format=form)
    gx, gy = _gradients(x, border, value)
    g = (torch.stack((gx, gy), 2) * _scale(normalized)).to(dtype)
    return g if form == torch.contiguous_format else g.clone(memory_format=form)


def _adjoint(dgx: Tensor, dgy: Tensor, border: str) -> Tensor:
    """The adjoint of `_gradients`."""
    size = dgx.shape[2:]
    smooth = F.pad(dgx, (2, 0)) - F.pad(dgx, (0, 2))
    diff = F.pad(dgy, (2, 0)) + F.pad(dgy, (0, 2)) + 2 * F.pad(dgy, (1, 1))
    upper, lower = F.pad(smooth - diff, (0, 0, 0, 2)), F.pad(smooth + diff, (0, 0, 2, 0))
    return folded(upper + 2 * F.pad(smooth, (0, 0, 1, 1)) + lower, size, _SIDES, border)


def _sobel_backward(
    dy: Tensor, x: Tensor, normalized: bool, eps: float, border: str, value: float
) -> Tensor:  # fmt: skip
    channels_last, scale = is_channels_last(x), _scale(normalized)
    if is_empty(x):
        return empty(x.shape, x, channels_last)
    gx, gy = _gradients(x, border, value)
    square = _square(gx, gy, scale, eps)
    ratio = square.rsqrt() * dy * (scale * scale)
    if eps < _TINY:
        ratio = torch.where(square == 0, 0.0, ratio)
    return promised(_adjoint(gx * ratio, gy * ratio, border), channels_last, x.dtype, by_elements=True)


def _spatial_gradient_backward(dg: Tensor, normalized: bool, border: str) -> Tensor:
    channels_last, acc = is_channels_last(dg[:, :, 0]), accumulation_dtype(dg.dtype)
    if is_empty(dg):
        return empty(dg[:, :, 0].shape, dg, channels_last)
    dgx, dgy = (t.to(acc) * _scale(normalized) for t in dg.unbind(2))
    return promised(_adjoint(dgx, dgy, border), channels_last, dg.dtype, by_elements=True)


ATEN: Table = {
    _ours.sobel.default: _sobel,
    _ours.sobel_backward.default: _sobel_backward,
    _ours.spatial_gradient.default: _spatial_gradient,
    _ours.spatial_gradient_backward.default: _spatial_gradient_backward,
}
