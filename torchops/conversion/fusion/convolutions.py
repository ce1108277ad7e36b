"""Convolutions that stand for more than torchops.nn's do: what they took in asks about a call what no trace knows."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from torchops import functional, nn
from torchops.activations import ACTIVATIONS
from torchops.conversion.layers import ORIGIN
from torchops.functional import arguments, sizes
from torchops.ops.autocast import in_autocast


class NormedConv2d(nn.Conv2d):
    """A convolution that has taken in a batch norm, and refuses what that refuses: a convolution takes single images too."""

    called = ""
    """Its name in the fused model."""

    def forward(self, input: Tensor, residual: Any = None) -> Tensor:
        _check_batch(self.called, input)
        return super().forward(input, residual)


# without its norm it is a convolution like any other
setattr(NormedConv2d, ORIGIN, torch.nn.Conv2d)


class AddConv2d(NormedConv2d):
    """activation(conv(input) + residual), where the residual broadcasts and promotes as in any sum.

    It takes one kernel if the residual has the shape and the dtype of the result, as in a residual network; a trace knows
    neither.
    """

    is_normed = False
    """Whether it has taken in a batch norm."""
    is_frozen = False
    """Whether that was torchvision's FrozenBatchNorm2d, whose arithmetic promotes what autocast has made of the result."""
    in_place = ""
    """Which tensor the sum is written to, if to any, whose shape and dtype it has then: "conv" or "residual"."""

    def forward(self, input: Tensor, residual: Any = None) -> Tensor:
        if self.is_normed:
            _check_batch(self.called, input)
        stride, dilation = cast(Any, (self.stride, self.dilation))
        geometry = stride, arguments.conv_padding(cast(Any, self.padding)), dilation, self.groups
        _, shape = sizes.conv_geometry(input.shape, self.weight.shape, *geometry, self.padding_mode)
        computed = _computed_dtype(input)
        dtype = torch.promote_types(computed, self.weight.dtype) if self.is_frozen else computed
        like = residual is None or (
            isinstance(residual, Tensor) and residual.shape == shape and residual.dtype == dtype
        )
        if like and dtype == computed:
            return nn.Conv2d.forward(self, input, residual)
        border: Any = {"padding_mode": self.padding_mode, "padding_value": self.padding_value}
        y = functional.conv2d(input, self.weight, self.bias, *geometry, **border).to(dtype)
        if self.in_place:
            y = y.add_(residual) if self.in_place == "conv" else residual.add_(y)
        elif residual is not None:
            y = y + residual
        return y if self.activation is None else ACTIVATIONS[self.activation].function(y)


class NormedConvTranspose2d(nn.ConvTranspose2d):
    """The same of a transposed convolution, which adds nothing."""

    called = ""
    is_frozen = False

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        _check_batch(self.called, input)
        y = super().forward(input, output_size)
        return y.to(torch.promote_types(y.dtype, self.weight.dtype)) if self.is_frozen else y


def _computed_dtype(input: Tensor) -> torch.dtype:
    """The dtype of a convolution's result: autocast leaves float64 as it is."""
    device_type = input.device.type
    lowered = input.dtype != torch.float64 and in_autocast(device_type)
    return torch.get_autocast_dtype(device_type) if lowered else input.dtype


def _check_batch(called: str, input: Tensor) -> None:
    if input.dim() != 4:
        raise ValueError(
            f"expected 4D input (got {input.dim()}D input): the convolution {called!r} has taken in a batch norm, which takes "
            "batches of images alone; torchops.fuse(model, args=...) with an example, or "
            'torch.compile(model, backend="torchops"), knows of how many dimensions they are'
        )
