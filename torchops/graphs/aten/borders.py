"""Pads before a window's sums, with any border, and what becomes of a gradient there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true as known

from .promises import Ints


def pads(sides: Ints) -> bool:
    return not all(known(side == 0) for side in sides)


def padded(x: Tensor, sides: Ints, border: str, value: float = 0.0) -> Tensor:
    """x with more pixels, or fewer, on the left, right, top and bottom."""
    if not pads(sides):
        return x
    left, right, top, bottom = sides
    if border in ("zeros", "constant"):
        return F.pad(x, (left, right, top, bottom), value=value if border == "constant" else 0.0)
    more = left, max(right, 0), top, max(bottom, 0)
    if border == "circular":
        # ATen's own writes to what it has allocated
        x = torch.cat((x[..., x.shape[3] - more[0] :], x, x[..., : more[1]]), 3)
        x = torch.cat((x[:, :, x.shape[2] - more[2] :], x, x[:, :, : more[3]]), 2)
    else:
        x = F.pad(x, more, mode=border)
    return F.pad(x, (0, min(right, 0), 0, min(bottom, 0))) if min(right, bottom) < 0 else x


def folded(dx: Tensor, size: Ints, sides: Ints, border: str) -> Tensor:
    """The adjoint of `padded`: what lies beyond a border is added to where it was read."""
    if not pads(sides):
        return dx
    left, right, top, bottom = sides
    if border in ("zeros", "constant"):
        return F.pad(dx, (-left, -right, -top, -bottom))
    dx = F.pad(dx, (0, -min(right, 0), 0, -min(bottom, 0)))
    for dim, n, before, after in ((2, size[0], top, max(bottom, 0)), (3, size[1], left, max(right, 0))):
        inside = dx.narrow(dim, before, n)
        first, last = dx.narrow(dim, 0, before), dx.narrow(dim, before + n, after)

        def at(t: Tensor, begin: int, dim: int = dim, n: int = n) -> Tensor:
            """t among n rows or columns of zeros, from `begin` on."""
            sides = begin, n - begin - t.shape[dim]
            return F.pad(t, (0, 0, *sides) if dim == 2 else sides)

        if border == "replicate":
            dx = inside + at(first.sum(dim, keepdim=True), 0) + at(last.sum(dim, keepdim=True), n - 1)
        elif border == "reflect":
            dx = inside + at(first.flip(dim), 1) + at(last.flip(dim), n - 1 - after)
        else:
            dx = inside + at(first, n - before) + at(last, 0)
    return dx
