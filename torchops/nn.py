"""Modules: subclasses of `torch.nn`'s where one exists, with the same constructor and the same state_dict."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from . import functional as F
from .arguments import check_activation, check_padding_mode, check_padding_value


class Conv2d(nn.Conv2d):
    """2-D convolution with any border, and with residual and activation in the same pass. The state_dict is torch.nn's.

    Args: as `torch.nn.Conv2d`, with `padding_mode` "constant" too, and `padding_value` and `activation` as
        :func:`torchops.conv2d`.

    Shape:
        (N, C, H, W) or (C, H, W) to (N, K, P, Q) or (K, P, Q); `residual`, if given, as the result.

    >>> import torch, torchops
    >>> layer = torchops.nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect", activation="relu")
    >>> layer(torch.rand(2, 3, 8, 8), residual=torch.rand(2, 8, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    >>> layer
    Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), padding_mode=reflect, activation='relu')
    """

    # also of a torch.nn.Conv2d whose class was changed
    padding_value: float = 0.0
    activation: str | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        padding_value: float = 0.0,
        activation: str | None = None,
    ) -> None:
        check_padding_mode(padding_mode)
        check_padding_value(padding_mode, padding_value)
        check_activation(activation)
        # torch.nn knows no "constant"
        known: Any = "zeros" if padding_mode == "constant" else padding_mode
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, known, device, dtype
        )
        self.padding_mode: Any = padding_mode
        self.padding_value = padding_value
        self.activation = activation

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        return F.conv2d(
            input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            padding_mode=self.padding_mode, padding_value=self.padding_value, activation=self.activation,
            residual=residual,
        )  # fmt: skip

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.padding_value != 0.0:
            text += f", padding_value={self.padding_value}"
        return text if self.activation is None else f"{text}, activation={self.activation!r}"


class ConvTranspose2d(nn.ConvTranspose2d):
    """Transposed 2-D convolution. Constructor, state_dict and `output_size` are torch.nn's.

    >>> import torch, torchops
    >>> torchops.nn.ConvTranspose2d(8, 3, 2, stride=2)(torch.rand(2, 8, 4, 4)).shape
    torch.Size([2, 3, 8, 8])
    """

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        # typed as lists, given as tuples
        stride, padding, kernel_size, dilation = cast(Any, (self.stride, self.padding, self.kernel_size, self.dilation))
        output_padding: Any = self._output_padding(input, output_size, stride, padding, kernel_size, 2, dilation)
        return F.conv_transpose2d(input, self.weight, self.bias, stride, padding, output_padding, self.groups, dilation)


class Sobel(nn.Module):
    """Magnitude of the Sobel gradients, as a layer. It has no parameters.

    Args: as :func:`torchops.sobel`.

    Shape:
        (N, C, H, W) or (C, H, W), in and out.

    >>> import torch, torchops
    >>> torchops.nn.Sobel(padding_mode="reflect")(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        normalized: bool = True,
        eps: float = 1e-6,
        *,
        padding_mode: str = "replicate",
        padding_value: float = 0.0,
    ) -> None:
        super().__init__()
        check_padding_mode(padding_mode)
        self.normalized = normalized
        self.eps = eps
        self.padding_mode = padding_mode
        self.padding_value = padding_value

    def forward(self, input: Tensor) -> Tensor:
        return F.sobel(
            input, self.normalized, self.eps, padding_mode=self.padding_mode, padding_value=self.padding_value
        )

    def extra_repr(self) -> str:
        text = f"normalized={self.normalized}, eps={self.eps}, padding_mode={self.padding_mode!r}"
        return f"{text}, padding_value={self.padding_value}" if self.padding_mode == "constant" else text
