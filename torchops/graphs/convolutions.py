"""The two operators that a chain may begin with, `torchops::conv2d` and its adjoint, by the names of their arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

import torchops.ops  # noqa: F401  registers the operators

from .nodes import arguments, value

CONV2D = torch.ops.torchops.conv2d.default
TRANSPOSED = torch.ops.torchops.conv2d_input_grad.default


class Convolution:
    """A convolution in a graph."""

    def __init__(self, node: fx.Node) -> None:
        self.node = node
        self.arguments = arguments(node)

    @property
    def is_transposed(self) -> bool:
        return self.node.target is TRANSPOSED

    @property
    def is_plain(self) -> bool:
        """Whether nothing is added to it, or done with it, yet."""
        return self.arguments.get("residual") is None and self.arguments.get("activation", "none") == "none"

    @property
    def channels(self) -> int:
        """Channels of the result."""
        return int(value(self.node).shape[1])

    def with_arguments(self, **changed: Any) -> tuple[Any, ...]:
        """The arguments in the order of the operator, some of them changed."""
        return tuple({**self.arguments, **changed}.values())

    def per_channel(self) -> tuple[list[int], list[int]]:
        """Two shapes by which a weight and a number for each channel of the result meet in a product: of the weight, and of
        the numbers."""
        shape = [int(n) for n in value(self.arguments["weight"]).shape]
        if not self.is_transposed:
            return shape, [-1, 1, 1, 1]
        c, k, r, s = shape
        groups = self.arguments["groups"]
        return [groups, c // groups, k, r, s], [groups, 1, k, 1, 1]


def parts_of(convolution: Convolution) -> list[str]:
    """The names of what a convolution does by itself."""
    asked = convolution.arguments
    if convolution.is_transposed:
        return ["conv_transpose2d"]
    left, right, top, bottom = asked["padding"]
    pad = [f"{asked['padding_mode']} pad"] if asked["padding_mode"] != "zeros" else []
    if not pad and (left != right or top != bottom):
        pad = ["zero pad"]
    activation = [asked["activation"]] if asked["activation"] != "none" else []
    return [*pad, "conv2d", *(["add"] if asked["residual"] is not None else []), *activation]
