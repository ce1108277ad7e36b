"""Modules: subclasses of `torch.nn`'s where one exists, with the same constructor and the same state_dict."""

from __future__ import annotations

from torch import Tensor, nn

from . import functional as F


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
        F.check_padding_mode(padding_mode)
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
