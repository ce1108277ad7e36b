"""adaptive_avg_pool2d: samples and rejections for the questions of `conformance`, and what is particular to its windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import torchops
from torchops import catalog, reference
from torchops.kernels.layout import adaptive as layout
from torchops.kernels.planning import adaptive

from .conformance import EVERY_TIER, OPERATOR, Conformance, close
from .opinfo import OpInfo, Rejection, Sample
from .test_max_pool2d import ARCHS

SAMPLES = (
    Sample((2, 3, 9, 13), {"output_size": (4, 5)}),
    Sample((2, 3, 8, 16), {"output_size": 4}),
    Sample((2, 17, 7, 7), {"output_size": 1}),
    Sample((2, 16, 8, 8), {"output_size": (1, 1)}),
    Sample((1, 5, 7, 13), {"output_size": (None, 3)}),
    Sample((1, 3, 5, 6), {"output_size": (5, None)}),
    Sample((2, 4, 3, 4), {"output_size": (7, 9)}),
    Sample((1, 2, 20, 37), {"output_size": (2, 3)}),
    Sample((2, 8, 13, 24), {"output_size": (1, 3)}),
    Sample((1, 1, 9, 8), {"output_size": (2, 1)}),
)
"""Windows that overlap and that do not; that hold one pixel, and more than 32; more windows than pixels."""


def rejections_of(function: Callable[..., Any]) -> tuple[Rejection, ...]:
    x = torch.rand(1, 3, 6, 7)
    wanted = r"`output_size` must be an integer or a pair of integers or None, got"
    return (
        Rejection("not_a_tensor", lambda: function([1.0], 2), TypeError, r"`input` must be a tensor, got list"),
        Rejection("rank", lambda: function(x[0, 0], 2), ValueError, r"`input` must have shape .* got \(6, 7\)"),
        Rejection("integers", lambda: function(x.long(), 2), TypeError, r"`input` must be floating .* torch\.int64"),
        Rejection("no_pixels", lambda: function(x[:, :, :0], 2), ValueError, r"`input` .* got shape \(1, 3, 0, 7\)"),
        Rejection("size_0", lambda: function(x, (2, 0)), ValueError, r"`output_size` must be positive, got \(2, 0\)"),
        Rejection("size_negative", lambda: function(x, -1), ValueError, r"`output_size` must be positive, got -1"),
        Rejection("size_none", lambda: function(x, None), TypeError, rf"{wanted} None"),
        Rejection("size_float", lambda: function(x, 2.0), TypeError, rf"{wanted} 2\.0"),
        Rejection("size_three", lambda: function(x, (2, 2, 2)), TypeError, rf"{wanted} \(2, 2, 2\)"),
        Rejection("size_true", lambda: function(x, (True, 1)), TypeError, rf"{wanted} \(True, 1\)"),
    )


class TestAdaptiveAvgPool2d(Conformance):
    info = OpInfo(
        op=catalog.OPS["adaptive_avg_pool2d"],
        archs=ARCHS,
        samples=SAMPLES,
        rejections=rejections_of(torchops.adaptive_avg_pool2d),
        module=(torchops.nn.AdaptiveAvgPool2d, {"output_size": (3, None)}),
        registered=("adaptive_avg_pool2d",),
    )


@EVERY_TIER
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_matches_aten(channels_last: bool, device: torch.device) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 8, 13, 11).contiguous(memory_format=form)
    for size in (1, (1, 1), 3, (None, 4), (13, 11), (14, 30), [2, None]):
        close(torchops.adaptive_avg_pool2d(x.to(device), size), F.adaptive_avg_pool2d(x, size), torch.float32)


@EVERY_TIER
def test_windows_without_overlap_are_those_of_a_pool(device: torch.device) -> None:
    x = torch.randn(2, 3, 12, 20, device=device)
    close(torchops.adaptive_avg_pool2d(x, (3, 4)), torchops.avg_pool2d(x, (4, 5)), torch.float32)
    assert torch.equal(torchops.adaptive_avg_pool2d(x, (24, 60)), torchops.interpolate(x, scale_factor=(2, 3)))


@EVERY_TIER
@pytest.mark.parametrize("size", [(4, 5), 1, (7, 30)], ids=["overlapping", "global", "more_than_pixels"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])
def test_gradient_of_halves_is_rounded_once(size: Any, channels_last: bool, device: torch.device) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 8, 9, 13, device=device).half().contiguous(memory_format=form).requires_grad_()
    y = torchops.adaptive_avg_pool2d(x, size)
    grad = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, grad)
    exact = x.detach().double().cpu().requires_grad_()
    (expected,) = torch.autograd.grad(reference.adaptive_avg_pool2d(exact, size), exact, grad.double().cpu())
    assert dx.is_contiguous(memory_format=form)
    assert (dx.cpu() == expected.half()).double().mean() > 0.98


@EVERY_TIER
@pytest.mark.parametrize("op", [torchops.adaptive_avg_pool2d, torchops.adaptive_max_pool2d], ids=["avg", "max"])
@pytest.mark.parametrize("size", [(4, 5), 1, (7, 30)], ids=["overlapping", "global", "more_than_pixels"])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
def test_gradient_has_the_format_of_the_image(
    op: Callable[..., Any], size: Any, form: torch.memory_format, device: torch.device
) -> None:
    """ATen's gradient of a mean over rows and columns is NCHW whatever the image is."""
    x = torch.randn(2, 8, 9, 13, device=device).contiguous(memory_format=form).requires_grad_()
    (dx,) = torch.autograd.grad(op(x, size).square().sum(), x)
    assert dx.is_contiguous(memory_format=form)


@OPERATOR
def test_a_window_of_more_pixels_than_a_half_can_count(device: torch.device) -> None:
    x = torch.ones(1, 1, 256, 300, dtype=torch.float16, device=device, requires_grad=True)
    y = torchops.adaptive_avg_pool2d(x, 1)
    assert y.item() == 1
    (dx,) = torch.autograd.grad(y, x, torch.full_like(y, 1000.0))
    close(dx, torch.full_like(dx, 1000 / (256 * 300)), torch.float16)
    assert (dx > 0).all()


class TestProperties:
    @given(st.integers(1, 200), st.integers(1, 200))
    def test_the_longest_window_is_known(self, size: int, size_in: int) -> None:
        axis = adaptive.Axis(size=size, size_in=size_in)
        assert adaptive.most(size, size_in) == max(axis.read(p, p) for p in range(size))
        # a pixel lies in the windows of the pool the other way
        back = adaptive.Axis(size=size_in, size_in=size)
        assert axis.read_apart() == back.read_apart()


@pytest.mark.tiers("interpreter", "ir")
@pytest.mark.parametrize("shape", [(2, 3, 9, 13), (1, 2, 20, 37)], ids=["gathered", "large"])
def test_sizes_whose_product_takes_64_bits(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "is_long", lambda out, x: True)
    x = torch.randn(shape, requires_grad=True)
    y, expected = torchops.adaptive_avg_pool2d(x, (2, 3)), F.adaptive_avg_pool2d(x, (2, 3))
    close(y, expected, torch.float32)
    grad = torch.randn_like(y)
    close(torch.autograd.grad(y, x, grad)[0], torch.autograd.grad(expected, x, grad)[0], torch.float32)


@pytest.mark.tiers("aten", "interpreter", "gpu")
@pytest.mark.parametrize("size", [1, 2], ids=["global", "four"])
@pytest.mark.parametrize(
    ("shape", "stride"),
    [((1, 1, 4, 4), (0, 0, 2**30, 1)), ((1, 1, 2, 4), (0, 0, 1, 2**30)), ((1, 4, 2, 4), (0, 2**30, 4, 1))],
    ids=["rows", "columns", "planes"],
)
@pytest.mark.xdist_group("large")
def test_offsets_beyond_31_bits(
    shape: tuple[int, ...], stride: tuple[int, ...], size: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that is addressed but hardly touched: the system maps only the pages that are written."""
    monkeypatch.setattr(layout, "LARGE", 4)
    reach = 1 + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
    values = torch.randn(shape, dtype=torch.float16)
    torch.utils.deterministic.fill_uninitialized_memory = False
    far = torch.empty(reach, dtype=torch.float16, device=device).as_strided(shape, stride).copy_(values)
    expected = reference.adaptive_avg_pool2d(values.double(), size)
    close(torchops.adaptive_avg_pool2d(far, size), expected, torch.float16)
    values, positions = torchops.adaptive_max_pool2d(far, size, return_indices=True)
    expected, where = reference.adaptive_max_pool2d(far.double().cpu(), size, return_indices=True)
    assert torch.equal(values.double().cpu(), expected)
    assert torch.equal(positions.cpu(), where)
