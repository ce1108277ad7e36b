"""Pads before a convolution, which become its border."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .nodes import arguments

_aten = torch.ops.aten
Sides = tuple[int, ...]
_MODES = {
    _aten.constant_pad_nd.default: "constant", _aten.reflection_pad2d.default: "reflect",
    _aten.replication_pad2d.default: "replicate",
}  # fmt: skip


def pad_of(node: Any) -> tuple[fx.Node, Any, str, Any] | None:
    """Of an operator that pads images: what it pads, the sides, the mode and the value, as `F.pad` takes them."""
    if not isinstance(node, fx.Node):
        return None
    if node.target is _aten.pad.default:
        asked = arguments(node)
        return asked["self"], asked["pad"], asked["mode"], asked["value"]
    if node.target not in _MODES:
        return None
    asked = arguments(node)
    return asked["self"], asked["pad" if "pad" in asked else "padding"], _MODES[node.target], asked.get("value")


def merged(sides: Any, mode: str, number: Any, padding: Any, padding_mode: str = "zeros") -> Any:
    """Padding, mode and value of a convolution that does a pad before it as well; None if it cannot.

    Args:
        sides: left, right, top and bottom, or the first two, as `F.pad` takes them.
        mode: of the pad.
        number: what it pads with.
        padding: of the convolution: a number, two of them (rows, columns), four sides, or "valid".
        padding_mode: of the convolution.
    """
    if not isinstance(sides, (tuple, list)) or len(sides) not in (2, 4) or not _are_sizes(sides):
        return None
    padding = 0 if padding == "valid" else padding
    padding = (padding,) if isinstance(padding, int) else padding
    if not isinstance(padding, (tuple, list)) or not all(isinstance(n, int) for n in padding):
        return None
    number = 0.0 if number is None else number
    if not isinstance(number, (int, float)):
        return None
    zeros = mode == "constant" and number == 0
    own = tuple(padding) if len(padding) == 4 else (padding[-1], padding[-1], padding[0], padding[0])
    if any(own) and not (zeros and padding_mode == "zeros"):
        return None
    left, right, top, bottom = (*sides, 0, 0)[:4]
    total = tuple(p + q for p, q in zip((left, right, top, bottom), own, strict=True))
    return total, "zeros" if zeros else mode, 0.0 if zeros or mode != "constant" else float(number)


def _are_sizes(sides: Any) -> bool:
    return all(isinstance(n, int) and n >= 0 for n in sides)
