"""Convolutions that ATen computes of other numbers when it is asked directly: none of them reaches it so."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import torchops

from .conformance import EVERY_TIER, close
from .opinfo import laid_out


@EVERY_TIER
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("transposed", [False, True], ids=["conv2d", "conv_transpose2d"])
def test_strides_of_single_elements_say_nothing(
    transposed: bool, dtype: torch.dtype, device: torch.device, tier: str
) -> None:
    """Along a dimension of one element any stride will do. oneDNN took some for another format and multiplied other weights."""
    if tier == "ir" and dtype == torch.float64:
        pytest.skip("the IR tier has no float64")
    function = torchops.conv_transpose2d if transposed else torchops.conv2d
    torch.manual_seed(0)
    x = torch.randn(2, 4, 1, 6, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    w = torch.randn(4, 2, 1, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)

    def results(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        leaves = x.detach().requires_grad_(), w.detach().requires_grad_()
        y = function(*leaves, groups=2)
        return (
            y,
            *torch.autograd.grad(y, leaves, torch.linspace(-1, 1, y.numel(), device=device).view_as(y).to(dtype)),
        )

    expected = results(x.contiguous(), w.contiguous())
    odd = x.as_strided(x.shape, (24, 1, 2, 4)), w.as_strided(w.shape, (6, 1, 1, 2))
    assert torch.equal(odd[0], x)
    assert torch.equal(odd[1], w)
    for inputs in ((odd[0], w), (x, odd[1]), odd):
        for a, e in zip(results(*inputs), expected, strict=True):
            close(a, e, dtype)


@pytest.mark.tiers("aten")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("channels", "groups", "kernel", "stride", "padding", "dilation", "size"),
    [
        ((1, 1), 1, (2, 4), (1, 2), (0, 0), (1, 2), (6, 7)),
        ((17, 16), 1, (3, 2), (2, 2), (1, 0), (1, 1), (18, 3)),
        ((2, 6), 2, (3, 4), (2, 2), (0, 2), (1, 1), (15, 1)),
        ((64, 64), 32, (5, 5), (2, 3), (0, 0), (3, 1), (24, 6)),
    ],
    ids=str,
)
def test_one_column_of_results_is_right(
    channels: tuple[int, int], groups: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
    dilation: tuple[int, int], size: tuple[int, int], layout: str, dtype: torch.dtype,
) -> None:  # fmt: skip
    """With a stride of 2 or more along it, which oneDNN gets wrong in bfloat16; with what the epilogue adds."""
    (c, k), scale = channels, (kernel[0] * kernel[1]) ** -0.5
    x = laid_out(torch.randn(2, c, *size), layout).to(dtype)
    w = (torch.randn(k, c // groups, *kernel) * scale).to(dtype)
    bias = torch.randn(k).to(dtype)
    expected = torch.conv2d(x.double(), w.double(), bias.double(), stride, padding, dilation, groups)
    assert expected.shape[3] == 1
    y = torchops.conv2d(x, w, bias, stride, padding, dilation, groups)
    assert y.untyped_storage().nbytes() == y.numel() * y.element_size()
    close(y, expected, dtype)
    close(torchops.conv2d(x, w, bias, stride, padding, dilation, groups, residual=y, activation="relu"),
          torch.relu(expected + y.double()), dtype)  # fmt: skip
