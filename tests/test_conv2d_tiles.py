"""The convolution kernels where their block sizes, offsets and precision show: called as the ops call them, or nearly so."""

from __future__ import annotations

import math

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


@pytest.mark.tiers("interpreter", "ir", "gpu")
@pytest.mark.parametrize("method", ["flat", "gemm"])
def test_a_bias_is_added_before_the_one_rounding(method: str, device: torch.device) -> None:
    """By the epilogue of kernels that do not slide; the conformance of one that does is that of the public function."""
    x, w, groups = problem(method, "channels_last", device)
    x, w = x.half(), w.half()
    bias = torch.randn(w.shape[0], dtype=torch.float16, device=device)
    expected = torch.nn.functional.conv2d(*(t.double().cpu() for t in (x, w, bias)), 1, (1, 1))
    y = laid_out(torch.empty(expected.shape, dtype=torch.float16, device=device), "channels_last")
    conv = Conv2d((1, 1), (1, 1, 1, 1), (1, 1), groups, "zeros")
    kernels.conv2d_fwd(x, w, bias, None, y, conv, "none", config=Config(16, 16, 16, 4, 1))
    close(y, expected, torch.float16)
    assert (y.cpu() == expected.half()).double().mean() > 0.98
