"""avg_pool2d and avg_unpool2d: samples and rejections for the questions of `conformance`, and what is particular to means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import torchops
from torchops import catalog

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import OpInfo, Rejection, Sample
from .test_max_pool2d import ARCHS, rejections_of_windows


class TestAvgPool2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["avg_pool2d"],
        archs=ARCHS,
        samples=(
            Sample((2, 3, 9, 13), {"kernel_size": 3, "stride": 2, "padding": 1}),
            Sample((2, 3, 8, 16), {"kernel_size": 2}),
            Sample((2, 8, 9, 11), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
            Sample((2, 8, 8, 10), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
            Sample((1, 5, 7, 13), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0), "divisor_override": 5}),
            Sample((2, 3, 7, 8), {"kernel_size": 2, "stride": 3, "ceil_mode": True, "divisor_override": -1}),
            Sample((1, 3, 5, 6), {"kernel_size": 1}),
            Sample((2, 3, 1, 1), {"kernel_size": 2, "padding": 1}),
            Sample((2, 17, 7, 7), {"kernel_size": 7}),
            Sample((1, 1, 9, 8), {"kernel_size": (5, 4), "stride": 3, "padding": (2, 1)}),
        ),
        rejections=(
            *rejections_of_windows(torchops.avg_pool2d),
            Rejection(
                "stride_huge",
                lambda: torchops.avg_pool2d(torch.rand(1, 4, 4), 2, 2**31),
                ValueError,
                r"`stride` must be smaller than 2\^31, got 2147483648",
            ),
            Rejection(
                "divisor_0",
                lambda: torchops.avg_pool2d(torch.rand(1, 4, 4), 2, divisor_override=0),
                ValueError,
                r"`divisor_override` must be .* other than 0, got 0",
            ),
            Rejection(
                "divisor_float",
                lambda: torchops.avg_pool2d(torch.rand(1, 4, 4), 2, divisor_override=1.5),  # type: ignore[arg-type]
                TypeError,
                r"`divisor_override` must be an integer, got 1\.5",
            ),
            Rejection(
                "count_include_pad",
                lambda: torchops.avg_pool2d(torch.rand(1, 4, 4), 2, count_include_pad=None),  # type: ignore[arg-type]
                TypeError,
                r"`count_include_pad` .* got None",
            ),
        ),
        module=(
            torchops.nn.AvgPool2d,
            {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True, "count_include_pad": False},
        ),
        registered=("avg_pool2d", "avg_unpool2d"),
    )

    @EVERY_TIER
    @pytest.mark.parametrize(("kernel", "divisor"), [(17, None), (2, 70000), (2, 2049), (3, -65537)])
    def test_divisor_that_the_dtype_does_not_hold(
        self, kernel: int, divisor: int | None, float_dtype: torch.dtype, device: torch.device
    ) -> None:
        """70,000 is infinite in float16, and 289 is 288 in bfloat16: results and gradients are rounded once nonetheless."""
        self.compare_rounded(kernel, divisor, float_dtype, device)

    # a loop of 65,536 turns, which an interpreter takes minutes for
    @pytest.mark.tiers("aten", "gpu")
    def test_window_of_more_pixels_than_the_dtype_holds(self, float_dtype: torch.dtype, device: torch.device) -> None:
        self.compare_rounded(256, None, float_dtype, device)

    def compare_rounded(self, kernel: int, divisor: int | None, dtype: torch.dtype, device: torch.device) -> None:
        x = torch.full((1, 2, kernel, kernel), 3.0, device=device).to(dtype).requires_grad_()
        y = torchops.avg_pool2d(x, kernel, divisor_override=divisor)
        dy = torch.tensor([1.0, 0.3], device=device).to(dtype).view(1, 2, 1, 1)
        (dx,) = torch.autograd.grad(y, x, dy)
        taps = kernel * kernel
        sums = torch.full((1, 2, 1, 1), 3.0 * taps, dtype=torch.float64)
        for actual, exact in ((y, sums), (dx, dy.double().cpu())):
            expected = (exact / (divisor or taps)).to(dtype).expand(actual.shape)
            rtol = 0.0 if dtype.itemsize == 2 else 4 * torch.finfo(dtype).eps
            torch.testing.assert_close(actual.detach().cpu(), expected, rtol=rtol, atol=0)


def unpool_rejections(function: Any) -> tuple[Rejection, ...]:
    """What both unpoolings refuse; `function(input, kernel_size, stride, padding, output_size)`."""
    x = torch.rand(1, 3, 6, 7)
    return (
        Rejection("not_a_tensor", lambda: function([1.0], 2), TypeError, r"`input` must be a tensor, got list"),
        Rejection("rank", lambda: function(x[0, 0], 2), ValueError, r"`input` must have shape .* got \(6, 7\)"),
        Rejection("integers", lambda: function(x.long(), 2), TypeError, r"`input` must be floating .* torch\.int64"),
        Rejection("kernel_0", lambda: function(x, 0), ValueError, r"`kernel_size` must be positive, got 0"),
        Rejection("stride_0", lambda: function(x, 2, 0), ValueError, r"`stride` must be positive, got 0"),
        Rejection(
            "padding_more_than_half",
            lambda: function(x, 2, 2, 2),
            ValueError,
            r"`padding` \(=\(2, 2\)\) must be at most half of `kernel_size` \(=\(2, 2\)\)",
        ),
        Rejection(
            "output_size_of_three",
            lambda: function(x, 2, 2, 0, (3, 12, 14)),
            ValueError,
            r"`output_size` must have 2 or 4 elements, got \(3, 12, 14\)",
        ),
        Rejection(
            "output_size_too_large",
            lambda: function(x, 2, 2, 0, (12, 16)),
            ValueError,
            r"`output_size` must lie between \(11, 13\) and \(13, 15\), got \(12, 16\)",
        ),
        Rejection(
            "output_size_too_small",
            lambda: function(x, 2, 2, 0, (1, 3, 10, 14)),
            ValueError,
            r"`output_size` must lie between \(11, 13\) and \(13, 15\), got \(1, 3, 10, 14\)",
        ),
        Rejection(
            "output_size_of_floats",
            lambda: function(x, 2, 2, 0, (12.0, 14)),
            TypeError,
            r"`output_size` must be of integers, got \(12\.0, 14\)",
        ),
        Rejection(
            "nothing_left",
            lambda: function(x[:, :, :1], 2, 1, 1),
            ValueError,
            r"`padding` \(=\(1, 1\)\) leaves 0 x 6 pixels .* \(1, 3, 1, 7\)",
        ),
    )


class TestAvgUnpool2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["avg_unpool2d"],
        archs=ARCHS,
        samples=(
            Sample((2, 3, 5, 7), {"kernel_size": 3, "stride": 2, "padding": 1}),
            Sample((2, 3, 4, 8), {"kernel_size": 2}),
            Sample((2, 8, 5, 6), {"kernel_size": 3, "stride": 2, "padding": 1, "output_size": (10, 11)}),
            Sample((1, 5, 8, 6), {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 0)}),
            Sample((2, 3, 3, 4), {"kernel_size": 2, "stride": 3}),
            Sample((2, 3, 3, 4), {"kernel_size": 1, "stride": 4, "output_size": (2, 3, 6, 10)}),
            Sample((1, 3, 5, 6), {"kernel_size": 1}),
            Sample((2, 3, 2, 2), {"kernel_size": 2, "padding": 1}),
            Sample((2, 17, 1, 1), {"kernel_size": 7}),
            Sample((1, 1, 3, 4), {"kernel_size": 5, "stride": 2, "padding": 2}),
        ),
        rejections=unpool_rejections(torchops.avg_unpool2d),
        module=(torchops.nn.AvgUnpool2d, {"kernel_size": 3, "stride": 2, "padding": 1}),
        registered=("avg_unpool2d", "avg_pool2d"),
    )

    @EVERY_TIER
    def test_pooling_undoes_it_without_overlap(self, device: torch.device) -> None:
        x = torch.randn(2, 3, 4, 5, device=device)
        for kernel, size in ((2, None), ((3, 2), None), (4, (18, 21))):
            back = torchops.avg_pool2d(torchops.avg_unpool2d(x, kernel, output_size=size), kernel)
            close(back, x, torch.float32)

    @OPERATOR
    def test_without_overlap_it_is_the_nearest_value(self, device: torch.device) -> None:
        for form in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(2, 3, 4, 5, device=device).contiguous(memory_format=form)
            y = torchops.avg_unpool2d(x, 2)
            assert torch.equal(y, F.interpolate(x, scale_factor=2, mode="nearest"))
            assert y.is_contiguous(memory_format=form)

    @OPERATOR
    def test_pixels_that_no_window_covers_are_zero(self, device: torch.device) -> None:
        y = torchops.avg_unpool2d(torch.ones(1, 1, 2, 2, device=device), 1, 3, output_size=(6, 5))
        expected = torch.zeros(6, 5, device=device)
        expected[::3, ::3] = 1
        assert torch.equal(y[0, 0], expected)

    @EVERY_TIER
    def test_mean_of_ones_is_one_wherever_a_window_is(self, device: torch.device) -> None:
        y = torchops.avg_unpool2d(torch.ones(1, 2, 4, 5, device=device), 3, 2, 1)
        close(y, torch.ones_like(y), torch.float32)

    @OPERATOR
    def test_module_takes_a_size(self, device: torch.device) -> None:
        x = torch.randn(1, 2, 3, 3, device=device)
        assert torchops.nn.AvgUnpool2d(2)(x, output_size=torch.Size((1, 2, 7, 6))).shape == (1, 2, 7, 6)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # opcheck's own
@pytest.mark.parametrize("mean", ["cover", "inside", "padded", "fixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_format_is_the_one_asked_for(mean: str, dtype: torch.dtype) -> None:
    """A gradient comes in any format, and goes in that of the input."""
    for form in (torch.contiguous_format, torch.channels_last):
        for name, shape, size in (("avg_pool2d", (2, 3, 15, 15), [8, 8]), ("avg_unpool2d", (2, 3, 8, 8), [15, 15])):
            operator = getattr(torch.ops.torchops, name).default
            x = torch.randn(shape, dtype=dtype).contiguous(memory_format=form).requires_grad_()
            for last in (False, True):
                arguments = (x, [3, 3], [2, 2], [1, 1], size, mean, 2, last)
                torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
                wanted = torch.channels_last if last else torch.contiguous_format
                assert operator(*arguments).is_contiguous(memory_format=wanted)


@EVERY_TIER
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_matches_aten_in_every_mode(channels_last: bool, device: torch.device) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    # with ceil_mode, the last windows reach beyond the padding
    x = torch.randn(2, 8, 11, 14).contiguous(memory_format=form)
    for ceil_mode in (False, True):
        for further in ({}, {"count_include_pad": False}, {"divisor_override": 7}):
            kwargs: dict[str, Any] = {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": ceil_mode, **further}
            close(torchops.avg_pool2d(x.to(device), **kwargs), F.avg_pool2d(x, **kwargs), torch.float32)


@pytest.mark.tiers("aten")
@pytest.mark.parametrize("kernel", [2, 3, 5, 7, 15])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
def test_sums_of_large_images_are_no_less_exact_than_those_of_aten(
    kernel: int, stride: int, form: torch.memory_format
) -> None:
    """Along rows and columns fewer numbers are added, and each sum is divided once."""
    x = (torch.randn(2, 16, 96, 96) + 1).contiguous(memory_format=form)
    exact = F.avg_pool2d(x.double(), kernel, stride, kernel // 2)
    ours, theirs = (f(x, kernel, stride, kernel // 2).double() for f in (torchops.avg_pool2d, F.avg_pool2d))
    assert (ours - exact).square().mean() <= 1.05 * (theirs - exact).square().mean()
    dy = torch.randn(exact.shape).contiguous(memory_format=form)

    def gradient(function: Callable[..., Tensor], dtype: torch.dtype) -> Tensor:
        leaf = x.to(dtype).requires_grad_()
        return torch.autograd.grad(function(leaf, kernel, stride, kernel // 2), leaf, dy.to(dtype))[0].double()

    exact = gradient(F.avg_pool2d, torch.float64)
    ours, theirs = (gradient(f, torch.float32) for f in (torchops.avg_pool2d, F.avg_pool2d))
    assert (ours - exact).square().mean() <= 1.05 * (theirs - exact).square().mean()
