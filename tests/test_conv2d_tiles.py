"""The convolution kernels where their block sizes, offsets and precision show: called as the ops call them, or nearly so."""

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
from torchops.kernels.conv2d.plain import PlainConfig
from torchops.kernels.geometry import Conv2d
from torchops.kernels.launch import record
from torchops.kernels.planning.conv2d import Config
from torchops.kernels.planning.hardware import INTERPRETER
from torchops.kernels.planning.protocol import power_of_2

from .conformance import close
from .opinfo import laid_out
from .traffic import count_traffic

# channels in, channels out, groups: one for each way to multiply
METHODS = {
    "flat": (3, 18, 1),
    "gemm": (17, 19, 1),
    "grouped": (32, 34, 2),
    "direct": (6, 9, 3),
    "depthwise": (17, 17, 17),
}
STRIDE, PADDING, DILATION = (2, 1), (2, 1), (1, 2)
SIDES = (PADDING[1], PADDING[1], PADDING[0], PADDING[0])


def problem(
    method: str, layout: str, device: torch.device, kernel: tuple[int, int] = (2, 3)
) -> tuple[Tensor, Tensor, int]:
    c, k, groups = METHODS[method]
    x = torch.randn(2, c, 5, 7, device=device)  # rows of 5 outputs, which no block is a multiple of
    w = torch.randn(k, c // groups, *kernel, device=device) * (c // groups * math.prod(kernel)) ** -0.5
    return laid_out(x, layout), laid_out(w, layout), groups


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("method", "padding_mode"),
    [
        ("flat", "constant"),
        ("flat", "reflect"),
        ("gemm", "constant"),
        ("gemm", "replicate"),
        ("grouped", "circular"),
        ("direct", "constant"),
        ("depthwise", "reflect"),
    ],
)
def test_tiles_of_the_kernels_join(method: str, padding_mode: str, layout: str, device: torch.device) -> None:
    """Blocks far smaller than the problem in all directions, ranges of pixels that end inside rows and images."""
    x, w, groups = problem(method, layout, device)
    value = 0.5 if padding_mode == "constant" else 0.0
    exact = [t.double().cpu().requires_grad_() for t in (x, w)]
    y = reference.conv2d(
        *exact, None, STRIDE, PADDING, DILATION, groups, padding_mode=padding_mode, padding_value=value
    )
    grad = laid_out(torch.randn(y.shape, device=device), layout)
    dx, dw = torch.autograd.grad(y, exact, grad.double().cpu())
    conv = Conv2d(STRIDE, SIDES, DILATION, groups, padding_mode, value)
    tile = Config(32, 16, 16, 4, 1)
    out = torch.empty_like(grad)
    kernels.conv2d_fwd(x, w, None, None, out, conv, "none", config=tile)
    close(out, y, torch.float32)
    out = torch.empty_like(x)
    kernels.conv2d_input_grad(grad, w, None, out, conv.adjoint(), config=tile)
    close(out, dx, torch.float32, factor=4)
    out, db = torch.empty_like(w), torch.empty(w.shape[0], device=device)
    ranges = Config(32, 16, 16, 4, 1, splits=2)
    kernels.conv2d_weight_grad(grad, x, out, db, conv, config=ranges)
    close(out, dw, torch.float32, factor=4)
    close(db, grad.double().cpu().sum((0, 2, 3)), torch.float32, factor=4)


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize(
    ("padding_mode", "kernel", "dilation", "padding", "groups"),
    [
        ("zeros", (3, 3), (1, 1), (1, 1, 1, 1), 1),
        ("zeros", (2, 4), (1, 1), (1, 2, 0, 1), 1),  # an even kernel, as with "same"
        ("zeros", (3, 3), (2, 3), (3, 3, 0, 1), 2),
        ("zeros", (1, 3), (1, 1), (0, 2, 0, 0), 1),
        ("zeros", (31, 3), (1, 1), (1, 1, 15, 15), 1),
        ("reflect", (3, 3), (1, 2), (2, 2, 1, 1), 1),
        ("replicate", (3, 3), (1, 3), (3, 3, 4, 4), 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["channels_last", "sliced_channels_last"])
def test_taps_of_a_row_share_a_load(
    padding_mode: str, kernel: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, ...], groups: int,
    layout: str, device: torch.device, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """conv2d_shift_kernel, in tiles that begin and end inside rows: values, and the gradient of the input."""
    c, k, h, w = 18 * groups, 17 * groups, 6, 7
    x = laid_out(torch.randn(2, c, h, w, device=device), layout)
    weight = laid_out(torch.randn(k, 18, *kernel, device=device) * (18 * math.prod(kernel)) ** -0.5, "channels_last")
    exact = [t.double().cpu().requires_grad_() for t in (x, weight)]
    padded = reference.pad(exact[0], padding, padding_mode)
    y = torch.nn.functional.conv2d(padded, exact[1], None, 1, 0, dilation, groups)
    assert y.shape[3] == w, "the tile of a row needs an output as wide as the input"
    residual = laid_out(torch.randn(y.shape, device=device), layout)
    grad = laid_out(torch.randn(y.shape, device=device), layout)
    (dx,) = torch.autograd.grad(y, exact[:1], grad.double().cpu())
    tile = Config(32, 16, 16, 4, 1, taps=kernel[1])
    monkeypatch.setattr(kernels, "conv2d_gemm_kernel", None)  # nothing else may run
    out = torch.empty_like(grad)
    conv = Conv2d((1, 1), padding, dilation, groups, padding_mode)
    kernels.conv2d_fwd(x, weight, None, residual, out, conv, "relu", config=tile)
    close(out, torch.relu(y + residual.double().cpu()), torch.float32)
    monkeypatch.undo()  # the ring of a border is an ordinary gather
    out = torch.empty_like(x)
    kernels.conv2d_input_grad(grad, weight, None, out, conv, config=tile)
    close(out, dx, torch.float32, factor=4)


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize(
    ("padding_mode", "kernel", "padding", "groups"),
    [
        ("zeros", (3, 3), (1, 1, 1, 1), 1),
        ("zeros", (3, 2), (4, 0, 0, 5), 2),  # of more padding than taps
        ("reflect", (3, 3), (1, 1, 1, 1), 1),
        ("replicate", (2, 3), (3, 1, 2, 2), 2),
        ("circular", (5, 1), (0, 2, 4, 4), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("layout", ["channels_last", "sliced_channels_last"])
def test_rows_of_an_image_share_a_load(
    padding_mode: str, kernel: tuple[int, int], padding: tuple[int, ...], groups: int, layout: str,
    device: torch.device, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """conv2d_rows_kernel, in tiles that rows, columns and channels do not fill: values, and the gradient of the input."""
    c, k, h, w = 18 * groups, 17 * groups, 6, 19
    x = laid_out(torch.randn(2, c, h, w, device=device), layout)
    weight = laid_out(torch.randn(k, 18, *kernel, device=device) * (18 * math.prod(kernel)) ** -0.5, "channels_last")
    exact = [t.double().cpu().requires_grad_() for t in (x, weight)]
    y = torch.nn.functional.conv2d(reference.pad(exact[0], padding, padding_mode), exact[1], groups=groups)
    residual, grad = (laid_out(torch.randn(y.shape, device=device), layout) for _ in range(2))
    (dx,) = torch.autograd.grad(y, exact[:1], grad.double().cpu())
    tile = Config(16, 16, 16, 4, 1, tile_rows=4)
    monkeypatch.setattr(kernels, "conv2d_gemm_kernel", None)  # nothing else may run
    out = torch.empty_like(grad)
    conv = Conv2d((1, 1), padding, (1, 1), groups, padding_mode)
    kernels.conv2d_fwd(x, weight, None, residual, out, conv, "relu", config=tile)
    close(out, torch.relu(y + residual.double().cpu()), torch.float32)
    monkeypatch.undo()  # the ring of a border is an ordinary gather
    out = torch.empty_like(x)
    kernels.conv2d_input_grad(grad, weight, None, out, conv, config=tile)
    close(out, dx, torch.float32, factor=4)


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
    (
        "constant",
        (2, 4),
        2,
        (2, 4),
        2,
        (5, 1, 3, 0),
        "channels_last",
    ),  # of more padding than taps, two channels out a group
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
def test_what_is_not_finite_stays_where_where_taps_take_it(stride: int, device: torch.device) -> None:
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


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_three_taps_of_a_weight_gradient_at_once(layout: str, device: torch.device) -> None:
    x, w, groups = problem("gemm", layout, device)
    grad = laid_out(torch.randn(2, 19, 6, 7, device=device), layout)
    exact = w.double().cpu().requires_grad_()
    y = reference.conv2d(x.double().cpu(), exact, None, 1, (1, 1))
    (dw,) = torch.autograd.grad(y, exact, grad.double().cpu())
    # 5 steps in 3 ranges: the last is shorter
    config, results = Config(32, 16, 16, 4, 1, taps=3, splits=3), []
    for _ in range(2):
        results.append(torch.empty_like(w))
        conv = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), groups, "zeros")
        kernels.conv2d_weight_grad(grad, x, results[-1], None, conv, config=config)
    close(results[0], dw, torch.float32, factor=4)
    assert torch.equal(*results)


@pytest.mark.tiers("interpreter", "ir", "gpu")
def test_bias_gradient_of_many_pixels(device: torch.device) -> None:
    """More than one range, and more than one step of a range."""
    grad = torch.randn(3, 5, 65, 47, device=device)
    found = []
    for layout in ("contiguous", "channels_last", "channels_last"):
        found.append(torch.empty(5, device=device))
        kernels.conv2d_bias_grad(laid_out(grad, layout), found[-1])
        close(found[-1], grad.double().cpu().sum((0, 2, 3)), torch.float32, factor=4)
    assert torch.equal(found[1], found[2])


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_sums_of_more_ranges_than_a_program_loads_at_a_time(layout: str, device: torch.device) -> None:
    """Three trips, the last of which is not full; outputs that fill no tile, in the order of the workspace and in another."""
    ranges = torch.randn(1100, 5, 18, device=device)
    found = [laid_out(torch.empty(5, 3, 2, 3, device=device), layout) for _ in range(2)]
    for out in found:
        kernels._sum_splits(ranges, out, "weight_grad")
    expected = ranges.double().sum(0).view(5, 2, 3, 3).permute(0, 3, 1, 2)
    close(found[0], expected.cpu(), torch.float32, factor=4)
    assert torch.equal(*found)


def _truncated(t: Tensor) -> Tensor:
    """The values that TF32 has: 10 bits of mantissa."""
    return (t.view(torch.int32) & ~0x1FFF).view(torch.float32)


@pytest.mark.tiers("ir", "gpu")
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
@pytest.mark.parametrize("method", ["flat", "gemm", "grouped"])
def test_float32_follows_the_switch_for_tf32(method: str, precision: str, device: torch.device) -> None:
    """A product of two truncated numbers is off by less than 2**-9 of itself; the sum, by no more of the sum of magnitudes."""
    torch.backends.cudnn.conv.fp32_precision = precision
    x, w, groups = problem(method, "channels_last", device)

    def results(function: object, x: Tensor, w: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        y = function(x, w, None, 1, 1, 1, groups)  # type: ignore[operator]
        return (y.detach(), *torch.autograd.grad(y, (x, w), dy))

    tensors = (x, w, torch.randn(2, w.shape[0], 6, 7, device=device))
    expected = results(reference.conv2d, *(t.double().cpu() for t in tensors))
    magnitudes = results(reference.conv2d, *(t.double().cpu().abs() for t in tensors))
    for actual, exact, magnitude in zip(results(torchops.conv2d, *tensors), expected, magnitudes, strict=True):
        error = (actual.double().cpu() - exact).abs() / magnitude
        if precision == "tf32":
            assert 2**-16 < error.max() < 2**-9
        else:
            assert error.max() < 2**-20
    short = [_truncated(t) for t in tensors]
    exact_products = results(reference.conv2d, *(t.double().cpu() for t in short))
    for actual, exact in zip(results(torchops.conv2d, *short), exact_products, strict=True):
        close(actual, exact, torch.float32, factor=4)


def _far(t: Tensor, dim: int) -> Tensor:
    """t in memory that is addressed but hardly touched, its last element along `dim` beyond 2**31 elements."""
    near = t.contiguous()
    step = 2**31 // (t.shape[dim] - 1) + 1
    rest = [size if d != dim else 1 for d, size in enumerate(t.shape)]
    stride = [math.prod(rest[d + 1 :]) if d != dim else step for d in range(4)]
    torch.utils.deterministic.fill_uninitialized_memory = False
    memory = torch.empty(step * t.shape[dim], dtype=t.dtype, device=t.device)
    torch.utils.deterministic.fill_uninitialized_memory = True
    return memory.as_strided(t.shape, stride).copy_(near)


@pytest.mark.tiers("interpreter", "gpu")
@pytest.mark.parametrize("dim", range(4), ids=["images", "channels", "rows", "columns"])
@pytest.mark.parametrize("method", ["flat", "gemm", "direct", "depthwise"])
@pytest.mark.xdist_group("large")
def test_offsets_beyond_31_bits(method: str, dim: int, device: torch.device) -> None:
    """Of what every pass reads, and of what it writes."""
    c, k, groups = METHODS[method]
    x = torch.randn(3, c, 4, 3, device=device).half()
    w = torch.randn(k, c // groups, 2, 3, device=device).half()
    dy = torch.randn(3, k, 5, 3, device=device).half()
    conv = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), groups, "reflect")

    def results(x: Tensor, dy: Tensor, y: Tensor, dx: Tensor) -> tuple[Tensor, ...]:
        dw, db = torch.empty_like(w), torch.empty_like(w[:, 0, 0, 0])
        kernels.conv2d_fwd(x, w, None, dy, y, conv, "relu")
        kernels.conv2d_input_grad(dy, w, None, dx, conv._replace(border="zeros"))
        kernels.conv2d_weight_grad(dy, x, dw, db, conv._replace(border="circular"))
        return y, dx, dw, db

    near = results(x, dy, torch.empty_like(dy), torch.empty_like(x))
    for far in (
        results(_far(x, dim), _far(dy, dim), torch.empty_like(dy), torch.empty_like(x)),
        results(x, dy, _far(dy, dim), _far(x, dim)),
    ):
        for a, e in zip(far, near, strict=True):
            assert torch.equal(a, e)


@pytest.mark.tiers("interpreter")
@pytest.mark.parametrize(
    "name",
    [
        "gemm", "shift", "flat_slide", "depthwise", "depthwise_slide", "depthwise_slide_transposed", "weight_grad",
        "weight_grad_depthwise",
    ],
)  # fmt: skip
def test_memory_is_loaded_as_often_as_the_cost_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every load of every program is counted; where they load through L1, every element once a program."""
    direct, gradient, transposed = "depthwise" in name, "weight_grad" in name, name.endswith("transposed")
    c, groups, rows = 3 if name == "flat_slide" else 32, 32 if direct else 1, 32 if transposed else 8
    # rows longer than a tile: shorter ones overlap, which the cost leaves out
    x, w, y = (
        torch.randn(size).to(memory_format=torch.channels_last)
        for size in ((1, c, rows, 96), (32, c // groups, 3, 3), (1, 32, rows, 96))
    )
    conv = Conv2d((2, 2) if transposed else (1, 1), (1, 1, 1, 1), (1, 1), groups, "zeros")
    config = Config(
        32 if gradient else 64, 32, 64 if direct else 32, 4, 1, taps=3 if gradient or name == "shift" else 1
    )
    if "slide" in name:
        config = Config(16, 32, 16, 4, 1, rows=16 if transposed else 3)

    def launch() -> None:
        if gradient:
            kernels.conv2d_weight_grad(y, x, w, None, conv, config=config)
        elif transposed:
            kernels.conv2d_input_grad(y[:, :, ::2, ::2], w, None, x, conv, config=config)
        else:
            kernels.conv2d_fwd(x, w, None, None, y, conv, "none", config=config)

    with record(INTERPRETER) as launches:
        launch()
    elements = count_traffic(monkeypatch)
    launch()
    counted = 4 * elements["read" if direct or "slide" in name else "loaded"]
    # the border is not loaded, and the cost leaves it and the few weights of a direct kernel out
    assert 0.85 * launches[0].cost.bytes_l2 <= counted <= 1.05 * launches[0].cost.bytes_l2


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced_channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_plain_kernel(layout: str, dtype: torch.dtype, device: torch.device) -> None:
    """The lesson: stride, padding of four sides and dilation, in tiles that end inside rows and images."""
    x, w, _ = problem("gemm", layout, device)
    x, w = x.to(dtype), w.to(dtype)
    conv = Conv2d((2, 1), (2, 1, 1, 0), (1, 2), 1, "zeros")
    exact = [t.double().cpu() for t in (x, w)]
    expected = torch.nn.functional.conv2d(
        reference.pad(exact[0], conv.padding, "zeros"), exact[1], None, (2, 1), 0, (1, 2)
    )
    y = laid_out(torch.empty(expected.shape, dtype=dtype, device=device), layout)
    kernels.conv2d_fwd(x, w, None, None, y, conv, "none", config=PlainConfig(32, 16, 16, 4, 1))
    close(y, expected, dtype)


def test_the_plain_kernel_refuses_what_it_leaves_out() -> None:
    x, w = torch.empty(1, 16, 5, 5), torch.empty(16, 16, 3, 3)
    conv, config = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), 1, "zeros"), PlainConfig(32, 16, 16, 4, 1)
    with pytest.raises(ValueError, match=r"takes zero padding, one group and 32-bit offsets, got .*reflect"):
        kernels.conv2d_fwd(x, w, None, None, x, conv._replace(border="reflect"), "none", config=config)
    with pytest.raises(ValueError, match="no epilogue"):
        kernels.conv2d_fwd(x, w, None, x, x, conv, "none", config=config)
