"""Mapped dimensions of the operators of a convolution: they join the batch, or make more groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _joined(t: Tensor | None, dim: int | None, copies: int, to: int) -> Tensor | None:
    """t with its mapped dimension, or `copies` of it, joined to dimension `to`."""
    if t is None:
        return None
    t = t.movedim(dim, to) if dim is not None else t.unsqueeze(to).expand(*t.shape[:to], copies, *t.shape[to:])
    return t.flatten(to, to + 1)


def vmap_conv2d(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    """A mapped image joins the batch; a mapped weight or bias makes more groups."""
    x, weight, bias, residual, stride, padding, dilation, groups, *rest = args
    b, (dim_x, dim_weight, dim_bias, dim_residual) = info.batch_size, in_dims[:4]
    to = 0 if dim_weight is None and dim_bias is None else 1
    if to:
        weight, bias, groups = _joined(weight, dim_weight, b, 0), _joined(bias, dim_bias, b, 0), groups * b
    y = torch.ops.torchops.conv2d(
        _joined(x, dim_x, b, to), weight, bias, _joined(residual, dim_residual, b, to),
        stride, padding, dilation, groups, *rest,
    )  # fmt: skip
    return y.unflatten(to, (b, y.shape[to] // b)), to


def vmap_input_grad(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    dy, weight, bias, size, stride, padding, dilation, groups, *rest = args
    b, (dim_dy, dim_weight, dim_bias) = info.batch_size, in_dims[:3]
    to = 0 if dim_weight is None and dim_bias is None else 1
    if to:
        weight, bias, groups = _joined(weight, dim_weight, b, 0), _joined(bias, dim_bias, b, 0), groups * b
    dx = torch.ops.torchops.conv2d_input_grad(
        _joined(dy, dim_dy, b, to), weight, bias, size, stride, padding, dilation, groups, *rest
    )
    return dx.unflatten(to, (b, dx.shape[to] // b)), to


def vmap_weight_grad(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
    dy, x, kernel_size, stride, padding, dilation, groups, *rest = args
    b = info.batch_size
    dw, db = torch.ops.torchops.conv2d_weight_grad(
        _joined(dy, in_dims[0], b, 1), _joined(x, in_dims[1], b, 1), kernel_size, stride, padding, dilation,
        groups * b, *rest,
    )  # fmt: skip
    return (dw.unflatten(0, (b, dw.shape[0] // b)), db.unflatten(0, (b, db.shape[0] // b))), (0, 0)
