"""Convolutions that slide down the image: strips that join, values of every map, what is not finite."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import torchops
from torchops import reference
from torchops.kernels import conv2d as kernels
from torchops.kernels.geometry import Conv2d
from torchops.kernels.planning.conv2d import Config
from torchops.kernels.planning.protocol import power_of_2

from .conformance import close
from .opinfo import laid_out

SLIDING = [
    # border, kernel, stride, left, right, top, bottom
    ("zeros", (3, 3), 1, (1, 1, 1, 1), "channels_last"),
    ("zeros", (3, 3), 2, (1, 1, 1, 1), "sliced_channels_last"),
    ("constant", (3, 3), 2, (0, 1, 0, 1), "channels_last"),  # as TensorFlow pads
    ("constant", (2, 4), 1, (5, 1, 3, 0), "sliced_channels_last"),  # of more padding than taps
    ("reflect", (5, 5), 1, (2, 2, 2, 2), "channels_last"),
    ("reflect", (3, 3), 2, (7, 7, 6, 6), "sliced_channels_last"),  # as far as reflection reaches
    ("replicate", (5, 3), 2, (1, 2, 2, 3), "channels_last"),
    ("circular", (7, 7), 1, (3, 3, 3, 3), "sliced_channels_last"),
    ("circular", (1, 7), 2, (8, 8, 0, 7), "channels_last"),  # a whole image
    ("zeros", (4, 2), 2, (1, 0, 2, 1), "sliced_channels_last"),  # no tap reads the last column
]


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize(("padding_mode", "kernel", "stride", "padding", "layout"), SLIDING, ids=str)
def test_strips_that_slide_join(
    padding_mode: str, kernel: tuple[int, int], stride: int, padding: tuple[int, int, int, int], layout: str,
    device: torch.device, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Strips and tiles that do not fill the image, ranges that end inside images: values, both gradients."""
    # the interpreter takes its time for every tap
    n, c, h, w = 2 if math.prod(kernel) <= 9 else 1, 18, 7, 8
    value = 0.5 if padding_mode == "constant" else 0.0
    x = laid_out(torch.randn(n, c, h, w, device=device), layout)
    weight = torch.randn(c, 1, *kernel, device=device) * math.prod(kernel) ** -0.5
    bias = torch.randn(c, device=device)
    exact = [t.double().cpu().requires_grad_() for t in (x, weight)]
    padded = reference.pad(exact[0], padding, padding_mode, value)
    y = torch.nn.functional.conv2d(padded, exact[1], bias.double().cpu(), stride, 0, 1, c)
    residual, grad = (laid_out(torch.randn(y.shape, device=device), layout) for _ in range(2))
    dx, dw = torch.autograd.grad(y, exact, grad.double().cpu())
    strip = Config(4, 16, 4, 4, 1, rows=3)
    conv = Conv2d((stride, stride), padding, (1, 1), c, padding_mode, value)
    for name in ("conv2d_direct_kernel", "conv2d_weight_grad_direct_kernel"):
        monkeypatch.setattr(kernels, name, None)  # nothing else may run
    out = torch.empty_like(grad)
    kernels.conv2d_fwd(x, weight, bias, residual, out, conv, "relu", config=strip)
    close(out, torch.relu(y + residual.double().cpu()), torch.float32)
    results = [torch.empty_like(weight) for _ in range(2)]
    for out in results:
        kernels.conv2d_weight_grad(grad, x, out, None, conv, config=replace(strip, splits=4))
    close(results[0], dw, torch.float32, factor=4)
    assert torch.equal(*results)
    monkeypatch.undo()  # the ring of a border is an ordinary gather
    out = torch.full_like(x, math.nan)
    kernels.conv2d_input_grad(grad, weight, bias, out, conv.adjoint(), config=strip)
    close(out, dx + bias.double().cpu().view(-1, 1, 1), torch.float32, factor=4)


@pytest.mark.tiers("interpreter")  # elsewhere the model may prefer another kernel for so few pixels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_depthwise_slides_unasked(
    kernel: int, stride: int, dtype: torch.dtype, device: torch.device, monkeypatch: Any
) -> None:
    """In channels_last, in every pass, as it is picked."""
    x = laid_out(torch.randn(2, 24, 9, 8, device=device, dtype=dtype), "channels_last")
    w = (torch.randn(24, 1, kernel, kernel, device=device) / kernel).to(dtype)
    size = 2, 24, (9 - 1) // stride + 1, (8 - 1) // stride + 1
    grad = laid_out(torch.randn(size, device=device, dtype=dtype), "channels_last")

    def results(function: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        x, w, grad = (t.detach().requires_grad_() for t in tensors)
        y = function(x, w, None, stride, kernel // 2, 1, 24)
        return (y.detach(), *torch.autograd.grad(y, (x, w), grad))

    for name in ("conv2d_direct_kernel", "conv2d_weight_grad_direct_kernel"):
        monkeypatch.setattr(kernels, name, None)  # nothing else may run
    expected = results(reference.conv2d, *(t.double().cpu() for t in (x, w, grad)))
    for actual, exact in zip(results(torchops.conv2d, x, w, grad), expected, strict=True):
        close(actual, exact, dtype, factor=4)


FLAT_SLIDING = [
    # border, channels in and out, groups, kernel, stride, left, right, top, bottom, layout
    ("zeros", (3, 18), 1, (7, 7), 2, (3, 3, 3, 3), "channels_last"),
    ("zeros", (8, 12), 4, (3, 3), 1, (1, 1, 1, 1), "sliced_channels_last"),
    ("constant", (1, 17), 1, (3, 3), 1, (0, 1, 0, 1), "contiguous"),
    # of more padding than taps, two channels out a group
    ("constant", (2, 4), 2, (2, 4), 2, (5, 1, 3, 0), "channels_last"),
    # every other row of x goes into no row of y
    ("zeros", (3, 17), 1, (1, 3), 2, (1, 1, 0, 0), "channels_last"),
    ("reflect", (2, 4), 2, (1, 2), 2, (1, 0, 1, 1), "contiguous"),
    ("reflect", (6, 16), 1, (5, 5), 1, (2, 2, 2, 2), "channels_last"),
    ("replicate", (3, 8), 1, (5, 3), 2, (1, 2, 2, 3), "contiguous"),
    ("circular", (4, 18), 1, (1, 7), 1, (8, 8, 0, 7), "sliced_channels_last"),  # a whole image
]


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize(
    ("padding_mode", "channels", "groups", "kernel", "stride", "padding", "layout"), FLAT_SLIDING, ids=str
)
def test_strips_of_few_channels_join(
    padding_mode: str, channels: tuple[int, int], groups: int, kernel: tuple[int, int], stride: int,
    padding: tuple[int, int, int, int], layout: str, device: torch.device, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Strips and tiles that do not fill the image: values and the gradient of the weight, which ranges sum that end inside
    images; in a layer turned around, the gradient of its input."""
    (c, k), value = channels, 0.5 if padding_mode == "constant" else 0.0
    x = laid_out(torch.randn(2, c, 7, 8, device=device), layout)
    weight = torch.randn(k, c // groups, *kernel, device=device) * math.prod(kernel) ** -0.5
    bias = torch.randn(k, device=device)
    of = [t.double().cpu().requires_grad_() for t in (x, weight, bias)]
    y = torch.nn.functional.conv2d(reference.pad(of[0], padding, padding_mode, value), *of[1:], stride, 0, 1, groups)
    residual, grad = (laid_out(torch.randn(y.shape, device=device), layout) for _ in range(2))
    (dw,) = torch.autograd.grad(y, of[1], grad.double().cpu(), retain_graph=True)
    for name in ("direct", "flat", "weight_grad_direct", "weight_grad_flat"):
        monkeypatch.setattr(kernels, f"conv2d_{name}_kernel", None)  # nothing else may run
    strip = Config(16, 16, max(16, power_of_2(kernel[1] * c // groups)), 4, 1, rows=3)
    conv = Conv2d((stride, stride), padding, (1, 1), groups, padding_mode, value)
    out = torch.empty_like(residual)
    kernels.conv2d_fwd(x, weight, bias, residual, out, conv, "relu", config=strip)
    close(out, torch.relu(y + residual.double().cpu()), torch.float32)
    results = [torch.empty_like(weight) for _ in range(2)]
    for result in results:
        kernels.conv2d_weight_grad(grad, x, result, None, conv, config=replace(strip, splits=4))
    close(results[0], dw, torch.float32, factor=4)
    assert torch.equal(*results)
    if stride == 1:
        monkeypatch.undo()  # the ring of a border is an ordinary gather
        # x is now the gradient of an output of as many channels as a slide may read
        weight = torch.randn(c, k // groups, *kernel, device=device) * math.prod(kernel) ** -0.5
        image = torch.randn(2, k, 7, 8).double().requires_grad_()
        padded = reference.pad(image, padding, padding_mode, value)
        y = torch.nn.functional.conv2d(padded, weight.double().cpu(), None, 1, 0, 1, groups)
        dy = laid_out(torch.randn(y.shape, device=device), layout)
        (dx,) = torch.autograd.grad(y, image, dy.double().cpu())
        out = laid_out(torch.empty(image.shape, device=device), layout)
        kernels.conv2d_input_grad(dy, weight, bias, out, conv.adjoint(), config=strip)
        close(out, dx + bias.double().cpu().view(-1, 1, 1), torch.float32, factor=4)


@pytest.mark.tiers("interpreter")  # elsewhere the model may prefer another kernel for so few pixels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("c", "k", "groups", "stride"), [(3, 20, 1, 2), (1, 20, 1, 1), (16, 16, 4, 1)])
def test_few_channels_slide_unasked(
    c: int, k: int, groups: int, stride: int, dtype: torch.dtype, device: torch.device, monkeypatch: Any
) -> None:
    """In either layout, as it is picked."""
    w = (torch.randn(k, c // groups, 3, 3, device=device) / 3).to(dtype).requires_grad_()
    for name in ("direct", "flat", "weight_grad_direct", "weight_grad_flat"):
        monkeypatch.setattr(kernels, f"conv2d_{name}_kernel", None)  # nothing else may run
    for layout in ("contiguous", "channels_last"):
        x = laid_out(torch.randn(2, c, 9, 8, device=device, dtype=dtype), layout)
        exact = w.detach().double().cpu().requires_grad_()
        expected = torch.nn.functional.conv2d(x.double().cpu(), exact, None, stride, 1, 1, groups)
        y = torchops.conv2d(x, w, None, stride, 1, 1, groups)
        grad = torch.randn_like(y)
        close(y, expected, dtype)
        close(
            *torch.autograd.grad(y, w, grad),
            *torch.autograd.grad(expected, exact, grad.double().cpu()),
            dtype,
            factor=4,
        )


@pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning"
)  # NumPy's, of what the interpreter adds up
@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 1, 1), (7, 2, 1), (3, 1, 4)])
def test_what_is_not_finite_stays_in_its_rows_and_groups(
    kernel: int, stride: int, groups: int, device: torch.device
) -> None:
    """A row that goes into fewer rows of y than wait for sums, and a group beside another: no zero meets an infinity."""
    x = laid_out(torch.randn(1, 3 * groups, 17, 17, device=device), "channels_last")
    x[:, 0, 6, 2], x[:, 0, 9, 12], x[:, 1, -1, -1] = math.inf, -math.inf, math.nan
    weight = torch.randn(8 * groups, 3, kernel, kernel, device=device)
    conv = Conv2d((stride, stride), (kernel // 2,) * 4, (1, 1), groups, "zeros")
    found = []
    for config in (Config(16, 16, 32, 4, 1), Config(16, 16, 32, 4, 1, rows=4)):
        y = laid_out(torch.empty(1, 8 * groups, 16 // stride + 1, 16 // stride + 1, device=device), "channels_last")
        kernels.conv2d_fwd(x, weight, None, None, y, conv, "none", config=config)
        # a row of dy, too, is multiplied with the rows that it was computed of, and no others
        dy, dw = torch.where(y.isfinite(), y, 1.0), torch.empty_like(weight)
        dy[:, :4, 5, 2] = math.inf
        finite = torch.where(x.isfinite(), x, 1.0)
        kernels.conv2d_weight_grad(
            dy, finite, dw, None, conv, config=replace(config, block_m=16 if groups == 1 else 32)
        )
        found.append((y, dw))
    for actual, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(actual, expected, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning"
)  # NumPy's, of what the interpreter adds up
@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("stride", [1, 2])
def test_what_is_not_finite_stays_where_taps_take_it(stride: int, device: torch.device) -> None:
    """Rows that a strip reads for others than its own are no zeros times infinity."""
    x, dy = (laid_out(torch.randn(1, 16, size, size, device=device), "channels_last") for size in (9, 8 // stride + 1))
    weight, conv = torch.randn(16, 1, 3, 3, device=device), Conv2d((stride, stride), (1, 1, 1, 1), (1, 1), 16, "zeros")
    for t in (x, dy):
        t[:, :4, 3, 2], t[:, 4:8, -1, -1] = math.inf, math.nan
    found = []
    for config in (Config(16, 16, 16, 4, 1), Config(4, 16, 4, 4, 1, rows=2)):
        y, dx, dw = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(weight)
        kernels.conv2d_fwd(x, weight, None, None, y, conv, "none", config=config)
        kernels.conv2d_weight_grad(dy, x, dw, None, conv, config=config)
        kernels.conv2d_input_grad(dy, weight, None, dx, conv, config=config)
        found.append((y, dw, dx))
    for direct, slide in zip(*found, strict=True):
        torch.testing.assert_close(slide, direct, equal_nan=True)
